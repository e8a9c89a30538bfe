//! Properties of reading transcripts: however the files are cut between reads, the record equals
//! that of one read, and that of an independent, slow reader of the same bytes (the oracle).

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::format_push_string,
    reason = "a test fails by panicking, and is an edge"
)]
#![allow(missing_docs, reason = "the names of tests say what they check")]

#[path = "../binary/adds_up.rs"]
mod adds_up;
mod cuts;
mod generate;
mod journal;
mod machine;
mod oracle;
mod world;
