//! The wire shape of one transcript line, and the record that it stands for.
//!
//! The format is the client's own and undocumented; what is relied on was measured on client
//! 2.1.197 (`tests/fixtures/claude-code-2.1.197`). Every field may be missing or have another type:
//! a line is only malformed when it is not a JSON object.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use jiff::Timestamp;
use memchr::memmem::Finder;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::record::Millis;
use crate::record::usage::Usage;
use crate::system::json::{Lenient, Scalar, cow, object};

/// The model name of messages that the client wrote itself, such as API errors.
pub(super) const SYNTHETIC: &str = "<synthetic>";
/// How the client marks user records that no human wrote, besides `isMeta`.
const NOT_HUMAN: [&str; 6] = [
    "<command-name>",
    "<command-message>",
    "<local-command-",
    "<bash-",
    "[Request interrupted by user",
    "<task-notification>",
];

/// The content of a message: a text, or blocks.
#[derive(Debug, Default)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Blocks(Vec<WireBlock<'a>>),
    #[default]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut blocks = Vec::new();
        while let Some(Lenient(block)) = seq.next_element::<Lenient<WireBlock<'de>>>()? {
            blocks.extend(block);
        }
        Ok(Content::Blocks(blocks))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Content::Other)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }
}

/// What every record may carry about where and when it was written.
#[derive(Debug, Default)]
pub struct Envelope<'a> {
    /// The record's own id; a copy in a fork's file keeps it.
    pub uuid: Option<Cow<'a, str>>,
    /// When it was written, in epoch milliseconds.
    pub at: Option<i64>,
    /// Whether it belongs to a subagent.
    pub sidechain: bool,
    /// Which subagent, where the client says so.
    pub agent_id: Option<Cow<'a, str>>,
    /// Whether it has no parent: the first record of a chain.
    pub is_root: bool,
    /// The working directory, branch, client version, entrypoint and permission mode at that time.
    pub cwd: Option<Cow<'a, str>>,
    #[expect(missing_docs, reason = "see cwd")]
    pub git_branch: Option<Cow<'a, str>>,
    #[expect(missing_docs, reason = "see cwd")]
    pub version: Option<Cow<'a, str>>,
    #[expect(missing_docs, reason = "see cwd")]
    pub entrypoint: Option<Cow<'a, str>>,
    #[expect(missing_docs, reason = "see cwd")]
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

/// What one line says, as far as it matters here.
#[derive(Debug)]
pub enum Record<'a> {
    /// Something a human typed.
    Prompt {
        /// The text of all its text blocks.
        text: Cow<'a, str>,
    },
    /// The results of tool calls: the ids of those that failed.
    ToolErrors(Vec<Cow<'a, str>>),
    /// One line of an API message; most messages are several lines.
    Assistant {
        /// The message id, the same on all its lines.
        id: Cow<'a, str>,
        /// The model that wrote it.
        model: Cow<'a, str>,
        /// The figures so far: early lines carry smaller ones.
        usage: Usage,
        /// The line's content blocks.
        blocks: Vec<Block<'a>>,
    },
    /// The client's note that the API failed, as the user saw it.
    ApiError {
        /// The text.
        text: Cow<'a, str>,
    },
    /// The conversation was compacted.
    CompactBoundary,
    /// A title, by the user (`custom`) or by a model.
    Title {
        /// Whether the user chose it.
        custom: bool,
        /// The title.
        text: Cow<'a, str>,
    },
    /// The client's own reckoning of the cost, cumulative.
    Cost {
        /// US dollars.
        usd: f64,
    },
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default, borrow, rename = "type")]
    kind: Scalar<'a>,
    #[serde(default, borrow)]
    subtype: Scalar<'a>,
    #[serde(default, borrow)]
    uuid: Scalar<'a>,
    #[serde(default, borrow, rename = "parentUuid")]
    parent_uuid: Scalar<'a>,
    #[serde(default, borrow)]
    timestamp: Scalar<'a>,
    #[serde(default, borrow, rename = "isSidechain")]
    is_sidechain: Scalar<'a>,
    #[serde(default, borrow, rename = "isMeta")]
    is_meta: Scalar<'a>,
    #[serde(default, borrow, rename = "isCompactSummary")]
    is_compact_summary: Scalar<'a>,
    #[serde(default, borrow, rename = "isApiErrorMessage")]
    is_api_error: Scalar<'a>,
    #[serde(default, borrow, rename = "agentId")]
    agent_id: Scalar<'a>,
    #[serde(default, borrow)]
    cwd: Scalar<'a>,
    #[serde(default, borrow, rename = "gitBranch")]
    git_branch: Scalar<'a>,
    #[serde(default, borrow)]
    version: Scalar<'a>,
    #[serde(default, borrow)]
    entrypoint: Scalar<'a>,
    #[serde(default, borrow, rename = "permissionMode")]
    permission_mode: Scalar<'a>,
    #[serde(default, borrow)]
    origin: Lenient<Origin<'a>>,
    #[serde(default, borrow)]
    message: Lenient<Message<'a>>,
    #[serde(default, borrow, rename = "customTitle")]
    custom_title: Scalar<'a>,
    #[serde(default, borrow, rename = "aiTitle")]
    ai_title: Scalar<'a>,
    #[serde(default, borrow)]
    summary: Scalar<'a>,
    #[serde(default, borrow, rename = "totalCostUSD")]
    total_cost_usd: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct Origin<'a> {
    #[serde(default, borrow)]
    kind: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(default, borrow)]
    id: Scalar<'a>,
    #[serde(default, borrow)]
    model: Scalar<'a>,
    #[serde(default, borrow)]
    usage: Lenient<WireUsage<'a>>,
    #[serde(default, borrow)]
    content: Content<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the Messages API"
)]
struct WireUsage<'a> {
    #[serde(default, borrow)]
    input_tokens: Scalar<'a>,
    #[serde(default, borrow)]
    output_tokens: Scalar<'a>,
    #[serde(default, borrow)]
    cache_read_input_tokens: Scalar<'a>,
    #[serde(default, borrow)]
    cache_creation_input_tokens: Scalar<'a>,
}

#[derive(Debug, Deserialize)]
struct WireBlock<'a> {
    #[serde(default, borrow, rename = "type")]
    kind: Scalar<'a>,
    #[serde(default, borrow)]
    text: Scalar<'a>,
    #[serde(default, borrow)]
    id: Scalar<'a>,
    #[serde(default, borrow)]
    name: Scalar<'a>,
    #[serde(default, borrow)]
    tool_use_id: Scalar<'a>,
    #[serde(default, borrow)]
    is_error: Scalar<'a>,
}

/// Parses one line.
pub fn parse(line: &[u8]) -> serde_json::Result<(Envelope<'_>, Record<'_>)> {
    object::<Line<'_>>(line).map(Line::into_parts)
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
            (Some("custom-title"), _) => title(&self.custom_title, true),
            (Some("ai-title"), _) => title(&self.ai_title, false),
            (Some("summary"), _) => title(&self.summary, false),
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
            return Record::ToolErrors(failed.filter_map(|block| cow(block.tool_use_id)).collect());
        }
        let mut texts = blocks
            .into_iter()
            .filter(|block| block.kind.text() == Some("text"))
            .filter_map(|block| cow(block.text));
        let Some(first) = texts.next() else {
            return Record::Other;
        };
        self.prompt(texts.fold(first, |all, text| Cow::Owned(format!("{all}\n{text}"))))
    }

    /// A text of a `user` record is a human's unless the client marks it as its own.
    fn prompt(&self, text: Cow<'a, str>) -> Record<'a> {
        let by_human = self
            .origin
            .0
            .as_ref()
            .and_then(|origin| origin.kind.text())
            .is_none_or(|kind| kind == "human");
        let marked = self.is_meta.is_true() || self.is_compact_summary.is_true();
        let by_client = NOT_HUMAN
            .iter()
            .any(|mark| text.trim_start().starts_with(mark));
        if by_human && !marked && !by_client {
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
                .filter_map(WireBlock::into_block)
                .collect(),
            Content::Other => Vec::new(),
        };
        if self.is_api_error.is_true() {
            let text = blocks.into_iter().find_map(|block| {
                if let Block::Text(text) = block {
                    Some(text)
                } else {
                    None
                }
            });
            return Record::ApiError {
                text: text.unwrap_or(Cow::Borrowed("API Error")),
            };
        }
        match (cow(message.id), cow(message.model)) {
            (_, Some(model)) if model == SYNTHETIC => Record::Other,
            (Some(id), model) => Record::Assistant {
                id,
                model: model.unwrap_or(Cow::Borrowed("unknown")),
                usage: message.usage.0.unwrap_or_default().figures(),
                blocks,
            },
            (None, _) => Record::Other,
        }
    }

    fn into_envelope(self) -> Envelope<'a> {
        Envelope {
            is_root: self.parent_uuid.text().is_none(),
            at: self.timestamp.text().and_then(millis),
            sidechain: self.is_sidechain.is_true(),
            uuid: cow(self.uuid),
            agent_id: cow(self.agent_id),
            cwd: cow(self.cwd),
            git_branch: cow(self.git_branch),
            version: cow(self.version),
            entrypoint: cow(self.entrypoint),
            permission_mode: cow(self.permission_mode),
        }
    }
}

/// The types of records that can hold a fact.
const RELEVANT_TYPES: [&[u8]; 7] = [
    b"user",
    b"assistant",
    b"system",
    b"custom-title",
    b"ai-title",
    b"summary",
    b"cost-state",
];
/// How the client begins a record with tool results, up to the first result.
const TOOL_RESULTS: &[u8] = br#""type":"user","message":{"role":"user","content":[{"#;
/// The field of a tool result that says whether the call failed.
static IS_ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""is_error":"#));
/// How many bytes at the beginning of a line are searched.
const PREFIX: usize = 512;

/// Whether a whole line is certain to hold no fact, as seen without parsing it. Nine tenths of a
/// transcript are successful tool results, attachments, snapshots and progress.
///
/// This relies on the order in which the client writes the keys of these records (2.1.197); any
/// other order is parsed. A quotation mark inside a JSON string is escaped, so none of the searched
/// texts can be part of a string.
#[must_use]
pub fn is_irrelevant(line: &[u8]) -> bool {
    if let Some(rest) = line.strip_prefix(br#"{"type":""#) {
        let kind = rest.split(|&byte| byte == b'"').next().unwrap_or_default();
        return !RELEVANT_TYPES.contains(&kind);
    }
    let prefix = &line[..line.len().min(PREFIX)];
    // The second brace opens the first object inside the record.
    let Some(inner) = prefix
        .get(1..)
        .and_then(|rest| memchr::memchr(b'{', rest))
        .map(|at| at + 1)
    else {
        return false;
    };
    if prefix[..inner].ends_with(br#""attachment":"#) {
        let end = &line[line.len().saturating_sub(PREFIX)..];
        return memchr::memmem::find(end, br#""type":"attachment","uuid":"#).is_some();
    }
    let before_message = TOOL_RESULTS.len() - br#"{"role":"user","content":[{"#.len();
    let first_result = inner
        .checked_sub(before_message)
        .and_then(|start| line[start..].strip_prefix(TOOL_RESULTS));
    first_result.is_some_and(is_successful_result)
}

/// Whether the blocks that begin here are tool results of which none failed.
fn is_successful_result(blocks: &[u8]) -> bool {
    let has_known_order = blocks
        .strip_prefix(br#""tool_use_id":""#)
        .and_then(|rest| Some(&rest[memchr::memchr(b'"', rest)?..]))
        .is_some_and(|rest| rest.starts_with(br#"","type":"tool_result","#));
    has_known_order
        && IS_ERROR
            .find_iter(blocks)
            .all(|at| blocks[at + IS_ERROR.needle().len()..].starts_with(b"false"))
}

impl<'a> WireBlock<'a> {
    fn into_block(self) -> Option<Block<'a>> {
        match self.kind.text()? {
            "text" => cow(self.text).map(Block::Text),
            "tool_use" | "server_tool_use" => Some(Block::ToolUse {
                id: cow(self.id)?,
                name: cow(self.name)?,
            }),
            _ => None,
        }
    }
}

impl WireUsage<'_> {
    fn figures(&self) -> Usage {
        Usage {
            input_tokens: self.input_tokens.figure(),
            output_tokens: self.output_tokens.figure(),
            cache_read_input_tokens: self.cache_read_input_tokens.figure(),
            cache_creation_input_tokens: self.cache_creation_input_tokens.figure(),
        }
    }
}

/// The epoch milliseconds of a timestamp such as `2026-11-22T10:00:00.000Z`.
fn millis(text: &str) -> Option<Millis> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
}

fn title<'a>(text: &Scalar<'a>, custom: bool) -> Record<'a> {
    match text.clone() {
        Scalar::Text(text) if !text.is_empty() => Record::Title { custom, text },
        _ => Record::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> String {
        format!("{:?}", parse(json.as_bytes()).unwrap().1)
    }

    #[test]
    fn only_what_a_human_typed_is_a_prompt() {
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
    fn unknown_types_and_values_are_no_error() {
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
    fn only_lines_certain_to_hold_no_fact_are_irrelevant() {
        const HEAD: &str = r#"{"parentUuid":"a","isSidechain":false,"promptId":"p","type":"user","message":{"role":"user","content":[{"#;
        const TAIL: &str = r#"}]},"uuid":"u","timestamp":"2026-11-22T10:00:00.000Z","toolUseResult":{"is_error":false}}"#;
        let result = |end: &str| {
            format!(
                r#"{HEAD}"tool_use_id":"t","type":"tool_result","content":"{{\"is_error\":true}}"{end}{TAIL}"#
            )
        };
        let success = result(r#","is_error":false"#);
        let failed_first = format!(
            r#"{HEAD}"type":"tool_result","content":"x","is_error":true,"tool_use_id":"t1"{TAIL}"#
        );
        assert_eq!(record(&failed_first), r#"ToolErrors(["t1"])"#);
        for line in [
            success.as_str(),
            &result(""),
            r#"{"type":"file-history-snapshot","snapshot":{}}"#,
            r#"{"parentUuid":null,"isSidechain":false,"attachment":{"type":"x"},"type":"attachment","uuid":"u"}"#,
        ] {
            assert!(is_irrelevant(line.as_bytes()), "{line}");
        }
        for line in [
            "",
            "{",
            "{}",
            r#"{"type":"user","message":{"content":"hi"}}"#,
            r#"{"type":"assistant"}"#,
            r#"{"isMeta":false,"message":{"id":"m"}}"#,
            r#"{"attachment":{},"type":"user","message":{"content":"hi"}}"#,
            &failed_first,
            &result(r#","is_error":true"#),
            &result(r#","is_error": false"#),
            &result(r#","is_error":false},{"is_error":true"#),
            &success.replace("tool_result", "text"),
            // The error of `toolUseResult` could be that of a second result.
            &success.replace(r#"{"is_error":false}"#, r#"{"is_error":true}"#),
            // A record inside another record is not the record.
            &success.replace(r#""promptId":"p","#, r#""data":{"x":1},"#),
        ] {
            assert!(!is_irrelevant(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn figures_that_are_none_count_as_zero() {
        let json = r#"{"type":"assistant","message":{"id":"m","model":"x","usage":{"input_tokens":-1,"output_tokens":"7","cache_read_input_tokens":1e300,"cache_creation_input_tokens":5}}}"#;
        assert!(record(json).contains("input_tokens: 0, output_tokens: 0, cache_read_input_tokens: 0, cache_creation_input_tokens: 5"));
    }
}
