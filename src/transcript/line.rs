//! One line of a transcript, and the record in it.
//!
//! A line is malformed only if it is not a JSON object; missing fields are left out.

use std::borrow::Cow;
use std::mem::take;

use jiff::Timestamp;

use super::prompt;
use super::wire::{self, Attachment, Content, CostState, Line, Message, State};
use crate::record::Millis;
use crate::record::charge::Charge;
use crate::record::facts::STRUCTURED_OUTPUT;
use crate::record::prices::Rate;
use crate::record::usage::Usage;
use crate::system::json::{Flag, Scalar, parse_object};

/// The model name of messages that the client wrote itself, such as API errors.
const SYNTHETIC: &str = "<synthetic>";
/// Stop reasons that end the turn. After others, the client may continue it.
const ENDS_TURN: [&str; 2] = ["end_turn", "stop_sequence"];

/// Fields of any record about where and when it was written.
#[derive(Debug, Default)]
pub struct Envelope<'a> {
    /// The ID of the record. A copy in the transcript of a fork keeps it, or names it in
    /// `copied_from`.
    pub uuid: Option<Cow<'a, str>>,
    /// The ID of the record before it in the conversation.
    pub parent_uuid: Option<Cow<'a, str>>,
    /// The ID of the record that this one is a copy of.
    pub copied_from: Option<Cow<'a, str>>,
    /// The session of that record.
    pub forked_from: Option<Cow<'a, str>>,
    /// The session.
    pub session_id: Option<Cow<'a, str>>,
    /// The session that the client process which wrote it began with, if a terminal's client wrote
    /// it. A copy keeps it.
    pub process_session_id: Option<Cow<'a, str>>,
    /// When it was written, in epoch milliseconds.
    pub at: Option<Millis>,
    /// Whether it belongs to a subagent.
    pub is_sidechain: bool,
    /// The ID of the subagent, if the client names it.
    pub agent_id: Option<Cow<'a, str>>,
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
    /// The client's ID of the turn.
    pub prompt_id: Option<Cow<'a, str>>,
}

/// One content block of an assistant message.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the Messages API")]
pub enum Block<'a> {
    Text(Cow<'a, str>),
    /// The answer of a run with a schema, JSON.
    StructuredOutput(&'a str),
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
    },
}

/// A part of an API message.
#[derive(Debug)]
pub struct AssistantMessage<'a> {
    /// The ID of the message, the same on all its lines, if the backend gave one.
    pub id: Option<Cow<'a, str>>,
    /// The ID of the request, likewise.
    pub request: Option<Cow<'a, str>>,
    /// The model that wrote it.
    pub model: Cow<'a, str>,
    /// Token counts so far; those of the last line are the final ones.
    pub usage: Usage,
    /// What the price of the message depends on.
    pub rate: Rate,
    /// What other models used in addition, which the API consulted for advice.
    pub advisors: Vec<(Cow<'a, str>, Usage, Rate)>,
    /// The content blocks of this line.
    pub blocks: Vec<Block<'a>>,
    /// Whether the message has a stop reason that ends the turn.
    pub ends_turn: bool,
}

/// The relevant content of a line.
#[derive(Debug)]
pub enum Record<'a> {
    /// A prompt from a human or from the caller of the SDK.
    Prompt {
        /// What they typed.
        text: Cow<'a, str>,
        /// Whether it is a command, which the client expands in the next record.
        is_command: bool,
    },
    /// A `user` record or a queued command that nobody typed. It is also sent to the model.
    NotTyped,
    /// The user interrupted the turn.
    Interruption,
    /// Results of tool calls, with the IDs of the calls that failed.
    ToolErrors(Vec<Cow<'a, str>>),
    /// A part of an API message; most messages take several lines.
    Assistant(AssistantMessage<'a>),
    /// The API failed, the model refused, or a limit was reached.
    Error {
        /// The text that the user saw.
        text: Cow<'a, str>,
    },
    /// The budget of the run.
    Budget {
        /// US dollars.
        usd: f64,
    },
    /// The conversation was compacted.
    CompactBoundary,
    /// The turn has ended: the client ran the Stop hooks.
    TurnEnd,
    /// The file of a subagent begins with a copy of its parent's last messages.
    ForkContext,
    /// A title of the session.
    Title {
        /// Whether the user chose it, not a model.
        is_custom: bool,
        /// The title.
        text: Cow<'a, str>,
    },
    /// A title of the session that has this record.
    Summary {
        /// The ID of the record.
        leaf: Cow<'a, str>,
        /// The title.
        text: Cow<'a, str>,
    },
    /// What the client has charged so far.
    Charge(Box<Charge>),
    /// The client linked a pull request to the session.
    PullRequest {
        /// Its number.
        number: u64,
        /// Its URL.
        url: Cow<'a, str>,
    },
    /// Another session continues this one.
    ContinuedIn(Cow<'a, str>),
    /// A prompt entered or left the queue. `claude -p` writes such records before the first message.
    QueueOperation,
    /// Anything else.
    Other,
}

/// Parses one line.
pub fn parse(line: &[u8]) -> serde_json::Result<(Envelope<'_>, Record<'_>)> {
    let mut parsed: Line<'_> = parse_object(line)?;
    let message = parsed.message.0.take();
    let record = match (parsed.kind.text(), message) {
        (Some("user"), Some(message)) => parsed.user(message.content),
        (Some("assistant"), Some(message)) => parsed.assistant(message),
        (Some("user" | "assistant") | None, _) => Record::Other,
        (Some("fork-context-ref"), _) => Record::ForkContext,
        (Some("queue-operation"), _) => Record::QueueOperation,
        (Some("cost-state"), _) => {
            let state: CostState<'_> = parse_object(line)?;
            Record::Charge(Box::new(state.into_charge()))
        }
        (Some(kind), _) => {
            let state: State<'_> = parse_object(line)?;
            state.into_record(kind, parsed.is_meta)
        }
    };
    Ok((parsed.into_envelope(), record))
}

impl<'a> Attachment<'a> {
    /// `is_meta` is the mark of the line.
    pub(super) fn into_record(self, is_meta: Flag) -> Record<'a> {
        match self.kind.text() {
            // Clients up to 2.1.96 do not always write the mode.
            Some("queued_command") if self.command_mode.text().unwrap_or("prompt") == "prompt" => {
                let origin = self.origin.0.as_ref();
                let speaker = prompt::Speaker {
                    turn_origin: None,
                    origin: origin.and_then(|origin| origin.kind.text()),
                    is_marked: self.is_meta.0 || is_meta.0,
                };
                prompt::typed(self.prompt, &speaker).map_or(Record::NotTyped, |typed| {
                    Record::Prompt {
                        text: typed.text,
                        is_command: false,
                    }
                })
            }
            Some("queued_command") => Record::NotTyped,
            Some("max_turns_reached") => {
                let turns = self.max_turns.0;
                Record::Error {
                    text: Cow::Owned(format!("Reached maximum number of turns ({turns})")),
                }
            }
            Some("budget_usd") => match self.total {
                Scalar::Number(usd) if usd >= 0.0 => Record::Budget { usd },
                _ => Record::Other,
            },
            _ => Record::Other,
        }
    }
}

impl<'a> Line<'a> {
    fn user(&self, content: Content<'a>) -> Record<'a> {
        if let Content::Blocks(blocks) = &content
            && blocks
                .iter()
                .any(|block| block.kind.text() == Some("tool_result"))
        {
            let Content::Blocks(blocks) = content else {
                return Record::NotTyped;
            };
            let failed = blocks.into_iter().filter(|block| block.is_error.0);
            return Record::ToolErrors(
                failed
                    .map(|block| block.tool_use_id.into_text().unwrap_or_default())
                    .collect(),
            );
        }
        let origin = self.origin.0.as_ref();
        let speaker = prompt::Speaker {
            turn_origin: self.turn_origin.text(),
            origin: origin.and_then(|origin| origin.kind.text()),
            is_marked: self.is_meta.0
                || self.is_compact_summary.0
                || self.prompt_source.text() == Some("system")
                || self.row_source.text() == Some("harness"),
        };
        let is_interruption = prompt::is_interruption(&content);
        match prompt::typed(content, &speaker) {
            Some(typed) => Record::Prompt {
                text: typed.text,
                is_command: typed.is_command,
            },
            None if is_interruption => Record::Interruption,
            None => Record::NotTyped,
        }
    }

    fn assistant(&mut self, message: Message<'a>) -> Record<'a> {
        let blocks: Vec<_> = match message.content {
            Content::Text(text) => vec![Block::Text(text)],
            Content::Blocks(blocks) => blocks
                .into_iter()
                .flat_map(|block| {
                    let output = block.structured_output();
                    [block.into_block(), output]
                })
                .flatten()
                .collect(),
            Content::Other => Vec::new(),
        };
        if self.is_api_error.0 {
            let text = blocks.into_iter().find_map(|block| match block {
                Block::Text(text) => Some(text),
                _ => None,
            });
            return Record::Error {
                text: text.unwrap_or(Cow::Borrowed("API Error")),
            };
        }
        let (id, model) = (message.id.into_text(), message.model.into_text());
        let is_empty = id.is_none() && blocks.is_empty() && message.usage.0.is_none();
        if model.as_deref() == Some(SYNTHETIC) || is_empty {
            return Record::Other;
        }
        let stop_reason = message.stop_reason.text();
        let ends_turn = stop_reason.is_some_and(|reason| ENDS_TURN.contains(&reason));
        let usage = message.usage.0.unwrap_or_default();
        let model = model.unwrap_or(Cow::Borrowed("unknown"));
        let advisors = usage.iterations.0.iter().flat_map(|iteration| &iteration.0);
        Record::Assistant(AssistantMessage {
            id,
            request: take(&mut self.request_id).into_text(),
            usage: usage.counts(),
            rate: usage.rate(),
            advisors: advisors
                .filter(|iteration| iteration.kind.text() == Some("advisor_message"))
                .map(|iteration| {
                    let advisor = iteration.model.owned().map(Cow::Owned);
                    let model = advisor.unwrap_or_else(|| model.clone());
                    (model, iteration.counts(), iteration.rate())
                })
                .collect(),
            model,
            blocks,
            ends_turn,
        })
    }

    fn into_envelope(self) -> Envelope<'a> {
        let forked_from = self.forked_from.0.unwrap_or_default();
        Envelope {
            at: self.timestamp.text().and_then(millis),
            is_sidechain: self.is_sidechain.0,
            uuid: self.uuid.into_text(),
            parent_uuid: self.parent_uuid.into_text(),
            copied_from: forked_from.message_uuid.into_text(),
            forked_from: forked_from.session_id.into_text(),
            session_id: self.session_id.into_text(),
            process_session_id: self.process_session_id.into_text(),
            agent_id: self.agent_id.into_text(),
            cwd: self.cwd.into_text(),
            git_branch: self.git_branch.into_text(),
            version: self.version.into_text(),
            entrypoint: self.entrypoint.into_text(),
            permission_mode: self.permission_mode.into_text(),
            prompt_id: self.prompt_id.into_text(),
        }
    }
}

impl<'a> wire::Block<'a> {
    fn into_block(self) -> Option<Block<'a>> {
        match self.kind.text()? {
            "text" => self.text.into_text().map(Block::Text),
            "tool_use" | "server_tool_use" => Some(Block::ToolUse {
                id: self.id.into_text().unwrap_or_default(),
                name: self.name.into_text()?,
            }),
            _ => None,
        }
    }

    /// The answer of a run with a schema.
    fn structured_output(&self) -> Option<Block<'a>> {
        let is_output =
            self.kind.text() == Some("tool_use") && self.name.text() == Some(STRUCTURED_OUTPUT);
        let has_input = !matches!(self.input.0, "" | "null");
        (is_output && has_input).then_some(Block::StructuredOutput(self.input.0))
    }
}

/// The epoch milliseconds of a timestamp such as `2026-11-22T10:00:00.000Z`.
fn millis(text: &str) -> Option<Millis> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
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
        assert_eq!(
            user("", r#""hi""#),
            r#"Prompt { text: "hi", is_command: false }"#
        );
        assert_eq!(
            user(
                r#","origin":{"kind":"human"}"#,
                r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#
            ),
            r#"Prompt { text: "a\nb", is_command: false }"#
        );
        assert_eq!(user(r#","isMeta":true"#, r#""hi""#), "NotTyped");
        assert_eq!(user(r#","isCompactSummary":true"#, r#""hi""#), "NotTyped");
        assert_eq!(
            user(r#","origin":{"kind":"task-notification"}"#, r#""hi""#),
            "NotTyped"
        );
        assert_eq!(
            user("", r#""<command-name>/clear</command-name>""#),
            "NotTyped"
        );
        assert_eq!(
            user("", r#""<local-command-stdout></local-command-stdout>""#),
            "NotTyped"
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
    fn structured_output_without_input_is_no_answer() {
        for (input, is_answer) in [
            (r#","input":{"a":null}"#, true),
            (r#","input":null"#, false),
            ("", false),
        ] {
            let json = format!(
                r#"{{"type":"assistant","message":{{"id":"m","content":[{{"type":"tool_use","id":"t","name":"StructuredOutput"{input}}}]}}}}"#
            );
            assert_eq!(
                record(&json).contains("StructuredOutput("),
                is_answer,
                "{json}"
            );
        }
    }

    #[test]
    fn token_counts_that_are_not_counts_are_zero() {
        let json = r#"{"type":"assistant","message":{"id":"m","model":"x","usage":{"input_tokens":-1,"output_tokens":"7","cache_read_input_tokens":1e300,"cache_creation_input_tokens":5}}}"#;
        assert!(record(json).contains("input_tokens: 0, output_tokens: 0, cache_read_input_tokens: 0, cache_creation_input_tokens: 5"));
    }
}
