//! The modules of convex-sidecar, in the order in which data passes through them: each uses only
//! those above it (`tests/architecture.rs` checks that).
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
