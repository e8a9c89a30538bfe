//! One line of a transcript, and the record that it stands for.
//!
//! A line is malformed only if it is not a JSON object: what a record lacks is left out.

use std::borrow::Cow;
use std::mem::take;

use jiff::Timestamp;

use super::wire::{self, Content, Line, Message};
use crate::record::Millis;
use crate::record::usage::Usage;
use crate::system::json::{Scalar, parse_object};

/// The model name of messages that the client wrote itself, such as API errors.
const SYNTHETIC: &str = "<synthetic>";
/// How the texts of `user` records begin that no human wrote, although they lack `isMeta`.
const NOT_HUMAN: [&str; 6] = [
    "<command-name>",
    "<command-message>",
    "<local-command-",
    "<bash-",
    "[Request interrupted by user",
    "<task-notification>",
];

/// What any record may say about where and when it was written.
#[derive(Debug, Default)]
pub struct Envelope<'a> {
    /// The id of the record. A copy in the transcript of a fork keeps it.
    pub uuid: Option<Cow<'a, str>>,
    /// When it was written, in epoch milliseconds.
    pub at: Option<Millis>,
    /// Whether it belongs to a subagent.
    pub is_sidechain: bool,
    /// The id of the subagent, if the client names it.
    pub agent_id: Option<Cow<'a, str>>,
    /// Whether it has no parent, as the first record of a chain.
    pub is_root: bool,
    /// The working directory.
    pub cwd: Option<Cow<'a, str>>,
    /// The branch that is checked out there.
    pub git_branch: Option<Cow<'a, str>>,
    /// The client's version.
    pub version: Option<Cow<'a, str>>,
    /// How the client was started, such as `cli` or `sdk-ts`.
    pub entrypoint: Option<Cow<'a, str>>,
    /// The client's permission mode.
    pub permission_mode: Option<Cow<'a, str>>,
}

/// One content block of an assistant message.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the Messages API")]
pub enum Block<'a> {
    Text(Cow<'a, str>),
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
    },
}

/// What a line records, as far as it matters here.
#[derive(Debug)]
pub enum Record<'a> {
    /// A human typed something.
    Prompt {
        /// The text of all its text blocks.
        text: Cow<'a, str>,
    },
    /// Results of tool calls: the ids of the calls that failed.
    ToolErrors(Vec<Cow<'a, str>>),
    /// A part of an API message; most messages take several lines.
    Assistant {
        /// The id of the message, the same on all its lines.
        id: Cow<'a, str>,
        /// The model that wrote it.
        model: Cow<'a, str>,
        /// Token counts so far; those of the last line are the final ones.
        usage: Usage,
        /// The content blocks of this line.
        blocks: Vec<Block<'a>>,
    },
    /// The API failed.
    ApiError {
        /// The text that the user saw.
        text: Cow<'a, str>,
    },
    /// The conversation was compacted.
    CompactBoundary,
    /// A title of the session.
    Title {
        /// Whether the user chose it, not a model.
        is_custom: bool,
        /// The title.
        text: Cow<'a, str>,
    },
    /// The cost of the session so far, according to the client.
    Cost {
        /// US dollars.
        usd: f64,
    },
    /// Anything else.
    Other,
}

/// Parses one line.
pub fn parse(line: &[u8]) -> serde_json::Result<(Envelope<'_>, Record<'_>)> {
    parse_object::<Line<'_>>(line).map(Line::into_parts)
}

impl<'a> Line<'a> {
    fn into_parts(mut self) -> (Envelope<'a>, Record<'a>) {
        let message = self.message.0.take();
        let record = match (self.kind.text(), message) {
            (Some("user"), Some(message)) => self.user(message.content),
            (Some("assistant"), Some(message)) => self.assistant(message),
            (Some("system"), _) if self.subtype.text() == Some("compact_boundary") => {
                Record::CompactBoundary
            }
            (Some("custom-title"), _) => title(take(&mut self.custom_title), true),
            (Some("ai-title"), _) => title(take(&mut self.ai_title), false),
            (Some("summary"), _) => title(take(&mut self.summary), false),
            (Some("cost-state"), _) => match self.total_cost_usd {
                Scalar::Number(usd) if usd >= 0.0 => Record::Cost { usd },
                _ => Record::Other,
            },
            _ => Record::Other,
        };
        (self.into_envelope(), record)
    }

    fn user(&self, content: Content<'a>) -> Record<'a> {
        let blocks = match content {
            Content::Text(text) => return self.prompt(text),
            Content::Blocks(blocks) => blocks,
            Content::Other => return Record::Other,
        };
        if blocks
            .iter()
            .any(|block| block.kind.text() == Some("tool_result"))
        {
            let failed = blocks.into_iter().filter(|block| block.is_error.is_true());
            return Record::ToolErrors(
                failed
                    .filter_map(|block| block.tool_use_id.into_text())
                    .collect(),
            );
        }
        let mut texts = blocks
            .into_iter()
            .filter(|block| block.kind.text() == Some("text"))
            .filter_map(|block| block.text.into_text());
        let Some(first) = texts.next() else {
            return Record::Other;
        };
        self.prompt(texts.fold(first, |all, text| Cow::Owned(format!("{all}\n{text}"))))
    }

    /// A text in a `user` record was typed by a human unless the client marks it as its own.
    fn prompt(&self, text: Cow<'a, str>) -> Record<'a> {
        let is_by_human = self
            .origin
            .0
            .as_ref()
            .and_then(|origin| origin.kind.text())
            .is_none_or(|kind| kind == "human");
        let is_marked = self.is_meta.is_true() || self.is_compact_summary.is_true();
        let is_by_client = NOT_HUMAN
            .iter()
            .any(|mark| text.trim_start().starts_with(mark));
        if is_by_human && !is_marked && !is_by_client {
            Record::Prompt { text }
        } else {
            Record::Other
        }
    }

    fn assistant(&self, message: Message<'a>) -> Record<'a> {
        let blocks = match message.content {
            Content::Text(text) => vec![Block::Text(text)],
            Content::Blocks(blocks) => blocks
                .into_iter()
                .filter_map(wire::Block::into_block)
                .collect(),
            Content::Other => Vec::new(),
        };
        if self.is_api_error.is_true() {
            let text = blocks.into_iter().find_map(|block| match block {
                Block::Text(text) => Some(text),
                Block::ToolUse { .. } => None,
            });
            return Record::ApiError {
                text: text.unwrap_or(Cow::Borrowed("API Error")),
            };
        }
        match (message.id.into_text(), message.model.into_text()) {
            (_, Some(model)) if model == SYNTHETIC => Record::Other,
            (Some(id), model) => Record::Assistant {
                id,
                model: model.unwrap_or(Cow::Borrowed("unknown")),
                usage: message.usage.0.unwrap_or_default().counts(),
                blocks,
            },
            (None, _) => Record::Other,
        }
    }

    fn into_envelope(self) -> Envelope<'a> {
        Envelope {
            is_root: self.parent_uuid.text().is_none(),
            at: self.timestamp.text().and_then(millis),
            is_sidechain: self.is_sidechain.is_true(),
            uuid: self.uuid.into_text(),
            agent_id: self.agent_id.into_text(),
            cwd: self.cwd.into_text(),
            git_branch: self.git_branch.into_text(),
            version: self.version.into_text(),
            entrypoint: self.entrypoint.into_text(),
            permission_mode: self.permission_mode.into_text(),
        }
    }
}

impl<'a> wire::Block<'a> {
    fn into_block(self) -> Option<Block<'a>> {
        match self.kind.text()? {
            "text" => self.text.into_text().map(Block::Text),
            "tool_use" | "server_tool_use" => Some(Block::ToolUse {
                id: self.id.into_text()?,
                name: self.name.into_text()?,
            }),
            _ => None,
        }
    }
}

impl wire::Usage<'_> {
    fn counts(&self) -> Usage {
        Usage {
            input_tokens: self.input_tokens.count(),
            output_tokens: self.output_tokens.count(),
            cache_read_input_tokens: self.cache_read_input_tokens.count(),
            cache_creation_input_tokens: self.cache_creation_input_tokens.count(),
        }
    }
}

/// The epoch milliseconds of a timestamp such as `2026-11-22T10:00:00.000Z`.
fn millis(text: &str) -> Option<Millis> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
}

fn title(text: Scalar<'_>, is_custom: bool) -> Record<'_> {
    text.into_text()
        .map_or(Record::Other, |text| Record::Title { is_custom, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> String {
        format!("{:?}", parse(json.as_bytes()).unwrap().1)
    }

    #[test]
    fn user_record_is_a_prompt_only_if_a_human_typed_it() {
        let user = |fields: &str, content: &str| {
            record(&format!(
                r#"{{"type":"user"{fields},"message":{{"role":"user","content":{content}}}}}"#
            ))
        };
        assert_eq!(user("", r#""hi""#), r#"Prompt { text: "hi" }"#);
        assert_eq!(
            user(
                r#","origin":{"kind":"human"}"#,
                r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#
            ),
            r#"Prompt { text: "a\nb" }"#
        );
        assert_eq!(user(r#","isMeta":true"#, r#""hi""#), "Other");
        assert_eq!(user(r#","isCompactSummary":true"#, r#""hi""#), "Other");
        assert_eq!(
            user(r#","origin":{"kind":"task-notification"}"#, r#""hi""#),
            "Other"
        );
        assert_eq!(
            user("", r#""<command-name>/clear</command-name>""#),
            "Other"
        );
        assert_eq!(
            user("", r#""<local-command-stdout></local-command-stdout>""#),
            "Other"
        );
        assert_eq!(
            user(
                "",
                r#"[{"type":"tool_result","tool_use_id":"t1","is_error":true},{"type":"tool_result","tool_use_id":"t2"}]"#
            ),
            r#"ToolErrors(["t1"])"#
        );
    }

    #[test]
    fn unknown_types_and_values_are_ignored() {
        for json in [
            "{}",
            r#"{"type":"new"}"#,
            r#"{"type":7}"#,
            r#"{"type":"user","message":[1]}"#,
            r#"{"type":"assistant","message":{"content":{}}}"#,
        ] {
            assert_eq!(record(json), "Other", "{json}");
        }
        assert!(parse(b"not json").is_err());
        assert!(parse(b"[]").is_err());
    }

    #[test]
    fn token_counts_that_are_not_counts_are_zero() {
        let json = r#"{"type":"assistant","message":{"id":"m","model":"x","usage":{"input_tokens":-1,"output_tokens":"7","cache_read_input_tokens":1e300,"cache_creation_input_tokens":5}}}"#;
        assert!(record(json).contains("input_tokens: 0, output_tokens: 0, cache_read_input_tokens: 0, cache_creation_input_tokens: 5"));
    }
}
