//! Time, files, paths, processes, signals and users of the operating system, which processes are
//! clients, working trees of Git, and lenient reading of JSON.

pub mod access;
pub mod client;
pub mod deadline;
pub mod files;
pub mod git;
pub mod json;
pub mod listener;
pub mod mounts;
pub mod paths;
pub mod process;
pub mod signals;
pub mod user;
