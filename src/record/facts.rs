//! The facts of a stretch of transcript, before it is known which of them are inherited or already
//! counted.
//!
//! A stretch can be read twice, overlap with another one, or be history that a fork copied from
//! another session. So each fact names the record that it comes from by the ID that the client gave
//! it, and [`super::figures`] counts each record once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::answer::Answer;
use super::charge::Charge;
use super::document::PullRequest;
use super::index::{Key, key};
use super::latest::Latest;
use super::prices::Rate;
use super::redact::Text;
use super::usage::Usage;
use super::{Millis, keep_last};

/// How many facts are gathered before they are handed over, so that memory does not grow with the
/// file.
pub const MAX_FACTS: usize = 5_000;
/// How much text is gathered before it is handed over, in bytes.
pub const MAX_TEXT: usize = 4 * 1024 * 1024;

/// How many of the latest turns are remembered.
const MAX_TURNS: usize = 8;
/// The tool by which the model gives the answer of a run with a schema.
pub const STRUCTURED_OUTPUT: &str = "StructuredOutput";

/// The approximate size of a fact in memory, in bytes.
const BYTES_PER_FACT: usize = 160;

/// The kind of file that a stretch was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `<session>.jsonl`.
    Main,
    /// `agent-<id>.jsonl`, below `<session>/subagents/`, or, from older clients, beside the main
    /// file.
    Subagent,
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
    /// Widens the span so that it includes `at`.
    pub fn include(&mut self, at: Option<Millis>) {
        self.first = self.first.into_iter().chain(at).min();
        self.last = self.last.max(at);
    }
}

/// The relevant content of one record.
#[derive(Debug, PartialEq)]
pub struct Fact {
    /// The key of the record: its `uuid`, or that of the record of which it is a copy
    /// (`forkedFrom.messageUuid`).
    pub key: Key,
    /// The key of its own `uuid`, if it is a copy under another one, because copies refer to each
    /// other by these.
    pub copy: Option<Key>,
    /// The key of the record before it in the conversation; 0 for none.
    pub parent: Key,
    /// When it was written.
    pub at: Option<Millis>,
    /// Whether it belongs to the session's own conversation, not to a subagent's.
    pub is_main: bool,
    /// Whether it says which session it was copied from (`forkedFrom`).
    pub has_fork_mark: bool,
    /// The content.
    pub what: What,
}

/// The content of a record.
#[derive(Debug, PartialEq)]
pub enum What {
    /// A prompt from a human or from the caller of the SDK.
    Prompt {
        /// `None` if no text is kept.
        text: Option<Box<Text>>,
        /// Whether it is a command, which the client expands in the next record.
        is_command: bool,
    },
    /// A prompt that the main agent gave to a subagent, in its own file, or in the main one, where
    /// clients up to 2.0.25 wrote subagents.
    Sidechain {
        /// The key of the subagent.
        agent: Key,
    },
    /// A part of an API message; most messages take several records. It is not boxed, because a box
    /// that another thread frees makes `import` slower by a twelfth.
    Reply(Reply),
    /// The API failed, the model refused, or a limit was reached. The text is what the user saw.
    Error(Option<Box<Text>>),
    /// The user interrupted the turn.
    Interruption,
    /// The maximum cost of the run, in US dollars. The client writes it after the prompt.
    Budget(f64),
    /// Results of tool calls, with the IDs of the calls that failed.
    Failures(Vec<Key>),
    /// The conversation was compacted.
    Compaction,
    /// The turn has ended: the client ran the Stop hooks.
    TurnEnd,
    /// The file of a subagent begins with a copy of its parent's last messages.
    ForkContext,
}

/// A part of an API message.
#[derive(Debug, PartialEq)]
pub struct Reply {
    /// The ID of the message, which a backend chose: it may be missing, or the same for all
    /// messages.
    pub id: Option<Key>,
    /// The ID of the request.
    pub request: Option<Key>,
    /// The model that wrote it, as an index into [`Facts::names`].
    pub model: usize,
    /// The token counts of the message so far, or for all of it.
    pub usage: Usage,
    /// What the price of the message depends on.
    pub rate: Rate,
    /// What other models used in addition, which the API consulted for advice.
    pub advisors: Vec<(usize, Usage, Rate)>,
    /// The tool calls, with the names of the tools as indexes into [`Facts::names`].
    pub calls: SmallVec<[(Key, usize); 1]>,
    /// Whether it ends with a text, or with the structured output of a run with a schema. Otherwise
    /// tool results will follow.
    pub is_answer: bool,
    /// Whether the message has a stop reason that ends the turn. Clients up to 2.0.50 (measured) do
    /// not always write one.
    pub ends_turn: bool,
    /// The agent that wrote it, if the record names it.
    pub agent: Option<Key>,
    /// The same, unless the client runs that agent for itself.
    pub subagent: Option<Key>,
    /// Whether there is a `user` record between this record and the reply before it in the file.
    pub follows_user: bool,
}

/// The key of the client's ID of a turn.
#[must_use]
pub fn turn_key(prompt_id: &str) -> Key {
    key(b'p', prompt_id.as_bytes())
}

/// Adds a turn to the latest ones.
pub fn remember_turn(turns: &mut Vec<Key>, turn: Key) {
    turns.retain(|known| *known != turn);
    turns.push(turn);
    keep_last(turns, MAX_TURNS);
}

/// The last step of the conversation on the main chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When it was written.
    pub at: Option<Millis>,
    /// What it was.
    pub kind: StepKind,
}

/// A kind of step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepKind {
    /// A prompt.
    Prompt,
    /// The model called tools.
    ToolUse,
    /// The model wrote a text, and nothing says yet that it has finished.
    Answer,
    /// The model finished its answer.
    WholeAnswer,
    /// The user interrupted the turn.
    Interruption,
    /// The API failed, the model refused, or a limit was reached.
    Error(Text),
}

impl StepKind {
    /// The kind of a reply.
    #[must_use]
    pub fn of(reply: &Reply) -> Self {
        // A message can end the turn without a text, such as one that has only thinking.
        if reply.ends_turn && reply.calls.is_empty() {
            Self::WholeAnswer
        } else if reply.is_answer {
            Self::Answer
        } else {
            Self::ToolUse
        }
    }
}

/// A text and its time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatedText {
    /// When it was written.
    pub at: Option<Millis>,
    /// The text; `None` if none is kept.
    pub text: Option<Text>,
}

/// Calls and failures of one tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ToolFigures {
    pub calls: u64,
    pub errors: u64,
}

/// What the subagents of one type used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubagentFigures {
    /// How many ran.
    pub calls: u64,
    /// Token counts of their messages.
    #[serde(flatten)]
    pub usage: Usage,
}

impl SubagentFigures {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.calls += more.calls;
        self.usage.add(more.usage);
    }
}

/// Whether both times are known and `at` is earlier than `other`.
#[must_use]
pub fn is_before(at: Option<Millis>, other: Option<Millis>) -> bool {
    at.zip(other).is_some_and(|(at, other)| at < other)
}

/// The facts of a stretch of transcript.
#[derive(Debug, Default, PartialEq)]
pub struct Facts {
    /// The names of models and tools, each once.
    pub names: Vec<String>,
    /// The records that count, in the order of the file.
    pub facts: Vec<Fact>,
    /// The latest turns, by their keys.
    pub turns: Vec<Key>,
    /// The last text, and the key of its record; before a structured output also the text before
    /// it, because the client may reject the output later.
    pub answers: Vec<(Key, Answer)>,
    /// The latest state.
    pub latest: Latest,
    /// Titles that older clients wrote for any session, each with the key of a record that
    /// identifies the session.
    pub summaries: Vec<(Key, Text)>,
    /// What the client charged so far, each with the number of facts before it.
    pub charges: Vec<(usize, Charge)>,
    /// The session that these records say they were copied from.
    pub forked_from: Option<String>,
    /// The sessions that continue this one.
    pub continued_in: BTreeMap<String, Option<Millis>>,
    /// The pull requests that the client linked to the session.
    pub pull_requests: BTreeSet<PullRequest>,
    /// Whether there is a `user` record after the last reply, on the main chain and on others.
    pub ends_with_user: [bool; 2],
    /// Lines that are partly not JSON.
    pub damaged_lines: u64,
    /// Lines that were too long to be parsed.
    pub skipped_lines: u64,
}

impl Facts {
    /// The time of the first fact, if it has one; without facts, that of the first charge.
    #[must_use]
    pub fn begins_at(&self) -> Option<Millis> {
        match self.facts.first() {
            Some(fact) => fact.at,
            None => self.charges.first().map(|(_, charge)| charge.at),
        }
    }

    /// Whether some of them belong to the main chain.
    #[must_use]
    pub fn has_main_chain(&self) -> bool {
        self.facts.iter().any(|fact| fact.is_main)
    }

    /// Splits off the first `count` facts, with what the client had charged by then. What holds for
    /// the whole stretch stays behind.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        let rest = self.facts.split_off(count);
        let facts = std::mem::replace(&mut self.facts, rest);
        let place = self.charges.partition_point(|(place, _)| *place <= count);
        let rest = self.charges.split_off(place);
        let charges = std::mem::replace(&mut self.charges, rest);
        for (place, _) in &mut self.charges {
            *place -= count;
        }
        let is_in = |(record, _): &mut (Key, Answer)| facts.iter().any(|fact| fact.key == *record);
        Self {
            names: self.names.clone(),
            answers: self.answers.extract_if(.., is_in).collect(),
            facts,
            charges,
            ..Self::default()
        }
    }

    /// Splits off all facts and the charges between them. The last charge stays behind if it comes
    /// after all facts.
    #[must_use]
    pub fn split_before_last_charge(&mut self) -> Self {
        let count = self.facts.len();
        let last = self.charges.pop_if(|(place, _)| *place == count);
        let facts = self.split_to(count);
        self.charges = last.map(|(_, charge)| (0, charge)).into_iter().collect();
        facts
    }

    /// The number of facts, plus the size of their texts: a measure of the memory in use.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = self.facts.iter().map(|fact| match &fact.what {
            What::Prompt {
                text: Some(text), ..
            }
            | What::Error(Some(text)) => text.text.len(),
            _ => 0,
        });
        self.facts.len() + bytes.sum::<usize>() / BYTES_PER_FACT
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
