//! Tests that drive the real binary, with an empty environment and a temporary home, as a hook is driven.

mod hook;
mod replay;
mod support;
