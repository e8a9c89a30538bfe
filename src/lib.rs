//! The rooms of convex-sidecar, in the order in which the data passes through them.
//!
//! ```text
//! stdin ─ HookInput ─┐
//!                    ├─ Session (pure fold) ── Journal (SQLite) ── Delivery (deadline, backoff) ── Convex (HTTP)
//! transcript JSONL ──┘
//! ```
//!
//! A library only so that tests, fuzz targets and benches can reach the pure rooms; users run the
//! binary.

pub mod bundle;
pub mod child;
pub mod cli;
pub mod command;
pub mod compose;
pub mod config;
pub mod convex;
pub mod deadline;
pub mod delivery;
pub mod diff;
pub mod hook_input;
pub mod intake;
pub mod journal;
pub mod owner;
pub mod redact;
pub mod render;
pub mod session;
pub mod settings;
pub mod stdin;
pub mod transcript;
pub mod workflow;
