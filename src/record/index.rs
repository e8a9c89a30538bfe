//! The dedup index as the figures see it: what is known about each record on this machine.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Millis;
use super::prices::Rate;
use super::usage::{COUNTS, Usage};

/// The 64-bit hash of a client's ID and its kind. The chance that two of a million IDs collide is 3
/// in 10⁸.
pub type Key = u64;

/// The key of an ID. `kind` is `u` for a record, `m` for a message, `r` for a request, `t` for a
/// tool call, `a` for a subagent and `w` for a working tree. Only keys of records are in the index.
#[must_use]
pub fn key(kind: u8, id: &[u8]) -> Key {
    xxh3_64_with_seed(id, u64::from(kind))
}

/// A map by keys, which are hashes already.
pub type KeyMap<V> = HashMap<Key, V, BuildHasherDefault<KeyHasher>>;

/// The hasher of a [`KeyMap`].
#[derive(Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a record was counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// The first record of an API message, with the usage of the message so far.
    Message(#[serde(with = "counts")] Usage),
    /// Another record of the API message whose first record has this key.
    Part(Key),
    /// A prompt.
    Prompt {
        /// Whether it was counted as a turn.
        is_answered: bool,
    },
    /// Anything else that is counted once.
    Other,
    /// The first record of an API message at a special rate.
    MessageAt(#[serde(with = "counts")] Usage, Rate),
}

impl Known {
    /// The first record of a message, with what it has used so far and the rate of that.
    #[must_use]
    pub fn message(usage: Usage, rate: Rate) -> Self {
        if rate == Rate::default() {
            Self::Message(usage)
        } else {
            Self::MessageAt(usage, rate)
        }
    }

    /// What a message has used so far, if this is its first record.
    #[must_use]
    pub fn usage(self) -> Option<(Usage, Rate)> {
        match self {
            Self::Message(usage) => Some((usage, Rate::default())),
            Self::MessageAt(usage, rate) => Some((usage, rate)),
            _ => None,
        }
    }

    /// The first record of the message that `record` was counted for, if it is part of one.
    #[must_use]
    pub fn message_of(self, record: Key) -> Option<Key> {
        match self {
            Self::Part(message) => Some(message),
            _ => self.usage().map(|_| record),
        }
    }
}

/// What is known of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether an older session had it first, so that it is history that a fork copied.
    pub is_inherited: bool,
    /// What this session has counted it as.
    pub known: Option<Known>,
    /// The first record of the message that the session which had it first has counted it for.
    pub original_message: Option<Key>,
}

/// The records that were counted on this machine, as one session sees them.
pub trait Index {
    /// Why the index cannot be read or written.
    type Error;

    /// What is known about a record; `at` is when it was written.
    fn look_up(&mut self, key: Key, at: Option<Millis>) -> Result<Seen, Self::Error>;

    /// Whether this session has counted a record. Unlike [`look_up`](Self::look_up), this does not
    /// mean that the session has the record, so nothing is inherited.
    fn is_counted(&mut self, key: Key) -> Result<bool, Self::Error> {
        Ok(self.look_up(key, None)?.known.is_some())
    }

    /// Remembers what this session has counted a record as.
    fn put(&mut self, key: Key, known: Known) -> Result<(), Self::Error>;
}

/// Stores a [`Usage`] as its counts, because the index is stored in a format without field names,
/// in which no field can be left out.
mod counts {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Usage;

    pub fn serialize<S: Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
        usage.counts().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usage, D::Error> {
        Deserialize::deserialize(deserializer).map(<Usage as From<[u64; super::COUNTS]>>::from)
    }
}
