//! Gathers facts from lines.

use std::borrow::Cow;

use super::line::{self, Block, Envelope, Record};
use super::relevance::is_irrelevant;
use crate::record::Millis;
use crate::record::facts::{
    Answer, Answers, Facts, Key, MAX_FACTS, MAX_TEXT, Message, Source, Span, Step, Tool, intern,
    key,
};
use crate::record::redact::{Redactor, Text};
use crate::record::usage::Usage;
use crate::system::json::repair;

/// Gathers facts from lines.
#[derive(Debug)]
pub struct Gatherer<'a> {
    facts: Facts,
    redactor: &'a Redactor,
    /// The last answers, not masked yet: masking is slow, and most of them are superseded.
    answers: Answers<String>,
    text_bytes: usize,
}

impl<'a> Gatherer<'a> {
    /// A gatherer that masks and cuts text with `redactor`.
    #[must_use]
    pub fn new(redactor: &'a Redactor) -> Self {
        Self {
            facts: Facts::default(),
            redactor,
            answers: Answers::default(),
            text_bytes: 0,
        }
    }

    /// Whether the facts should be handed over, so that memory stays bounded.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.facts.len() >= MAX_FACTS || self.text_bytes >= MAX_TEXT
    }

    /// The facts, with their texts masked.
    #[must_use]
    pub fn finish(mut self) -> Facts {
        for answer in self.answers.into_all() {
            let parts = answer
                .parts
                .into_iter()
                .filter_map(|(line, text)| Some((line, self.redactor.keep(&text)?)));
            self.facts.answers.add(Answer {
                message: answer.message,
                at: answer.at,
                parts: parts.collect(),
            });
        }
        self.facts.sort();
        self.facts
    }

    /// Counts a line that is too long to be read.
    pub fn skip(&mut self) {
        self.facts.skipped_lines += 1;
    }

    /// Adds the facts of a whole line.
    pub fn add(&mut self, line: &[u8], source: Source) {
        if !is_irrelevant(line) && !line.trim_ascii().is_empty() && !self.add_if_whole(line, source)
        {
            self.facts.malformed_lines += 1;
        }
    }

    /// Adds the facts of a line that may be only half written. Returns `false` if it is not a JSON
    /// object.
    pub fn add_if_whole(&mut self, line: &[u8], source: Source) -> bool {
        if let Ok((envelope, record)) = line::parse(line) {
            self.add_record(line, source, &envelope, record);
            return true;
        }
        let repaired = repair(line);
        let Some(Ok((envelope, record))) = repaired.as_deref().map(line::parse) else {
            return false;
        };
        self.add_record(line, source, &envelope, record);
        true
    }

    fn add_record(
        &mut self,
        line: &[u8],
        source: Source,
        envelope: &Envelope<'_>,
        record: Record<'_>,
    ) {
        let uuid = || {
            key(
                b'u',
                envelope.uuid.as_ref().map_or(line, |uuid| uuid.as_bytes()),
            )
        };
        let is_main = source == Source::Main && !envelope.is_sidechain;
        if matches!(
            record,
            Record::Prompt { .. } | Record::Assistant { .. } | Record::ApiError { .. }
        ) {
            self.add_envelope(
                envelope,
                is_main,
                source == Source::Main && matches!(record, Record::Prompt { .. }),
                &uuid,
            );
        }
        let at = envelope.at;
        match record {
            Record::Prompt { text } if is_main => {
                let text = self.keep(&text);
                self.facts.steps.push(Step::Prompt {
                    key: uuid(),
                    at,
                    text,
                });
            }
            Record::ApiError { text } if is_main => {
                let text = self.keep(&text);
                self.facts.steps.push(Step::ApiError {
                    key: uuid(),
                    at,
                    text,
                });
            }
            Record::Assistant {
                id,
                model,
                usage,
                blocks,
            } => {
                self.add_message(&id, &model, usage, at);
                let mut texts = Vec::new();
                for block in blocks {
                    match block {
                        Block::Text(text) => texts.push(text),
                        Block::ToolUse { id, name } => {
                            let name = intern(&mut self.facts.names, &name);
                            self.facts.tools.push((
                                key(b't', id.as_bytes()),
                                Tool {
                                    name: Some(name),
                                    has_failed: false,
                                },
                            ));
                        }
                    }
                }
                if is_main {
                    self.add_reply(key(b'm', id.as_bytes()), &uuid, at, texts);
                    self.facts.latest.model.set(at, &model);
                }
            }
            Record::ToolErrors(ids) => {
                for id in ids {
                    self.add_failure(&id);
                }
            }
            Record::CompactBoundary => {
                self.facts.compactions.insert(uuid());
            }
            Record::Title { is_custom, text } => {
                let latest = &mut self.facts.latest;
                let title = if is_custom {
                    &mut latest.custom_title
                } else {
                    &mut latest.ai_title
                };
                *title = self.redactor.keep(&text).or(title.take());
            }
            Record::Cost { usd } => self.facts.latest.cost_usd = Some(usd),
            Record::Prompt { .. } | Record::ApiError { .. } | Record::Other => {}
        }
    }

    fn add_envelope(
        &mut self,
        envelope: &Envelope<'_>,
        is_main: bool,
        may_open_sidechain: bool,
        uuid: &impl Fn() -> Key,
    ) {
        if let Some(id) = envelope.agent_id.as_deref().filter(|_| !is_main) {
            self.facts.subagents.insert(key(b'a', id.as_bytes()));
        } else if !is_main && may_open_sidechain && envelope.is_root {
            // Older clients wrote subagents into the main file, without an id: the first record of
            // each has no parent.
            self.facts.subagents.insert(uuid());
        }
        if !is_main {
            return;
        }
        let latest = &mut self.facts.latest;
        for (ours, theirs) in [
            (&mut latest.cwd, &envelope.cwd),
            (&mut latest.git_branch, &envelope.git_branch),
            (&mut latest.version, &envelope.version),
            (&mut latest.entrypoint, &envelope.entrypoint),
            (&mut latest.permission_mode, &envelope.permission_mode),
        ] {
            if let Some(theirs) = theirs {
                ours.set(envelope.at, theirs);
            }
        }
    }

    fn add_message(&mut self, id: &str, model: &str, usage: Usage, at: Option<Millis>) {
        let key = key(b'm', id.as_bytes());
        match self.facts.messages.last_mut() {
            // The lines of a message mostly follow each other.
            Some((last, message)) if *last == key => {
                message.usage = message.usage.max(usage);
                message.span.include(Span::at(at));
            }
            _ => {
                let model = intern(&mut self.facts.names, model);
                self.facts.messages.push((
                    key,
                    Message {
                        model,
                        usage,
                        span: Span::at(at),
                    },
                ));
            }
        }
    }

    fn add_failure(&mut self, id: &str) {
        self.facts.tools.push((
            key(b't', id.as_bytes()),
            Tool {
                name: None,
                has_failed: true,
            },
        ));
    }

    fn add_reply(
        &mut self,
        message: Key,
        line: &impl Fn() -> Key,
        at: Option<Millis>,
        texts: Vec<Cow<'_, str>>,
    ) {
        match self.facts.steps.last_mut() {
            Some(Step::Reply { key, at: last }) if *key == message => *last = at.max(*last),
            _ => self.facts.steps.push(Step::Reply { key: message, at }),
        }
        let line = line();
        let parts: Vec<_> = texts
            .into_iter()
            .filter(|text| !text.trim().is_empty())
            .map(|text| (line, text.into_owned()))
            .collect();
        if !parts.is_empty() {
            self.answers.add(Answer { message, at, parts });
        }
    }

    fn keep(&mut self, text: &str) -> Option<Box<Text>> {
        let text = self.redactor.keep(text)?;
        self.text_bytes += text.text.len();
        Some(Box::new(text))
    }
}
