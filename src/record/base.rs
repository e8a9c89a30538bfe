//! What the client had charged for a session when it made a fork of it, from which the charge of the
//! fork starts.

use super::Millis;
use super::charge::{Charge, Charges, covers, total};
use super::usage::Usage;

/// When a fork was begun.
#[derive(Debug, Clone, Copy)]
pub enum Began {
    /// Its file says so.
    At(Millis),
    /// Before its first own record, if that has a time.
    Before(Option<Millis>),
}

impl Charges {
    /// Finds the state of a parent from which this session's charge started. The client carries the
    /// last state that it has written for the parent into a fork that it makes with
    /// `--fork-session` or `/bg`, but not into one that has marks of its origin. `copied` is what
    /// the copied ones among the parent's own messages used.
    ///
    /// A state that includes more messages was written after the fork was made. So was a state that
    /// would leave less of this session's charge than its own messages used, and one with a later
    /// time. If the fork lacks some of the parent's messages, because it starts at a compaction, the
    /// first state that covers those that were copied is taken. If it is known when the fork was
    /// begun, its copy may also end earlier (the SDK's `resumeSessionAt`), so only the time counts.
    pub fn find_base(&mut self, parent: &Self, copied: Usage, began: Began) {
        let starts_from = |ours: &Charge, state: &Charge| {
            let own = ours.messages.as_ref();
            ours.includes(state) && own.is_none_or(|own| covers(&ours.beyond(state).by_model, own))
        };
        let latest = match began {
            Began::At(at) => Some(at),
            Began::Before(first_record_at) => first_record_at,
        };
        let ours: Vec<_> = self.states.iter().map(Charge::with_base_names).collect();
        let can_be_base = |state: &&Charge| {
            latest.is_none_or(|latest| state.at <= latest) && {
                let state = state.with_base_names();
                ours.iter().any(|ours| starts_from(ours, &state))
            }
        };
        let is_before_fork = |state: &&Charge| {
            let messages = state.messages.as_ref();
            messages.is_some_and(|messages| copied.covers(total(messages.values())))
        };
        let carried = parent.base.as_ref().map(Charge::usage).unwrap_or_default();
        let covers_copied = |state: &&Charge| state.usage().minus(carried).covers(copied);
        let mut states = parent.states.iter().filter(can_be_base);
        let base = match began {
            Began::At(_) => states.next_back(),
            Began::Before(_) => {
                let before_fork = states.clone().rfind(is_before_fork);
                before_fork.or_else(|| states.find(covers_copied))
            }
        };
        // A base that the parent no longer has was found before: it has too many states since then,
        // or its files are about to be read again.
        let has_all = parent.earlier.is_none() && !parent.states.is_empty();
        if base.is_some() || has_all {
            self.base = base.cloned();
        }
    }
}
