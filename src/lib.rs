//! The modules of convex-sidecar. ARCHITECTURE.md lists them in the order in which they may import
//! each other, which `tests/architecture.rs` checks.
//!
//! ```text
//! stdin ─ HookInput ─ Event ┐
//!                           ├─ Session (pure fold) ─ Journal (SQLite) ─ Delivery (deadline, backoff) ─ Convex (HTTP)
//! transcript ─ Facts ───────┘
//! ```
//!
//! A library only so that tests, fuzz targets and benches can reach the pure modules; users run the
//! binary.

pub mod cli;
pub mod client_settings;
pub mod command;
pub mod config;
pub mod convex;
pub mod deployment;
pub mod hook;
pub mod ingest;
pub mod journal;
pub mod record;
pub mod system;
pub mod transcript;
pub mod ui;
