//! What models cost: an estimate if the client does not report what it charged.
//!
//! A price depends on the single request: how fast it was, where it ran, and with one model, how
//! long its prompt was. So tokens are counted by their [`Rate`], and prices are applied only when a
//! document is assembled. A new price then applies to everything that was counted.

use std::collections::BTreeMap;

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::usage::Usage;

/// The table of this version.
const TABLE: &str = include_str!("prices.csv");
/// Picodollars (10⁻¹² dollars) per token, of which a price in dollars per million tokens has a
/// million.
const PICODOLLARS: f64 = 1e6;
/// No price in the table changes at fewer prompt tokens than this.
const LOWEST_STEP: u64 = 100_000;
/// What a web search costs, in picodollars.
const WEB_SEARCH: u128 = 10_000_000_000;

/// The properties of a request that its price depends on.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Rate(u8);

impl Rate {
    /// `speed: "fast"`.
    pub const FAST: Self = Self(1);
    /// `inference_geo: "us"`.
    pub const US: Self = Self(2);
    /// A long prompt, for a model that then costs more.
    const LONG: Self = Self(4);

    /// This rate, combined with `other` if the condition holds.
    #[must_use]
    pub const fn with(self, other: Self, is_so: bool) -> Self {
        Self(if is_so {
            self.0 | other.0
        } else {
            self.0 & !other.0
        })
    }

    /// The union of the rates that two lines of a message state.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this rate includes `other`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The prices of all models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    /// Configured prices by model ID, which override the table.
    configured: BTreeMap<String, Price>,
}

/// The price of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    kinds: Kinds,
    /// The price of an input token in fast mode.
    fast: u64,
    /// The prices of requests with more prompt tokens than this.
    long: Option<(u64, Kinds)>,
}

/// The price of a token of each kind, in picodollars: input, output, read from the cache, written
/// to it for five minutes and for an hour.
type Kinds = [u64; 5];

/// A price as it is configured, in dollars per million tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredPrice {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write_5m: Option<f64>,
    cache_write_1h: Option<f64>,
    fast: Option<f64>,
}

impl ConfiguredPrice {
    /// The price, unless one of its numbers is invalid.
    fn price(&self) -> Option<Price> {
        let Self { input, output, .. } = *self;
        let or_input = |price: Option<f64>| price.unwrap_or(input);
        let mut kinds = Kinds::default();
        let given = [
            input,
            output,
            or_input(self.cache_read),
            or_input(self.cache_write_5m),
            or_input(self.cache_write_1h),
        ];
        for (kind, given) in kinds.iter_mut().zip(given) {
            *kind = per_token(given)?;
        }
        let fast = per_token(or_input(self.fast))?;
        Some(Price {
            kinds,
            fast,
            long: None,
        })
    }
}

impl Prices {
    /// The table, overridden by these prices. The error is the first model whose price is invalid.
    pub fn new(configured: &BTreeMap<String, ConfiguredPrice>) -> Result<Self, &String> {
        let prices = configured.iter().map(|(model, price)| {
            let price = price.price().ok_or(model)?;
            Ok((model.clone(), price))
        });
        Ok(Self {
            configured: prices.collect::<Result<_, &String>>()?,
        })
    }

    /// The price of a model, by any of its ids.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<Price> {
        let name = base_name(model);
        let configured = || {
            let of = |name| self.configured.get(name);
            // It may be configured under another one of its IDs, but not by another vendor.
            let is_same =
                |id: &String| base_name(id) == name && ["", vendor(model)].contains(&vendor(id));
            let alike = || self.configured.iter().find(|(id, _)| is_same(id));
            let price = of(model).or_else(|| of(name));
            price.or_else(|| alike().map(|(_, price)| price)).copied()
        };
        configured().or_else(|| in_table(name))
    }

    /// The rate of a message, given what its lines say and what it has used so far.
    #[must_use]
    pub fn rate(&self, model: &str, rate: Rate, usage: Usage) -> Rate {
        let prompt = usage.tokens().saturating_sub(usage.output_tokens);
        let is_long = prompt > LOWEST_STEP
            && self
                .of(model)
                .and_then(|price| price.long)
                .is_some_and(|(above, _)| prompt > above);
        rate.with(Rate::LONG, is_long)
    }
}

impl Price {
    /// The cost of tokens at a rate, in picodollars.
    #[must_use]
    pub fn cost(&self, usage: Usage, rate: Rate) -> u64 {
        let kinds = self.long.filter(|_| rate.has(Rate::LONG));
        let kinds = kinds.map_or(self.kinds, |(_, kinds)| kinds);
        let for_an_hour = usage.cache_creation_1h_input_tokens;
        let counts = [
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_input_tokens,
            usage
                .cache_creation_input_tokens
                .saturating_sub(for_an_hour),
            for_an_hour,
        ];
        let costs = counts.into_iter().zip(kinds);
        let mut cost: u128 = costs
            .map(|(count, price)| u128::from(count) * u128::from(price))
            .sum();
        if rate.has(Rate::FAST) {
            let input = u128::from(self.kinds[0]);
            cost = (cost * u128::from(self.fast))
                .checked_div(input)
                .unwrap_or(cost);
        }
        if rate.has(Rate::US) {
            cost = cost * 11 / 10;
        }
        cost += u128::from(usage.web_search_requests) * WEB_SEARCH;
        u64::try_from(cost).unwrap_or(u64::MAX)
    }
}

/// The name of a model without the additions of a provider:
/// `us.anthropic.claude-haiku-4-5-20251001-v1:0` of Bedrock, `claude-haiku-4-5@20251001` of Vertex
/// and `claude-haiku-4-5-20251001` are all `claude-haiku-4-5`.
pub(super) fn base_name(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = match name.rfind("anthropic.") {
        Some(at) => &name[at + "anthropic.".len()..],
        None => name,
    };
    let name = name.split(['@', ':', '[']).next().unwrap_or(name);
    let name = without_suffix(name, |suffix| {
        let version = suffix.strip_prefix('v');
        version.is_some_and(|version| version.parse::<u8>().is_ok())
    });
    without_suffix(name, |suffix| {
        suffix == "latest" || suffix.len() == 8 && suffix.parse::<u32>().is_ok()
    })
}

/// What precedes that name, such as `us.anthropic.` or `openrouter/`.
fn vendor(model: &str) -> &str {
    model.split(base_name(model)).next().unwrap_or_default()
}

fn without_suffix(name: &str, is_suffix: impl Fn(&str) -> bool) -> &str {
    match name.rsplit_once('-') {
        Some((before, suffix)) if is_suffix(suffix) => before,
        _ => name,
    }
}

/// The price of a model in the table.
fn in_table(name: &str) -> Option<Price> {
    let row = format!("\n{name},");
    let at = memmem::find(TABLE.as_bytes(), row.as_bytes())?;
    let row = TABLE[at + row.len()..].lines().next()?;
    let mut columns = row.split(',');
    let mut price = || per_token(columns.next()?.parse().ok()?);
    let kinds = [price()?, price()?, price()?, price()?, price()?];
    let fast = price()?;
    let above = columns.next().and_then(|above| above.parse().ok());
    let mut price = || per_token(columns.next()?.parse().ok()?);
    let long =
        above.and_then(|above| Some((above, [price()?, price()?, price()?, price()?, price()?])));
    Some(Price { kinds, fast, long })
}

/// Picodollars per token, given dollars per million of them. `None` if that is not a valid price.
fn per_token(dollars_per_million: f64) -> Option<u64> {
    let price = dollars_per_million * PICODOLLARS;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the bounds"
    )]
    (0.0..=1e12).contains(&price).then(|| price.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> impl Iterator<Item = &'static str> {
        TABLE.lines().filter(|line| !line.starts_with('#'))
    }

    #[test]
    fn every_row_of_the_table_is_a_price() {
        assert_eq!(rows().count(), 22);
        for row in rows() {
            let (model, _) = row.split_once(',').unwrap();
            let price = Prices::default().of(model).unwrap();
            assert!(price.kinds.iter().all(|&kind| kind > 0), "{row}");
            assert!(price.fast >= price.kinds[0], "{row}");
            assert!(price.long.is_none_or(|(above, _)| above >= LOWEST_STEP));
            let columns = row.split(',').count();
            assert_eq!(columns, if price.long.is_some() { 13 } else { 7 }, "{row}");
        }
    }

    #[test]
    fn ids_of_providers_mean_the_model() {
        let prices = Prices::default();
        for (id, model) in [
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            (
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                "claude-haiku-4-5",
            ),
            ("anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-sonnet-4-20250514-v1:0",
                "claude-sonnet-4",
            ),
            ("claude-opus-4-5@20251101", "claude-opus-4-5"),
            ("claude-3-5-sonnet-v2@20241022", "claude-3-5-sonnet"),
            ("anthropic/claude-opus-5-5", "claude-opus-5-5"),
            ("claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
            ("claude-sonnet-4-6[1m]", "claude-sonnet-4-6"),
        ] {
            assert_eq!(base_name(id), model);
            assert_eq!(prices.of(id), prices.of(model));
            assert!(prices.of(id).is_some(), "{id}");
        }
        for id in [
            "",
            "claude",
            "glm-5",
            "claude-opus-4-1-20250805",
            "my-claude-opus-5-5",
            "# model",
            "model",
        ] {
            assert_eq!(prices.of(id), None, "{id}");
        }
    }

    #[test]
    fn configured_price_applies_to_all_ids_of_the_model() {
        for (id, model, applies) in [
            (
                "claude-haiku-4-5-20251001",
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                true,
            ),
            ("claude-haiku-4-5@20251001", "claude-haiku-4-5", true),
            ("acme/foo", "acme/foo:free", true),
            ("foo", "acme/foo", true),
            ("acme/foo", "other/foo", false),
            (
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                "claude-haiku-4-5",
                false,
            ),
            ("foo", "foo-2", false),
        ] {
            let price = serde_json::json!({id: {"input": 7, "output": 7}});
            let prices = Prices::new(&serde_json::from_value(price).unwrap()).unwrap();
            let usage = Usage {
                input_tokens: 1,
                ..Usage::default()
            };
            let cost = prices
                .of(model)
                .map(|price| price.cost(usage, Rate::default()));
            assert_eq!(cost == Some(7_000_000), applies, "{id}, {model}: {cost:?}");
        }
    }

    #[test]
    fn configured_price_overrides_the_table() {
        let configured: BTreeMap<String, ConfiguredPrice> = serde_json::from_value(serde_json::json!({
            "glm-5": {"input": 0.6, "output": 2.2},
            "claude-opus-5-5": {"input": 2.0, "output": 10, "cache_read": 0.1, "cache_write_5m": 2.5, "cache_write_1h": 4, "fast": 6}
        }))
        .unwrap();
        let prices = Prices::new(&configured).unwrap();
        let usage = Usage {
            input_tokens: 10,
            output_tokens: 1,
            cache_read_input_tokens: 100,
            ..Usage::default()
        };
        let cost = |model: &str, rate| prices.of(model).unwrap().cost(usage, rate);
        assert_eq!(cost("glm-5", Rate::default()), 110 * 600_000 + 2_200_000);
        let opus = 10 * 2_000_000 + 10_000_000 + 100 * 100_000;
        assert_eq!(cost("claude-opus-5-5-20260901", Rate::default()), opus);
        assert_eq!(cost("claude-opus-5-5", Rate::FAST), 3 * opus);
        let both = Rate::FAST.or(Rate::US);
        assert_eq!(cost("claude-opus-5-5", both), 3 * opus * 11 / 10);
        let wrong = serde_json::from_value(serde_json::json!({"x": {"input": -1, "output": 0}}));
        assert_eq!(Prices::new(&wrong.unwrap()).unwrap_err(), "x");
    }
}
