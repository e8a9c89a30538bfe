//! What a session shares with its parents: the part of its figures that is history, and what is
//! kept when its files are read again because an older session had that part first.

use super::base::Began;
use super::charge::{Charges, Messages, UsageByModel};
use super::figures::Figures;
use super::usage::Usage;

impl Figures {
    /// New figures for reading the files again from their beginning, because an older session already
    /// had what this one has counted. The usage shown so far remains the minimum. The state of the
    /// parent that the charge starts from is kept, because the parent may no longer have it.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let mut floor = self.floor.clone();
        for (model, usage) in &self.usage_by_model {
            let inherited = self.inherited_by_model.get(model).copied();
            let floor = floor.entry(model.clone()).or_default();
            *floor = floor.max(usage.plus(inherited.unwrap_or_default()));
        }
        let base = self.parent.clone().zip(self.charges.base.clone());
        let former_base = base.or_else(|| self.charges.former_base.clone());
        Self {
            floor,
            charges: Charges {
                former_base,
                ..Charges::default()
            },
            ..Self::default()
        }
    }

    /// Token counts by model, as counted from the messages.
    #[must_use]
    pub fn counted(&self) -> UsageByModel {
        let mut counted = self.usage_by_model.clone();
        for (model, &floor) in &self.floor {
            let inherited = self.inherited_by_model.get(model).copied();
            let usage = counted.entry(model.clone()).or_default();
            *usage = usage.max(floor.minus(inherited.unwrap_or_default()));
        }
        counted
    }

    /// Token counts by model of the messages on the main chain.
    #[must_use]
    pub(super) fn main(&self) -> UsageByModel {
        let mut main = minus(&self.usage_by_model, &self.side_by_model);
        main.retain(|_, usage| *usage != Usage::default());
        main
    }

    /// What the messages used.
    #[must_use]
    pub fn messages(&self) -> Messages {
        Messages {
            counted: self.counted(),
            carried: self.carried(),
        }
    }

    /// Finds what the client had charged for the parent of this fork when it made the fork. Of the
    /// sessions that had the copied messages first, the parent is the one that had copied most of
    /// them itself.
    pub fn find_base<'a>(
        &mut self,
        session_id: &str,
        owners: impl Iterator<Item = (&'a str, &'a Self)>,
    ) {
        let copied = |(_, owner): &(&str, &Self)| owner.inherited.unwrap_or_default().tokens();
        if let Some((id, parent)) = owners.max_by_key(copied) {
            if self.parent.as_deref() != Some(id) {
                let former = self.charges.former_base.clone();
                let of_parent = former.filter(|(parent, _)| parent == id);
                self.charges.base = of_parent.map(|(_, base)| base);
            }
            self.parent = Some(id.to_owned());
            let inherited = self.inherited.unwrap_or_default();
            let copied = inherited.minus(parent.inherited.unwrap_or_default());
            let continued_at = parent.continued_in.get(session_id).copied();
            // If the parent is a branch, all copies have marks.
            self.has_unmarked_copies |= continued_at.is_some();
            let began = match continued_at.or(self.began_at) {
                Some(at) => Began::At(at),
                None => Began::Before(self.span.first),
            };
            self.charges.find_base(&parent.charges, copied, began);
            let not_carried = minus(&parent.inherited_by_model, &parent.carried());
            self.carried_by_model = Some(minus(&self.inherited_by_model, &not_carried));
        }
    }

    /// The inherited part that the client may have charged again. What a parent with a mark of its
    /// origin had inherited is not carried into the charge of its forks either.
    #[must_use]
    pub fn carried(&self) -> UsageByModel {
        if !self.is_unmarked_fork() {
            return UsageByModel::new();
        }
        let carried = self.carried_by_model.as_ref();
        carried.unwrap_or(&self.inherited_by_model).clone()
    }

    /// Whether a part of what is inherited has no mark of its origin, so that the client charges it
    /// again. A fork of a branch keeps the marks of the branch.
    #[must_use]
    pub fn is_unmarked_fork(&self) -> bool {
        let is_partly_unmarked = self.forked_from.is_none() || self.has_unmarked_copies;
        is_partly_unmarked && !self.parents.is_empty()
    }

    /// The session that this one is a fork of. In a fork of a branch the marks name the parent of
    /// the branch, so what was found from the copies counts more.
    #[must_use]
    pub fn fork_parent(&self) -> Option<&String> {
        let marked = self
            .forked_from
            .as_ref()
            .filter(|_| !self.is_unmarked_fork());
        let found = self.parent.as_ref().or(self.parents.first());
        marked.or(found).or(self.forked_from.as_ref())
    }
}

/// `usage` without the part `less`.
fn minus(usage: &UsageByModel, less: &UsageByModel) -> UsageByModel {
    let usage = usage.iter().map(|(model, usage)| {
        let less = less.get(model).copied().unwrap_or_default();
        (model.clone(), usage.minus(less))
    });
    usage.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Millis;
    use crate::record::charge::{Charge, ModelCharge};
    use crate::record::usage::used;

    /// A session that had copied messages which used `inherited`, with what it was charged.
    fn session(parents: &[&str], inherited: u64, charged: u64) -> Figures {
        let model = ModelCharge {
            usage: used(charged),
            cost_usd: None,
        };
        let mut figures = Figures {
            parents: parents.iter().map(|&parent| parent.to_owned()).collect(),
            inherited: Some(used(inherited)),
            inherited_by_model: [("m".to_owned(), used(inherited))].into(),
            ..Figures::default()
        };
        figures.charges.add(Charge {
            by_model: [("m".to_owned(), model)].into(),
            ..Charge::default()
        });
        figures
    }

    fn shown(fork: &Figures) -> u64 {
        let shown = fork.charges.shown(&fork.messages());
        shown.by_model["m"].usage.input_tokens
    }

    #[test]
    fn charge_of_a_fork_starts_from_the_owner_that_had_copied_most() {
        let (root, parent) = (session(&[], 0, 30), session(&["root"], 10, 15));
        let mut fork = session(&["root", "parent"], 25, 40);
        fork.find_base("fork", [("parent", &parent), ("root", &root)].into_iter());
        assert_eq!((shown(&fork), fork.parent.as_deref()), (25, Some("parent")));
    }

    #[test]
    fn fork_that_copied_only_prompts_is_charged_beyond_its_parent() {
        let mut fork = session(&["parent"], 0, 3);
        assert!(fork.is_unmarked_fork());
        fork.find_base("fork", std::iter::once(("parent", &session(&[], 0, 1))));
        assert_eq!(shown(&fork), 2);
    }

    #[test]
    fn state_of_a_parent_with_a_model_that_the_fork_lacks_came_after_the_fork() {
        let mut parent = session(&[], 0, 1);
        let mut later = parent.charges.last().unwrap().clone();
        let side_request = ModelCharge {
            usage: used(1),
            cost_usd: None,
        };
        later.by_model.insert("side".to_owned(), side_request);
        parent.charges.add(later);
        let mut fork = session(&["parent"], 1, 40);
        fork.find_base("fork", std::iter::once(("parent", &parent)));
        assert_eq!(shown(&fork), 39);
    }

    #[test]
    fn charge_of_a_fork_is_without_its_parent_before_the_charge_of_that_is_known() {
        // The parent is a branch, so the client has not charged it for the 10 that it had copied.
        let root = session(&[], 0, 10);
        let mut parent = session(&["root"], 10, 0);
        parent.charges = Charges::default();
        parent.forked_from = Some("root".to_owned());
        let mut fork = session(&["root", "parent"], 25, 18);
        fork.usage_by_model = [("m".to_owned(), used(3))].into();
        fork.find_base("fork", [("parent", &parent), ("root", &root)].into_iter());
        assert_eq!(shown(&fork), 3);
    }

    #[test]
    fn base_of_a_fork_that_is_read_again_is_that_of_the_same_parent() {
        let charge = |figures: &mut Figures, at: Millis, charged: u64| {
            let mut state = session(&[], 0, charged).charges.last().unwrap().clone();
            state.at = at;
            figures.charges.add(state);
        };
        let read = || session(&["parent"], 10, 40);
        let find_base = |fork: &mut Figures, parent: &Figures| {
            fork.began_at = Some(0);
            fork.find_base("fork", std::iter::once(("parent", parent)));
            shown(fork)
        };
        let mut parent = session(&[], 0, 15);
        let mut fork = read();
        assert_eq!(find_base(&mut fork, &parent), 25);
        // The parent itself is about to be read again, so its charge is not known for now.
        assert_eq!(find_base(&mut fork, &parent.restarted()), 25);
        for at in 1..100 {
            charge(&mut parent, at, 20 + at.cast_unsigned());
        }
        let before = fork.restarted();
        for before in [before.restarted(), before] {
            let again = || {
                let mut again = read();
                again
                    .charges
                    .former_base
                    .clone_from(&before.charges.former_base);
                again
            };
            assert_eq!(find_base(&mut again(), &parent), 25);
            let mut of_another = again();
            of_another.find_base("fork", std::iter::once(("other", &parent)));
            assert_eq!(of_another.charges.base, None);
        }
    }
}
