//! Properties of reading transcripts: however the files are cut between reads, the record is that
//! of one read, and that is what an independent, slow reading of the same bytes says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, reason = "tests say by their names what they hold")]

mod cuts;
mod generate;
mod journal;
mod oracle;
