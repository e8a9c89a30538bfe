//! The oracle: a slow reader of transcripts that shares no code with the program. It reads whole
//! files into `serde_json` values and applies the rules for the client's records.

use std::collections::{BTreeMap, BTreeSet};

use convex_sidecar::record::document::Document;
use convex_sidecar::record::usage::Usage;
use serde_json::Value;

use crate::generate::Files;

/// The part of a record that is compared.
#[derive(Debug, Default, PartialEq)]
pub struct Truth {
    pub prompts: u64,
    pub turns: u64,
    pub api_messages: u64,
    pub usage: [u64; 4],
    pub usage_by_model: BTreeMap<String, [u64; 4]>,
    pub tools: BTreeMap<String, (u64, u64)>,
    pub subagents: u64,
    pub compactions: u64,
    pub input: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub title: Option<String>,
    pub cost_usd: Option<f64>,
    pub model: Option<String>,
}

/// The model of a message and its largest token counts.
#[derive(Default)]
struct Message {
    model: String,
    usage: [u64; 4],
}

#[derive(Default)]
struct Reading {
    messages: BTreeMap<String, Message>,
    calls: BTreeMap<String, String>,
    failed: BTreeSet<String>,
    subagents: BTreeSet<String>,
    seen: BTreeSet<String>,
    titles: [Option<String>; 2],
    awaits_reply: bool,
    truth: Truth,
}

/// Reads the whole files.
pub fn read(files: &Files) -> Truth {
    let mut reading = Reading::default();
    for record in records(&files.main) {
        reading.record(&record, true);
    }
    for (path, bytes) in &files.subagents {
        if bytes.is_empty() {
            continue;
        }
        reading
            .subagents
            .insert(path.rsplit('/').next().unwrap().to_owned());
        for record in records(bytes) {
            reading.record(&record, false);
        }
    }
    reading.conclude()
}

/// The records of a file: the lines that are JSON objects.
fn records(bytes: &[u8]) -> impl Iterator<Item = Value> {
    bytes.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = String::from_utf8_lossy(line).into_owned();
        let value: Value = serde_json::from_str(&line)
            .or_else(|_| serde_json::from_str(&replace_lone_surrogates(&line)))
            .ok()?;
        value.is_object().then_some(value)
    })
}

/// Replaces lone surrogates, which no Rust string can hold.
fn replace_lone_surrogates(line: &str) -> String {
    let unit = |text: &str| {
        text.strip_prefix("\\u")
            .and_then(|text| u16::from_str_radix(text.get(..4)?, 16).ok())
    };
    let (mut whole, mut at) = (String::new(), 0);
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match unit(rest) {
            Some(first @ 0xD800..=0xDFFF) => {
                let second = rest.get(6..).and_then(unit);
                if second.is_some_and(|second| {
                    char::decode_utf16([first, second]).all(|half| half.is_ok())
                }) {
                    12
                } else {
                    whole.push_str("\\ufffd");
                    at += 6;
                    continue;
                }
            }
            _ if rest.starts_with('\\') => 2,
            _ => 1,
        };
        let end = line.ceil_char_boundary(at + length);
        whole.push_str(&line[at..end]);
        at = end;
    }
    whole
}

impl Reading {
    fn record(&mut self, record: &Value, is_main_file: bool) {
        let message = &record["message"];
        let is_sidechain = record["isSidechain"] == true || !is_main_file;
        // The place of a record is where it was written first; its token counts can still grow when
        // it is repeated.
        let is_new = record["uuid"]
            .as_str()
            .is_none_or(|uuid| self.seen.insert(uuid.to_owned()));
        let kind = record["type"].as_str().unwrap_or_default();
        match kind {
            "user" => self.user(record, is_sidechain, is_main_file, is_new),
            "assistant" if record["isApiErrorMessage"] == true && (is_sidechain || !is_new) => {}
            "assistant" if record["isApiErrorMessage"] == true => {
                self.end_turn();
                self.truth.error = Some(
                    texts(&message["content"])
                        .first()
                        .cloned()
                        .unwrap_or_default()
                        .trim()
                        .to_owned(),
                );
            }
            "assistant" if message["model"] != "<synthetic>" && message["id"].is_string() => {
                self.subagent(record, is_sidechain);
                self.assistant(message, is_sidechain, is_new);
            }
            "system" if record["subtype"] == "compact_boundary" => {
                self.truth.compactions += u64::from(is_new);
            }
            "custom-title" => set_title(&mut self.titles[0], &record["customTitle"]),
            "ai-title" => set_title(&mut self.titles[1], &record["aiTitle"]),
            "cost-state" => {
                if let Some(usd) = record["totalCostUSD"].as_f64().filter(|usd| *usd >= 0.0) {
                    self.truth.cost_usd = Some(usd);
                }
            }
            _ => {}
        }
    }

    fn user(&mut self, record: &Value, is_sidechain: bool, is_main_file: bool, is_new: bool) {
        let content = &record["message"]["content"];
        let results: Vec<&Value> = content
            .as_array()
            .into_iter()
            .flatten()
            .filter(|block| block["type"] == "tool_result")
            .collect();
        for result in &results {
            if result["is_error"] == true {
                self.failed
                    .insert(result["tool_use_id"].as_str().unwrap().to_owned());
            }
        }
        let texts = texts(content);
        let text = texts.join("\n");
        let is_by_client = ["<command-name>", "<local-command-"]
            .iter()
            .any(|mark| text.trim_start().starts_with(mark));
        let is_marked = record["isMeta"] == true || record["isCompactSummary"] == true;
        let is_by_other = record["origin"]["kind"]
            .as_str()
            .is_some_and(|kind| kind != "human");
        if !results.is_empty() || texts.is_empty() || is_by_client || is_marked || is_by_other {
            return;
        }
        if is_sidechain {
            self.subagent(record, true);
            if is_main_file && record["agentId"].is_null() && record["parentUuid"].is_null() {
                self.subagents
                    .insert(format!("first record {}", record["uuid"]));
            }
        } else if is_new {
            if self.truth.prompts == 0 {
                self.truth.input = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
            }
            self.truth.prompts += 1;
            self.truth.error = None;
            self.awaits_reply = true;
        }
    }

    fn subagent(&mut self, record: &Value, is_sidechain: bool) {
        if let Some(id) = record["agentId"].as_str().filter(|_| is_sidechain) {
            self.subagents.insert(id.to_owned());
        }
    }

    fn assistant(&mut self, message: &Value, is_sidechain: bool, is_new: bool) {
        let id = message["id"].as_str().unwrap().to_owned();
        let known = self.messages.entry(id.clone()).or_default();
        message["model"]
            .as_str()
            .unwrap_or("unknown")
            .clone_into(&mut known.model);
        for (figure, name) in known.usage.iter_mut().zip([
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ]) {
            *figure = (*figure).max(message["usage"][name].as_u64().unwrap_or_default());
        }
        for block in message["content"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|block| block["type"] == "tool_use")
        {
            self.calls.insert(
                block["id"].as_str().unwrap().to_owned(),
                block["name"].as_str().unwrap().to_owned(),
            );
        }
        if is_sidechain || !is_new {
            return;
        }
        self.truth.model = Some(message["model"].as_str().unwrap().to_owned());
        self.truth.error = None;
        self.end_turn();
        let texts: Vec<_> = texts(&message["content"])
            .iter()
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .collect();
        if texts.is_empty() {
            return;
        }
        // The answer is the last text, as for the client.
        self.truth.output = texts.last().cloned();
    }

    fn end_turn(&mut self) {
        self.truth.turns += u64::from(std::mem::take(&mut self.awaits_reply));
    }

    fn conclude(mut self) -> Truth {
        self.truth.api_messages = self.messages.len() as u64;
        for message in self.messages.into_values() {
            let of_model = self.truth.usage_by_model.entry(message.model).or_default();
            for (index, figure) in message.usage.into_iter().enumerate() {
                of_model[index] += figure;
                self.truth.usage[index] += figure;
            }
        }
        self.truth
            .usage_by_model
            .retain(|_, usage| *usage != [0; 4]);
        for (id, name) in self.calls {
            let tool = self.truth.tools.entry(name).or_default();
            tool.0 += 1;
            tool.1 += u64::from(self.failed.contains(&id));
        }
        self.truth.subagents = self.subagents.len() as u64;
        self.truth.title = self.titles.into_iter().find_map(|title| title);
        self.truth
    }
}

/// Sets a title unless the new one is blank.
fn set_title(title: &mut Option<String>, value: &Value) {
    if let Some(text) = value
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        *title = Some(text.to_owned());
    }
}

/// The texts of a message's content.
fn texts(content: &Value) -> Vec<String> {
    if let Some(text) = content.as_str() {
        return vec![text.to_owned()];
    }
    let blocks = content
        .as_array()
        .into_iter()
        .flatten()
        .filter(|block| block["type"] == "text");
    blocks
        .filter_map(|block| block["text"].as_str())
        .map(str::to_owned)
        .collect()
}

fn counts(usage: Usage) -> [u64; 4] {
    [
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
    ]
}

impl From<&Document> for Truth {
    fn from(document: &Document) -> Self {
        let metadata = &document.metadata;
        Self {
            prompts: metadata.prompts,
            turns: metadata.turns,
            api_messages: metadata.api_messages,
            usage: counts(metadata.usage),
            usage_by_model: metadata
                .usage_by_model
                .iter()
                .map(|of| (of.model.clone(), counts(of.usage)))
                .collect(),
            tools: metadata
                .tools
                .iter()
                .map(|tool| (tool.name.clone(), (tool.calls, tool.errors)))
                .collect(),
            subagents: metadata.subagents,
            compactions: metadata.compactions,
            input: document.input.clone(),
            output: document.output.clone(),
            error: document.error.clone(),
            title: metadata.title.clone(),
            cost_usd: metadata.cost_usd,
            model: metadata.model.clone(),
        }
    }
}
