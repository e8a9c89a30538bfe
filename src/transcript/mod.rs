//! The transcript: the client's own log of a session, one JSON record per line.
//!
//! [`reader`] turns bytes into whole lines from where the last read stopped, [`line`] a line into a
//! record, [`gather`] records into facts, and [`files`] finds the files. All are pure but the
//! reader and the files.

pub mod files;
pub mod gather;
pub mod line;
pub mod reader;
