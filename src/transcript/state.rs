//! State records: titles, charges, pull requests. They are not part of the conversation.

use super::gather::Gatherer;
use super::line::{Envelope, Record};
use super::wire::State;
use crate::record::document::PullRequest;
use crate::record::event::is_session_id;
use crate::record::index::key;
use crate::record::redact::is_secret;
use crate::system::json::{Flag, Scalar};

/// How a title begins if the request for one failed, so that it is not a title: what clients 1.0.60
/// to 2.1.97 show instead of an answer.
const FAILED_TITLES: [&str; 13] = [
    "API Error",
    "Invalid API key",
    "Credit balance is too low",
    "Prompt is too long",
    "OAuth token ",
    "OAuth authentication ",
    "Not logged in · ",
    "Request timed out",
    "Repeated 529 Overloaded errors",
    "Repeated server overload with Opus",
    "Your account does not have access to Claude",
    "Opus is experiencing high load",
    "Claude AI usage limit reached",
];

impl<'a> State<'a> {
    /// `kind` is the type of the line, `is_meta` its mark.
    pub(super) fn into_record(self, kind: &str, is_meta: Flag) -> Record<'a> {
        match kind {
            "attachment" => {
                let attachment = self.attachment.0;
                attachment.map_or(Record::Other, |it| it.into_record(is_meta))
            }
            "system" => match self.subtype.text() {
                Some("compact_boundary") => Record::CompactBoundary,
                Some("stop_hook_summary") => Record::TurnEnd,
                _ => Record::Other,
            },
            "custom-title" => title(self.custom_title, true),
            "ai-title" => title(self.ai_title, false),
            "summary" => self.summary(),
            "continued-in" => self
                .continued_in_session_id
                .into_text()
                .map_or(Record::Other, Record::ContinuedIn),
            "pr-link" => self.pull_request(),
            _ => Record::Other,
        }
    }

    fn pull_request(self) -> Record<'a> {
        match self.pr_url.into_text() {
            Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
                let in_url = url
                    .rsplit('/')
                    .next()
                    .and_then(|number| number.parse().ok());
                let numbers = [Some(self.pr_number.0), in_url];
                let number = numbers.into_iter().flatten().find(|number| *number > 0);
                number.map_or(Record::Other, |number| Record::PullRequest { number, url })
            }
            _ => Record::Other,
        }
    }

    fn summary(self) -> Record<'a> {
        let leaf = self.leaf_uuid.into_text();
        match (leaf, title(self.summary, false)) {
            (Some(leaf), Record::Title { text, .. }) => Record::Summary { leaf, text },
            _ => Record::Other,
        }
    }
}

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

fn title(text: Scalar<'_>, is_custom: bool) -> Record<'_> {
    match text.into_text() {
        Some(text) if is_custom || !FAILED_TITLES.iter().any(|failed| text.starts_with(failed)) => {
            Record::Title { is_custom, text }
        }
        _ => Record::Other,
    }
}
