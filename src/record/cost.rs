//! What a session has used and cost, by model and by day, so that the parts add up to the whole.

use std::collections::BTreeMap;

use super::Millis;
use super::charge::{Charge, ModelCharge, Shown, total};
use super::days::{EntriesByDay, day_of, limit, name, shares};
use super::document::{CostSource, DayUsage, ModelUsage};
use super::figures::Figures;
use super::prices::Prices;
use super::usage::Usage;

/// How much the client's total and the sum of its models may differ because of rounding, in
/// picodollars.
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
    /// Whether the cost covers only part of the session.
    pub is_partial: bool,
    /// The client's own figures, if they cover the session.
    pub charge: Option<Charge>,
}

impl Spent {
    /// What a session that started at `started_at` has used and cost, from its figures.
    pub fn of(figures: &Figures, started_at: Millis, prices: &Prices) -> Self {
        let figures = figures.with_names_of_charges();
        let shown = figures.charges.shown(&figures.messages());
        let used = shown
            .by_model
            .iter()
            .filter(|(_, charge)| charge.usage != Usage::default());
        let usages = used.clone().map(|(model, charge)| (model, charge.usage));
        let days = figures.days.clone();
        let started = day_of(started_at);
        let mut entries = days.spread(&figures.usage_by_model, usages, started, prices);
        let cost = Cost::of(&shown, &entries);
        put_on_days(&mut entries, &cost.by_model);
        limit(&mut entries);
        let has_one = cost.by_model.len() == 1;
        // The client's charge may also name those of the session that this one was forked from.
        let has_answered = |(model, charge): &(&String, &ModelCharge)| {
            charge.usage != Usage::default() || figures.usage_by_model.contains_key(*model)
        };
        let models = shown.by_model.iter().filter(has_answered);
        let models = models.map(|(model, _)| model.clone()).collect();
        let by_model = used.map(|(model, charge)| ModelUsage {
            model: model.clone(),
            usage: charge.usage,
            cost_usd: cost.by_model[model].filter(|_| !has_one).map(|part| {
                // The client's own number, if it is the whole cost of the model.
                let own = charge.cost_usd.filter(|&usd| picodollars(usd) == part);
                own.unwrap_or_else(|| dollars(part))
            }),
        });
        Self {
            models,
            usage: total(shown.by_model.values().map(|charge| &charge.usage)),
            by_model: by_model.collect(),
            by_day: by_day(entries),
            cost_usd: cost.usd,
            cost_source: cost.usd.map(|_| cost.source),
            is_partial: cost.is_partial && cost.usd.is_some(),
            charge: shown.charge,
        }
    }
}

/// The cost of a session.
struct Cost {
    usd: Option<f64>,
    source: CostSource,
    is_partial: bool,
    by_model: CostByModel,
}

impl Cost {
    /// What the client reports, if that covers the session; else the estimate. In a session that
    /// has continued since the report, the estimate is at least what the client charged. Without an
    /// estimate for each model, what the client charged is a partial cost.
    fn of(shown: &Shown, entries: &EntriesByDay) -> Self {
        let stated = shown.charge.as_ref().and_then(|charge| charge.cost_usd);
        let used = shown.by_model.iter();
        let used = used.filter(|(_, charge)| charge.usage != Usage::default());
        let charged: CostByModel = used
            .map(|(model, charge)| (model.clone(), charge.cost_usd.map(picodollars)))
            .collect();
        if stated.is_none() || shown.is_partial {
            let mut estimated = charged.clone();
            for (model, cost) in &mut estimated {
                let of_model = entries.values().filter_map(|models| models.get(model));
                let mut of_days = of_model.map(|entry| entry.estimate);
                let estimate =
                    of_days.try_fold(0, |sum: u64, cost| Some(sum.saturating_add(cost?)));
                *cost = estimate.map(|estimate| estimate.max(cost.unwrap_or_default()));
            }
            let is_whole = estimated.values().all(Option::is_some);
            let is_known = estimated.values().any(Option::is_some);
            let sum = total_cost(&estimated);
            let covers = |stated| is_whole && sum >= picodollars(stated);
            if stated.map_or(is_known, covers) {
                return Self {
                    usd: Some(dollars(sum)),
                    source: CostSource::Estimate,
                    is_partial: !is_whole,
                    by_model: estimated,
                };
            }
        }
        let mut by_model = charged;
        if let Some(stated) = stated {
            let tokens = |model: &str| shown.by_model[model].usage.tokens();
            fit_models(&mut by_model, picodollars(stated), tokens);
        } else {
            // Parts of an unknown cost would look like the whole.
            for cost in by_model.values_mut() {
                *cost = None;
            }
        }
        Self {
            usd: stated,
            source: CostSource::Client,
            is_partial: shown.is_partial,
            by_model,
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

/// The sum of the known costs.
fn total_cost(costs: &CostByModel) -> u64 {
    let known = costs.values().flatten();
    known.fold(0, |sum: u64, cost| sum.saturating_add(*cost))
}

/// Changes the costs of the models so that they add up to `sum`. The others share what the models
/// with a known cost leave of it, in proportion to their `weights`.
fn fit_models(costs: &mut CostByModel, sum: u64, weights: impl Fn(&str) -> u64) {
    let known = total_cost(costs);
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

/// Distributes the cost of each model over its days, in proportion to the estimate for each, or to
/// the tokens if there is none.
fn put_on_days(entries: &mut EntriesByDay, costs: &CostByModel) {
    for (model, cost) in costs {
        let Some(cost) = *cost else {
            continue;
        };
        let of_model = entries.values_mut().filter_map(|models| {
            let entry = models.get_mut(model)?;
            let tokens = entry.usage.tokens();
            Some((
                entry.estimate.filter(|&cost| cost > 0).unwrap_or(tokens),
                entry,
            ))
        });
        let (weights, of_model): (Vec<_>, Vec<_>) = of_model.unzip();
        for (entry, share) in of_model.into_iter().zip(shares(cost, &weights)) {
            entry.cost = Some(share);
        }
    }
}

/// The whole picodollars of some dollars; 0 if they are negative.
fn picodollars(dollars: f64) -> u64 {
    u64::try_from(super::dollars::picodollars(dollars).max(0)).unwrap_or(u64::MAX)
}

fn dollars(picodollars: u64) -> f64 {
    super::dollars::dollars(picodollars.into())
}
