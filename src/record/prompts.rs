//! Prompts as hooks report them, for a session without a transcript.
//!
//! The client names the turn of a prompt by an ID (`prompt_id`); prompts that are typed while the
//! agent works belong to the same turn. A hook can fire twice, so a prompt is known by its turn and
//! its text. Clients before `prompt_id` do not name turns; there, a repeated text is a new prompt
//! only after a Stop.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::facts::turn_key;
use super::index::{Key, key};

/// How many of the latest prompts and ends of turns are remembered.
const MAX_KNOWN: usize = 32;

/// The prompts of a session that its hooks have reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HookPrompts {
    /// The number of prompts.
    pub(super) prompts: u64,
    /// The number of turns with a prompt that have ended.
    pub(super) turns: u64,
    /// The latest prompts.
    known: VecDeque<HookPrompt>,
    /// The latest turns that have ended, including those that began without a prompt.
    ended: VecDeque<Key>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HookPrompt {
    turn: Key,
    text: Key,
}

impl HookPrompts {
    /// Whether no hook has reported a prompt or the end of a turn.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a prompt. Returns whether it was unknown.
    pub(super) fn submit(&mut self, turn_id: Option<&str>, text: &str) -> bool {
        let text = key(b'x', text.as_bytes());
        let turn = turn_id.map_or_else(|| self.unnamed_turn(), turn_key);
        let prompt = HookPrompt { turn, text };
        if self.known.contains(&prompt) {
            return false;
        }
        let is_new_turn = !self.has_prompt_of(turn);
        self.prompts += 1;
        self.turns += u64::from(is_new_turn && self.ended.contains(&turn));
        keep(&mut self.known, prompt);
        true
    }

    /// Notes the end of a turn: that of the last prompt if the client does not name it.
    pub(super) fn end(&mut self, turn_id: Option<&str>) {
        let last = self.known.back().map(|prompt| prompt.turn);
        let Some(turn) = turn_id.map(turn_key).or(last) else {
            return;
        };
        if self.ended.contains(&turn) {
            return;
        }
        self.turns += u64::from(self.has_prompt_of(turn));
        keep(&mut self.ended, turn);
    }

    /// Whether a turn is known to have ended.
    pub(super) fn has_ended(&self, turn_id: &str) -> bool {
        self.ended.contains(&turn_key(turn_id))
    }

    /// Whether a prompt of this turn is known.
    pub(super) fn has_begun(&self, turn_id: &str) -> bool {
        self.has_prompt_of(turn_key(turn_id))
    }

    /// The turn of a prompt if the client does not name it: the one after the last end.
    fn unnamed_turn(&self) -> Key {
        key(b'n', &self.turns.to_le_bytes())
    }

    fn has_prompt_of(&self, turn: Key) -> bool {
        self.known.iter().any(|prompt| prompt.turn == turn)
    }
}

fn keep<T>(items: &mut VecDeque<T>, item: T) {
    items.push_back(item);
    if items.len() > MAX_KNOWN {
        items.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folds events: `>turn text` is a prompt, `.turn` an end; `-` is a turn without a name.
    fn count(events: &[&str]) -> (u64, u64) {
        let mut prompts = HookPrompts::default();
        for event in events {
            let (kind, rest) = event.split_at(1);
            let (turn, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let turn = Some(turn).filter(|turn| *turn != "-");
            match kind {
                ">" => _ = prompts.submit(turn, text),
                _ => prompts.end(turn),
            }
        }
        (prompts.prompts, prompts.turns)
    }

    #[test]
    fn each_prompt_and_each_turn_count_once() {
        for (events, counts) in [
            (&[">a go"][..], (1, 0)),
            (&[">a go", ".a"], (1, 1)),
            // Hooks that are installed twice, and a Stop for each background agent.
            (&[">a go", ">a go", ".a", ".a"], (1, 1)),
            // In another order.
            (&[".a", ">a go", ".a"], (1, 1)),
            (&[">a go", ">b go", ".b", ".a"], (2, 2)),
            // The same text in another turn.
            (&[">a go", ".a", ">b go", ".b"], (2, 2)),
            // Typed while the agent works.
            (&[">a go", ">a faster", ".a"], (2, 1)),
            // An end of a turn that did not begin with a prompt.
            (&[">a go", ".a", ".b"], (1, 1)),
            // Without names.
            (&[">- go", ">- go"], (1, 0)),
            (&[">- go", ".-", ">- go"], (2, 1)),
            (&[">- go", ".-", ".-", ">- go", ".-"], (2, 2)),
            (&[".-"], (0, 0)),
        ] {
            assert_eq!(count(events), counts, "{events:?}");
        }
    }

    #[test]
    fn long_session_is_counted_in_bounded_space() {
        for names_turns in [true, false] {
            let mut prompts = HookPrompts::default();
            for number in 0..1_000 {
                let turn = names_turns.then(|| number.to_string());
                for _ in 0..2 {
                    prompts.submit(turn.as_deref(), "go on");
                }
                prompts.end(turn.as_deref());
            }
            assert_eq!((prompts.prompts, prompts.turns), (1_000, 1_000));
            assert!(serde_json::to_string(&prompts).unwrap().len() < 4_096);
        }
    }
}
