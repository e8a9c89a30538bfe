//! What a session used on each day.
//!
//! A message counts on the day on which its first record was written. Some usage does not belong to
//! a message: requests that leave no record, and what versions before this table counted. The rules
//! for that usage depend only on the current figures, so every order of reads gives the same days.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Millis;
use super::charge::{UsageByModel, total};
use super::period::{self, DAY};
use super::prices::{Price, Prices, Rate};
use super::usage::{COUNTS, Usage};

/// Days since the Unix epoch, in UTC.
pub type Day = i64;

/// The maximum number of days that are kept separately, and of entries in a document. Each entry
/// takes up to 290 bytes.
pub const MAX_DAYS: usize = 40;

/// The day of a point in time.
#[must_use]
pub const fn day_of(at: Millis) -> Day {
    at.div_euclid(DAY)
}

/// Token counts by day, model and rate. If there are more than [`MAX_DAYS`] days, those between the
/// first and the latest ones count on the first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Days(BTreeMap<Day, BTreeMap<String, CountsByRate>>);

/// The tokens of one model on one day.
type CountsByRate = BTreeMap<Rate, Counts>;

/// A [`Usage`] that is stored as a list of its counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; COUNTS]", into = "[u64; COUNTS]")]
struct Counts(Usage);

impl From<[u64; COUNTS]> for Counts {
    fn from(counts: [u64; COUNTS]) -> Self {
        Self(counts.into())
    }
}

impl From<Counts> for [u64; COUNTS] {
    fn from(counts: Counts) -> Self {
        counts.0.counts()
    }
}

/// What is shown for one model on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// Token counts.
    pub usage: Usage,
    /// What they cost according to the table of prices, in picodollars.
    pub estimate: Option<u64>,
    /// What is shown as their cost, in picodollars.
    pub cost: Option<u64>,
}

/// Entries by day and model.
pub type EntriesByDay = BTreeMap<Day, BTreeMap<String, Entry>>;

impl Days {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces what was counted for a message of a model on a day: `now` instead of `before`.
    pub fn add(&mut self, day: Day, model: &str, before: (Usage, Rate), now: (Usage, Rate)) {
        if before == now || now.0 == Usage::default() {
            return;
        }
        self.0.entry(day).or_default();
        if self.0.len() > MAX_DAYS {
            self.merge_second();
        }
        let kept = self.0.contains_key(&day).then_some(day);
        let Some(kept) = kept.or_else(|| self.0.keys().next().copied()) else {
            return;
        };
        let models = self.0.entry(kept).or_default();
        if !models.contains_key(model) {
            models.insert(model.to_owned(), CountsByRate::new());
        }
        let Some(rates) = models.get_mut(model) else {
            return;
        };
        if before.1 != now.1
            && let Some(Counts(usage)) = rates.get_mut(&before.1)
        {
            *usage = usage.minus(before.0);
            if *usage == Usage::default() {
                rates.remove(&before.1);
            }
        }
        let more = if before.1 == now.1 {
            now.0.minus(before.0)
        } else {
            now.0
        };
        rates.entry(now.1).or_default().0.add(more);
    }

    /// The counts with the models renamed. Models with the same new name are added up.
    pub(super) fn renamed(&self, rename: impl Fn(&str) -> String) -> Self {
        let mut days = Self::default();
        for (&day, models) in &self.0 {
            let renamed = days.0.entry(day).or_default();
            for (model, rates) in models {
                add_rates(renamed.entry(rename(model)).or_default(), rates);
            }
        }
        days
    }

    /// Counts the second day on the first. If a day that was merged comes again, it is the second
    /// one again, so the order of the days makes no difference.
    fn merge_second(&mut self) {
        let Some(second) = self.0.keys().nth(1).copied() else {
            return;
        };
        for (model, rates) in self.0.remove(&second).unwrap_or_default() {
            if let Some(first) = self.0.values_mut().next() {
                add_rates(first.entry(model).or_default(), &rates);
            }
        }
    }

    /// What was counted for a model, by day.
    fn of_model(&self, model: &str) -> Vec<Usage> {
        let of_day = |models: &BTreeMap<String, CountsByRate>| models.get(model).map(sum);
        let usages = self.0.values().map(of_day);
        usages.map(Option::unwrap_or_default).collect()
    }

    /// Spreads what is shown over days. `counted` is all that was counted, and `started` the day on
    /// which the session started.
    ///
    /// What was counted without a day counts on `started`. If more is shown for a model than was
    /// counted, the rest is spread over the days in proportion to the model's tokens, or to those
    /// of all models if it has none. If less is shown, it is spread in proportion to what was
    /// counted.
    #[must_use]
    pub fn spread<'a>(
        mut self,
        counted: &UsageByModel,
        shown: impl Iterator<Item = (&'a String, Usage)>,
        started: Day,
        prices: &Prices,
    ) -> EntriesByDay {
        for (model, usage) in counted {
            let dated = total(self.of_model(model).iter());
            let rest = (usage.minus(dated), Rate::default());
            self.add(started, model, Default::default(), rest);
        }
        let days: BTreeSet<Day> = self.0.keys().copied().collect();
        let days = if days.is_empty() {
            BTreeSet::from([started])
        } else {
            days
        };
        let mut all: Vec<u64> = self
            .0
            .values()
            .map(|models| models.values().map(|rates| sum(rates).tokens()).sum())
            .collect();
        all.resize(days.len(), 0);
        let mut entries = EntriesByDay::new();
        for (model, usage) in shown {
            let mut dated = self.of_model(model);
            dated.resize(days.len(), Usage::default());
            if total(dated.iter()) != usage {
                dated = fit(&dated, usage, &all);
            }
            let price = prices.of(model);
            for (&day, usage) in days.iter().zip(dated) {
                if usage != Usage::default() {
                    let rates = self.0.get(&day).and_then(|models| models.get(model));
                    let entry = Entry {
                        usage,
                        estimate: price.map(|price| estimate(price, usage, rates)),
                        cost: None,
                    };
                    entries.entry(day).or_default().insert(model.clone(), entry);
                }
            }
        }
        entries
    }
}

fn add_rates(sums: &mut CountsByRate, more: &CountsByRate) {
    for (&rate, counts) in more {
        sums.entry(rate).or_default().0.add(counts.0);
    }
}

fn sum(rates: &CountsByRate) -> Usage {
    total(rates.values().map(|counts| &counts.0))
}

/// What the usage shown for a model on a day costs. Usage that was not counted by its rate has the
/// usual one.
fn estimate(price: Price, usage: Usage, rates: Option<&CountsByRate>) -> u64 {
    let (mut rest, mut cost) = (usage, 0_u64);
    let all = rates.into_iter().flatten();
    for (&rate, &Counts(usage)) in all.filter(|(rate, _)| **rate != Rate::default()) {
        rest = rest.minus(usage);
        cost = cost.saturating_add(price.cost(usage, rate));
    }
    cost.saturating_add(price.cost(rest, Rate::default()))
}

/// The usage of each day, adjusted so that the sum is `shown`.
fn fit(dated: &[Usage], shown: Usage, all: &[u64]) -> Vec<Usage> {
    let own: Vec<u64> = dated.iter().map(|usage| usage.tokens()).collect();
    let weights = if own.iter().any(|&tokens| tokens > 0) {
        &own
    } else {
        all
    };
    let counts: Vec<_> = dated.iter().map(|usage| usage.counts()).collect();
    let mut fitted = vec![[0; COUNTS]; dated.len()];
    for (kind, shown) in shown.counts().into_iter().enumerate() {
        let of_kind = counts.iter().map(|counts| counts[kind]);
        let counted = of_kind.clone().fold(0, u64::saturating_add);
        let shares = match shown.checked_sub(counted) {
            Some(rest) => {
                let shares = shares(rest, weights).into_iter().zip(of_kind);
                shares
                    .map(|(share, counted)| counted.saturating_add(share))
                    .collect()
            }
            None => shares(shown, &of_kind.collect::<Vec<_>>()),
        };
        for (fitted, share) in fitted.iter_mut().zip(shares) {
            fitted[kind] = share;
        }
    }
    fitted.into_iter().map(Usage::from).collect()
}

/// Splits an amount in proportion to some weights, so that the parts add up to it. If all weights
/// are zero, the first part gets everything.
#[must_use]
pub fn shares(amount: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    // Nonsensical figures may be too large to multiply.
    let excess = 64_u32.saturating_sub(sum.leading_zeros());
    let weights = weights.iter().map(|&weight| u128::from(weight >> excess));
    let sum: u128 = weights.clone().sum();
    let (mut passed, mut given) = (0, 0);
    let shares = weights.map(|weight| {
        passed += weight;
        let up_to = (u128::from(amount) * passed)
            .checked_div(sum)
            .map_or(amount, |up_to| u64::try_from(up_to).unwrap_or(amount));
        let share = up_to - given;
        given = up_to;
        share
    });
    shares.collect()
}

/// Merges the oldest days into the first one until the entries fit into a document.
pub fn limit(entries: &mut EntriesByDay) {
    while entries.len() > 1 && entries.values().map(BTreeMap::len).sum::<usize>() > MAX_DAYS {
        let Some(second) = entries.keys().nth(1).copied() else {
            return;
        };
        for (model, more) in entries.remove(&second).unwrap_or_default() {
            if let Some(first) = entries.values_mut().next() {
                let entry = first.entry(model).or_default();
                entry.usage.add(more.usage);
                entry.cost = match (entry.cost, more.cost) {
                    (Some(cost), Some(more)) => Some(cost.saturating_add(more)),
                    (cost, more) => cost.or(more),
                };
            }
        }
    }
}

/// The name of a day, such as `2026-11-25`.
#[must_use]
pub fn name(day: Day) -> String {
    period::day_of(day.saturating_mul(DAY)).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::usage::used;

    fn days(counts: &[(Day, u64)]) -> Days {
        let mut days = Days::default();
        for &(day, tokens) in counts {
            let now = (used(tokens), Rate::default());
            days.add(day, "m", Default::default(), now);
        }
        days
    }

    proptest! {
        #[test]
        fn order_of_days_makes_no_difference(
            (counts, again) in proptest::collection::vec((-10..90_i64, 1..9_u64), 0..150)
                .prop_flat_map(|counts| (Just(counts.clone()), Just(counts).prop_shuffle()))
        ) {
            let counted = days(&counts);
            prop_assert!(counted.0.len() <= MAX_DAYS);
            let sum: u64 = counts.iter().map(|(_, tokens)| tokens).sum();
            prop_assert_eq!(total(counted.of_model("m").iter()), used(sum));
            prop_assert_eq!(days(&again), counted);
        }

        #[test]
        fn shares_add_up(amount: u64, weights in proptest::collection::vec(any::<u64>(), 1..9)) {
            let shares = shares(amount, &weights);
            prop_assert_eq!(shares.iter().map(|&share| u128::from(share)).sum::<u128>(), u128::from(amount));
        }
    }

    #[test]
    fn first_and_latest_days_are_kept() {
        let all: Vec<_> = (1..=60).map(|day| (day, 1)).collect();
        let kept: Vec<_> = days(&all).0.into_iter().collect();
        assert_eq!(
            (kept.len(), kept[0].0, kept[1].0, kept[39].0),
            (40, 1, 22, 60)
        );
        assert_eq!(sum(&kept[0].1["m"]), used(21));
    }

    #[test]
    fn less_than_was_counted_is_spread_in_proportion() {
        let counted = UsageByModel::from([("m".to_owned(), used(40))]);
        let shown = ("m".to_owned(), used(9));
        let entries = days(&[(1, 10), (2, 30)]).spread(
            &counted,
            [(&shown.0, shown.1)].into_iter(),
            1,
            &Prices::default(),
        );
        let tokens = entries
            .values()
            .map(|models| models["m"].usage.input_tokens);
        assert_eq!(tokens.collect::<Vec<_>>(), [2, 7]);
    }

    #[test]
    fn day_has_the_name_of_its_date() {
        assert_eq!(name(day_of(1_795_630_237_873)), "2026-11-25");
        assert_eq!(name(day_of(-1)), "1969-12-31");
    }
}
