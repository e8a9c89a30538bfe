//! The client's `cost-state` record: what it has charged so far.

use super::wire::{CostState, ModelUsage};
use crate::record::Millis;
use crate::record::charge::{Charge, ModelCharge};
use crate::record::usage::Usage;
use crate::system::json::Scalar;

impl CostState<'_> {
    /// The charge, by the names under which models answer.
    pub fn into_charge(self) -> Charge {
        let has_unknown_price = self.has_unknown_model_cost.0;
        let models = self.model_usage.0.unwrap_or_default().into_iter();
        let by_model = models.filter_map(|(model, charge)| {
            let charge = charge.0?;
            let usage = charge.counts();
            let cost_usd = dollars(&charge.cost_usd);
            // The variant with the large context window, `model[1m]`, answers as `model`.
            let name = model.split_once('[').map_or(&*model, |(name, _)| name);
            let charge = ModelCharge {
                usage,
                // For a model that it has no price for, the client charges the price of another
                // one.
                cost_usd: cost_usd.filter(|_| !has_unknown_price),
            };
            Some((name.to_owned(), charge))
        });
        let mut charge = Charge {
            cost_usd: dollars(&self.total_cost_usd).filter(|_| !has_unknown_price),
            api_duration_ms: duration(&self.total_api_duration),
            tool_duration_ms: duration(&self.total_tool_duration),
            lines_added: number(&self.total_lines_added),
            lines_removed: number(&self.total_lines_removed),
            at: duration(&self.start_time).unwrap_or_default()
                + duration(&self.total_duration).unwrap_or_default(),
            ..Charge::default()
        };
        for (model, more) in by_model {
            let charged = charge.by_model.entry(model).or_insert(ModelCharge {
                cost_usd: Some(0.0),
                ..ModelCharge::default()
            });
            charged.usage.add(more.usage);
            charged.cost_usd = charged.cost_usd.zip(more.cost_usd).map(|(a, b)| a + b);
        }
        charge
    }
}

impl ModelUsage<'_> {
    fn counts(&self) -> Usage {
        Usage {
            input_tokens: self.input_tokens.0,
            output_tokens: self.output_tokens.0,
            cache_read_input_tokens: self.cache_read_input_tokens.0,
            cache_creation_input_tokens: self.cache_creation_input_tokens.0,
            thinking_tokens: self.thinking_tokens.0,
            cache_creation_1h_input_tokens: self.cache_creation_1h_input_tokens.0,
            web_search_requests: self.web_search_requests.0,
        }
    }
}

fn dollars(number: &Scalar<'_>) -> Option<f64> {
    match number {
        Scalar::Number(usd) if *usd >= 0.0 => Some(*usd),
        _ => None,
    }
}

fn number(scalar: &Scalar<'_>) -> Option<u64> {
    matches!(scalar, Scalar::Number(_)).then(|| scalar.count())
}

fn duration(scalar: &Scalar<'_>) -> Option<Millis> {
    number(scalar).and_then(|number| Millis::try_from(number).ok())
}
