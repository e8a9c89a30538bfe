//! The wire shape of one transcript line, and the record that it stands for.
//!
//! The format is the client's own and undocumented; what is relied on was measured on client
//! 2.1.197 (`tests/fixtures/claude-code-2.1.197`). Every field may be missing or have another type:
//! a line is only malformed when it is not a JSON object.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::LazyLock;

use jiff::Timestamp;
use memchr::memmem::Finder;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The model name of messages that the client wrote itself, such as API errors.
pub(super) const SYNTHETIC: &str = "<synthetic>";
/// The greatest integer that a Convex number (float64) holds exactly; figures beyond it are
/// garbage.
const MAX_FIGURE: f64 = 9_007_199_254_740_991.0;
/// How the client marks user records that no human wrote, besides `isMeta`.
const NOT_HUMAN: [&str; 6] = [
    "<command-name>",
    "<command-message>",
    "<local-command-",
    "<bash-",
    "[Request interrupted by user",
    "<task-notification>",
];

/// A JSON value of which only scalars matter: whatever else stands in its place is passed over
/// without an error.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scalar<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// Missing, null, an array or an object.
    #[default]
    Other,
}

impl Scalar<'_> {
    /// The string, when it is one and not empty.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// As [`Scalar::text`], owned.
    #[must_use]
    pub fn owned(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    fn figure(&self) -> u64 {
        match self {
            Self::Number(number) if (0.0..=MAX_FIGURE).contains(number) => *number as u64,
            _ => 0,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "figures beyond 2^53 are not used"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "figures beyond 2^53 are not used"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// An object whose place something else may take, which is passed over without an error.
#[derive(Debug)]
struct Lenient<T>(Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

struct LenientVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LenientVisitor<T> {
    type Value = Lenient<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|value| Lenient(Some(value)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lenient(None))
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }
}

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

/// Token counts of one message, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the Messages API")]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_input_tokens: u64,
    pub cache_creation_input_tokens: u64,
}

/// The words of a text block, maybe still as they stand in JSON: most answers are followed by
/// another before anybody asks what they say.
#[derive(Clone)]
pub enum Words<'a> {
    /// As they are read.
    Plain(Cow<'a, str>),
    /// As they stand between quotation marks; [`unescape`] can read them.
    Escaped(Cow<'a, str>),
}

impl<'a> Words<'a> {
    /// The words as they are read.
    #[must_use]
    pub fn into_plain(self) -> Cow<'a, str> {
        match self {
            Self::Plain(text) => text,
            Self::Escaped(text) => Cow::Owned(unescape(&text).unwrap_or_default()),
        }
    }

    /// Whether there is nothing but white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Escaped(text) if text.trim_start().starts_with('\\') => {
                self.clone().into_plain().trim().is_empty()
            }
            Self::Plain(text) | Self::Escaped(text) => text.trim().is_empty(),
        }
    }

    /// The same words, kept for longer than their line.
    #[must_use]
    pub fn into_owned(self) -> Words<'static> {
        match self {
            Self::Plain(text) => Words::Plain(Cow::Owned(text.into_owned())),
            Self::Escaped(text) => Words::Escaped(Cow::Owned(text.into_owned())),
        }
    }
}

impl fmt::Debug for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clone().into_plain().fmt(f)
    }
}

/// What a string says that stands in JSON between quotation marks.
pub(super) fn unescape(raw: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{raw}\"")).ok()
}

/// One content block of an assistant message.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the Messages API")]
pub enum Block<'a> {
    Text(Words<'a>),
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

/// Parses a JSON object; an array, which serde would take as a struct's fields in order, is an
/// error.
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    match json.trim_ascii_start().first() {
        // Text is checked once, as a whole: from bytes, serde_json checks each of a line's hundred
        // strings by itself.
        Some(b'{') | None => match std::str::from_utf8(json) {
            Ok(text) => serde_json::from_str(text),
            Err(error) => Err(serde::de::Error::custom(error)),
        },
        Some(_) => Err(serde::de::Error::custom(
            "expected a JSON object at line 1 column 1",
        )),
    }
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
            Content::Text(text) => vec![Block::Text(Words::Plain(text))],
            Content::Blocks(blocks) => blocks
                .into_iter()
                .filter_map(WireBlock::into_block)
                .collect(),
            Content::Other => Vec::new(),
        };
        if self.is_api_error.is_true() {
            let text = blocks.into_iter().find_map(|block| {
                if let Block::Text(words) = block {
                    Some(words.into_plain())
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
            at: self.timestamp.text().and_then(time),
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

/// The record types that can say something; all others are passed over.
const TELLING: [&[u8]; 7] = [
    b"user",
    b"assistant",
    b"system",
    b"custom-title",
    b"ai-title",
    b"summary",
    b"cost-state",
];
/// How the client begins a record of the results of tool calls, up to the first of them.
const RESULTS: &[u8] = br#""type":"user","message":{"role":"user","content":[{"#;
/// How it ends it, behind the last result.
const END_OF_RESULTS: &[u8] = br#"}]},"uuid":""#;
/// What says of a tool result whether it failed.
static IS_ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""is_error":"#));
/// How far into a line its beginning is looked for, in bytes.
const BEGINNING: usize = 512;

/// What is seen of a whole line without parsing it. Nine tenths of a transcript are the results of
/// tools, attachments, snapshots and progress.
#[derive(Debug, PartialEq, Eq)]
pub enum Glance<'a> {
    /// It is sure to say nothing that counts.
    Dull,
    /// The tool call with this id failed.
    Failure(&'a str),
    /// It has to be parsed.
    Telling,
}

/// Looks at a whole line. This knows the client's own way of writing (2.1.197); what is written
/// otherwise is to be parsed. A quotation mark within a JSON string is escaped, so what is searched
/// for cannot stand inside one.
#[must_use]
pub fn glance(line: &[u8]) -> Glance<'_> {
    if let Some(rest) = line.strip_prefix(br#"{"type":""#) {
        let kind = rest.split(|&byte| byte == b'"').next().unwrap_or_default();
        return if TELLING.contains(&kind) {
            Glance::Telling
        } else {
            Glance::Dull
        };
    }
    let beginning = &line[..line.len().min(BEGINNING)];
    // The second brace opens the first object within the record.
    let Some(inner) = beginning
        .get(1..)
        .and_then(|rest| memchr::memchr(b'{', rest))
        .map(|at| at + 1)
    else {
        return Glance::Telling;
    };
    if beginning[..inner].ends_with(br#""attachment":"#) {
        let end = &line[line.len().saturating_sub(BEGINNING)..];
        let is_attachment = memchr::memmem::find(end, br#""type":"attachment","uuid":"#).is_some();
        return if is_attachment {
            Glance::Dull
        } else {
            Glance::Telling
        };
    }
    let before_message = RESULTS
        .iter()
        .position(|&byte| byte == b'{')
        .unwrap_or_default();
    let results = inner
        .checked_sub(before_message)
        .and_then(|start| line[start..].strip_prefix(RESULTS));
    results
        .and_then(glance_at_results)
        .unwrap_or(Glance::Telling)
}

/// The same of what stands behind [`RESULTS`]. A result that failed is written with its keys in
/// another order.
fn glance_at_results(results: &[u8]) -> Option<Glance<'_>> {
    let mut marks = IS_ERROR
        .find_iter(results)
        .map(|at| &results[at + IS_ERROR.needle().len()..]);
    if results.starts_with(br#""type":"tool_result","content":"#) {
        let (id, rest) = split_string(marks.next()?.strip_prefix(br#"true,"tool_use_id":"#)?)?;
        return (rest.starts_with(END_OF_RESULTS) && results.ends_with(b"}"))
            .then_some(Glance::Failure(id));
    }
    let (_, rest) = split_string(results.strip_prefix(br#""tool_use_id":"#)?)?;
    if !rest.starts_with(br#","type":"tool_result","#) {
        return None;
    }
    let is_dull = match marks.next().map(|mark| mark.strip_prefix(b"false")) {
        None => true,
        Some(None) => false,
        // No other mark can be that of a result.
        Some(Some(rest)) if rest.starts_with(END_OF_RESULTS) => true,
        Some(Some(_)) => marks.all(|mark| mark.starts_with(b"false")),
    };
    is_dull.then_some(Glance::Dull)
}

/// A string without escapes, and what follows.
fn split_string(json: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = json
        .strip_prefix(b"\"")?
        .split_at_checked(memchr::memchr(b'"', &json[1..])?)?;
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.is_empty() && !text.contains('\\'))?;
    Some((text, &rest[1..]))
}

impl<'a> WireBlock<'a> {
    fn into_block(self) -> Option<Block<'a>> {
        match self.kind.text()? {
            "text" => cow(self.text).map(|text| Block::Text(Words::Plain(text))),
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

/// The epoch milliseconds of a timestamp.
pub(super) fn time(text: &str) -> Option<i64> {
    time_as_written(text.as_bytes()).or_else(|| {
        text.parse::<Timestamp>()
            .ok()
            .map(Timestamp::as_millisecond)
    })
}

/// The days from 1 March of year 0 to 1 January 1970.
const EPOCH: i64 = 719_468;

/// The same for the one form that the client writes, `2026-11-22T10:00:00.000Z`, and days that all
/// months have.
fn time_as_written(text: &[u8]) -> Option<i64> {
    let number = |range: Range<usize>| {
        text[range].iter().try_fold(0, |number: i64, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    let is_separated = text.len() == 24
        && [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'.'),
            (23, b'Z'),
        ]
        .iter()
        .all(|&(at, byte)| text[at] == byte);
    if !is_separated {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, millis) = (
        number(11..13)?,
        number(14..16)?,
        number(17..19)?,
        number(20..23)?,
    );
    if !(1970..=2400).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=28).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    // Years begin with March, so that a leap day is the last of its year: days are counted from 1
    // March of year 0.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((((days - EPOCH) * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + millis)
}

fn title<'a>(text: &Scalar<'a>, custom: bool) -> Record<'a> {
    match text.clone() {
        Scalar::Text(text) if !text.is_empty() => Record::Title { custom, text },
        _ => Record::Other,
    }
}

fn cow(scalar: Scalar<'_>) -> Option<Cow<'_, str>> {
    match scalar {
        Scalar::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Makes text of JSON that is valid but for what no Rust string can hold: bytes that are not UTF-8
/// and lone surrogates (`\ud83d` without its other half), both of which become U+FFFD. `None` when
/// there is nothing to mend.
#[must_use]
pub fn mend(json: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(json);
    let bytes = text.as_bytes();
    let mut mended = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        mended.extend_from_slice(before);
        let length = match surrogate(escape) {
            Some(0xD800..=0xDBFF)
                if matches!(escape.get(6..).and_then(surrogate), Some(0xDC00..=0xDFFF)) =>
            {
                12
            }
            Some(_) => {
                mended.extend_from_slice(b"\\ufffd");
                rest = &escape[6..];
                continue;
            }
            None => escape.len().min(2),
        };
        mended.extend_from_slice(&escape[..length]);
        rest = &escape[length..];
    }
    mended.extend_from_slice(rest);
    (mended != json).then_some(mended)
}

/// The value of a `\uXXXX` escape at the start of `bytes`, when it is one half of a surrogate pair.
fn surrogate(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..=0xDFFF).contains(&value).then_some(value)
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
    fn only_what_is_sure_needs_no_parsing() {
        const HEAD: &str = r#"{"parentUuid":"a","isSidechain":false,"promptId":"p","type":"user","message":{"role":"user","content":[{"#;
        const TAIL: &str = r#"}]},"uuid":"u","timestamp":"2026-11-22T10:00:00.000Z","toolUseResult":{"is_error":true}}"#;
        let success = |end: &str| {
            format!(
                r#"{HEAD}"tool_use_id":"t","type":"tool_result","content":"{{\"is_error\":true}}"{end}{TAIL}"#
            )
        };
        let failure = |end: &str| {
            format!(r#"{HEAD}"type":"tool_result","content":"{{\"is_error\":false}}"{end}{TAIL}"#)
        };
        let seen = |line: &str| format!("{:?}", glance(line.as_bytes()));
        assert_eq!(seen(&success(r#","is_error":false"#)), "Dull");
        assert_eq!(seen(&success("").replace("true}}", "false}}")), "Dull");
        assert_eq!(
            seen(&success("")),
            "Telling",
            "the mark of toolUseResult could be that of a second result"
        );
        assert_eq!(seen(&success(r#","is_error":true"#)), "Telling");
        assert_eq!(seen(&success(r#","is_error": false"#)), "Telling");
        assert_eq!(
            seen(&success(r#","is_error":false},{"is_error":true"#)),
            "Telling"
        );
        assert_eq!(
            seen(&success(r#","is_error":false"#).replace("tool_result", "text")),
            "Telling"
        );
        let failed = failure(r#","is_error":true,"tool_use_id":"t1""#);
        assert_eq!(seen(&failed), r#"Failure("t1")"#);
        assert_eq!(record(&failed), r#"ToolErrors(["t1"])"#);
        assert_eq!(
            seen(&failed[..failed.len() - 1]),
            r#"Failure("t1")"#,
            "cut within the object that is last"
        );
        assert_eq!(seen(&failed[..failed.len() - 2]), "Telling");
        assert_eq!(
            seen(&failure(r#","is_error":true,"tool_use_id":"t\u0031""#)),
            "Telling"
        );
        assert_eq!(
            seen(&failure(
                r#","is_error":true,"tool_use_id":"t1"},{"is_error":true,"tool_use_id":"t2""#
            )),
            "Telling"
        );
        assert_eq!(
            seen(&failure(r#","is_error":false,"tool_use_id":"t1""#)),
            "Telling"
        );
        assert_eq!(
            seen(r#"{"type":"file-history-snapshot","snapshot":{}}"#),
            "Dull"
        );
        assert_eq!(
            seen(
                r#"{"parentUuid":null,"isSidechain":false,"attachment":{"type":"x"},"type":"attachment","uuid":"u"}"#
            ),
            "Dull"
        );
        for line in [
            "",
            "{",
            "{}",
            r#"{"type":"user","message":{"content":"hi"}}"#,
            r#"{"type":"assistant"}"#,
            r#"{"isMeta":false,"message":{"id":"m"}}"#,
            r#"{"attachment":{},"type":"user","message":{"content":"hi"}}"#,
        ] {
            assert_eq!(seen(line), "Telling", "{line}");
        }
        // One within another record is not the record.
        let nested =
            success(r#","is_error":false"#).replace(r#""promptId":"p","#, r#""data":{"x":1},"#);
        assert_eq!(seen(&nested), "Telling");
    }

    #[test]
    fn a_timestamp_as_the_client_writes_it_is_what_jiff_says() {
        let mut days = 0;
        for year in [1970, 1999, 2000, 2001, 2024, 2025, 2026, 2100, 2400] {
            for month in 1..=12 {
                for day in [1, 9, 28] {
                    let text = format!("{year:04}-{month:02}-{day:02}T23:05:59.007Z");
                    assert_eq!(
                        time_as_written(text.as_bytes()),
                        Some(text.parse::<Timestamp>().unwrap().as_millisecond()),
                        "{text}"
                    );
                    days += 1;
                }
            }
        }
        assert_eq!(days, 9 * 12 * 3);
        for text in [
            "2026-11-22T10:00:00Z",
            "2026-02-30T10:00:00.000Z",
            "2026-11-22T24:00:00.000Z",
            "2026-11-2xT10:00:00.000Z",
            "",
        ] {
            assert_eq!(time_as_written(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn figures_that_are_none_count_as_zero() {
        let json = r#"{"type":"assistant","message":{"id":"m","model":"x","usage":{"input_tokens":-1,"output_tokens":"7","cache_read_input_tokens":1e300,"cache_creation_input_tokens":5}}}"#;
        assert!(record(json).contains("input_tokens: 0, output_tokens: 0, cache_read_input_tokens: 0, cache_creation_input_tokens: 5"));
    }

    #[test]
    fn mending_touches_only_lone_surrogates_and_bad_bytes() {
        assert_eq!(mend(br#"{"a":"\ud83d\ude00 \\ud83d ok"}"#), None);
        assert_eq!(
            mend(br#"{"a":"\ud83d x \ude00"}"#).unwrap(),
            br#"{"a":"\ufffd x \ufffd"}"#
        );
        assert_eq!(
            mend(b"{\"a\":\"\xff\"}").unwrap(),
            "{\"a\":\"\u{fffd}\"}".as_bytes()
        );
        assert_eq!(mend(br#""\ud83d"#).unwrap(), br#""\ufffd"#);
    }
}
