//! Token counts.

use serde::{Deserialize, Serialize};

/// How many counts a [`Usage`] has.
pub(super) const COUNTS: usize = 7;

/// Token counts of one or more messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are those of the Messages API")]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_input_tokens: u64,
    pub cache_creation_input_tokens: u64,
    /// The part of `output_tokens` that the model used for thinking.
    #[serde(skip_serializing_if = "is_zero")]
    pub thinking_tokens: u64,
    /// The part of `cache_creation_input_tokens` that is kept for an hour instead of five minutes.
    #[serde(rename = "cacheCreation1hInputTokens", skip_serializing_if = "is_zero")]
    pub cache_creation_1h_input_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub web_search_requests: u64,
}

impl Usage {
    /// The larger of each count.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    /// The sum of each count.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The difference of each count; 0 where `other` is larger.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// Adds each count.
    pub fn add(&mut self, more: Self) {
        *self = self.plus(more);
    }

    /// The sum of the four kinds of tokens.
    #[must_use]
    pub const fn tokens(self) -> u64 {
        self.input_tokens
            .saturating_add(self.output_tokens)
            .saturating_add(self.cache_read_input_tokens)
            .saturating_add(self.cache_creation_input_tokens)
    }

    /// Whether none of the four kinds of tokens is less than in `other`.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.input_tokens >= other.input_tokens
            && self.output_tokens >= other.output_tokens
            && self.cache_read_input_tokens >= other.cache_read_input_tokens
            && self.cache_creation_input_tokens >= other.cache_creation_input_tokens
    }

    fn each(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let (ours, theirs) = (self.counts(), other.counts());
        Self::from(std::array::from_fn(|index| {
            combine(ours[index], theirs[index])
        }))
    }

    /// The counts in the order of the fields.
    pub(super) const fn counts(self) -> [u64; COUNTS] {
        [
            self.input_tokens,
            self.output_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
            self.thinking_tokens,
            self.cache_creation_1h_input_tokens,
            self.web_search_requests,
        ]
    }
}

impl From<[u64; COUNTS]> for Usage {
    fn from(counts: [u64; COUNTS]) -> Self {
        Self {
            input_tokens: counts[0],
            output_tokens: counts[1],
            cache_read_input_tokens: counts[2],
            cache_creation_input_tokens: counts[3],
            thinking_tokens: counts[4],
            cache_creation_1h_input_tokens: counts[5],
            web_search_requests: counts[6],
        }
    }
}

/// For serde, which passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "see above")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Usage with this many input tokens and nothing else.
#[cfg(test)]
#[must_use]
pub fn used(input_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        ..Usage::default()
    }
}
