//! The wire shape of a transcript line.
//!
//! The format is the client's own and undocumented; the shapes here were captured from clients
//! 1.0.60 to 2.1.332 (`tests/fixtures`). Every field may be missing or have another type.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::record::prices::Rate;
use crate::record::usage;
use crate::system::json::{Count, Flag, Lenient, List, Parser, Raw, ReadJson, Scalar, object};

object! {
    /// One line, without the fields that only some kinds of records have.
    pub struct Line<'a> {
        "type" => kind: Scalar<'a>,
        "uuid" => uuid: Scalar<'a>,
        "parentUuid" => parent_uuid: Scalar<'a>,
        "sessionId" => session_id: Scalar<'a>,
        /// A copy keeps this one, unlike the other.
        "session_id" => process_session_id: Scalar<'a>,
        "timestamp" => timestamp: Scalar<'a>,
        "isSidechain" => is_sidechain: Flag,
        "isMeta" => is_meta: Flag,
        "isCompactSummary" => is_compact_summary: Flag,
        "isApiErrorMessage" => is_api_error: Flag,
        "agentId" => agent_id: Scalar<'a>,
        "cwd" => cwd: Scalar<'a>,
        "gitBranch" => git_branch: Scalar<'a>,
        "version" => version: Scalar<'a>,
        "entrypoint" => entrypoint: Scalar<'a>,
        "permissionMode" => permission_mode: Scalar<'a>,
        "promptId" => prompt_id: Scalar<'a>,
        "origin" => origin: Lenient<Origin<'a>>,
        "turnOrigin" => turn_origin: Scalar<'a>,
        "promptSource" => prompt_source: Scalar<'a>,
        "rowSource" => row_source: Scalar<'a>,
        "requestId" => request_id: Scalar<'a>,
        "forkedFrom" => forked_from: Lenient<ForkedFrom<'a>>,
        "message" => message: Lenient<Message<'a>>,
    }
}

object! {
    /// The fields of attachments and of state records. They are rare, so such a line is parsed twice,
    /// and the others once with fewer fields.
    pub struct State<'a> {
        "subtype" => subtype: Scalar<'a>,
        "attachment" => attachment: Lenient<Attachment<'a>>,
        "customTitle" => custom_title: Scalar<'a>,
        "aiTitle" => ai_title: Scalar<'a>,
        "summary" => summary: Scalar<'a>,
        "leafUuid" => leaf_uuid: Scalar<'a>,
        "continuedInSessionId" => continued_in_session_id: Scalar<'a>,
        "prNumber" => pr_number: Count,
        "prUrl" => pr_url: Scalar<'a>,
    }
}

object! {
    /// Who or what wrote a record.
    pub struct Origin<'a> {
        "kind" => kind: Scalar<'a>,
    }
}

object! {
    /// The record that a record is a copy of.
    pub struct ForkedFrom<'a> {
        "sessionId" => session_id: Scalar<'a>,
        "messageUuid" => message_uuid: Scalar<'a>,
    }
}

object! {
    /// Attachments that the client adds to the conversation on its own, and prompts that came while it
    /// worked.
    pub struct Attachment<'a> {
        "type" => kind: Scalar<'a>,
        "prompt" => prompt: Content<'a>,
        "commandMode" => command_mode: Scalar<'a>,
        "origin" => origin: Lenient<Origin<'a>>,
        "isMeta" => is_meta: Flag,
        "maxTurns" => max_turns: Count,
        "total" => total: Scalar<'a>,
    }
}

object! {
    /// The Messages API's part of a line.
    pub struct Message<'a> {
        "id" => id: Scalar<'a>,
        "model" => model: Scalar<'a>,
        "usage" => usage: Lenient<Usage<'a>>,
        "content" => content: Content<'a>,
        "stop_reason" => stop_reason: Scalar<'a>,
    }
}

object! {
    /// The token counts of a message, or of one of the requests that the API made for it.
    pub struct Usage<'a> {
        "type" => kind: Scalar<'a>,
        "model" => model: Scalar<'a>,
        "input_tokens" => input_tokens: Count,
        "output_tokens" => output_tokens: Count,
        "cache_read_input_tokens" => cache_read_input_tokens: Count,
        "cache_creation_input_tokens" => cache_creation_input_tokens: Count,
        "cache_creation" => cache_creation: Lenient<CacheCreation>,
        "output_tokens_details" => output_tokens_details: Lenient<OutputTokensDetails>,
        "server_tool_use" => server_tool_use: Lenient<ServerToolUse>,
        "speed" => speed: Scalar<'a>,
        "inference_geo" => inference_geo: Scalar<'a>,
        "iterations" => iterations: List<Lenient<Usage<'a>>>,
    }
}

object! {
    /// How long parts of the cache are kept.
    pub struct CacheCreation {
        "ephemeral_1h_input_tokens" => ephemeral_1h_input_tokens: Count,
    }
}

object! {
    /// What the output was used for.
    pub struct OutputTokensDetails {
        "thinking_tokens" => thinking_tokens: Count,
    }
}

object! {
    /// Tools that the API ran.
    pub struct ServerToolUse {
        "web_search_requests" => web_search_requests: Count,
    }
}

object! {
    /// A content block of any kind.
    pub struct Block<'a> {
        "type" => kind: Scalar<'a>,
        "text" => text: Scalar<'a>,
        "id" => id: Scalar<'a>,
        "name" => name: Scalar<'a>,
        "input" => input: Raw<'a>,
        "tool_use_id" => tool_use_id: Scalar<'a>,
        "is_error" => is_error: Flag,
    }
}

object! {
    /// What the client has charged so far: a `cost-state` line.
    pub struct CostState<'a> {
        "totalCostUSD" => total_cost_usd: Scalar<'a>,
        "totalAPIDuration" => total_api_duration: Scalar<'a>,
        "totalToolDuration" => total_tool_duration: Scalar<'a>,
        "totalLinesAdded" => total_lines_added: Scalar<'a>,
        "totalLinesRemoved" => total_lines_removed: Scalar<'a>,
        "totalDuration" => total_duration: Scalar<'a>,
        "startTime" => start_time: Scalar<'a>,
        "modelUsage" => model_usage: Lenient<BTreeMap<String, Lenient<ModelUsage<'a>>>>,
        "hasUnknownModelCost" => has_unknown_model_cost: Flag,
    }
}

object! {
    /// What the client has charged for one model so far.
    pub struct ModelUsage<'a> {
        "inputTokens" => input_tokens: Count,
        "outputTokens" => output_tokens: Count,
        "cacheReadInputTokens" => cache_read_input_tokens: Count,
        "cacheCreationInputTokens" => cache_creation_input_tokens: Count,
        "cacheCreationEphemeral1hInputTokens" => cache_creation_1h_input_tokens: Count,
        "thinkingTokens" => thinking_tokens: Count,
        "webSearchRequests" => web_search_requests: Count,
        "costUSD" => cost_usd: Scalar<'a>,
    }
}

/// The content of a message: a text, or blocks.
#[derive(Debug, Default)]
pub enum Content<'a> {
    Text(Cow<'a, str>),
    Blocks(Vec<Block<'a>>),
    #[default]
    Other,
}

impl<'json: 'a, 'a> ReadJson<'json> for Content<'a> {
    fn read(&mut self, parser: &mut Parser<'json>) -> serde_json::Result<()> {
        *self = match parser.peek()? {
            b'"' => Self::Text(parser.string()?),
            b'[' => {
                let mut blocks = Vec::new();
                parser.array(|parser| {
                    let mut block = Lenient::default();
                    block.read(parser)?;
                    blocks.extend(block.0);
                    Ok(())
                })?;
                Self::Blocks(blocks)
            }
            _ => {
                parser.skip()?;
                Self::Other
            }
        };
        Ok(())
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
            input_tokens: self.input_tokens.0,
            output_tokens: self.output_tokens.0,
            cache_read_input_tokens: self.cache_read_input_tokens.0,
            cache_creation_input_tokens: self.cache_creation_input_tokens.0,
            thinking_tokens: details.map_or(0, |details| details.thinking_tokens.0),
            cache_creation_1h_input_tokens: cache
                .map_or(0, |cache| cache.ephemeral_1h_input_tokens.0),
            web_search_requests: tools.map_or(0, |tools| tools.web_search_requests.0),
        }
    }
}
