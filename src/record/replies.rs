//! API messages: what they used, their tool calls, and the subagents that wrote them.

use std::mem::take;

use super::batch::Batch;
use super::chain::Chain;
use super::days::Day;
use super::facts::{Fact, Reply, StepKind, SubagentFigures};
use super::figures::Figures;
use super::index::{Index, Key, Known, key};
use super::names::{MAX_MODELS, MAX_SUBAGENT_TYPES, MAX_TOOLS, entry, entry_name};
use super::usage::Usage;

/// A message whose usage is counted.
struct Counted<'a> {
    message: Key,
    model: &'a str,
    day: Option<Day>,
    is_main: bool,
}

impl Figures {
    pub(super) fn add_subagent(&mut self, agent: Key, chain: &mut Chain) {
        if self.agents.insert(agent) {
            self.subagents += 1;
            if chain.agent.is_some() {
                self.of_type(chain).calls += 1;
            }
        }
    }

    /// The figures of the type of the subagent whose file is read.
    fn of_type<'a>(&'a mut self, chain: &'a mut Chain) -> &'a mut SubagentFigures {
        match &chain.subagent_type {
            Some(kind) => entry(&mut self.subagent_types, kind, MAX_SUBAGENT_TYPES),
            None => &mut chain.untyped,
        }
    }

    /// Sets the type of the subagent whose file is read. The client can write it late.
    pub fn set_subagent_type(&mut self, chain: &mut Chain, kind: &str) {
        let untyped = take(&mut chain.untyped);
        chain.subagent_type = Some(kind.to_owned());
        if !untyped.is_none() {
            self.of_type(chain).add(&untyped);
        }
    }

    pub(super) fn absorb_reply<I: Index>(
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
        let known = match seen.known {
            Some(known) => known.message_of(fact.key),
            None => seen.original_message,
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
        let counted = Counted {
            message,
            model,
            day,
            is_main: fact.is_main,
        };
        let (is_inherited, more) = self.count_message(&counted, reply, names, batch)?;
        if chain.agent.is_some() && more != Usage::default() {
            self.of_type(chain).usage.add(more);
        }
        let is_new = seen.known.is_none() && !is_inherited && !seen.is_inherited;
        if is_new {
            self.span.include(fact.at);
            self.charges.has_grown |= fact.is_main;
            if let Some(agent) = chain.agent.or(reply.subagent) {
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

    /// Counts the usage of a message beyond what is already known. Returns whether it is history
    /// that a fork copied, and what was added if not.
    fn count_message<I: Index>(
        &mut self,
        counted: &Counted<'_>,
        reply: &Reply,
        names: &[String],
        batch: &mut Batch<'_, I>,
    ) -> Result<(bool, Usage), I::Error> {
        let &Counted {
            message,
            model,
            day,
            is_main,
        } = counted;
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
        let mut added = Usage::default();
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
            if !is_main {
                entry(&mut self.side_by_model, name, MAX_MODELS).add(more);
            }
            entry(&mut self.usage_by_model, name, MAX_MODELS).add(more);
            added.add(more);
        }
        Ok((is_inherited, added))
    }
}
