//! The figures of one session, updated with each stretch of its transcript files that is read.
//!
//! However the files are cut between reads, in whatever order they come, and however often, the
//! figures equal those of one full read: each record counts once, and whatever has an order is
//! ordered by time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::batch::Batch;
use super::chain::Chain;
use super::charge::{Charges, UsageByModel};
use super::days::{Day, Days};
use super::document::PullRequest;
use super::facts::{
    DatedText, Fact, Facts, Reply, STRUCTURED_OUTPUT, Span, Step, StepKind, SubagentFigures,
    ToolFigures, What, remember_turn,
};
use super::index::{Index, Key, Known, key};
use super::keep_last;
use super::latest::Latest;
use super::names::{MAX_MODELS, MAX_SUBAGENT_TYPES, MAX_TOOLS, entry, entry_name};
use super::order::in_order;
use super::prices::Prices;
use super::project::add_pull_requests;
use super::redact::Text;
use super::usage::Usage;

/// How many titles are kept until it is known whether they belong to this session.
const MAX_SUMMARIES: usize = 16;

/// The figures and texts of one session, from its transcript files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// Prompts by humans and by callers of the SDK.
    pub prompts: u64,
    /// Prompts that were answered, if only by an error.
    pub turns: u64,
    /// API messages, including those of subagents.
    pub api_messages: u64,
    /// Tool calls by name.
    pub tools: BTreeMap<String, ToolFigures>,
    /// Compactions of the conversation.
    pub compactions: u64,
    /// Subagents with a prompt or an answer of their own in the transcript.
    pub subagents: u64,
    /// The subagents whose type is known, by type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subagent_types: BTreeMap<String, SubagentFigures>,
    /// Token counts by model.
    pub usage_by_model: UsageByModel,
    /// The same by day. Messages without a time are missing, and so is what versions before this
    /// field counted.
    #[serde(skip_serializing_if = "Days::is_empty")]
    pub days: Days,
    /// Token counts of messages that another session had first.
    pub inherited: Option<Usage>,
    /// The same by model.
    pub inherited_by_model: UsageByModel,
    /// The inherited part that can also be in the client's charge for a fork, if the parent is
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) carried_by_model: Option<UsageByModel>,
    /// The sessions that had them.
    pub parents: BTreeSet<String>,
    /// The one of them that this session is a fork of, as found from the copied records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<String>,
    /// The session that the client says this one was copied from.
    pub forked_from: Option<String>,
    /// Whether some of the copied records have no mark of their session. A fork of a branch has
    /// both kinds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_unmarked_copies: bool,
    /// What the client charged.
    pub charges: Charges,
    /// The first prompt that is not inherited.
    pub first_prompt: Option<DatedText>,
    /// The last answer that is not inherited.
    pub answer: Option<Answer>,
    /// The last step that is not inherited.
    pub last_step: Option<Step>,
    /// From the first to the last step or message that is not inherited.
    pub span: Span,
    /// The maximum cost of the last turn's run, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_budget_usd: Option<f64>,
    /// The latest turns in the transcript, by their keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) turn_keys: Vec<Key>,
    /// The latest state.
    pub latest: Latest,
    /// The pull requests that the client linked to the session.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub pull_requests: BTreeSet<PullRequest>,
    /// Lines that are partly not JSON.
    pub damaged_lines: u64,
    /// Lines that were too long to be parsed.
    pub skipped_lines: u64,
    /// Titles of this or another session, each with the key of a record of that session.
    pub(super) summaries: Vec<(Key, Text)>,
    /// The IDs of the subagents.
    pub(super) agents: BTreeSet<Key>,
    /// The usage from before the session's files were read again, because the figures shown must
    /// never shrink.
    pub(super) floor: UsageByModel,
}

impl Figures {
    /// Counts the facts of some files, each with the state of its chain. `latest` is the chain of
    /// the file that the conversation was in last, if the session has several.
    pub fn absorb<I: Index>(
        &mut self,
        (chains, files): (&mut [Chain], Vec<Vec<Facts>>),
        mut latest: Option<Chain>,
        index: &mut I,
        prices: &Prices,
    ) -> Result<(), I::Error> {
        let facts = files.iter().flatten().flat_map(|facts| &facts.facts);
        let keys = facts.flat_map(|fact| std::iter::once(fact.key).chain(fact.copy));
        let mut batch = Batch::new(index, keys, prices)?;
        for (file, facts) in in_order(files) {
            let is_main = facts.has_main_chain();
            if let Some(latest) = latest.as_ref().filter(|_| is_main) {
                chains[file].continue_from(latest, facts.begins_at());
            }
            self.absorb_stretch(facts, &mut chains[file], &mut batch)?;
            if is_main && chains.len() > 1 {
                latest = Some(chains[file].clone());
            }
        }
        for (record, text) in std::mem::take(&mut self.summaries) {
            // The record may be read later.
            if batch.is_counted(record)? {
                self.latest.ai_title = Some(text);
            } else {
                self.summaries.push((record, text));
            }
        }
        batch.finish()
    }

    fn absorb_stretch<I: Index>(
        &mut self,
        mut facts: Facts,
        chain: &mut Chain,
        batch: &mut Batch<'_, I>,
    ) -> Result<(), I::Error> {
        let all = std::mem::take(&mut facts.facts);
        let mut charges = std::mem::take(&mut facts.charges).into_iter().peekable();
        for (place, fact) in all.into_iter().enumerate() {
            while let Some((_, charge)) = charges.next_if(|(before, _)| *before <= place) {
                self.charges.add(charge);
            }
            if let Some(copy) = fact.copy {
                batch.is_new(copy)?;
            }
            if chain.copied_at.is_some() && chain.copied_at == fact.at {
                batch.inherit(fact.key)?;
            }
            let is_here = |(record, _): &mut (Key, Answer)| *record == fact.key;
            let mut answers: Vec<_> = facts.answers.extract_if(.., is_here).collect();
            if !answers.is_empty() {
                let seen = batch.get(fact.key)?;
                // One that is inherited, or was counted before, is not a new answer.
                answers.retain(|_| !seen.is_inherited && seen.known.is_none());
            }
            self.absorb_fact(fact, &facts.names, chain, batch)?;
            for (_, answer) in answers {
                self.add_answer(answer);
            }
        }
        charges.for_each(|(_, charge)| self.charges.add(charge));
        for (ours, theirs) in chain.is_after_user.iter_mut().zip(facts.ends_with_user) {
            *ours |= theirs;
        }
        for turn in facts.turns {
            remember_turn(&mut self.turn_keys, turn);
        }
        self.latest.update(facts.latest);
        self.summaries.extend(facts.summaries);
        keep_last(&mut self.summaries, MAX_SUMMARIES);
        add_pull_requests(&mut self.pull_requests, facts.pull_requests);
        self.forked_from = facts.forked_from.or(self.forked_from.take());
        self.damaged_lines += facts.damaged_lines;
        self.skipped_lines += facts.skipped_lines;
        Ok(())
    }

    fn add_subagent(&mut self, agent: Key, chain: &Chain) {
        if self.agents.insert(agent) {
            self.subagents += 1;
            if let Some(kind) = &chain.subagent_type {
                entry(&mut self.subagent_types, kind, MAX_SUBAGENT_TYPES).calls += 1;
            }
        }
    }

    fn absorb_fact<I: Index>(
        &mut self,
        fact: Fact,
        names: &[String],
        chain: &mut Chain,
        batch: &mut Batch<'_, I>,
    ) -> Result<(), I::Error> {
        if fact.is_main {
            chain.seen_at = chain.seen_at.max(fact.at);
        }
        match &fact.what {
            What::Reply(reply) => return self.absorb_reply(&fact, reply, names, chain, batch),
            What::ForkContext => chain.has_fork_context = true,
            What::Budget(usd) => {
                if batch.is_new(fact.key)? {
                    self.max_budget_usd = Some(*usd);
                }
            }
            What::Interruption => {
                // After a finished answer, the user interrupted only the Stop hooks. After an
                // error, the error is still the last thing that the user saw.
                let last = self.last_step.as_ref().map(|step| &step.kind);
                let has_ended = matches!(last, Some(StepKind::Error(_) | StepKind::WholeAnswer));
                if batch.is_new(fact.key)? && !has_ended {
                    self.set_step(fact.at, StepKind::Interruption);
                }
            }
            What::TurnEnd => {
                let last = self.last_step.as_ref().map(|step| &step.kind);
                let is_open = matches!(last, Some(StepKind::ToolUse | StepKind::Answer));
                if is_open && batch.is_new(fact.key)? {
                    self.set_step(fact.at, StepKind::WholeAnswer);
                }
            }
            What::Compaction => self.compactions += u64::from(batch.is_new(fact.key)?),
            What::Failures(calls) => {
                if batch.is_new(fact.key)? {
                    for &call in calls {
                        let name = chain.call(call, fact.parent);
                        if fact.is_main && name == Some(STRUCTURED_OUTPUT) {
                            self.withdraw_answer(fact.at);
                        }
                        if let Some(tool) = name.and_then(|name| self.tools.get_mut(name)) {
                            tool.errors += 1;
                        }
                    }
                }
            }
            What::Sidechain { agent } => {
                if batch.is_new(fact.key)? {
                    self.add_subagent(chain.agent.unwrap_or(*agent), chain);
                }
            }
            What::Prompt { is_command, .. } => {
                if chain.is_expansion(&fact) {
                    return Ok(());
                }
                let seen = batch.get(fact.key)?;
                self.has_unmarked_copies |= seen.is_inherited && !fact.has_fork_mark;
                let is_command = *is_command;
                match (seen.known, seen.is_inherited) {
                    (None, is_inherited) => {
                        let prompt = (!is_inherited).then_some(fact.key);
                        chain.begin_turn(&fact, is_command, prompt);
                        batch.put(fact.key, Known::Prompt { is_answered: false });
                        if !is_inherited {
                            self.absorb_prompt(fact);
                        }
                    }
                    (Some(Known::Prompt { is_answered: false }), false) => {
                        chain.repeat_prompt(&fact, is_command, Some(fact.key));
                    }
                    _ => chain.repeat_prompt(&fact, is_command, None),
                }
            }
            What::Error(_) => {
                if batch.is_new(fact.key)? {
                    chain.interrupt_messages();
                    self.count_turn(chain, batch)?;
                    if let What::Error(text) = fact.what {
                        let text = text.map(|text| *text).unwrap_or_default();
                        self.set_step(fact.at, StepKind::Error(text));
                    }
                }
            }
        }
        Ok(())
    }

    fn absorb_reply<I: Index>(
        &mut self,
        fact: &Fact,
        reply: &Reply,
        names: &[String],
        chain: &mut Chain,
        batch: &mut Batch<'_, I>,
    ) -> Result<(), I::Error> {
        if chain.is_in_fork_context(reply) {
            return Ok(());
        }
        let seen = batch.get(fact.key)?;
        // Behind a gateway that gives all messages one ID, the client puts their records together
        // when it copies them. What the session that had them first has counted is more reliable.
        let known = match seen.known.or(seen.original) {
            Some(Known::Part(message)) => Some(message),
            known => known.and_then(Known::usage).map(|_| fact.key),
        };
        let message = chain.add_reply(fact, reply, names, known);
        if seen.is_inherited {
            self.has_unmarked_copies |= !fact.has_fork_mark;
            batch.inherit(message)?;
        }
        if seen.known.is_none() && message != fact.key {
            batch.put(fact.key, Known::Part(message));
        }
        let model = chain.model(message).unwrap_or(&names[reply.model]);
        let day = chain.day(message, fact);
        let kind = chain.subagent_type.as_deref();
        let counted = (message, model, day, kind);
        let is_inherited = self.count_message(counted, reply, names, batch)?;
        let is_new = seen.known.is_none() && !is_inherited && !seen.is_inherited;
        if is_new {
            self.span.include(fact.at);
            self.charges.has_grown |= fact.is_main;
            if let Some(agent) = chain.agent.or(reply.agent) {
                self.add_subagent(agent, chain);
            }
            for (_, name) in &reply.calls {
                entry(&mut self.tools, &names[*name], MAX_TOOLS).calls += 1;
            }
        }
        if fact.is_main && is_new {
            self.count_turn(chain, batch)?;
            self.set_step(fact.at, StepKind::of(reply));
        }
        Ok(())
    }

    /// Counts the usage of a message of a model, on a day and of a type of subagent, beyond what is
    /// already known. Returns whether it is history that a fork copied.
    fn count_message<I: Index>(
        &mut self,
        (message, model, day, kind): (Key, &str, Option<Day>, Option<&str>),
        reply: &Reply,
        names: &[String],
        batch: &mut Batch<'_, I>,
    ) -> Result<bool, I::Error> {
        let is_inherited = batch.get(message)?.is_inherited;
        let is_first = batch.get(message)?.known.and_then(Known::usage).is_none();
        if is_first && !is_inherited {
            self.api_messages += 1;
        }
        let advised = reply.advisors.iter().enumerate();
        let advisors = advised.map(|(place, &(model, usage, rate))| {
            let id = [message, place as u64].map(u64::to_le_bytes).concat();
            (key(b'i', &id), &*names[model], usage, rate)
        });
        let own = (message, model, reply.usage, reply.rate);
        for (key, model, usage, rate) in std::iter::once(own).chain(advisors) {
            let known = batch.get(key)?.known.and_then(Known::usage);
            let before = known.unwrap_or_default();
            let usage = before.0.max(usage);
            let now = (usage, batch.prices.rate(model, before.1.or(rate), usage));
            if known != Some(now) {
                batch.put(key, Known::message(now.0, now.1));
            }
            let more = usage.minus(before.0);
            if is_inherited {
                self.inherited.get_or_insert_default().add(more);
                entry(&mut self.inherited_by_model, model, MAX_MODELS).add(more);
                continue;
            }
            let name = entry_name(&self.usage_by_model, model, MAX_MODELS);
            if let Some(day) = day {
                self.days.add(day, name, before, now);
            }
            entry(&mut self.usage_by_model, name, MAX_MODELS).add(more);
            if let Some(kind) = kind {
                let subagents = entry(&mut self.subagent_types, kind, MAX_SUBAGENT_TYPES);
                subagents.usage.add(more);
            }
        }
        Ok(is_inherited)
    }
}
