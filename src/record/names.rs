//! Names of models and tools. Only a limited number is kept.

use std::collections::BTreeMap;

use super::charge::UsageByModel;
use super::prices::base_name;

/// The maximum number of names of tools, and of models. A session has a few dozen; if names keep
/// being made up, the rest are counted together as [`OTHER`].
pub const MAX_TOOLS: usize = 1_000;
/// See [`MAX_TOOLS`].
pub const MAX_MODELS: usize = 50;
/// The same for types of subagents.
pub const MAX_SUBAGENT_TYPES: usize = 50;
const OTHER: &str = "other";

/// The index of a name, which is added if it is new. A session has a few dozen, so the search is
/// short.
pub fn intern(names: &mut Vec<String>, name: &str) -> usize {
    let place = |names: &[String], name: &str| names.iter().position(|known| known == name);
    place(names, name).unwrap_or_else(|| {
        let name = if names.len() < MAX_TOOLS { name } else { OTHER };
        place(names, name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
    })
}

/// The name under which a name is counted: its own, or [`OTHER`] if there are already `limit` of
/// them.
#[must_use]
pub fn entry_name<'a, V>(map: &BTreeMap<String, V>, name: &'a str, limit: usize) -> &'a str {
    if map.len() >= limit && !map.contains_key(name) {
        OTHER
    } else {
        name
    }
}

/// The entry of a name, or that of [`OTHER`] if there are already `limit` of them.
pub fn entry<'a, V: Default>(
    map: &'a mut BTreeMap<String, V>,
    name: &str,
    limit: usize,
) -> &'a mut V {
    let name = entry_name(map, name, limit);
    map.entry(name.to_owned()).or_default()
}
/// Token counts by the names that `charged` has for the models. A message names the model that
/// answered, the client's charge the one that was requested: `claude-sonnet-4-5` for
/// `claude-sonnet-4-5-20250929`, or the name of a provider.
pub(super) fn renamed_as_in<T>(
    charged: &BTreeMap<String, T>,
    usages: &UsageByModel,
) -> UsageByModel {
    let requested = |model: &String| {
        let is_same = |name: &&String| base_name(name) == base_name(model);
        let mut names = charged.keys().filter(is_same);
        let name = names.next().filter(|_| !charged.contains_key(model))?;
        (names.next().is_none() && !usages.contains_key(name)).then_some(name)
    };
    let mut renamed = UsageByModel::new();
    for (model, usage) in usages {
        let name = requested(model).unwrap_or(model);
        renamed.entry(name.clone()).or_default().add(*usage);
    }
    renamed
}
