//! The transcript: the client's own log of a session, one JSON record a line.
//!
//! [`reader`] turns bytes into whole lines from where the last read stopped, [`records`] a line
//! into a record ([`assistant`] the commonest kind of line, fast), [`facts`] records into what they
//! say, [`summary`] that into the figures of the session. All are pure but the reader.

pub mod assistant;
pub mod facts;
pub mod reader;
pub mod records;
pub mod summary;
