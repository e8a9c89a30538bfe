//! Properties of reading transcripts: however the files are cut between reads, the record equals
//! that of one read, and that of an independent, slow reader of the same bytes (the oracle).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, reason = "the names of tests say what they check")]

mod cuts;
mod generate;
mod journal;
mod oracle;
