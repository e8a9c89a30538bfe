//! The transcript: the client's own log of a session, one JSON record per line.
//!
//! [`files`] finds the files, [`beginning`] reads how one begins, [`reader`] reads what is new in
//! one of them since its [`checkpoint`], [`lines`] splits that into lines, [`relevance`] skips lines
//! that cannot matter, [`line`] turns a line into a record ([`wire`] is its JSON, `prompt` tells who
//! is speaking), and [`gather`] turns records into facts (`recovery` finds those in a damaged line,
//! `state` adds titles and charges). [`hook_times`] reads what the client measured. Only [`files`],
//! [`beginning`], [`checkpoint`] and [`reader`] touch the disk.

pub mod beginning;
pub mod checkpoint;
mod cost_state;
pub mod files;
pub mod gather;
pub mod hook_times;
pub mod line;
pub mod lines;
mod prompt;
pub mod reader;
mod recovery;
pub mod relevance;
mod shrink;
mod state;
mod wire;
