//! The figures of one session, kept up to date with each stretch of its transcript files that is
//! read.
//!
//! Whatever way the files are cut between reads, the figures equal those of one full read: every
//! fact is counted by the difference that its key makes, and what is already counted makes none.

use std::collections::{BTreeMap, HashSet};
use std::mem::take;

use serde::{Deserialize, Serialize};

use super::facts::{Answers, Facts, Key, Latest, Message, Span, Step, is_before, merge};
use super::redact::Text;
use super::usage::Usage;

/// A fact that is counted once on this machine: a message, a tool call, a prompt.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its key.
    pub key: Key,
    /// A tool's name; empty otherwise.
    pub name: &'a str,
    /// Its figures; the largest ever seen count.
    pub figures: [u64; 4],
}

/// What was known of an [`Item`] before.
#[derive(Debug, Default)]
pub struct Counted {
    /// Another session had it first, so it is history that a fork copied.
    pub inherited: bool,
    /// Its figures, when this session already knew it.
    pub before: Option<[u64; 4]>,
    /// Its name, when the item has none.
    pub name: String,
}

/// Calls and failures of one tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ToolFigures {
    pub calls: u64,
    pub errors: u64,
}

/// The figures and texts of one session, from its transcript files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// Human prompts.
    pub prompts: u64,
    /// Prompts that got an answer of any kind.
    pub turns: u64,
    /// API messages, subagents' included.
    pub api_messages: u64,
    /// Tool calls by name.
    pub tools: BTreeMap<String, ToolFigures>,
    /// Compactions.
    pub compactions: u64,
    /// Subagents.
    pub subagents: u64,
    /// Token counts by model.
    pub usage_by_model: BTreeMap<String, Usage>,
    /// Token counts of messages that another session had first.
    pub inherited: Option<Usage>,
    /// The first prompt of its own.
    pub input: Option<Text>,
    /// The last answers of its own.
    pub answers: Answers,
    /// The error in which the last turn ended, if it did.
    pub error: Option<Text>,
    /// When the last step was written, in epoch milliseconds.
    pub stepped_at: Option<i64>,
    /// From the first to the last step or message of its own.
    pub span: Span,
    /// The last state.
    pub latest: Latest,
    /// Lines that are not JSON objects.
    pub malformed_lines: u64,
    /// Lines longer than the reader's cap.
    pub skipped_lines: u64,
    /// When the last prompt or API error of its own was written.
    asked_or_failed_at: Option<i64>,
    /// A prompt of its own is not answered yet.
    awaits_reply: bool,
}

impl Figures {
    /// Counts the facts of the next stretches, in their order. `count` looks an item up, remembers
    /// it, and says what was known of it.
    pub fn absorb<E>(
        &mut self,
        mut stretches: Vec<Facts>,
        mut count: impl FnMut(Item<'_>) -> Result<Counted, E>,
    ) -> Result<(), E> {
        // Which messages are history that a fork copied; asked once, because their steps follow.
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
                .map(|(key, tool)| (key, (tool.name.map(|name| &*names[name]), tool.failed)))
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
            if !counted.inherited {
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
                    self.answers.take(answer);
                }
            }
            self.latest.update(facts.latest);
            self.malformed_lines += facts.malformed_lines;
            self.skipped_lines += facts.skipped_lines;
        }
        Ok(())
    }

    /// Whether it is history that a fork copied.
    fn count_message(&mut self, message: &Message, model: &str, counted: &Counted) -> bool {
        let (figures, before) = (message.usage.figures(), counted.before.unwrap_or_default());
        let more = Usage::from(std::array::from_fn(|index| {
            figures[index].saturating_sub(before[index])
        }));
        if counted.inherited {
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

    /// A call counts when it is first seen; its failure once both the call and the failure were
    /// seen.
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
            // A reply that is older than the last prompt or error is a line written again.
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
            // A record that stands there twice was counted the first time.
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
    !counted.inherited && counted.before.is_none()
}
