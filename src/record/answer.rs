//! The last answer of a session's conversation.

use serde::{Deserialize, Serialize};

use super::index::{Key, key};
use super::redact::Text;
use super::{Millis, keep_last};

/// How many texts before an answer are remembered.
const MAX_EARLIER: usize = 8;

/// The last text of a model on the main chain; `T` is the text as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer<T = Text> {
    /// When it was written.
    pub at: Option<Millis>,
    /// The text.
    pub text: T,
    /// The call that gave it, if it is the structured output of a run with a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_by: Option<Key>,
    /// Whether there is a prompt after it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_past: bool,
    /// The keys of the texts before it; for a structured output, also of those after it in its
    /// turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Key>,
    /// The text before a structured output, which counts again if the client rejects the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Self>>,
}

impl<T: AsRef<str>> Answer<T> {
    /// Whether it is the structured output of the last turn, which no text replaces.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.structured_by.is_some() && !self.is_past
    }

    /// This answer, which came after `before`.
    #[must_use]
    pub fn after(mut self, before: Option<Self>) -> Self {
        if let Some(mut before) = before {
            let text = key_of(before.text.as_ref());
            let own = std::mem::replace(&mut self.earlier, before.earlier.clone());
            self.remember(std::iter::once(text).chain(own));
            if self.structured_by.is_some() {
                // Of several outputs in a turn, the client may reject each.
                let is_final = before.is_final();
                before.before.take_if(|_| !is_final);
                if let Some(earlier) = &mut before.before {
                    earlier.before = None;
                }
                self.before = Some(Box::new(before));
            }
        }
        self
    }

    /// What is left if the client rejected the output of this call.
    #[must_use]
    pub fn without(mut self, call: Key) -> Option<Self> {
        let before = self.before.take();
        if self.structured_by == Some(call) && !self.is_past {
            return before.map(|before| *before);
        }
        self.before = before.and_then(|before| before.without(call)).map(Box::new);
        Some(self)
    }

    /// Adds texts to those before the answer; for a structured output, also to those after it.
    pub fn remember(&mut self, texts: impl IntoIterator<Item = Key>) {
        self.earlier.extend(texts);
        keep_last(&mut self.earlier, MAX_EARLIER);
    }
}

/// The key of a text.
#[must_use]
pub fn key_of(text: &str) -> Key {
    key(b'x', text.trim().as_bytes())
}
