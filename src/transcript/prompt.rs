//! Who is speaking in a `user` record. Newer clients say so (`turnOrigin`, `origin`, `isMeta`), but
//! not for local commands; there and with older clients, only the words at the beginning of the text
//! tell ([`typed_text`]).

use std::borrow::Cow;

use super::wire::Content;
use crate::record::typed::{INTERRUPTED, Typed, typed_text, without_context};

/// The fields of a record that tell who is speaking.
#[derive(Debug, Default)]
pub struct Speaker<'a> {
    /// `turnOrigin`: `human`, `sdk`, or whatever else began the turn.
    pub turn_origin: Option<&'a str>,
    /// `origin.kind`.
    pub origin: Option<&'a str>,
    /// Whether the client marks the record as its own.
    pub is_marked: bool,
}

/// What a human, or the caller of the SDK, typed; `None` if nobody did.
pub fn typed<'a>(content: Content<'a>, speaker: &Speaker<'_>) -> Option<Typed<'a>> {
    if speaker.is_marked || speaker.origin.is_some_and(|kind| kind != "human") {
        return None;
    }
    let is_typed = match speaker.turn_origin {
        Some(origin) if origin != "human" && origin != "sdk" => return None,
        known => known.is_some(),
    };
    let (text, has_image) = match content {
        Content::Text(text) => (without_context(text), false),
        Content::Blocks(blocks) => {
            let has_image = blocks
                .iter()
                .any(|block| matches!(block.kind.text(), Some("image" | "document")));
            let mut texts = blocks
                .into_iter()
                .filter(|block| block.kind.text() == Some("text"))
                .filter_map(|block| block.text.into_text())
                .filter(|text| !text.starts_with(INTERRUPTED))
                .map(without_context)
                .filter(|text| !text.trim().is_empty());
            let first = texts.next().unwrap_or_default();
            let text = texts.fold(first, |all, text| Cow::Owned(format!("{all}\n{text}")));
            (text, has_image)
        }
        Content::Other => return None,
    };
    typed_text(text, has_image, is_typed)
}

/// Whether the client says that the user interrupted the turn.
pub fn is_interruption(content: &Content<'_>) -> bool {
    let is_so = |text: &str| text.starts_with(INTERRUPTED);
    match content {
        Content::Text(text) => is_so(text),
        Content::Blocks(blocks) => blocks
            .iter()
            .filter_map(|block| block.text.text())
            .any(is_so),
        Content::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_the_client_count_more_than_words() {
        let says = |words: &'static str, turn_origin: &str| {
            let speaker = Speaker {
                turn_origin: Some(turn_origin),
                ..Speaker::default()
            };
            typed(Content::Text(Cow::Borrowed(words)), &speaker).is_some()
        };
        assert!(says("<tick> is a tag", "human"));
        assert!(says("<task-notification>", "sdk"));
        assert!(!says("hello", "scheduled"));
        assert!(!says("hello", "task_notification"));
    }
}
