//! The oracle: a slow reader of transcripts that shares no code with the program. It reads whole
//! files into `serde_json` values and applies the rules for the client's records.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "costs are positive and small"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use convex_sidecar::record::document::Document;
use serde_json::Value;

use crate::generate::Files;

/// The kinds of tokens, as messages and documents name them.
const KINDS: [(&str, &str); 4] = [
    ("input_tokens", "inputTokens"),
    ("output_tokens", "outputTokens"),
    ("cache_read_input_tokens", "cacheReadInputTokens"),
    ("cache_creation_input_tokens", "cacheCreationInputTokens"),
];

/// The part of a record that is compared.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Truth {
    pub prompts: u64,
    pub turns: u64,
    pub api_messages: u64,
    pub usage: [u64; 4],
    pub usage_by_model: BTreeMap<String, [u64; 4]>,
    /// By day, such as `2026-11-25`, and model. Usage without a day is on the day "".
    pub usage_by_day: BTreeMap<String, BTreeMap<String, [u64; 4]>>,
    pub inherited: [u64; 4],
    pub tools: BTreeMap<String, (u64, u64)>,
    pub subagents: u64,
    pub compactions: u64,
    pub input: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub title: Option<String>,
    /// The figures that the client reports.
    pub cost_usd: Option<f64>,
    /// The cost of the messages of models with a price, in picodollars.
    pub estimate: u64,
}

/// Reads the files of the only session.
pub fn read(files: &Files) -> Truth {
    read_all(std::slice::from_ref(files)).remove(0)
}

/// Reads the files of several sessions, oldest first: records that an older one has were copied by
/// the younger ones.
pub fn read_all(sessions: &[Files]) -> Vec<Truth> {
    let mut machine = Machine::default();
    sessions
        .iter()
        .enumerate()
        .map(|(session, files)| machine.read(session, files))
        .collect()
}

/// What all sessions share.
#[derive(Default)]
struct Machine {
    /// The original of each copy that has its own ID.
    originals: HashMap<String, String>,
    /// The session that had a record first.
    owners: HashMap<String, usize>,
}

impl Machine {
    fn read(&mut self, session: usize, files: &Files) -> Truth {
        let mut reading = Reading::new(self, session);
        reading.file(&files.main, true);
        for (_, bytes) in &files.subagents {
            if !bytes.is_empty() {
                reading.file(bytes, false);
            }
        }
        reading.conclude()
    }

    /// The ID that identifies a record, given its own.
    fn original(&self, id: &str) -> String {
        self.originals.get(id).map_or(id, String::as_str).to_owned()
    }
}

/// An API message.
#[derive(Default)]
struct Message {
    is_inherited: bool,
    model: String,
    /// The day of its first record.
    day: String,
    usage: [u64; 4],
    /// The part of the last kind that is kept for an hour.
    for_an_hour: u64,
    is_fast: bool,
    is_in_us: bool,
}

impl Message {
    /// Its cost in picodollars, if its model has a price.
    fn estimate(&self) -> Option<u64> {
        let prompt = self.usage[0] + self.usage[2] + self.usage[3];
        let has_rate = !self.day.is_empty();
        let is_long = has_rate && prompt > 100_000;
        let (prices, fast) = match (&*self.model, is_long) {
            ("claude-opus-4-8", _) => ([5_000_000, 25_000_000, 500_000, 6_250_000, 10_000_000], 2),
            ("claude-haiku-5-5", false) => ([100_000, 500_000, 10_000, 125_000, 200_000], 1),
            ("claude-haiku-5-5", true) => ([500_000, 2_500_000, 50_000, 625_000, 1_000_000], 1),
            _ => return None,
        };
        let [input, output, read, written] = self.usage;
        let counts = [
            input,
            output,
            read,
            written - self.for_an_hour,
            self.for_an_hour,
        ];
        let cost: u64 = counts
            .iter()
            .zip(prices)
            .map(|(count, price)| count * price)
            .sum();
        let cost = if has_rate && self.is_fast {
            cost * fast
        } else {
            cost
        };
        Some(if has_rate && self.is_in_us {
            cost / 10 * 11
        } else {
            cost
        })
    }
}

/// A message that the next record may continue.
struct Open {
    message: usize,
    chain: (bool, String),
    id: String,
    request: Value,
    records: BTreeSet<String>,
    /// Whether there is a `user` record after its last record.
    is_before_user: bool,
}

/// A tool call.
struct Call {
    id: String,
    tool: String,
    has_failed: bool,
}

struct Reading<'a> {
    machine: &'a mut Machine,
    session: usize,
    messages: Vec<Message>,
    /// The message of each record.
    message_of: HashMap<String, usize>,
    open: Vec<Open>,
    /// The calls in each record of this session.
    calls: HashMap<String, Vec<Call>>,
    seen: BTreeSet<String>,
    subagents: BTreeSet<String>,
    titles: [Option<String>; 2],
    awaits_reply: bool,
    truth: Truth,
}

impl<'a> Reading<'a> {
    fn new(machine: &'a mut Machine, session: usize) -> Self {
        Self {
            machine,
            session,
            messages: Vec::new(),
            message_of: HashMap::new(),
            open: Vec::new(),
            calls: HashMap::new(),
            seen: BTreeSet::new(),
            subagents: BTreeSet::new(),
            titles: [None, None],
            awaits_reply: false,
            truth: Truth::default(),
        }
    }

    fn file(&mut self, bytes: &[u8], is_main_file: bool) {
        self.open.clear();
        for record in records(bytes) {
            self.record(&record, is_main_file);
        }
    }

    fn record(&mut self, record: &Value, is_main_file: bool) {
        match record["type"].as_str().unwrap_or_default() {
            "custom-title" => set_title(&mut self.titles[0], &record["customTitle"]),
            "ai-title" => set_title(&mut self.titles[1], &record["aiTitle"]),
            "user" | "assistant" | "system" | "attachment" => {
                let place = self.place(record, is_main_file);
                self.step(record, &place);
            }
            _ => {}
        }
    }

    /// Which session had the record first, and its context.
    fn place(&mut self, record: &Value, is_main_file: bool) -> Place {
        let own = record["uuid"].as_str().unwrap_or_default();
        let id = match record["forkedFrom"]["messageUuid"].as_str() {
            Some(original) => self.machine.original(original),
            None => self.machine.original(own),
        };
        self.machine.originals.insert(own.to_owned(), id.clone());
        let owner = *self
            .machine
            .owners
            .entry(id.clone())
            .or_insert(self.session);
        Place {
            is_new: own.is_empty() || self.seen.insert(id.clone()),
            is_inherited: !own.is_empty() && owner != self.session,
            is_side: record["isSidechain"] == true || !is_main_file,
            is_main_file,
            parent: self
                .machine
                .original(record["parentUuid"].as_str().unwrap_or_default()),
            id,
        }
    }

    fn step(&mut self, record: &Value, place: &Place) {
        let message = &record["message"];
        if !place.is_inherited {
            self.subagent(record, place);
        }
        match record["type"].as_str().unwrap() {
            "user" => {
                self.results(&message["content"], place);
                self.ask_again(&chain(record, place));
                self.prompt(prompt_text(record), place);
            }
            "attachment" => {
                if record["attachment"]["type"] == "queued_command" {
                    self.ask_again(&chain(record, place));
                }
                self.prompt(queued(&record["attachment"]), place);
            }
            "assistant" if record["isApiErrorMessage"] == true => self.api_error(message, place),
            "assistant" if message["model"] != "<synthetic>" && message["model"].is_string() => {
                self.reply(record, place);
            }
            "system" if record["subtype"] == "compact_boundary" => {
                self.truth.compactions += u64::from(place.counts());
            }
            _ => {}
        }
    }

    /// Something new is sent to the model.
    fn ask_again(&mut self, chain: &(bool, String)) {
        for open in self.open.iter_mut().filter(|open| open.chain == *chain) {
            open.is_before_user = true;
        }
    }

    /// Marks the calls that have failed: those of the record to which this one replies.
    fn results(&mut self, content: &Value, place: &Place) {
        for result in blocks(content, "tool_result").filter(|result| result["is_error"] == true) {
            let calls = self.calls.get_mut(&place.parent).into_iter().flatten();
            if let Some(call) = calls
                .into_iter()
                .find(|call| call.id == result["tool_use_id"])
            {
                call.has_failed = true;
            }
        }
    }

    fn prompt(&mut self, text: Option<String>, place: &Place) {
        let Some(text) = text.filter(|_| !place.is_side) else {
            return;
        };
        self.open.clear();
        if !place.counts() {
            return;
        }
        if self.truth.prompts == 0 {
            self.truth.input = Some(text).filter(|text| !text.is_empty());
        }
        self.truth.prompts += 1;
        self.truth.error = None;
        self.awaits_reply = true;
    }

    fn api_error(&mut self, message: &Value, place: &Place) {
        if place.is_side || !place.counts() {
            return;
        }
        self.end_turn();
        let text = texts(&message["content"])
            .first()
            .cloned()
            .unwrap_or_default();
        self.truth.error = Some(text.trim().to_owned());
    }

    fn subagent(&mut self, record: &Value, place: &Place) {
        if !place.is_side {
            return;
        }
        if let Some(id) = record["agentId"].as_str() {
            self.subagents.insert(id.to_owned());
        } else if place.is_main_file && record["type"] == "user" && record["parentUuid"].is_null() {
            self.subagents.insert(format!("first record {}", place.id));
        }
    }

    fn reply(&mut self, record: &Value, place: &Place) {
        let message = &record["message"];
        let number = match self.message_of.get(&place.id) {
            Some(number) => *number,
            None => self.message(record, place),
        };
        let counted = &mut self.messages[number];
        if counted.model.is_empty() {
            message["model"]
                .as_str()
                .unwrap()
                .clone_into(&mut counted.model);
        }
        for (figure, (name, _)) in counted.usage.iter_mut().zip(KINDS) {
            *figure = (*figure).max(message["usage"][name].as_u64().unwrap_or_default());
        }
        let usage = &message["usage"];
        let for_an_hour = &usage["cache_creation"]["ephemeral_1h_input_tokens"];
        counted.for_an_hour = counted
            .for_an_hour
            .max(for_an_hour.as_u64().unwrap_or_default());
        counted.is_fast |= usage["speed"] == "fast";
        counted.is_in_us |= usage["inference_geo"] == "us";
        if !place.counts() {
            return;
        }
        // A tool that the API runs also counts as a call.
        let calls = ["tool_use", "server_tool_use"].into_iter();
        let calls = calls.flat_map(|kind| blocks(&message["content"], kind));
        let calls = calls.map(|block| Call {
            id: block["id"].as_str().unwrap().to_owned(),
            tool: block["name"].as_str().unwrap().to_owned(),
            has_failed: false,
        });
        self.calls.insert(place.id.clone(), calls.collect());
        if place.is_side {
            return;
        }
        self.truth.error = None;
        self.end_turn();
        // The answer is the last text, as in the client.
        let texts = texts(&message["content"]);
        let last = texts
            .iter()
            .map(|text| text.trim())
            .rfind(|text| !text.is_empty());
        if let Some(text) = last {
            self.truth.output = Some(text.to_owned());
        }
    }

    /// The message that a new record belongs to: that of an earlier record with the same ID, if the
    /// client names it as the parent or if nothing was sent in between.
    fn message(&mut self, record: &Value, place: &Place) -> usize {
        let id = record["message"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let (chain, request) = (chain(record, place), record["requestId"].clone());
        let is_same = |open: &Open| {
            let is_same_request = if open.request.is_null() || request.is_null() {
                !id.is_empty()
            } else {
                open.request == request
            };
            open.id == id && open.chain == chain && is_same_request
        };
        let is_named = |open: &Open| is_same(open) && open.records.contains(&place.parent);
        let is_last = |open: &Open| is_same(open) && !open.is_before_user;
        let known = self.open.iter();
        let named = known.clone().rposition(is_named);
        let at = named.or_else(|| known.clone().rposition(is_last));
        let open = if let Some(at) = at {
            self.open.remove(at)
        } else {
            let time = record["timestamp"].as_str().unwrap_or_default();
            self.messages.push(Message {
                is_inherited: place.is_inherited,
                day: time.split('T').next().unwrap_or_default().to_owned(),
                ..Message::default()
            });
            Open {
                message: self.messages.len() - 1,
                chain,
                id,
                request,
                records: BTreeSet::new(),
                is_before_user: false,
            }
        };
        let mut open = Open {
            is_before_user: false,
            ..open
        };
        open.records.insert(place.id.clone());
        self.message_of.insert(place.id.clone(), open.message);
        let message = open.message;
        self.open.push(open);
        message
    }

    fn end_turn(&mut self) {
        self.truth.turns += u64::from(std::mem::take(&mut self.awaits_reply));
    }

    fn conclude(mut self) -> Truth {
        for message in self.messages {
            if message.is_inherited {
                add(&mut self.truth.inherited, message.usage);
                continue;
            }
            self.truth.api_messages += 1;
            self.truth.estimate += message.estimate().unwrap_or_default();
            add(&mut self.truth.usage, message.usage);
            if message.usage != [0; 4] {
                let day = self.truth.usage_by_day.entry(message.day).or_default();
                add(day.entry(message.model.clone()).or_default(), message.usage);
                add(
                    self.truth.usage_by_model.entry(message.model).or_default(),
                    message.usage,
                );
            }
        }
        for call in self.calls.into_values().flatten() {
            let tool = self.truth.tools.entry(call.tool).or_default();
            tool.0 += 1;
            tool.1 += u64::from(call.has_failed);
        }
        self.truth.subagents = self.subagents.len() as u64;
        self.truth.title = self.titles.into_iter().find_map(|title| title);
        self.truth
    }
}

/// The context of a record.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
struct Place {
    /// The ID that identifies it.
    id: String,
    parent: String,
    /// Whether this session has not read it before.
    is_new: bool,
    is_inherited: bool,
    is_side: bool,
    is_main_file: bool,
}

impl Place {
    /// Whether it counts for this session, now.
    fn counts(&self) -> bool {
        self.is_new && !self.is_inherited
    }
}

impl Truth {
    /// The days of a session that started at this time. Usage without a day counts on the first
    /// one. Usage beyond the messages is spread in proportion to their tokens.
    pub fn started_at(mut self, at: i64) -> Self {
        let start = jiff::Timestamp::from_millisecond(at).unwrap();
        let start = start.strftime("%Y-%m-%d").to_string();
        for (model, usage) in self.usage_by_day.remove("").unwrap_or_default() {
            let day = self.usage_by_day.entry(start.clone()).or_default();
            add(day.entry(model).or_default(), usage);
        }
        if self.usage_by_day.is_empty() {
            self.usage_by_day.insert(start, BTreeMap::new());
        }
        let counted = self.usage_by_day.clone();
        let of = |day: &str, model: &str| counted[day].get(model).copied().unwrap_or_default();
        let tokens = |day: &str| counted[day].values().flatten().sum::<u64>();
        for (model, usage) in &self.usage_by_model {
            let sum = |kind: usize| counted.keys().map(|day| of(day, model)[kind]).sum::<u64>();
            let has_own = (0..4).any(|kind| sum(kind) > 0);
            for (kind, usage) in usage.iter().enumerate() {
                let rest = usage - sum(kind);
                let weight = |day: &String| {
                    if has_own {
                        of(day, model).iter().sum()
                    } else {
                        tokens(day)
                    }
                };
                let all: u64 = counted.keys().map(weight).sum();
                let share = |weight: u64| match all {
                    0 => rest,
                    all => rest * weight / all,
                };
                let mut before = 0;
                for (number, day) in counted.keys().enumerate() {
                    let up_to = before + weight(day);
                    let more = match (all, number) {
                        (0, 0) => rest,
                        (0, _) => 0,
                        _ => share(up_to) - share(before),
                    };
                    let models = self.usage_by_day.get_mut(day).unwrap();
                    models.entry(model.clone()).or_default()[kind] += more;
                    before = up_to;
                }
            }
        }
        for models in self.usage_by_day.values_mut() {
            models.retain(|_, usage| *usage != [0; 4]);
        }
        self.usage_by_day.retain(|_, models| !models.is_empty());
        // A document has no more than 40 entries, if that is possible at all: the oldest days are
        // counted on the first one.
        while self.usage_by_day.len() > 1
            && self.usage_by_day.values().map(BTreeMap::len).sum::<usize>() > 40
        {
            let (first, mut models) = self.usage_by_day.pop_first().unwrap();
            for (model, usage) in self.usage_by_day.pop_first().unwrap().1 {
                add(models.entry(model).or_default(), usage);
            }
            self.usage_by_day.insert(first, models);
        }
        self
    }
}

pub fn add(sum: &mut [u64; 4], usage: [u64; 4]) {
    for (sum, figure) in sum.iter_mut().zip(usage) {
        *sum += figure;
    }
}

fn chain(record: &Value, place: &Place) -> (bool, String) {
    (place.is_side, record["agentId"].to_string())
}

/// The prompt in a `user` record, if it is one.
fn prompt_text(record: &Value) -> Option<String> {
    let content = &record["message"]["content"];
    let texts = texts(content);
    let text = texts.join("\n").trim().to_owned();
    let is_empty = text.is_empty() && blocks(content, "image").next().is_none();
    if is_empty || blocks(content, "tool_result").next().is_some() || is_not_human(record) {
        return None;
    }
    let between = |start: &str, end: &str| {
        let (_, rest) = text.split_once(start)?;
        rest.split_once(end).map(|(inner, _)| inner.trim())
    };
    if text.starts_with("<command-message>") {
        let command = between("<command-name>", "</command-name>")?;
        let arguments = between("<command-args>", "</command-args>").unwrap_or_default();
        return Some(format!("{command} {arguments}").trim().to_owned());
    }
    let marks = [
        "<command-name>",
        "<local-command-",
        "<task-notification>",
        "<teammate-message",
        "<bash-stdout>",
    ];
    Some(text.clone()).filter(|_| !marks.iter().any(|mark| text.starts_with(mark)))
}

/// Whether the fields of a record show that it is not a prompt.
fn is_not_human(record: &Value) -> bool {
    record["isMeta"] == true
        || record["isCompactSummary"] == true
        || record["promptSource"] == "system"
        || record["origin"]["kind"]
            .as_str()
            .is_some_and(|kind| kind != "human")
        || record["turnOrigin"]
            .as_str()
            .is_some_and(|origin| !["human", "sdk"].contains(&origin))
}

/// A prompt that was sent while the agent worked.
fn queued(attachment: &Value) -> Option<String> {
    let is_prompt = attachment["type"] == "queued_command"
        && attachment["commandMode"] == "prompt"
        && attachment["isMeta"] != true
        && attachment["origin"]["kind"]
            .as_str()
            .is_none_or(|kind| kind == "human");
    attachment["prompt"]
        .as_str()
        .filter(|_| is_prompt)
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

/// The JSON objects in a file, each on one line. Anything between them is damage, unless the line
/// is still being written.
fn records(bytes: &[u8]) -> Vec<Value> {
    let mut records = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let is_ended = line.ends_with(b"\n");
        let line = replace_lone_surrogates(&String::from_utf8_lossy(line));
        if !is_ended {
            // Of a line that may still be written, the whole records at its start count.
            let values = serde_json::Deserializer::from_str(&line).into_iter::<Value>();
            let whole = values.map_while(Result::ok);
            records.extend(whole.take_while(|value| value["type"].is_string()));
            break;
        }
        let mut rest = &*line;
        while let Some(at) = rest.find('{') {
            rest = &rest[at..];
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            if let Some(Ok(record)) = values.next() {
                rest = &rest[values.byte_offset()..];
                records.push(record);
            } else {
                rest = &rest[1..];
            }
        }
    }
    records
}

/// Replaces lone surrogates, which a Rust string cannot contain.
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

/// The blocks of one kind in a message's content.
fn blocks<'a>(content: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    let blocks = content.as_array().into_iter().flatten();
    blocks.filter(move |block| block["type"] == kind)
}

/// The texts of a message's content.
fn texts(content: &Value) -> Vec<String> {
    if let Some(text) = content.as_str() {
        return vec![text.to_owned()];
    }
    let texts = blocks(content, "text").filter_map(|block| block["text"].as_str());
    texts.map(str::to_owned).collect()
}

impl From<&Document> for Truth {
    fn from(document: &Document) -> Self {
        Self::from(&serde_json::to_value(document).unwrap())
    }
}

impl From<&Value> for Truth {
    fn from(document: &Value) -> Self {
        let metadata = &document["metadata"];
        let cost = metadata["costUsd"].as_f64();
        let count = |name: &str| metadata[name].as_u64().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let usage = |usage: &Value| KINDS.map(|(_, name)| usage[name].as_u64().unwrap_or_default());
        let all = |name: &str| metadata[name].as_array().cloned().unwrap_or_default();
        let by_model = all("usageByModel")
            .into_iter()
            .map(|of| (text(&of["model"]).unwrap(), usage(&of)));
        let mut usage_by_day = BTreeMap::<_, BTreeMap<_, _>>::new();
        for entry in all("usageByDay") {
            let of_day = usage_by_day.entry(text(&entry["day"]).unwrap());
            let model = text(&entry["model"]).unwrap();
            of_day.or_default().insert(model, usage(&entry));
        }
        let tools = all("tools").into_iter().map(|tool| {
            let counts = (
                tool["calls"].as_u64().unwrap(),
                tool["errors"].as_u64().unwrap(),
            );
            (text(&tool["name"]).unwrap(), counts)
        });
        Self {
            prompts: count("prompts"),
            turns: count("turns"),
            api_messages: count("apiMessages"),
            usage: usage(&metadata["usage"]),
            usage_by_model: by_model.filter(|(_, usage)| *usage != [0; 4]).collect(),
            usage_by_day,
            inherited: usage(&metadata["inheritedUsage"]),
            tools: tools.collect(),
            subagents: count("subagents"),
            compactions: count("compactions"),
            input: text(&document["input"]),
            output: text(&document["output"]),
            error: text(&document["error"]),
            title: text(&metadata["title"]),
            cost_usd: cost.filter(|_| metadata["costSource"] == "client"),
            estimate: cost.map_or(0, |usd| (usd * 1e12).round() as u64),
        }
    }
}
