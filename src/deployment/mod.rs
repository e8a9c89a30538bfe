//! What `setup` ships and runs: the files in the binary, Docker Compose, the Convex CLI.

pub mod bundle;
pub mod compose;
pub mod convex_cli;
mod program;
pub mod server;
