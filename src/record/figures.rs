//! The figures of one session, updated with each stretch of its transcript files that is read.
//!
//! However the files are cut between reads, in whatever order they come, and however often, the
//! figures equal those of one full read: each record counts once, and whatever has an order is
//! ordered by time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Millis;
use super::answer::Answer;
use super::batch::Batch;
use super::chain::Chain;
use super::charge::{Charge, Charges, UsageByModel};
use super::days::Days;
use super::document::PullRequest;
use super::facts::{
    DatedText, Fact, Facts, STRUCTURED_OUTPUT, Span, Step, StepKind, SubagentFigures, ToolFigures,
    What, remember_turn,
};
use super::index::{Index, Key, Known};
use super::keep_last;
use super::latest::Latest;
use super::order::{has_conversation, in_order};
use super::prices::Prices;
use super::project::add_pull_requests;
use super::redact::Text;
use super::usage::Usage;

/// How many titles are kept until it is known whether they belong to this session.
const MAX_SUMMARIES: usize = 16;

/// How many sessions that continue this one are kept.
const MAX_CONTINUED: usize = 50;

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
    /// The part of subagents in it.
    #[serde(skip_serializing_if = "UsageByModel::is_empty")]
    pub(super) side_by_model: UsageByModel,
    /// Token counts by day. Messages without a time are missing, and so is what versions before this
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
    /// In a terminal, the first session of the client process that wrote the first message: this
    /// one, the one that it is a fork of, or the one that the user left for this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_session_id: Option<String>,
    /// The sessions that had them.
    pub parents: BTreeSet<String>,
    /// The one of them that this session is a fork of, as found from the copied records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<String>,
    /// The sessions that continue this one in the background, and since when.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) continued_in: BTreeMap<String, Millis>,
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
    /// When the client began the session's files, if they say so. Records from before are copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Millis>,
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
        let keys = facts.flat_map(|fact| {
            let keys = std::iter::once(fact.key).chain(fact.copy);
            keys.map(|key| (key, fact.at))
        });
        let mut batch = Batch::new(index, keys, prices)?;
        let conversations = files.iter().filter(|file| has_conversation(file));
        let knows_order = conversations.count() <= 1;
        for (file, facts) in in_order(files) {
            let is_main = facts.has_main_chain();
            if let Some(latest) = latest.as_ref().filter(|_| is_main) {
                chains[file].continue_from(latest, facts.begins_at());
            }
            self.absorb_stretch(facts, &mut chains[file], &mut batch, knows_order)?;
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

    /// Counts the facts of a stretch. `knows_order` is whether all messages before a charge are
    /// counted when it is added.
    fn absorb_stretch<I: Index>(
        &mut self,
        mut facts: Facts,
        chain: &mut Chain,
        batch: &mut Batch<'_, I>,
        knows_order: bool,
    ) -> Result<(), I::Error> {
        let all = std::mem::take(&mut facts.facts);
        let mut charges = std::mem::take(&mut facts.charges).into_iter().peekable();
        for (place, fact) in all.into_iter().enumerate() {
            while let Some((_, charge)) = charges.next_if(|(before, _)| *before <= place) {
                self.add_charge(charge, chain.seen_at, knows_order);
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
                if seen.is_inherited || seen.known.is_some() {
                    answers.clear();
                }
            }
            self.absorb_fact(fact, &facts.names, chain, batch)?;
            for (_, answer) in answers {
                self.add_answer(answer);
            }
        }
        charges.for_each(|(_, charge)| self.add_charge(charge, chain.seen_at, knows_order));
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
        for (session, at) in facts.continued_in {
            if let Some(at) = at.filter(|_| self.continued_in.len() < MAX_CONTINUED) {
                self.continued_in.entry(session).or_insert(at);
            }
        }
        let [damaged, skipped] = chain.add_lines([facts.damaged_lines, facts.skipped_lines]);
        self.damaged_lines += damaged;
        self.skipped_lines += skipped;
        Ok(())
    }

    /// Adds a charge that was written after a record of this time.
    fn add_charge(&mut self, charge: Charge, after: Option<Millis>, knows_order: bool) {
        let messages = knows_order.then(|| self.main());
        let at = after.map_or(charge.at, |after| after.max(charge.at));
        self.charges.add(Charge {
            at,
            messages,
            ..charge
        });
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
                        let Some(name) = chain.take_failed_call(call, fact.parent) else {
                            continue;
                        };
                        if fact.is_main && name == STRUCTURED_OUTPUT {
                            self.withdraw_answer(call, fact.at);
                        }
                        if let Some(tool) = self.tools.get_mut(&name) {
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
}
