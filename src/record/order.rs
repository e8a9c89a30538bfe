//! The order in which the facts of several files are counted.

use std::collections::VecDeque;

use super::Millis;
use super::facts::Facts;

/// The stretches of some files, each with the number of its file, in the order in which they are
/// counted. A conversation can continue in another file and come back, so those of the main chain
/// and what the client charged are in the order of their times, and split where necessary. Other
/// files with nothing but state come first, because the state in the file of the conversation is
/// later. The files of subagents are independent.
pub(super) fn in_order(files: Vec<Vec<Facts>>) -> Vec<(usize, Facts)> {
    let (mut main, mut ordered, mut subagents) = (Vec::new(), Vec::new(), Vec::new());
    for (file, stretches) in files.into_iter().enumerate() {
        if has_conversation(&stretches) {
            main.push((file, VecDeque::from(stretches)));
        } else if stretches.iter().all(|facts| facts.facts.is_empty()) {
            ordered.extend(stretches.into_iter().map(|facts| (file, facts)));
        } else {
            subagents.extend(stretches.into_iter().map(|facts| (file, facts)));
        }
    }
    while let Some(next) = (0..main.len()).min_by_key(|&file| begins_at(&main[file].1)) {
        let rest = main.iter().enumerate().filter(|(file, _)| *file != next);
        let until = rest.filter_map(|(_, (_, stretches))| begins_at(stretches));
        let until = until.min().unwrap_or(Millis::MAX);
        let (file, stretches) = &mut main[next];
        let Some(first) = stretches.front_mut() else {
            main.remove(next);
            continue;
        };
        let later = |at: Millis| at > until;
        let place = first
            .facts
            .iter()
            .position(|fact| fact.at.is_some_and(later));
        let has_later_charge = first.charges.last().is_some_and(|(_, last)| later(last.at));
        let facts = match place {
            Some(place) => first.split_to(place.max(1)),
            None if has_later_charge && !first.facts.is_empty() => first.split_before_last_charge(),
            None => stretches.pop_front().unwrap_or_default(),
        };
        ordered.push((*file, facts));
    }
    ordered.extend(subagents);
    ordered
}

/// Whether a file contains a part of the main chain, or what was charged for it.
pub(super) fn has_conversation(stretches: &[Facts]) -> bool {
    let has_charge = |facts: &Facts| facts.facts.is_empty() && !facts.charges.is_empty();
    let mut stretches = stretches.iter();
    stretches.any(|facts| facts.has_main_chain() || has_charge(facts))
}

/// When the next fact, or the next charge if there is no fact, was written. One without a time
/// follows the one before it, and an empty queue comes first, so that it is removed.
fn begins_at(stretches: &VecDeque<Facts>) -> Option<Millis> {
    stretches.front().and_then(Facts::begins_at)
}
