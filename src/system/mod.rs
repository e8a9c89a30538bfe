//! What the operating system gives: time, files, processes, programs.

pub mod deadline;
pub mod files;
pub mod json;
pub mod process;
