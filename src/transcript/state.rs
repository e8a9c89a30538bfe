//! State records: titles, charges, pull requests. They are not part of the conversation.

use super::gather::Gatherer;
use super::line::{Envelope, Record};
use crate::record::document::PullRequest;
use crate::record::event::is_session_id;
use crate::record::index::key;
use crate::record::redact::is_secret;

impl Gatherer<'_> {
    /// Adds a state record. The files of a session may contain another one's state.
    pub(super) fn add_state(&mut self, envelope: &Envelope<'_>, record: Record<'_>) {
        let named = envelope.session_id.as_deref().zip(self.session_id);
        let is_of_another = named.is_some_and(|(named, ours)| named != ours);
        match record {
            Record::Summary { leaf, text } => {
                let text = self.redactor.keep_line(&text);
                self.has_masked = true;
                let leaf = key(b'u', leaf.as_bytes());
                self.facts.summaries.extend(text.map(|text| (leaf, text)));
            }
            Record::ContinuedIn(session) if can_be_session(&session) => {
                let continued = &mut self.facts.continued_in;
                continued.insert(session.into_owned(), envelope.at);
            }
            _ if is_of_another => {}
            Record::Title { is_custom, text } => self.add_title(is_custom, &text),
            Record::Charge(charge) => {
                let charge = charge.renamed(|model| self.redactor.name(model));
                self.facts.charges.push((self.facts.facts.len(), charge));
            }
            Record::PullRequest { number, url } => {
                let url = self.redactor.name(&url);
                let pull_request = PullRequest { number, url };
                self.facts.pull_requests.insert(pull_request);
            }
            _ => {}
        }
    }

    fn add_title(&mut self, is_custom: bool, text: &str) {
        let latest = &mut self.facts.latest;
        let title = if is_custom {
            &mut latest.custom_title
        } else {
            &mut latest.ai_title
        };
        *title = self.redactor.keep_line(text).or(title.take());
        self.has_masked = true;
    }
}

/// Whether an ID in a record can be that of another session.
pub(super) fn can_be_session(id: &str) -> bool {
    is_session_id(id) && !is_secret(id)
}
