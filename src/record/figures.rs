//! The figures of one session, updated with each stretch of its transcript files that is read.
//!
//! However the files are cut between reads, the figures equal those of one full read: a fact adds
//! only what is not counted yet under its key.

use std::collections::{BTreeMap, HashSet};
use std::mem::take;

use serde::{Deserialize, Serialize};

use super::Millis;
use super::facts::{Answers, Facts, Key, Latest, Message, Span, Step, is_before, merge};
use super::redact::Text;
use super::usage::Usage;

/// A fact that is counted once on this machine, such as a message, a tool call or a prompt.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its key.
    pub key: Key,
    /// A tool's name; empty otherwise.
    pub name: &'a str,
    /// Its figures. Of repeated facts, the largest of each figure counts.
    pub figures: [u64; 4],
}

/// What was counted of an [`Item`] before.
#[derive(Debug, Default)]
pub struct Counted {
    /// Whether another session had it first, so that it is history that a fork copied.
    pub is_inherited: bool,
    /// The figures that are already counted for this session.
    pub before: Option<[u64; 4]>,
    /// Its name, for an item without one.
    pub name: String,
}

/// Calls and failures of one tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ToolFigures {
    pub calls: u64,
    pub errors: u64,
}

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

/// The figures and texts of one session, from its transcript files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// Prompts by humans.
    pub prompts: u64,
    /// Prompts that were answered, if only by an error.
    pub turns: u64,
    /// API messages, including those of subagents.
    pub api_messages: u64,
    /// Tool calls by name.
    pub tools: BTreeMap<String, ToolFigures>,
    /// Compactions of the conversation.
    pub compactions: u64,
    /// Subagents that were started.
    pub subagents: u64,
    /// Token counts by model.
    pub usage_by_model: BTreeMap<String, Usage>,
    /// Token counts of messages that another session had first.
    pub inherited: Option<Usage>,
    /// The first prompt that is not inherited.
    pub input: Option<Text>,
    /// The last answers that are not inherited.
    pub answers: Answers,
    /// The error in which the last turn ended.
    pub error: Option<Text>,
    /// When the last step was written.
    pub stepped_at: Option<Millis>,
    /// From the first to the last step or message that is not inherited.
    pub span: Span,
    /// The latest state.
    pub latest: Latest,
    /// Lines that are not JSON objects.
    pub malformed_lines: u64,
    /// Lines that were too long to be parsed.
    pub skipped_lines: u64,
    /// When the last prompt or API error that is not inherited was written.
    asked_or_failed_at: Option<Millis>,
    /// Whether the last prompt is not answered yet.
    awaits_reply: bool,
}

impl Figures {
    /// Counts the facts of the next stretches, in their order. `count` stores an item and returns
    /// what was counted of it before.
    pub fn absorb<E>(
        &mut self,
        mut stretches: Vec<Facts>,
        mut count: impl FnMut(Item<'_>) -> Result<Counted, E>,
    ) -> Result<(), E> {
        // The steps and answers of copied messages must not count either.
        let mut copied = HashSet::new();
        let messages = merge(
            stretches
                .iter_mut()
                .map(|facts| take(&mut facts.messages))
                .collect(),
            |message: &mut Message, later| {
                message.usage = message.usage.max(later.usage);
                message.span.include(later.span);
            },
        );
        for (place, key, message) in messages {
            let counted = count(Item {
                key,
                name: "",
                figures: message.usage.figures(),
            })?;
            if self.count_message(&message, &stretches[place].names[message.model], &counted) {
                copied.insert(key);
            }
        }
        let tools = stretches.iter_mut().map(|Facts { names, tools, .. }| {
            take(tools)
                .into_iter()
                .map(|(key, tool)| (key, (tool.name.map(|name| &*names[name]), tool.has_failed)))
                .collect()
        });
        let tools = merge(tools.collect(), |(name, failed), (later, later_failed)| {
            *name = name.or(later);
            *failed |= later_failed;
        });
        for (_, key, (name, failed)) in tools {
            let figures = [u64::from(name.is_some()), u64::from(failed), 0, 0];
            let counted = count(Item {
                key,
                name: name.unwrap_or_default(),
                figures,
            })?;
            if !counted.is_inherited {
                self.count_tool(name.unwrap_or(&counted.name), &counted, figures);
            }
        }
        let mut is_new = |key| {
            Ok(is_new(&count(Item {
                key,
                name: "",
                figures: [0; 4],
            })?))
        };
        for facts in stretches {
            for key in facts.subagents {
                self.subagents += u64::from(is_new(key)?);
            }
            for key in facts.compactions {
                self.compactions += u64::from(is_new(key)?);
            }
            for step in facts.steps {
                self.step(step, &copied, &mut is_new)?;
            }
            for answer in facts.answers.into_all() {
                if !copied.contains(&answer.message) {
                    self.answers.add(answer);
                }
            }
            self.latest.update(facts.latest);
            self.malformed_lines += facts.malformed_lines;
            self.skipped_lines += facts.skipped_lines;
        }
        Ok(())
    }

    /// Counts a message. Returns whether it is history that a fork copied.
    fn count_message(&mut self, message: &Message, model: &str, counted: &Counted) -> bool {
        let (figures, before) = (message.usage.figures(), counted.before.unwrap_or_default());
        let more = Usage::from(std::array::from_fn(|index| {
            figures[index].saturating_sub(before[index])
        }));
        if counted.is_inherited {
            self.inherited.get_or_insert_default().add(more);
            return true;
        }
        self.api_messages += u64::from(counted.before.is_none());
        match self.usage_by_model.get_mut(model) {
            Some(usage) => usage.add(more),
            None => drop(self.usage_by_model.insert(model.to_owned(), more)),
        }
        self.span.include(message.span);
        false
    }

    /// Counts a tool call when the call is first seen, and its failure as soon as both the call and
    /// the failure were seen.
    fn count_tool(&mut self, name: &str, counted: &Counted, figures: [u64; 4]) {
        let before = counted.before.unwrap_or_default();
        let (called, failed) = (
            before[0].max(figures[0]) == 1,
            before[1].max(figures[1]) == 1,
        );
        let (was_called, had_failed) = (before[0] == 1, before[1] == 1);
        if called {
            let (calls, errors) = (
                u64::from(!was_called),
                u64::from(failed && !(was_called && had_failed)),
            );
            match self.tools.get_mut(name) {
                Some(tool) => {
                    tool.calls += calls;
                    tool.errors += errors;
                }
                None => drop(
                    self.tools
                        .insert(name.to_owned(), ToolFigures { calls, errors }),
                ),
            }
        }
    }

    fn step<E>(
        &mut self,
        step: Step,
        copied: &HashSet<Key>,
        is_new: &mut impl FnMut(Key) -> Result<bool, E>,
    ) -> Result<(), E> {
        let at = match step {
            // A reply that is older than the last prompt or error was written a second time.
            Step::Reply { key, at }
                if copied.contains(&key) || is_before(at, self.asked_or_failed_at) =>
            {
                return Ok(());
            }
            Step::Reply { at, .. } => {
                self.turns += u64::from(take(&mut self.awaits_reply));
                self.error = None;
                at
            }
            // A record that was written twice is counted the first time.
            Step::Prompt { key, .. } | Step::ApiError { key, .. } if !is_new(key)? => {
                return Ok(());
            }
            Step::Prompt { at, text, .. } => {
                if self.prompts == 0 {
                    self.input = text.map(|text| *text);
                }
                self.prompts += 1;
                self.asked_or_failed_at = at.max(self.asked_or_failed_at);
                self.awaits_reply = true;
                self.error = None;
                at
            }
            Step::ApiError { at, text, .. } => {
                self.turns += u64::from(take(&mut self.awaits_reply));
                self.error = Some(text.map(|text| *text).unwrap_or_default());
                self.asked_or_failed_at = at.max(self.asked_or_failed_at);
                at
            }
        };
        self.stepped_at = at.max(self.stepped_at);
        self.span.include(Span::at(at));
        Ok(())
    }

    /// Token counts of all models.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage_by_model
            .values()
            .fold(Usage::default(), |mut sum, usage| {
                sum.add(*usage);
                sum
            })
    }
}

fn is_new(counted: &Counted) -> bool {
    !counted.is_inherited && counted.before.is_none()
}
