//! Token counts.

use serde::{Deserialize, Serialize};

/// Token counts of one or more messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are those of the Messages API")]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_input_tokens: u64,
    pub cache_creation_input_tokens: u64,
}

impl Usage {
    /// The larger of each count.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self::from(std::array::from_fn(|index| {
            self.figures()[index].max(other.figures()[index])
        }))
    }

    /// The counts in the order of the fields.
    #[must_use]
    pub const fn figures(self) -> [u64; 4] {
        [
            self.input_tokens,
            self.output_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        ]
    }

    /// Adds each count.
    pub fn add(&mut self, more: Self) {
        let (ours, theirs) = (self.figures(), more.figures());
        *self = Self::from(std::array::from_fn(|index| {
            ours[index].saturating_add(theirs[index])
        }));
    }
}

impl From<[u64; 4]> for Usage {
    fn from(
        [
            input_tokens,
            output_tokens,
            cache_read_input_tokens,
            cache_creation_input_tokens,
        ]: [u64; 4],
    ) -> Self {
        Self {
            input_tokens,
            output_tokens,
            cache_read_input_tokens,
            cache_creation_input_tokens,
        }
    }
}
