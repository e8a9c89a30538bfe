//! What a stretch of transcript says, before it is known which of it is this session's own.
//!
//! A stretch may be read twice, overlap a line, or be the copy of another session's history that a
//! fork starts with. So facts are keyed by the ids that the client gave them; [`super::figures`]
//! counts each key once. Facts of two stretches need no order except [`Step`]s and the answer,
//! which only the main chain has.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::collections::{BTreeSet, HashSet};
use std::iter::{self, Peekable};
use std::vec::IntoIter;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::redact::Text;
use super::usage::Usage;

/// How many facts are gathered before they are handed over, so that memory does not grow with the
/// file.
pub const MAX_FACTS: usize = 32_768;
/// How many bytes of kept text are gathered before they are handed over.
pub const MAX_TEXT: usize = 4 * 1024 * 1024;

/// How many messages with text are remembered at the end of a stretch.
const MAX_ANSWERS: usize = 4;
/// What a fact takes in memory, about, in bytes.
const BYTES_PER_FACT: usize = 80;

/// The 64-bit hash of a client's id, with its kind. A chance of 3 in 10⁸ that two of a million
/// collide.
pub type Key = u64;

/// Where a stretch was read from.
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
    /// The model that wrote it: its place in [`Facts::names`].
    pub model: usize,
    /// The largest figures of its lines.
    pub usage: Usage,
    /// The times of its first and last line, in epoch milliseconds.
    pub span: Span,
}

/// The first and the last of some points in time, in epoch milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// The first.
    pub first: Option<i64>,
    /// The last.
    pub last: Option<i64>,
}

impl Span {
    /// The span from `at` to `at`.
    #[must_use]
    pub const fn at(at: Option<i64>) -> Self {
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

/// One tool call, of which the call and its failure may stand in different stretches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tool {
    /// The tool's name, known from the call: its place in [`Facts::names`].
    pub name: Option<usize>,
    /// Whether its result was an error.
    pub failed: bool,
}

/// What moves the conversation on, in the order of the main chain.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "`at` is epoch milliseconds, `key` that of the record or message"
)]
pub enum Step {
    /// A human asked.
    Prompt {
        key: Key,
        at: Option<i64>,
        text: Option<Box<Text>>,
    },
    /// The model answered, in whatever form.
    Reply { key: Key, at: Option<i64> },
    /// The API failed.
    ApiError {
        key: Key,
        at: Option<i64>,
        text: Option<Box<Text>>,
    },
}

/// The texts of one message of the main chain.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answer<T = Text> {
    /// The key of the message.
    pub message: Key,
    /// The time of its last line.
    pub at: Option<i64>,
    /// Its text blocks by the key of their line, so that a repeated line adds nothing.
    pub parts: Vec<(Key, T)>,
}

/// The last messages of the main chain that have text, in the order of their last lines. The final
/// answer is the last one; some before it are kept because a message may go on after another one
/// has begun.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answers<T = Text>(Vec<Answer<T>>);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Answers<T> {
    /// Takes more of a message, or a new one. A line that is known already, and a message that is
    /// older than the last one, are lines written again.
    pub fn take(&mut self, more: Answer<T>) {
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
            // Times grow along the list, also where a line has none.
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

/// Whether both times are known and `at` is the earlier one.
#[must_use]
pub fn is_before(at: Option<i64>, other: Option<i64>) -> bool {
    at.zip(other).is_some_and(|(at, other)| at < other)
}

/// A field of which the latest value counts: not every record carries it, and old records may be
/// written again.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Dated {
    at: Option<i64>,
    text: Option<String>,
}

impl Dated {
    /// The latest value.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.text.clone()
    }

    /// Takes a value unless it is older than the one that is known.
    pub fn take(&mut self, at: Option<i64>, text: &str) {
        if is_before(at, self.at) {
            return;
        }
        self.at = at.max(self.at);
        if self.text.as_deref() != Some(text) {
            self.text = Some(text.to_owned());
        }
    }
}

/// The state records and envelope fields of which the last one counts.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
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
    /// Takes what `later` knows.
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
                ours.take(theirs.at, &text);
            }
        }
    }
}

/// What a stretch of transcript says.
#[derive(Debug, Default, PartialEq)]
pub struct Facts {
    /// The names of models and tools, each once.
    pub names: Vec<String>,
    /// API messages by id, each once, in the order of the keys.
    pub messages: Vec<(Key, Message)>,
    /// Tool calls by id, likewise.
    pub tools: Vec<(Key, Tool)>,
    /// Subagents by id.
    pub subagents: BTreeSet<Key>,
    /// Compactions by record id.
    pub compactions: BTreeSet<Key>,
    /// The main chain's steps, in order.
    pub steps: Vec<Step>,
    /// The last answers of the stretch.
    pub answers: Answers,
    /// The last state.
    pub latest: Latest,
    /// Lines that are not JSON objects.
    pub malformed_lines: u64,
    /// Lines longer than the reader's cap.
    pub skipped_lines: u64,
}

impl Facts {
    /// The fact that a subagent's file exists.
    #[must_use]
    pub fn of_subagent(id: &str) -> Self {
        Self {
            subagents: BTreeSet::from([key(b'a', id.as_bytes())]),
            ..Self::default()
        }
    }

    /// How many there are, as a measure of the memory they take.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len() + self.tools.len() + self.steps.len()
    }

    /// As [`Facts::len`], with the texts of prompts reckoned in.
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

    /// Puts messages and tools in the order of their keys, each once, as the journal keeps them.
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
                tool.failed |= later.failed;
                true
            }
        });
    }
}

/// Merges what each stretch has in the order of its keys, the stretch's place with each, and `add`s
/// what later ones have of the same key. The journal keeps keys in that order, so neighbours go to
/// the same page.
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

/// The place of a name. Sessions use some dozens, so the search is short.
pub fn place(names: &mut Vec<String>, name: &str) -> usize {
    names
        .iter()
        .position(|known| known == name)
        .unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
}

/// The key of an id of some kind: `m`essage, `t`ool use, record (`u`uid), `a`gent.
#[must_use]
pub fn key(kind: u8, id: &[u8]) -> Key {
    xxh3_64_with_seed(id, u64::from(kind))
}
