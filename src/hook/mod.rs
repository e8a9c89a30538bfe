//! What a hook receives: the HookInput on stdin, the client that runs it, and the project that the
//! client works on.

pub mod client;
pub mod input;
pub mod project;
pub mod stdin;

use std::fmt;

use self::stdin::MAX_BYTES;

/// Why a hook input cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputError {
    /// There was nothing but white space.
    Empty,
    /// The JSON value was not complete before stdin ended or time ran out.
    Incomplete,
    /// It is larger than [`MAX_BYTES`].
    TooLarge,
    /// It is not the JSON of a hook input; the text names the line and column, or the field.
    Malformed(String),
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "could not read the hook input: stdin was empty; pipe one HookInput JSON object"
            ),
            Self::Incomplete => write!(
                f,
                "could not read the hook input: the JSON object on stdin is incomplete"
            ),
            Self::TooLarge => write!(
                f,
                "could not read the hook input: more than {MAX_BYTES} bytes on stdin"
            ),
            Self::Malformed(reason) => write!(f, "could not parse the hook input: {reason}"),
        }
    }
}

impl std::error::Error for InputError {}
