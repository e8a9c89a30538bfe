//! The last turn of a session, as its hooks report it.

use serde::{Deserialize, Serialize};

use super::Millis;
use super::redact::Text;
use super::session::Session;

/// How the last turn ended, according to hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TurnEnd {
    pub(super) at: Millis,
    /// `Some` if it failed; empty if no text is kept.
    pub(super) error: Option<Text>,
    /// Whether the client's background tasks continue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_background_tasks: bool,
}

/// A turn with an ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    /// The client's ID of it.
    pub(super) id: String,
    /// When its first prompt was submitted. Prompts that are typed while the agent works also
    /// belong to it.
    pub(super) began_at: Millis,
}

/// The answer that a Stop hook carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HookAnswer {
    pub(super) at: Millis,
    pub(super) text: Text,
}

impl Session {
    /// Notes that a prompt was submitted, which may begin a turn.
    pub(super) fn note_prompt(&mut self, turn_id: Option<&String>, now: Millis) {
        if self.last_turn.as_ref().map(|turn| &turn.id) != turn_id {
            self.last_turn = turn_id.cloned().map(|id| Turn { id, began_at: now });
        }
        self.asked_at = self.asked_at.max(Some(now));
    }

    /// Notes the end of a turn. A late hook of an earlier turn neither ends the last turn nor
    /// replaces its answer.
    pub(super) fn end_turn(
        &mut self,
        turn_id: Option<&str>,
        answer: Option<Text>,
        mut end: TurnEnd,
    ) {
        let is_repeated = turn_id.is_some_and(|id| self.prompts.has_ended(id));
        self.prompts.end(turn_id);
        if let (Some(id), Some(last)) = (turn_id, &self.last_turn)
            && last.id != id
            && (is_repeated || self.prompts.has_begun(id))
        {
            let has_later_end = self
                .turn_end
                .as_ref()
                .is_some_and(|end| end.at >= last.began_at);
            if is_repeated || has_later_end {
                return;
            }
            end.at = end.at.min(last.began_at - 1);
        }
        if let Some(text) = answer {
            self.answer = Some(HookAnswer { at: end.at, text });
        }
        self.turn_end = Some(end);
    }

    /// Whether the last turn has not ended; `None` if the client does not name its turns.
    pub(super) fn has_open_turn(&self) -> Option<bool> {
        let turn = self.last_turn.as_ref()?;
        Some(!self.prompts.has_ended(&turn.id))
    }

    /// Whether the last Stop hook carried an answer other than this text.
    pub(super) fn has_answer_other_than(&self, text: &Text) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| {
            answer.text != *text
                && self
                    .turn_end
                    .as_ref()
                    .is_some_and(|end| end.at == answer.at)
        })
    }
}
