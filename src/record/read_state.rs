//! How much of a session's transcript was read.

use serde::{Deserialize, Serialize};

/// How much of the transcript was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadState {
    /// Everything that was in the files when they were last read.
    Complete,
    /// The next invocation reads the rest.
    Partial,
    /// There was no file.
    #[default]
    Missing,
}

impl ReadState {
    const ALL: [Self; 3] = [Self::Complete, Self::Partial, Self::Missing];

    /// The name in the document and in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Missing => "missing",
        }
    }

    /// The state with this name; `Missing` for any other name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.as_str() == name).unwrap_or_default()
    }
}

/// How much of the transcript was read, in bytes of all its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the type says it")]
pub struct TranscriptState {
    pub state: ReadState,
    pub bytes: u64,
}

impl TranscriptState {
    /// Whether any of it was read, even if the file is gone by now.
    #[must_use]
    pub fn was_read(self) -> bool {
        self.state != ReadState::Missing || self.bytes > 0
    }
}
