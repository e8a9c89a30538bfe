//! Prompts, turns, and the last step of a session's conversation.

use super::Millis;
use super::answer::{Answer, key_of};
use super::batch::Batch;
use super::chain::Chain;
use super::facts::{DatedText, Fact, Step, StepKind, What, is_before};
use super::figures::Figures;
use super::index::{Index, Key, Known};

impl Figures {
    pub(super) fn absorb_prompt(&mut self, fact: Fact) {
        let What::Prompt { text, .. } = fact.what else {
            return;
        };
        self.prompts += 1;
        let first = self.first_prompt.as_ref().map(|first| first.at);
        if first.is_none_or(|first| is_before(fact.at, first)) {
            self.first_prompt = Some(DatedText {
                at: fact.at,
                text: text.map(|text| *text),
            });
        }
        if let Some(answer) = &mut self.answer {
            answer.is_past |= !is_before(fact.at, answer.at);
        }
        self.set_step(fact.at, StepKind::Prompt);
    }

    /// Takes the last answer of a stretch of transcript. A text in the turn of a structured output
    /// only comments on it.
    pub(super) fn add_answer(&mut self, answer: Answer) {
        match &mut self.answer {
            Some(before) if before.is_final() && answer.structured_by.is_none() => {
                let text = key_of(&answer.text.text);
                before.remember(answer.earlier.into_iter().chain([text]));
            }
            Some(before) if is_before(answer.at, before.at) => {}
            before => *before = Some(answer.after(before.take())),
        }
    }

    /// Counts a turn, if the prompt that is answered now was not counted before. Its answer is a
    /// later step, even if the clock was set back in the meantime.
    pub(super) fn count_turn<I: Index>(
        &mut self,
        chain: &mut Chain,
        batch: &mut Batch<'_, I>,
    ) -> Result<(), I::Error> {
        if let Some(prompt) = chain.answer()
            && batch.get(prompt)?.known != Some(Known::Prompt { is_answered: true })
        {
            batch.put(prompt, Known::Prompt { is_answered: true });
            self.turns += 1;
            let is_answered =
                |step: &mut Step| step.kind == StepKind::Prompt && step.at == chain.prompted_at;
            self.last_step.take_if(is_answered);
        }
        Ok(())
    }

    /// Withdraws the structured output of a call that the client rejected. The model may try again.
    pub(super) fn withdraw_answer(&mut self, call: Key, at: Option<Millis>) {
        let is_after = |answer: &mut Answer| !is_before(at, answer.at);
        if let Some(answer) = self.answer.take_if(is_after) {
            self.answer = answer.without(call);
        }
        let is_withdrawn = |step: &&mut Step| !is_before(at, step.at);
        if let Some(step) = self.last_step.as_mut().filter(is_withdrawn) {
            step.kind = StepKind::ToolUse;
        }
    }

    pub(super) fn set_step(&mut self, at: Option<Millis>, kind: StepKind) {
        self.span.include(at);
        let last = self.last_step.as_ref().and_then(|step| step.at);
        if !is_before(at, last) {
            // The limit of the run, if there is one, follows the prompt.
            if kind == StepKind::Prompt {
                self.max_budget_usd = None;
            }
            self.last_step = Some(Step { at, kind });
        }
    }
}
