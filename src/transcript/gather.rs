//! Gathers facts from lines.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::files::is_internal;
use super::line::{self, Block, Envelope, Record};
use super::relevance::{self, Relevance};
use super::state::can_be_session;
use crate::record::Millis;
use crate::record::answer::{Answer, key_of};
use crate::record::facts::{
    Fact, Facts, MAX_FACTS, MAX_TEXT, Reply, Source, What, is_before, remember_turn, turn_key,
};
use crate::record::index::{Key, key};
use crate::record::latest::Dated;
use crate::record::names::intern;
use crate::record::redact::{Label, Redactor, Text};
use crate::system::json::repair;

/// Gathers facts from lines.
#[derive(Debug)]
pub struct Gatherer<'a> {
    pub(super) facts: Facts,
    pub(super) redactor: &'a Redactor,
    /// The session whose state counts; any session's if `None`.
    pub(super) session_id: Option<&'a str>,
    /// The last answer, not masked yet: masking is slow, and most of them are superseded.
    answer: Option<Answer<Unmasked>>,
    text_bytes: usize,
    /// Whether a text was masked, which can take long.
    pub(super) has_masked: bool,
    /// Whether there is a `user` record after the last reply, on the main chain and on others.
    pub(super) is_after_user: [bool; 2],
    /// Whether the next line is the rest of a line of which a record was already read. It counts as
    /// it would as part of the whole line.
    is_in_rest: bool,
}

/// A text that is not masked yet.
#[derive(Debug)]
struct Unmasked {
    /// The key of its record.
    record: Key,
    text: String,
}

impl AsRef<str> for Unmasked {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl<'a> Gatherer<'a> {
    /// A gatherer that masks and truncates text with `redactor`.
    #[must_use]
    pub fn new(redactor: &'a Redactor) -> Self {
        Self {
            facts: Facts::default(),
            redactor,
            session_id: None,
            answer: None,
            text_bytes: 0,
            has_masked: false,
            is_after_user: [false; 2],
            is_in_rest: false,
        }
    }

    /// Ignores the titles, charges and pull requests of other sessions, which the files of this one
    /// may contain.
    #[must_use]
    pub const fn of_session(mut self, session_id: &'a str) -> Self {
        self.session_id = Some(session_id);
        self
    }

    /// Begins in the rest of a line of which a record was already read, if `is_in_rest`.
    #[must_use]
    pub const fn in_rest(mut self, is_in_rest: bool) -> Self {
        self.is_in_rest = is_in_rest;
        self
    }

    /// Whether the facts should be handed over, so that memory stays bounded.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.facts.facts.len() >= MAX_FACTS || self.text_bytes >= MAX_TEXT
    }

    /// Whether a text was masked since the last call.
    pub const fn take_has_masked(&mut self) -> bool {
        std::mem::replace(&mut self.has_masked, false)
    }

    /// The facts, with their texts and labels masked.
    #[must_use]
    pub fn finish(mut self) -> Facts {
        let mut next = self.answer;
        while let Some(answer) = next {
            let Answer {
                at,
                structured_by,
                earlier,
                ..
            } = answer;
            if let Some(text) = self.redactor.keep(&answer.text.text) {
                let kept = Answer {
                    at,
                    text,
                    structured_by,
                    earlier,
                    // `Figures` sets the rest, because the records may have been counted before.
                    ..Answer::default()
                };
                self.facts.answers.push((answer.text.record, kept));
            }
            next = answer.before.map(|before| *before);
        }
        self.facts.answers.reverse();
        let latest = &mut self.facts.latest;
        let names = [
            &mut latest.model,
            &mut latest.git_branch,
            &mut latest.version,
            &mut latest.entrypoint,
            &mut latest.permission_mode,
        ];
        let names = names.into_iter().filter_map(Dated::text_mut);
        let names = names.chain(&mut self.facts.names).map(Label::Name);
        let folder = latest.cwd.text_mut().map(Label::Path);
        self.redactor.mask_labels(names.chain(folder));
        self.facts.ends_with_user = self.is_after_user;
        self.facts
    }

    /// Counts a line that is too long to be read.
    pub fn skip(&mut self) {
        self.facts.skipped_lines += 1;
    }

    /// Adds the facts of a whole line. Of a damaged one, each whole record counts.
    pub fn add(&mut self, line: &[u8], source: Source) {
        if std::mem::take(&mut self.is_in_rest) {
            return self.recover(line, source);
        }
        match relevance::of(line) {
            Relevance::None => {}
            Relevance::Results => self.is_after_user = [true; 2],
            Relevance::MayHoldFact => {
                if !line.trim_ascii().is_empty() && !self.add_if_whole(line, source) {
                    self.recover(line, source);
                }
            }
        }
    }

    /// Adds the facts of a line that may be only half written. Returns `false` if it is not a JSON
    /// object.
    pub fn add_if_whole(&mut self, line: &[u8], source: Source) -> bool {
        if self.is_in_rest {
            return false;
        }
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

    pub(super) fn add_record(
        &mut self,
        line: &[u8],
        source: Source,
        envelope: &Envelope<'_>,
        record: Record<'_>,
    ) {
        let of = |id: &str| key(b'u', id.as_bytes());
        let own = envelope.uuid.as_deref().map_or_else(|| key(b'u', line), of);
        let key = envelope.copied_from.as_deref().map_or(own, of);
        if let Some(session) = &envelope.forked_from
            && self.facts.forked_from.as_deref() != Some(session)
            && can_be_session(session)
        {
            self.facts.forked_from = Some(session.to_string());
        }
        let is_main = source == Source::Main && !envelope.is_sidechain;
        let is_internal = envelope.agent_id.as_deref().is_some_and(is_internal);
        if is_main
            && matches!(
                record,
                Record::Prompt { .. } | Record::Assistant(_) | Record::Error { .. }
            )
        {
            self.add_envelope(envelope);
        }
        let at = envelope.at;
        if let Some(id) = &envelope.prompt_id
            && is_main
            && matches!(record, Record::Prompt { .. } | Record::NotTyped)
        {
            remember_turn(&mut self.facts.turns, turn_key(id));
        }
        let fact = |what| Fact {
            key,
            copy: Some(own).filter(|&own| own != key),
            parent: envelope.parent_uuid.as_deref().map_or(0, of),
            at,
            is_main,
            has_fork_mark: envelope.forked_from.is_some(),
            what,
        };
        let is_user = matches!(
            record,
            Record::Prompt { .. } | Record::NotTyped | Record::Interruption | Record::ToolErrors(_)
        );
        match record {
            Record::Prompt { text, is_command } if is_main => {
                let text = self.keep(&text);
                if let Some(answer) = &mut self.answer {
                    answer.is_past |= !is_before(at, answer.at);
                }
                self.facts
                    .facts
                    .push(fact(What::Prompt { text, is_command }));
            }
            Record::Prompt { .. } if is_internal => {}
            Record::Prompt { .. } => {
                // If the subagent has no ID, it is recognized by its first record, which has no
                // parent.
                let by_id = |id: &str| self::key(b'a', id.as_bytes());
                let agent = envelope.agent_id.as_deref().map(by_id);
                let agent = agent.or_else(|| envelope.parent_uuid.is_none().then_some(key));
                let fact = agent.map(|agent| fact(What::Sidechain { agent }));
                self.facts.facts.extend(fact);
            }
            Record::Error { text } if is_main => {
                let text = self.keep(&text);
                self.facts.facts.push(fact(What::Error(text)));
            }
            Record::Assistant(message) => {
                if is_main {
                    self.facts.latest.model.set(at, &message.model);
                }
                let mut reply = self.reply(message, is_main.then_some((key, at)));
                if !is_main {
                    let agent = envelope.agent_id.as_deref();
                    reply.agent = agent.map(|id| self::key(b'a', id.as_bytes()));
                }
                reply.subagent = reply.agent.filter(|_| !is_internal);
                self.facts.facts.push(fact(What::Reply(reply)));
            }
            Record::ToolErrors(ids) if !ids.is_empty() => {
                let ids = ids.iter().map(|id| self::key(b't', id.as_bytes()));
                let ids: Vec<_> = ids.collect();
                if is_main {
                    for &id in &ids {
                        self.answer = self.answer.take().and_then(|answer| answer.without(id));
                    }
                }
                self.facts.facts.push(fact(What::Failures(ids)));
            }
            Record::CompactBoundary if is_main => self.facts.facts.push(fact(What::Compaction)),
            Record::TurnEnd if is_main => self.facts.facts.push(fact(What::TurnEnd)),
            Record::ForkContext => self.facts.facts.push(fact(What::ForkContext)),
            Record::Budget { usd } if is_main => self.facts.facts.push(fact(What::Budget(usd))),
            Record::Interruption if is_main => self.facts.facts.push(fact(What::Interruption)),
            Record::NotTyped
            | Record::Budget { .. }
            | Record::Interruption
            | Record::ToolErrors(_)
            | Record::Error { .. }
            | Record::CompactBoundary
            | Record::TurnEnd => {}
            state => self.add_state(envelope, state),
        }
        self.is_after_user[usize::from(!is_main)] |= is_user;
    }

    /// A part of an API message. `main` is the key and the time of the record if it is on the main
    /// chain.
    fn reply(
        &mut self,
        message: line::AssistantMessage<'_>,
        main: Option<(Key, Option<Millis>)>,
    ) -> Reply {
        let names = &mut self.facts.names;
        let advisors = message.advisors.into_iter();
        let mut reply = Reply {
            id: message.id.map(|id| key(b'm', id.as_bytes())),
            request: message.request.map(|id| key(b'r', id.as_bytes())),
            model: intern(names, &message.model),
            usage: message.usage,
            rate: message.rate,
            advisors: advisors
                .map(|(model, usage, rate)| (intern(names, &model), usage, rate))
                .collect(),
            calls: SmallVec::new(),
            is_answer: false,
            ends_turn: message.ends_turn,
            agent: None,
            subagent: None,
            follows_user: std::mem::take(&mut self.is_after_user[usize::from(main.is_none())]),
        };
        for block in message.blocks {
            self.add_block(block, &mut reply, main);
        }
        reply
    }

    /// Adds a content block of a reply. `main` is the key and the time of the record if it is on
    /// the main chain.
    fn add_block(
        &mut self,
        block: Block<'_>,
        reply: &mut Reply,
        main: Option<(Key, Option<Millis>)>,
    ) {
        let (text, structured_by) = match block {
            Block::ToolUse { id, name } => {
                reply.is_answer = false;
                let name = intern(&mut self.facts.names, &name);
                reply.calls.push((key(b't', id.as_bytes()), name));
                return;
            }
            // The call is the block before it (`line.rs`).
            Block::StructuredOutput(json) => {
                let call = reply.calls.last().map(|(call, _)| *call);
                (Cow::Borrowed(json), call)
            }
            Block::Text(text) if text.trim().is_empty() => return,
            Block::Text(text) => (text, None),
        };
        reply.is_answer = true;
        let Some((record, at)) = main else {
            return;
        };
        // A text in the turn of a structured output only comments on it.
        let is_final = |answer: &&mut Answer<Unmasked>| answer.is_final();
        if let Some(answer) = self.answer.as_mut().filter(is_final)
            && structured_by.is_none()
        {
            answer.remember([key_of(&text)]);
        } else if !is_before(at, self.answer.as_ref().and_then(|answer| answer.at)) {
            let answer = Answer {
                at,
                text: Unmasked {
                    record,
                    text: text.into_owned(),
                },
                structured_by,
                is_past: false,
                earlier: Vec::new(),
                before: None,
            };
            self.answer = Some(answer.after(self.answer.take()));
        }
    }

    fn add_envelope(&mut self, envelope: &Envelope<'_>) {
        let latest = &mut self.facts.latest;
        if let Some(cwd) = &envelope.cwd {
            latest.cwd.set_first(envelope.at, cwd);
        }
        for (ours, theirs) in [
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

    fn keep(&mut self, text: &str) -> Option<Box<Text>> {
        self.has_masked = true;
        let text = self.redactor.keep(text)?;
        self.text_bytes += text.text.len();
        Some(Box::new(text))
    }
}
