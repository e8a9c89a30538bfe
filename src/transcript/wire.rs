//! The wire shape of a transcript line.
//!
//! The format is the client's own and undocumented; the shapes here were captured from clients
//! 1.0.60 to 2.1.332 (`tests/fixtures`). Every field may be missing or have another type.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::record::prices::Rate;
use crate::record::usage;
use crate::system::json::{Lenient, List, Scalar};

/// One line.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
pub struct Line<'a> {
    #[serde(rename = "type")]
    pub kind: Scalar<'a>,
    pub subtype: Scalar<'a>,
    pub uuid: Scalar<'a>,
    pub parent_uuid: Scalar<'a>,
    pub session_id: Scalar<'a>,
    /// A copy keeps this one, unlike the other.
    #[serde(rename = "session_id")]
    pub process_session_id: Scalar<'a>,
    pub timestamp: Scalar<'a>,
    pub is_sidechain: Scalar<'a>,
    pub is_meta: Scalar<'a>,
    pub is_compact_summary: Scalar<'a>,
    #[serde(rename = "isApiErrorMessage")]
    pub is_api_error: Scalar<'a>,
    pub agent_id: Scalar<'a>,
    pub cwd: Scalar<'a>,
    pub git_branch: Scalar<'a>,
    pub version: Scalar<'a>,
    pub entrypoint: Scalar<'a>,
    pub permission_mode: Scalar<'a>,
    pub prompt_id: Scalar<'a>,
    pub origin: Lenient<Origin<'a>>,
    pub turn_origin: Scalar<'a>,
    pub prompt_source: Scalar<'a>,
    pub row_source: Scalar<'a>,
    pub request_id: Scalar<'a>,
    pub forked_from: Lenient<ForkedFrom<'a>>,
    pub message: Lenient<Message<'a>>,
    pub attachment: Lenient<Attachment<'a>>,
    pub custom_title: Scalar<'a>,
    pub ai_title: Scalar<'a>,
    pub summary: Scalar<'a>,
    pub leaf_uuid: Scalar<'a>,
    pub continued_in_session_id: Scalar<'a>,
    pub pr_number: Scalar<'a>,
    pub pr_url: Scalar<'a>,
}

/// Who or what wrote a record.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Origin<'a> {
    pub kind: Scalar<'a>,
}

/// The record that a record is a copy of.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
pub struct ForkedFrom<'a> {
    pub session_id: Scalar<'a>,
    pub message_uuid: Scalar<'a>,
}

/// Attachments that the client adds to the conversation on its own, and prompts that came while it
/// worked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
pub struct Attachment<'a> {
    #[serde(rename = "type")]
    pub kind: Scalar<'a>,
    pub prompt: Content<'a>,
    pub command_mode: Scalar<'a>,
    pub origin: Lenient<Origin<'a>>,
    pub is_meta: Scalar<'a>,
    pub max_turns: Scalar<'a>,
    pub total: Scalar<'a>,
}

/// The Messages API's part of a line.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Message<'a> {
    pub id: Scalar<'a>,
    pub model: Scalar<'a>,
    pub usage: Lenient<Usage<'a>>,
    pub content: Content<'a>,
    pub stop_reason: Scalar<'a>,
}

/// The token counts of a message, or of one of the requests that the API made for it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Usage<'a> {
    #[serde(rename = "type")]
    pub kind: Scalar<'a>,
    pub model: Scalar<'a>,
    pub input_tokens: Scalar<'a>,
    pub output_tokens: Scalar<'a>,
    pub cache_read_input_tokens: Scalar<'a>,
    pub cache_creation_input_tokens: Scalar<'a>,
    pub cache_creation: Lenient<CacheCreation<'a>>,
    pub output_tokens_details: Lenient<OutputTokensDetails<'a>>,
    pub server_tool_use: Lenient<ServerToolUse<'a>>,
    pub speed: Scalar<'a>,
    pub inference_geo: Scalar<'a>,
    pub iterations: List<Lenient<Self>>,
}

/// How long parts of the cache are kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct CacheCreation<'a> {
    pub ephemeral_1h_input_tokens: Scalar<'a>,
}

/// What the output was used for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct OutputTokensDetails<'a> {
    pub thinking_tokens: Scalar<'a>,
}

/// Tools that the API ran.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ServerToolUse<'a> {
    pub web_search_requests: Scalar<'a>,
}

/// A content block of any kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Block<'a> {
    #[serde(rename = "type")]
    pub kind: Scalar<'a>,
    pub text: Scalar<'a>,
    pub id: Scalar<'a>,
    pub name: Scalar<'a>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    pub tool_use_id: Scalar<'a>,
    pub is_error: Scalar<'a>,
}

/// What the client has charged so far: a `cost-state` line.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
pub struct CostState<'a> {
    #[serde(rename = "totalCostUSD")]
    pub total_cost_usd: Scalar<'a>,
    #[serde(rename = "totalAPIDuration")]
    pub total_api_duration: Scalar<'a>,
    pub total_tool_duration: Scalar<'a>,
    pub total_lines_added: Scalar<'a>,
    pub total_lines_removed: Scalar<'a>,
    pub total_duration: Scalar<'a>,
    pub start_time: Scalar<'a>,
    pub model_usage: Lenient<BTreeMap<String, Lenient<ModelUsage<'a>>>>,
    pub has_unknown_model_cost: Scalar<'a>,
}

/// What the client has charged for one model so far.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
pub struct ModelUsage<'a> {
    pub input_tokens: Scalar<'a>,
    pub output_tokens: Scalar<'a>,
    pub cache_read_input_tokens: Scalar<'a>,
    pub cache_creation_input_tokens: Scalar<'a>,
    #[serde(rename = "cacheCreationEphemeral1hInputTokens")]
    pub cache_creation_1h_input_tokens: Scalar<'a>,
    pub thinking_tokens: Scalar<'a>,
    pub web_search_requests: Scalar<'a>,
    #[serde(rename = "costUSD")]
    pub cost_usd: Scalar<'a>,
}

/// The content of a message: a text, or blocks.
#[derive(Debug, Default)]
pub enum Content<'a> {
    Text(Cow<'a, str>),
    Blocks(Vec<Block<'a>>),
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
        while let Some(Lenient(block)) = seq.next_element::<Lenient<Block<'de>>>()? {
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

impl Usage<'_> {
    /// What the price of a message with this usage depends on.
    pub fn rate(&self) -> Rate {
        let rate = Rate::default().with(Rate::FAST, self.speed.text() == Some("fast"));
        rate.with(Rate::US, self.inference_geo.text() == Some("us"))
    }

    /// The token counts.
    pub fn counts(&self) -> usage::Usage {
        let cache = self.cache_creation.0.as_ref();
        let details = self.output_tokens_details.0.as_ref();
        let tools = self.server_tool_use.0.as_ref();
        usage::Usage {
            input_tokens: self.input_tokens.count(),
            output_tokens: self.output_tokens.count(),
            cache_read_input_tokens: self.cache_read_input_tokens.count(),
            cache_creation_input_tokens: self.cache_creation_input_tokens.count(),
            thinking_tokens: details.map_or(0, |details| details.thinking_tokens.count()),
            cache_creation_1h_input_tokens: cache
                .map_or(0, |cache| cache.ephemeral_1h_input_tokens.count()),
            web_search_requests: tools.map_or(0, |tools| tools.web_search_requests.count()),
        }
    }
}
