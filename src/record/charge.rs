//! What the client charged for a session, and how much of that is shown.
//!
//! The client's `cost-state` record counts every request, including those that leave no other
//! record: titles, summaries, refusals, empty answers (`docs/hooks.md`). It is written when a
//! client exits, so it is missing after a crash, and it lags behind in a session that continues.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Millis;
use super::names::{MAX_MODELS, entry};
use super::usage::Usage;

/// How many states of a session's charge are kept, because a fork starts from one of them.
const MAX_STATES: usize = 32;

/// Token counts by model.
pub type UsageByModel = BTreeMap<String, Usage>;

/// What the client charged, according to one of its `cost-state` records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Charge {
    /// By model.
    pub by_model: BTreeMap<String, ModelCharge>,
    /// US dollars; `None` if the client has no price for a model.
    pub cost_usd: Option<f64>,
    /// The time that requests took, in milliseconds.
    pub api_duration_ms: Option<Millis>,
    /// The time that tools took, in milliseconds.
    pub tool_duration_ms: Option<Millis>,
    /// Lines of code that tools added.
    pub lines_added: Option<u64>,
    /// Lines of code that tools removed.
    pub lines_removed: Option<u64>,
    /// When the record was written: computed from the client's start and duration, because the
    /// record itself has no time, but not before the last message. The duration of a session that
    /// was resumed leaves out the time in between.
    pub at: Millis,
    /// What the messages of the main chain before this record used. `None` if that is not known: an
    /// older version stored the charge, or the session's files were read together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<UsageByModel>,
}

/// What the client charged for one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelCharge {
    /// Token counts.
    #[serde(flatten)]
    pub usage: Usage,
    /// US dollars.
    pub cost_usd: Option<f64>,
}

impl Charge {
    /// Whether it is this state, read again.
    fn is_same(&self, other: &Self) -> bool {
        (self.at, self.cost_usd, &self.by_model) == (other.at, other.cost_usd, &other.by_model)
    }

    /// Whether it is only for side requests: no message of the main chain came before it.
    fn is_without_messages(&self) -> bool {
        self.messages.as_ref().is_some_and(UsageByModel::is_empty)
    }

    /// Token counts of all models.
    #[must_use]
    pub fn usage(&self) -> Usage {
        total(self.by_model.values().map(|charge| &charge.usage))
    }

    /// Whether no count of `other` is larger.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let mut models = other.by_model.iter();
        models.all(|(model, charge)| {
            let ours = self.by_model.get(model).copied().unwrap_or_default();
            ours.usage.covers(charge.usage)
        })
    }

    /// The charge with its models renamed. Models with the same new name are added up.
    #[must_use]
    pub fn renamed(self, rename: impl Fn(&str) -> String) -> Self {
        let mut by_model = BTreeMap::new();
        for (model, charge) in self.by_model {
            let sum: &mut ModelCharge = entry(&mut by_model, &rename(&model), MAX_MODELS);
            let is_first = *sum == ModelCharge::default();
            sum.usage.add(charge.usage);
            sum.cost_usd = if is_first {
                charge.cost_usd
            } else {
                sum.cost_usd
                    .zip(charge.cost_usd)
                    .map(|(one, other)| one + other)
            };
        }
        Self { by_model, ..self }
    }

    /// What was charged beyond `base`, from which this charge started.
    pub(super) fn beyond(&self, base: &Self) -> Self {
        // Without the error of the floating-point subtraction.
        let round = |usd: f64| (usd * 1e12).round() / 1e12;
        let difference = |ours: Option<f64>, theirs: Option<f64>| Some(round(ours? - theirs?));
        let by_model = self.by_model.iter().map(|(model, charge)| {
            let before = base.by_model.get(model).copied().unwrap_or(ModelCharge {
                cost_usd: Some(0.0),
                ..ModelCharge::default()
            });
            let charge = ModelCharge {
                usage: charge.usage.minus(before.usage),
                cost_usd: difference(charge.cost_usd, before.cost_usd),
            };
            (model.clone(), charge)
        });
        let less = |ours: Option<Millis>, theirs: Option<Millis>| {
            Some((ours? - theirs.unwrap_or_default()).max(0))
        };
        let fewer = |ours: Option<u64>, theirs: Option<u64>| {
            Some(ours?.saturating_sub(theirs.unwrap_or_default()))
        };
        Self {
            by_model: by_model.collect(),
            cost_usd: difference(self.cost_usd, base.cost_usd),
            api_duration_ms: less(self.api_duration_ms, base.api_duration_ms),
            tool_duration_ms: less(self.tool_duration_ms, base.tool_duration_ms),
            lines_added: fewer(self.lines_added, base.lines_added),
            lines_removed: fewer(self.lines_removed, base.lines_removed),
            at: self.at,
            messages: self.messages.clone(),
        }
    }
}

/// The charges of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Charges {
    /// The latest states, in the order in which they were written.
    pub(super) states: Vec<Charge>,
    /// The largest counts of the states before them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) earlier: Option<Charge>,
    /// The state of the parent from which this session's charge started.
    pub(super) base: Option<Charge>,
    /// That state and the ID of the parent, as they were before the session's files were read
    /// again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) former_base: Option<(String, Charge)>,
    /// Whether messages were counted after the last state.
    pub has_grown: bool,
}

/// What the messages of a session used, by model.
#[derive(Debug, Clone, Default)]
pub struct Messages {
    /// Those that were counted.
    pub counted: UsageByModel,
    /// The inherited ones that the client may have carried into the charge.
    pub carried: UsageByModel,
}

/// What is shown as used and charged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    /// Token counts by model, with the cost of each.
    pub by_model: BTreeMap<String, ModelCharge>,
    /// The client's own figures, if they cover the session; `by_model` then contains them.
    pub charge: Option<Charge>,
    /// Whether the charge covers only a part of the session.
    pub is_partial: bool,
}

impl Charges {
    /// Adds a state. A state that was read before adds nothing.
    pub fn add(&mut self, charge: Charge) {
        if self.states.iter().any(|state| state.is_same(&charge)) {
            return;
        }
        let order = |state: &Charge| (state.at, state.usage().tokens());
        // Of two states with the same time, the smaller is the earlier one: charges only grow.
        let is_not_after = |state: &Charge| order(state) <= order(&charge);
        let place = self.states.partition_point(is_not_after);
        // Of states with the same counts, the first and the last are kept: a fork can be made
        // between them.
        let is_same = |place: Option<usize>| {
            let state = place.and_then(|place| self.states.get(place));
            state.is_some_and(|state| state.usage() == charge.usage())
        };
        let is_after = |steps| is_same(place.checked_sub(steps));
        let is_before = |steps| is_same(Some(place + steps));
        if is_after(1) && is_before(0) {
            return;
        }
        let replaced = if is_after(1) && is_after(2) {
            place.checked_sub(1)
        } else if is_before(0) && is_before(1) {
            Some(place)
        } else {
            None
        };
        // One that is older than all that are kept may have been read before.
        self.has_grown &= place == 0 && self.states.len() == MAX_STATES;
        match replaced.and_then(|place| self.states.get_mut(place)) {
            Some(state) => *state = charge,
            None => self.states.insert(place, charge),
        }
        if self.states.len() > MAX_STATES {
            let earlier = self.earlier.get_or_insert_default();
            for (model, charge) in self.states.remove(0).by_model {
                let largest = entry(&mut earlier.by_model, &model, MAX_MODELS);
                largest.usage = largest.usage.max(charge.usage);
            }
        }
    }

    /// All states, and the largest counts of those that are not kept.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Charge> {
        self.earlier.iter().chain(&self.states)
    }

    /// The latest state.
    #[must_use]
    pub fn last(&self) -> Option<&Charge> {
        self.states.last()
    }

    /// What is shown, given what the messages used.
    ///
    /// The client's figures cover a session if none of them is below what was counted, and no
    /// message came after them. In a session that has continued since then, the larger figure is
    /// shown. Otherwise a client was killed before it wrote its figures, and the next one began
    /// again from zero: what was counted is shown, but never less than any charge, and the cost is
    /// unknown.
    #[must_use]
    pub fn shown(&self, messages: &Messages) -> Shown {
        let Messages { counted, carried } = messages;
        let Some(last) = self.last() else {
            return Shown {
                by_model: all_uncharged(counted),
                ..Shown::default()
            };
        };
        let charge = self.own(last, counted, carried);
        // Without a message of its own, a session whose charge is below what it copied may not be a
        // fork at all: its supposed parent may turn out to be its child.
        let is_doubtful = has_no_tokens(counted)
            && !has_no_tokens(carried)
            && self.base.is_none()
            && !covers(&last.by_model, carried);
        // Charges only grow, unless a client was killed and the next one began again from zero.
        let is_whole = self.all().all(|state| last.includes(state));
        let covers_messages = covers(&charge.by_model, counted) && is_whole && !is_doubtful;
        let has_same_names = shares_a_model(&charge.by_model, counted);
        // If the names differ, new messages cannot be told apart from those that were charged,
        // unless there were none.
        let can_be_matched = has_same_names || last.is_without_messages();
        let has_continued = self.has_grown && (can_be_matched || !covers_messages);
        if covers_messages && !has_continued {
            return Shown {
                by_model: charge.by_model.clone(),
                charge: Some(charge),
                is_partial: false,
            };
        }
        let mut by_model = BTreeMap::new();
        if has_continued && can_be_matched {
            by_model.clone_from(&charge.by_model);
        } else if has_continued {
            // The names cannot be matched, so only what was charged beyond the messages is added.
            let rest = charge.usage().minus(total(counted.values()));
            let models = charge.by_model.iter();
            if let Some((model, _)) = models.max_by_key(|(_, charge)| charge.usage.tokens())
                && rest != Usage::default()
            {
                by_model.insert(model.clone(), uncharged(rest));
            }
        }
        let mut add = |model: &String, usage: Usage| {
            let shown: &mut ModelCharge = by_model.entry(model.clone()).or_default();
            shown.usage = shown.usage.max(usage);
        };
        for (model, usage) in counted {
            add(model, *usage);
        }
        // In a fork whose start is not known, an earlier state may be the parent's.
        let is_own = has_no_tokens(carried) || self.base.is_some();
        let has_own_states = !is_doubtful && (is_own || !has_continued);
        for state in self.all().filter(|_| has_own_states) {
            let charge = self.own(state, counted, carried).by_model;
            let can_be_matched = state.is_without_messages()
                || counted.is_empty()
                || shares_a_model(&charge, counted);
            let has_side_requests = is_own && can_be_matched;
            for (model, charge) in &charge {
                if has_side_requests || counted.contains_key(model) {
                    add(model, charge.usage);
                }
            }
        }
        Shown {
            by_model,
            charge: has_continued.then_some(charge),
            is_partial: has_continued,
        }
    }

    /// The part of a charge that is not the parent's.
    fn own(&self, charge: &Charge, counted: &UsageByModel, carried: &UsageByModel) -> Charge {
        if let Some(base) = &self.base {
            // After a client was killed, the next one began again from zero.
            return if charge.includes(base) {
                charge.beyond(base)
            } else {
                charge.clone()
            };
        }
        let mut both = charge.messages.as_ref().unwrap_or(counted).clone();
        for (model, usage) in carried {
            both.entry(model.clone()).or_default().add(*usage);
        }
        if has_no_tokens(carried) || !covers(&charge.by_model, &both) {
            return charge.clone();
        }
        // The parent's charge is not known, so the rest is not known either.
        let base = Charge {
            by_model: all_uncharged(carried),
            ..Charge::default()
        };
        charge.beyond(&base)
    }
}

const fn uncharged(usage: Usage) -> ModelCharge {
    ModelCharge {
        usage,
        cost_usd: None,
    }
}

fn all_uncharged(usages: &UsageByModel) -> BTreeMap<String, ModelCharge> {
    let usages = usages.iter();
    usages
        .map(|(model, &usage)| (model.clone(), uncharged(usage)))
        .collect()
}

fn has_no_tokens(usages: &UsageByModel) -> bool {
    total(usages.values()).tokens() == 0
}

/// Whether no figure of the charge is below what was counted. A gateway may name a different model
/// than the one that the client requested; then only the totals can be compared.
pub(super) fn covers(charged: &BTreeMap<String, ModelCharge>, counted: &UsageByModel) -> bool {
    if counted.keys().all(|model| charged.contains_key(model)) {
        return counted
            .iter()
            .all(|(model, usage)| charged[model].usage.covers(*usage));
    }
    total(charged.values().map(|charge| &charge.usage)).covers(total(counted.values()))
}

/// Whether the charge and the counted messages share the name of a model. If they do, models that
/// only the charge names are those of the client's side requests, which leave no message. If not, a
/// gateway may have renamed them.
fn shares_a_model(charged: &BTreeMap<String, ModelCharge>, counted: &UsageByModel) -> bool {
    counted.keys().any(|model| charged.contains_key(model))
}

/// The sum of all counts.
pub(super) fn total<'a>(usages: impl Iterator<Item = &'a Usage>) -> Usage {
    usages.fold(Usage::default(), |sum, usage| sum.plus(*usage))
}

#[cfg(test)]
mod tests {
    use super::super::base::Began;
    use super::*;
    use crate::record::usage::used;

    fn counted(models: &[(&str, u64)]) -> UsageByModel {
        let models = models.iter();
        models
            .map(|&(model, tokens)| (model.to_owned(), used(tokens)))
            .collect()
    }

    /// A state in which each token cost a dollar.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn state(at: Millis, models: &[(&str, u64)]) -> Charge {
        let models = counted(models).into_iter();
        let by_model: BTreeMap<_, _> = models
            .map(|(model, usage)| {
                let cost_usd = Some(usage.input_tokens as f64);
                (model, ModelCharge { usage, cost_usd })
            })
            .collect();
        Charge {
            cost_usd: by_model.values().map(|charge| charge.cost_usd).sum(),
            by_model,
            at,
            ..Charge::default()
        }
    }

    fn charges(states: Vec<Charge>, has_grown: bool) -> Charges {
        let mut charges = Charges::default();
        for state in states {
            charges.add(state);
        }
        charges.has_grown = has_grown;
        charges
    }

    /// A state that was written after these messages.
    fn state_after(at: Millis, messages: &[(&str, u64)], models: &[(&str, u64)]) -> Charge {
        Charge {
            messages: Some(counted(messages)),
            ..state(at, models)
        }
    }

    fn messages(counted: &UsageByModel, carried: &UsageByModel) -> Messages {
        Messages {
            counted: counted.clone(),
            carried: carried.clone(),
        }
    }

    /// The tokens that are shown, the cost, and whether that is partial.
    fn shown(
        charges: &Charges,
        counted: &UsageByModel,
        inherited: &UsageByModel,
    ) -> (u64, Option<f64>, bool) {
        let shown = charges.shown(&messages(counted, inherited));
        let tokens = shown.by_model.values().map(|model| &model.usage);
        (
            total(tokens).input_tokens,
            shown.charge.and_then(|charge| charge.cost_usd),
            shown.is_partial,
        )
    }

    #[test]
    fn charge_is_shown_if_it_covers_what_was_counted() {
        let none = UsageByModel::new();
        for (charged, grown, counted_tokens, expected, why) in [
            (10, false, 10, (10, Some(10.0), false), "nothing else"),
            (
                15,
                false,
                10,
                (15, Some(15.0), false),
                "requests without a record",
            ),
            (15, true, 20, (20, Some(15.0), true), "it continued"),
            (
                15,
                false,
                20,
                (20, None, false),
                "a client was killed before",
            ),
        ] {
            let charges = charges(vec![state(1, &[("m", charged)])], grown);
            let counted = counted(&[("m", counted_tokens)]);
            assert_eq!(shown(&charges, &counted, &none), expected, "{why}");
        }
        let no_charge = Charges::default();
        let counted = counted(&[("m", 3)]);
        assert_eq!(shown(&no_charge, &counted, &none), (3, None, false));
    }

    #[test]
    fn requests_without_a_message_and_later_messages_are_both_shown() {
        let none = UsageByModel::new();
        let one = |models: &[(&str, u64)]| vec![state(1, models)];
        let two = || {
            let later = state(2, &[("m", 10), ("side", 2)]);
            vec![state(1, &[("m", 10), ("side", 3)]), later]
        };
        for (states, grown, messages, expected, why) in [
            (
                one(&[("m", 10), ("side", 3)]),
                true,
                counted(&[("m", 20)]),
                (23, Some(13.0), true),
                "more messages than all that was charged",
            ),
            (
                one(&[("m", 10), ("side", 12)]),
                true,
                counted(&[("m", 10), ("other", 5)]),
                (27, Some(22.0), true),
                "another model",
            ),
            (
                two(),
                false,
                counted(&[("m", 30)]),
                (33, None, false),
                "a client was killed in between",
            ),
            (
                two(),
                true,
                counted(&[("m", 40)]),
                (43, Some(12.0), true),
                "a client was killed in between, and the session continued",
            ),
        ] {
            let charges = charges(states, grown);
            assert_eq!(shown(&charges, &messages, &none), expected, "{why}");
        }
    }

    #[test]
    fn other_names_of_models_are_compared_by_their_totals() {
        let none = UsageByModel::new();
        let answered = counted(&[("glm", 10)]);
        let covering = charges(vec![state(1, &[("asked", 12)])], false);
        assert_eq!(shown(&covering, &answered, &none), (12, Some(12.0), false));
        let continued = charges(vec![state(1, &[("asked", 12)])], true);
        assert_eq!(shown(&continued, &answered, &none), (12, Some(12.0), false));
        let behind = charges(vec![state(1, &[("asked", 8)])], true);
        assert_eq!(shown(&behind, &answered, &none), (10, Some(8.0), true));
        // More input than the messages, and less output.
        let usage = |input_tokens, output_tokens| Usage {
            input_tokens,
            output_tokens,
            ..Usage::default()
        };
        let mut state = state(1, &[("asked", 450)]);
        state.by_model.get_mut("asked").unwrap().usage = usage(450, 510);
        let answered = UsageByModel::from([("glm".to_owned(), usage(56, 900))]);
        let both = charges(vec![state], true).shown(&messages(&answered, &none));
        let sum = total(both.by_model.values().map(|model| &model.usage));
        assert_eq!(sum, usage(450, 900));
    }

    #[test]
    fn messages_after_a_charge_for_side_requests_alone_are_added_to_it() {
        let none = UsageByModel::new();
        let charged = || vec![state_after(1, &[], &[("side", 109)])];
        let answered = counted(&[("m", 101)]);
        let running = shown(&charges(charged(), true), &answered, &none);
        assert_eq!(running, (210, Some(109.0), true));
        // The next client began again from zero.
        let mut states = charged();
        states.push(state_after(2, &[("m", 101)], &[("m", 150)]));
        let ended = shown(&charges(states, false), &answered, &none);
        assert_eq!(ended, (259, None, false));
    }

    #[test]
    fn messages_of_a_killed_client_stay_whatever_the_next_one_charges() {
        let none = UsageByModel::new();
        let title = || state_after(1, &[("opus", 50)], &[("haiku", 1)]);
        let before = shown(
            &charges(vec![title()], false),
            &counted(&[("opus", 50)]),
            &none,
        );
        let later = counted(&[("opus", 50), ("haiku", 1)]);
        let after = shown(&charges(vec![title()], true), &later, &none);
        assert_eq!((before.0, after.0), (50, 51));
    }

    #[test]
    fn charge_below_an_earlier_one_does_not_cover_the_session() {
        let none = UsageByModel::new();
        let states = || vec![state(1, &[("m", 10), ("side", 5)]), state(2, &[("m", 20)])];
        let shown_with =
            |messages: &[(&str, u64)]| shown(&charges(states(), false), &counted(messages), &none);
        assert_eq!(shown_with(&[("m", 15)]), (25, None, false));
        assert_eq!(shown_with(&[]), (25, None, false));
    }

    #[test]
    fn state_that_was_read_before_says_nothing_about_later_messages() {
        let mut charges = charges(vec![state(1, &[("m", 10)]), state(2, &[("m", 20)])], true);
        charges.add(state(1, &[("m", 10)]));
        charges.add(state(2, &[("m", 20)]));
        assert!(charges.has_grown);
        charges.add(state(3, &[("m", 30)]));
        assert!(!charges.has_grown);
    }

    #[test]
    fn side_requests_before_a_killed_client_are_shown_after_any_number_of_states() {
        let mut states = vec![state(1, &[("m", 10), ("side", 5_000)])];
        states.extend((2..40).map(|at| state(at, &[("m", 10), ("side", 1)])));
        let charges = charges(states, false);
        let shown = shown(&charges, &counted(&[("m", 20)]), &UsageByModel::new());
        assert_eq!(shown, (5_020, None, false));
    }

    #[test]
    fn part_that_was_carried_over_from_the_parent_is_taken_out() {
        let (own, inherited) = (counted(&[("m", 5)]), counted(&[("m", 20)]));
        let mut fork = charges(vec![state(9, &[("m", 31)])], false);
        // Without the parent's states its cost is unknown.
        assert_eq!(shown(&fork, &own, &inherited), (11, None, false));
        let before = |used| state_after(1, &[("m", 10)], &[("m", used)]);
        let at_the_fork = |used| state_after(2, &[("m", 20)], &[("m", used)]);
        let afterwards = state_after(3, &[("m", 21)], &[("m", 27)]);
        for (states, expected, why) in [
            (vec![before(10), at_the_fork(25)], 6, "it did not continue"),
            (
                vec![before(10), at_the_fork(25), afterwards.clone()],
                6,
                "it continued after the fork",
            ),
            (
                vec![before(24), at_the_fork(25), afterwards],
                6,
                "an earlier state covers the copies, too, because of side requests",
            ),
            (
                vec![before(24), at_the_fork(8)],
                23,
                "a client of the parent was killed, and the next one began again",
            ),
        ] {
            fork.find_base(&charges(states, false), used(20), Began::Before(None));
            let shown = shown(&fork, &own, &inherited);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let cost = Some(expected as f64);
            assert_eq!(shown, (expected, cost, false), "{why}");
        }
        // The parent wrote its state after the fork was made, so the fork began from zero.
        let mut fork = charges(vec![state_after(9, &[("m", 5)], &[("m", 12)])], false);
        fork.find_base(
            &charges(vec![at_the_fork(10)], false),
            used(20),
            Began::Before(None),
        );
        assert_eq!(shown(&fork, &own, &inherited), (12, Some(12.0), false));
        // The client did not carry anything over.
        let fork = charges(vec![state(9, &[("m", 5)])], false);
        assert_eq!(shown(&fork, &own, &inherited), (5, Some(5.0), false));
    }

    #[test]
    fn fork_of_a_fork_starts_from_a_state_with_the_own_part_of_its_parent() {
        // Of 30 copied tokens the parent had used 5 itself; the client had carried 20 into it.
        let mut parent = charges(vec![state(1, &[("m", 22)]), state(2, &[("m", 25)])], false);
        parent.base = Some(state(0, &[("m", 20)]));
        let mut fork = charges(vec![state(9, &[("m", 26)])], false);
        fork.find_base(&parent, used(5), Began::Before(None));
        let (own, inherited) = (counted(&[("m", 1)]), counted(&[("m", 30)]));
        assert_eq!(shown(&fork, &own, &inherited), (1, Some(1.0), false));
    }

    #[test]
    fn fork_starts_from_the_first_of_two_equal_states() {
        let at = |at| state_after(at, &[("m", 20)], &[("m", 25)]);
        for orders in [[1, 5, 9], [9, 5, 1], [5, 9, 1], [9, 1, 5]] {
            let parent = charges(orders.map(at).to_vec(), false);
            assert_eq!(parent.states.len(), 2);
            let mut fork = charges(vec![state(4, &[("m", 31)])], false);
            fork.find_base(&parent, used(20), Began::Before(Some(3)));
            assert_eq!(fork.base, Some(at(1)), "{orders:?}");
        }
    }

    #[test]
    fn base_is_kept_when_its_parent_no_longer_has_it() {
        let parent = |count| {
            charges(
                (1..count)
                    .map(|at| state(at, &[("m", 20), ("side", at.cast_unsigned())]))
                    .collect(),
                false,
            )
        };
        let mut fork = charges(vec![state(3, &[("m", 32), ("side", 1)])], false);
        for count in [2, 100] {
            fork.find_base(&parent(count), used(20), Began::At(2));
            assert_eq!(fork.base.as_ref().map(|base| base.at), Some(1), "{count}");
        }
    }

    #[test]
    fn state_that_is_read_again_changes_nothing() {
        let states = || {
            let equal = (2..5).map(|at| state(at, &[("m", 25)]));
            std::iter::once(state(1, &[("m", 10)])).chain(equal)
        };
        for state in states() {
            let mut again = charges(states().collect(), false);
            again.add(state);
            assert_eq!(again, charges(states().collect(), false));
        }
    }
}
