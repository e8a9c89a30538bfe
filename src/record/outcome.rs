//! How the last turn of a session ended, according to its hooks and its transcript.
//!
//! Either of them may know a later turn than the other: at a Stop the client may not have written
//! the answer to the transcript yet, and hooks may be missing (`docs/hooks.md`).

use super::Millis;
use super::facts::{StepKind, turn_key};
use super::figures::Figures;
use super::redact::Text;
use super::session::Session;
use super::turn::TurnEnd;

/// How much later a hook may be recorded than one that fired after it, in milliseconds. It is
/// needed only for clients that do not name the turns.
const MAX_REORDERING: Millis = 2_000;

/// How the last turn ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// In an error, in a refusal or at a limit, with the text that the user saw.
    Failed(Text),
    /// Not at all.
    Unanswered,
    /// No turn is known.
    Unknown,
}

impl Outcome {
    /// The outcome of a session's last turn.
    #[must_use]
    pub fn of(session: &Session, figures: &Figures) -> Self {
        let step = figures.last_step.as_ref();
        let stepped_at = step.and_then(|step| step.at);
        let end = session.turn_end.as_ref();
        let end = end.filter(|end| stepped_at.is_none_or(|at| at <= end.at));
        let has_open_turn = session.has_open_turn();
        // The client runs hooks before it writes the transcript, so the last turn may not be in it
        // yet. A Stop after the last prompt belongs to another turn: the user went back to an
        // earlier prompt. Old clients do not name the turns in the transcript.
        let is_unread = session.last_turn.as_ref().is_some_and(|turn| {
            let can_tell = step.is_none() || !figures.turn_keys.is_empty();
            can_tell && !figures.turn_keys.contains(&turn_key(&turn.id))
        });
        let ended_at = session.turn_end.as_ref().map(|end| end.at);
        if has_open_turn == Some(true) && is_unread && ended_at < session.asked_at {
            return Self::Unanswered;
        }
        if let Some(TurnEnd {
            error: Some(error), ..
        }) = end
        {
            return Self::Failed(error.clone());
        }
        let asked_after = |at: Millis| session.asked_at.is_some_and(|asked| asked > at);
        match (end, step.map(|step| &step.kind)) {
            // A prompt after the Stop that is also in the transcript. Without a transcript the two
            // hooks may only have arrived in the wrong order.
            (Some(end), Some(StepKind::Prompt | StepKind::ToolUse | StepKind::Interruption))
                if asked_after(end.at) =>
            {
                Self::Unanswered
            }
            (Some(end), None)
                if has_open_turn.is_none() && asked_after(end.at + MAX_REORDERING) =>
            {
                Self::Unanswered
            }
            // Clients up to 2.1.50 fire Stop after an API error, and its text may be the error.
            (Some(_), Some(StepKind::Error(error))) if session.has_answer_other_than(error) => {
                Self::Answered
            }
            (_, Some(StepKind::Error(error))) => Self::Failed(error.clone()),
            (None, Some(StepKind::Prompt | StepKind::Interruption)) => Self::Unanswered,
            (Some(_), _) | (None, Some(StepKind::Answer | StepKind::WholeAnswer)) => Self::Answered,
            (None, Some(StepKind::ToolUse)) => {
                over_budget(figures).map_or(Self::Unanswered, Self::Failed)
            }
            (None, None) if session.asked_at.is_some() => Self::Unanswered,
            (None, None) => Self::Unknown,
        }
    }

    /// The error in which the turn ended.
    #[must_use]
    pub const fn error(&self) -> Option<&Text> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// The client's message for a run that ended because it exceeded its budget. No record says so, so
/// it is inferred from the limit and the cost.
fn over_budget(figures: &Figures) -> Option<Text> {
    let limit = figures.max_budget_usd?;
    let cost = figures.charges.last()?.cost_usd?;
    let text = format!("Reached maximum budget (${limit})");
    let text = Text {
        bytes: text.len() as u64,
        text,
        is_cut: false,
    };
    Some(text).filter(|_| cost >= limit)
}
