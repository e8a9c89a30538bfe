//! What `setup` brings up: the functions and compose file that travel in the binary, and the
//! programs that deploy them.

pub mod bundle;
pub mod compose;
