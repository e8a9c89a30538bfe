//! What a session has used and cost, by model and by day, so that the parts add up to the whole.
//!
//! Dollars are added up as whole picodollars (10⁻¹² dollars), because a sum of floating-point
//! numbers depends on their order.

use std::collections::BTreeMap;

use super::Millis;
use super::charge::{Charge, UsageByModel, total};
use super::days::{EntriesByDay, day_of, limit, name, shares};
use super::document::{CostSource, DayUsage, ModelUsage};
use super::figures::Figures;
use super::usage::Usage;

/// Picodollars in a dollar.
const PICO: f64 = 1e12;
/// How much the client's total and the sum of its models may differ by rounding, in picodollars.
const ROUNDING: u64 = 100;

/// The cost of each model in picodollars; `None` if it is not known.
type CostByModel = BTreeMap<String, Option<u64>>;

/// What a session has used and cost.
pub(super) struct Spent {
    /// The names of all models that answered.
    pub models: Vec<String>,
    pub usage: Usage,
    pub by_model: Vec<ModelUsage>,
    pub by_day: Vec<DayUsage>,
    pub cost_usd: Option<f64>,
    pub cost_source: Option<CostSource>,
    /// Whether the cost is that of a part of the session.
    pub is_partial: bool,
    /// The client's own figures, if they cover the session.
    pub charge: Option<Charge>,
}

impl Spent {
    /// What the figures say of a session that started at `started_at`.
    pub fn of(figures: &Figures, started_at: Millis) -> Self {
        let inherited = if figures.is_unmarked_fork() {
            &figures.inherited_by_model
        } else {
            &UsageByModel::new()
        };
        let shown = figures.charges.shown(&figures.counted(), inherited);
        let used = shown
            .by_model
            .iter()
            .filter(|(_, charge)| charge.usage != Usage::default());
        let mut costs: CostByModel = used
            .clone()
            .map(|(model, charge)| (model.clone(), charge.cost_usd.map(picodollars)))
            .collect();
        let cost_usd = shown.charge.as_ref().and_then(|charge| charge.cost_usd);
        if let Some(cost) = cost_usd {
            let tokens = |model: &str| shown.by_model[model].usage.tokens();
            fit_models(&mut costs, picodollars(cost), tokens);
        }
        let usages = used.clone().map(|(model, charge)| (model, charge.usage));
        let days = figures.days.clone();
        let mut entries = days.spread(&figures.usage_by_model, usages, day_of(started_at));
        put_on_days(&mut entries, &costs);
        limit(&mut entries);
        let has_one = costs.len() == 1;
        let by_model = used.map(|(model, charge)| ModelUsage {
            model: model.clone(),
            usage: charge.usage,
            cost_usd: costs[model].filter(|_| !has_one).map(dollars),
        });
        Self {
            models: shown.by_model.keys().cloned().collect(),
            usage: total(shown.by_model.values().map(|charge| &charge.usage)),
            by_model: by_model.collect(),
            by_day: by_day(entries),
            cost_usd,
            cost_source: cost_usd.map(|_| CostSource::Client),
            is_partial: shown.is_partial && cost_usd.is_some(),
            charge: shown.charge,
        }
    }
}

fn by_day(entries: EntriesByDay) -> Vec<DayUsage> {
    let days = entries.into_iter().flat_map(|(day, models)| {
        let day = name(day);
        models.into_iter().map(move |(model, entry)| DayUsage {
            day: day.clone(),
            model,
            usage: entry.usage,
            cost_usd: entry.cost.map(dollars),
        })
    });
    days.collect()
}

/// Changes the costs of the models so that they add up to `sum`. What those with a known cost leave
/// of it is the cost of the others, in proportion to their `weights`.
fn fit_models(costs: &mut CostByModel, sum: u64, weights: impl Fn(&str) -> u64) {
    let known = costs
        .values()
        .flatten()
        .fold(0, |sum: u64, cost| sum.saturating_add(*cost));
    let rest = sum.saturating_sub(known);
    let is_for_others = rest > ROUNDING && costs.values().any(Option::is_none);
    if known == sum {
        return;
    }
    let mut parts: Vec<_> = costs
        .iter_mut()
        .filter(|(_, cost)| cost.is_none() == is_for_others)
        .collect();
    let weights: Vec<_> = parts
        .iter()
        .map(|(model, cost)| cost.unwrap_or_else(|| weights(model)))
        .collect();
    let shares = shares(if is_for_others { rest } else { sum }, &weights);
    for ((_, cost), share) in parts.iter_mut().zip(shares) {
        **cost = Some(share);
    }
}

/// Puts the cost of each model on its days, in proportion to what it used on each.
fn put_on_days(entries: &mut EntriesByDay, costs: &CostByModel) {
    for (model, cost) in costs {
        let Some(cost) = *cost else {
            continue;
        };
        let of_model = entries.values_mut().filter_map(|models| {
            let entry = models.get_mut(model)?;
            Some((entry.usage.tokens(), entry))
        });
        let (weights, of_model): (Vec<_>, Vec<_>) = of_model.unzip();
        for (entry, share) in of_model.into_iter().zip(shares(cost, &weights)) {
            entry.cost = Some(share);
        }
    }
}

/// The whole picodollars of some dollars.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion by `as` stops at the least and the greatest number"
)]
fn picodollars(dollars: f64) -> u64 {
    (dollars * PICO).round() as u64
}

/// The dollars of some picodollars.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 9,000 dollars, and beyond that to less than a millionth of a cent"
)]
fn dollars(picodollars: u64) -> f64 {
    picodollars as f64 / PICO
}
