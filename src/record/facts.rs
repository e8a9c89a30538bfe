//! The facts of a stretch of transcript, before it is known which of them are inherited.
//!
//! A stretch can be read twice, overlap with another one, or be history that a fork copied from
//! another session. So facts are keyed by the ids that the client gave them, and
//! [`super::figures`] counts each key once. The order of two stretches matters only for [`Step`]s
//! and answers, which only the main chain has.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::collections::{BTreeSet, HashSet};
use std::iter::{self, Peekable};
use std::vec::IntoIter;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Millis;
use super::redact::Text;
use super::usage::Usage;

/// How many facts are gathered before they are handed over, so that memory does not grow with the
/// file.
pub const MAX_FACTS: usize = 32_768;
/// How much text is gathered before it is handed over, in bytes.
pub const MAX_TEXT: usize = 4 * 1024 * 1024;

/// How many messages with text are kept at the end of a stretch.
const MAX_ANSWERS: usize = 4;
/// The approximate size of a fact in memory, in bytes.
const BYTES_PER_FACT: usize = 80;

/// The 64-bit hash of a client's id and its kind. The chance that two of a million ids collide is 3
/// in 10⁸.
pub type Key = u64;

/// The kind of file that a stretch was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `<session>.jsonl`.
    Main,
    /// `<session>/subagents/**/agent-<id>.jsonl`.
    Subagent,
}

/// One API message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The model that wrote it, as an index into [`Facts::names`].
    pub model: usize,
    /// Its token counts: the largest of each on any of its lines.
    pub usage: Usage,
    /// The times of its first and last line.
    pub span: Span,
}

/// The first and the last of some points in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first one.
    pub first: Option<Millis>,
    /// The last one.
    pub last: Option<Millis>,
}

impl Span {
    /// The span from `at` to `at`.
    #[must_use]
    pub const fn at(at: Option<Millis>) -> Self {
        Self {
            first: at,
            last: at,
        }
    }

    /// Widens the span so that it holds `other`.
    pub fn include(&mut self, other: Self) {
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.into_iter().chain(other.last).max();
    }
}

/// One tool call. The call and its failure can be in different stretches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tool {
    /// The name of the tool, as an index into [`Facts::names`]; `None` until the call is seen.
    pub name: Option<usize>,
    /// Whether its result was an error.
    pub has_failed: bool,
}

/// A step of the conversation on the main chain. `at` is when it was written, `key` that of the
/// record, or of the message for a reply.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "see the type")]
pub enum Step {
    /// A human typed something.
    Prompt {
        key: Key,
        at: Option<Millis>,
        text: Option<Box<Text>>,
    },
    /// The model answered, by text or by tool calls.
    Reply { key: Key, at: Option<Millis> },
    /// The API failed.
    ApiError {
        key: Key,
        at: Option<Millis>,
        text: Option<Box<Text>>,
    },
}

/// The texts of one message on the main chain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer<T = Text> {
    /// The key of the message.
    pub message: Key,
    /// The time of its last line.
    pub at: Option<Millis>,
    /// Its text blocks, each with the key of its line, so that a repeated line adds nothing.
    pub parts: Vec<(Key, T)>,
}

/// The last messages with text on the main chain, in the order of their last lines. The last one is
/// the final answer. Some before it are kept, because the lines of two messages can alternate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answers<T = Text>(Vec<Answer<T>>);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Answers<T> {
    /// Adds a message, or lines of a message that is already here. Known lines, and messages that
    /// are older than the last one, were written a second time; they are ignored.
    pub fn add(&mut self, more: Answer<T>) {
        let newest = self.last().and_then(|last| last.at);
        if let Some(place) = self
            .0
            .iter()
            .position(|answer| answer.message == more.message)
        {
            let known: HashSet<Key> = self.0[place].parts.iter().map(|(line, _)| *line).collect();
            if more.parts.iter().all(|(line, _)| known.contains(line)) {
                return;
            }
            let new = more
                .parts
                .into_iter()
                .filter(|(line, _)| !known.contains(line));
            if is_before(more.at, newest) {
                self.0[place].parts.extend(new);
                return;
            }
            let mut answer = self.0.remove(place);
            answer.parts.extend(new);
            // Times must not decrease along the list, even if a line has none.
            answer.at = more.at.max(newest);
            self.0.push(answer);
        } else if !is_before(more.at, newest) {
            self.0.push(Answer {
                at: more.at.max(newest),
                ..more
            });
            if self.0.len() > MAX_ANSWERS {
                self.0.remove(0);
            }
        }
    }

    /// The final answer.
    #[must_use]
    pub fn last(&self) -> Option<&Answer<T>> {
        self.0.last()
    }

    /// All of them, in order.
    pub fn into_all(self) -> impl Iterator<Item = Answer<T>> {
        self.0.into_iter()
    }
}

/// Whether both times are known and `at` is earlier than `other`.
#[must_use]
pub fn is_before(at: Option<Millis>, other: Option<Millis>) -> bool {
    at.zip(other).is_some_and(|(at, other)| at < other)
}

/// A field of which the latest value counts. Not every record has it, and the client may write old
/// records a second time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dated {
    at: Option<Millis>,
    text: Option<String>,
}

impl Dated {
    /// The latest value.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.text.clone()
    }

    /// Sets the value unless it is older than the present one.
    pub fn set(&mut self, at: Option<Millis>, text: &str) {
        if is_before(at, self.at) {
            return;
        }
        self.at = at.max(self.at);
        if self.text.as_deref() != Some(text) {
            self.text = Some(text.to_owned());
        }
    }
}

/// State records, and fields of any record, of which the latest value counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the client's")]
pub struct Latest {
    pub custom_title: Option<Text>,
    pub ai_title: Option<Text>,
    pub cost_usd: Option<f64>,
    pub model: Dated,
    pub cwd: Dated,
    pub git_branch: Dated,
    pub version: Dated,
    pub entrypoint: Dated,
    pub permission_mode: Dated,
}

impl Latest {
    /// Updates each field that `later` has.
    pub fn update(&mut self, later: Self) {
        self.custom_title = later.custom_title.or(self.custom_title.take());
        self.ai_title = later.ai_title.or(self.ai_title.take());
        self.cost_usd = later.cost_usd.or(self.cost_usd);
        for (ours, theirs) in [
            (&mut self.model, later.model),
            (&mut self.cwd, later.cwd),
            (&mut self.git_branch, later.git_branch),
            (&mut self.version, later.version),
            (&mut self.entrypoint, later.entrypoint),
            (&mut self.permission_mode, later.permission_mode),
        ] {
            if let Some(text) = theirs.text {
                ours.set(theirs.at, &text);
            }
        }
    }
}

/// The facts of a stretch of transcript.
#[derive(Debug, Default, PartialEq)]
pub struct Facts {
    /// The names of models and tools, each once.
    pub names: Vec<String>,
    /// API messages, each once, in the order of their keys after [`Facts::sort`].
    pub messages: Vec<(Key, Message)>,
    /// Tool calls, likewise.
    pub tools: Vec<(Key, Tool)>,
    /// Subagents.
    pub subagents: BTreeSet<Key>,
    /// Compactions, by the keys of their records.
    pub compactions: BTreeSet<Key>,
    /// The steps of the main chain, in order.
    pub steps: Vec<Step>,
    /// The last answers.
    pub answers: Answers,
    /// The latest state.
    pub latest: Latest,
    /// Lines that are not JSON objects.
    pub malformed_lines: u64,
    /// Lines that were too long to be parsed.
    pub skipped_lines: u64,
}

impl Facts {
    /// The fact that the file of this subagent exists.
    #[must_use]
    pub fn of_subagent(id: &str) -> Self {
        Self {
            subagents: BTreeSet::from([key(b'a', id.as_bytes())]),
            ..Self::default()
        }
    }

    /// How many facts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len() + self.tools.len() + self.steps.len()
    }

    /// As [`Facts::len`], plus the size of the texts in facts: a measure of the memory in use.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = self.steps.iter().map(|step| match step {
            Step::Prompt {
                text: Some(text), ..
            }
            | Step::ApiError {
                text: Some(text), ..
            } => text.text.len(),
            _ => 0,
        });
        self.len() + bytes.sum::<usize>() / BYTES_PER_FACT
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sorts messages and tool calls by key, as the journal stores them, and merges those with the
    /// same key.
    pub fn sort(&mut self) {
        self.messages
            .sort_unstable_by_key(|(key, _)| key.cast_signed());
        self.messages.dedup_by(|(key, later), (same, message)| {
            key == same && {
                message.usage = message.usage.max(later.usage);
                message.span.include(later.span);
                true
            }
        });
        self.tools
            .sort_unstable_by_key(|(key, _)| key.cast_signed());
        self.tools.dedup_by(|(key, later), (same, tool)| {
            key == same && {
                tool.name = later.name.or(tool.name);
                tool.has_failed |= later.has_failed;
                true
            }
        });
    }
}

/// Merges the sorted items of several stretches in the order of their keys, each with the index of
/// its first stretch; `add` adds a later item with the same key. The journal stores keys in this
/// order, so that neighbors end up on the same page.
pub fn merge<T>(
    stretches: Vec<Vec<(Key, T)>>,
    add: impl Fn(&mut T, T),
) -> impl Iterator<Item = (usize, Key, T)> {
    let mut stretches: Vec<_> = stretches
        .into_iter()
        .map(|items| items.into_iter().peekable())
        .collect();
    let next = |items: &mut Peekable<IntoIter<(Key, T)>>, place| {
        items
            .peek()
            .map(|(key, _)| Reverse((key.cast_signed(), place)))
    };
    let mut heads: BinaryHeap<_> = stretches
        .iter_mut()
        .enumerate()
        .filter_map(|(place, items)| next(items, place))
        .collect();
    let mut in_order = iter::from_fn(move || {
        let mut head = heads.peek_mut()?;
        let place = head.0.1;
        let (key, item) = stretches[place].next()?;
        match next(&mut stretches[place], place) {
            Some(later) => *head = later,
            None => drop(PeekMut::pop(head)),
        }
        Some((place, key, item))
    })
    .peekable();
    iter::from_fn(move || {
        let (place, key, mut item) = in_order.next()?;
        while let Some((_, _, later)) = in_order.next_if(|(_, same, _)| *same == key) {
            add(&mut item, later);
        }
        Some((place, key, item))
    })
}

/// The index of a name, which is added if it is new. A session has a few dozen, so the search is
/// short.
pub fn intern(names: &mut Vec<String>, name: &str) -> usize {
    names
        .iter()
        .position(|known| known == name)
        .unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
}

/// The key of an id. `kind` is `m` for a message, `t` for a tool call, `u` for a record and `a` for a
/// subagent.
#[must_use]
pub fn key(kind: u8, id: &[u8]) -> Key {
    xxh3_64_with_seed(id, u64::from(kind))
}
