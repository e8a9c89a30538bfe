//! Names of models and tools. Only a limited number is kept.

use std::collections::BTreeMap;

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
