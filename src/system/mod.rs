//! Time, files, processes and signals of the operating system, which processes are clients, and
//! lenient reading of JSON.

pub mod access;
pub mod client;
pub mod deadline;
pub mod files;
pub mod json;
pub mod listener;
pub mod mounts;
pub mod process;
pub mod signals;
