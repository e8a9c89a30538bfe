//! Models that have several names.
//!
//! A message names the model that answered, and the client's charge the one that was requested:
//! `claude-sonnet-4-5` or Bedrock's `us.anthropic.claude-sonnet-4-5-20250929-v1:0` for
//! `claude-sonnet-4-5-20250929`. Under two names, new messages could not be told apart from those
//! that were charged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::charge::{Charge, Charges, UsageByModel};
use super::figures::Figures;
use super::prices::base_name;

impl Charge {
    /// The charge with names that are the same for all names of a model.
    pub(super) fn with_base_names(&self) -> Self {
        self.with_names(|name| known_base_name(name).unwrap_or(name).to_owned())
    }

    fn with_names(&self, rename: impl Fn(&str) -> String) -> Self {
        Self {
            messages: self
                .messages
                .as_ref()
                .map(|usages| renamed(usages, &rename)),
            ..self.clone().renamed(rename)
        }
    }
}

impl Charges {
    /// The name that the client's latest charge for this model has, if it is another one and no
    /// other model could be meant.
    fn name_of(&self, model: &str) -> Option<&str> {
        let base = known_base_name(model)?;
        let is_same = |name: &&String| base_name(name) == base;
        let mut states = self.all().rev();
        let charge = states.find(|state| state.by_model.keys().any(|name| is_same(&name)))?;
        let mut names = charge.by_model.keys().filter(is_same);
        let name = names.next().filter(|_| names.next().is_none())?;
        (name != model).then_some(name)
    }
}

impl Figures {
    /// The figures with each model under the name that the client's latest charge for it has.
    #[must_use]
    pub(super) fn with_names_of_charges(&self) -> Cow<'_, Self> {
        let states = self.charges.all().chain(&self.charges.base);
        let charged = states.flat_map(|state| state.by_model.keys());
        let counted = [&self.usage_by_model, &self.inherited_by_model, &self.floor];
        let names = counted
            .into_iter()
            .flat_map(UsageByModel::keys)
            .chain(charged);
        let aliases: BTreeMap<&str, &str> = names
            .filter_map(|name| Some((name.as_str(), self.charges.name_of(name)?)))
            .collect();
        if aliases.is_empty() {
            return Cow::Borrowed(self);
        }
        let rename = |name: &str| aliases.get(name).copied().unwrap_or(name).to_owned();
        let usages = |usages: &UsageByModel| renamed(usages, rename);
        let charge = |charge: &Charge| charge.with_names(rename);
        let mut figures = self.clone();
        figures.usage_by_model = usages(&self.usage_by_model);
        figures.inherited_by_model = usages(&self.inherited_by_model);
        figures.carried_by_model = self.carried_by_model.as_ref().map(usages);
        figures.floor = usages(&self.floor);
        figures.days = self.days.renamed(rename);
        figures.charges.states = self.charges.states.iter().map(charge).collect();
        figures.charges.earlier = self.charges.earlier.as_ref().map(charge);
        figures.charges.base = self.charges.base.as_ref().map(charge);
        Cow::Owned(figures)
    }
}

/// The name of a model of Claude without the additions of a provider. The names of other models are
/// not known well enough: `gpt-oss:20b` and `gpt-oss:120b` are two.
fn known_base_name(model: &str) -> Option<&str> {
    Some(base_name(model)).filter(|name| name.starts_with("claude-"))
}

fn renamed(usages: &UsageByModel, rename: impl Fn(&str) -> String) -> UsageByModel {
    let mut renamed = UsageByModel::new();
    for (model, usage) in usages {
        renamed.entry(rename(model)).or_default().add(*usage);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::super::charge::ModelCharge;
    use super::*;

    #[test]
    fn name_is_that_of_the_latest_charge_for_the_model() {
        let charge = |models: &[&str]| {
            let models = models.iter();
            Charge {
                by_model: models
                    .map(|&model| (model.to_owned(), ModelCharge::default()))
                    .collect(),
                ..Charge::default()
            }
        };
        let bedrock = "us.anthropic.claude-sonnet-5-20260601-v1:0";
        let charges = Charges {
            states: vec![
                charge(&["claude-opus-4-8", "gpt-oss:120b", bedrock]),
                charge(&["claude-sonnet-5"]),
                charge(&["claude-haiku-4-5", "claude-haiku-4-5[1m]"]),
            ],
            ..Charges::default()
        };
        for (model, name) in [
            ("claude-opus-4-8", None),
            ("claude-opus-4-8-20260501", Some("claude-opus-4-8")),
            ("claude-sonnet-5", None),
            (bedrock, Some("claude-sonnet-5")),
            // Either of two could be meant.
            ("claude-haiku-4-5-20251001", None),
            // Not a model of Claude.
            ("gpt-oss:20b", None),
            ("claude-fable-5", None),
        ] {
            assert_eq!(charges.name_of(model), name, "{model}");
        }
    }
}
