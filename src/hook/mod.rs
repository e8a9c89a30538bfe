//! What a hook is given: the HookInput on stdin, and the client that runs it.

pub mod client;
pub mod input;
pub mod stdin;
