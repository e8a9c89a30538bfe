//! What `setup` ships and runs: the files in the binary, Docker Compose, the Convex CLI, and
//! the variables of a deployment.

pub mod bundle;
pub mod compose;
mod container;
pub mod convex_cli;
mod docker_failure;
mod env_file;
mod images;
pub mod preflight;
pub mod program;
pub mod retention;
pub mod server;
pub mod tokens;
pub mod variables;
pub mod versions;
pub mod volume;
