//! Builds a transcript as the client writes it: each record names the one before it as its parent.

use serde_json::{Map, Value, json};

/// The transcript of one session. Messages use `n` input tokens, `2 n` output tokens, `3 n` tokens
/// from the cache and `4 n` to the cache; with powers of ten, a sum shows which messages were
/// counted.
#[derive(Clone)]
pub struct Transcript {
    pub session: String,
    pub bytes: Vec<u8>,
    number: u32,
    records: u32,
    parent: Value,
    /// Fields that all further records have.
    fields: Map<String, Value>,
}

/// How a session was forked.
#[derive(Clone, Copy, PartialEq)]
pub enum Fork {
    /// `--fork-session` and `/bg`: the same records, without a mark.
    Session,
    /// `/branch`: the same records, each with the session that it was copied from.
    Branch,
    /// `forkSession()` of the SDK: new IDs, each with the record that it was copied from.
    Sdk,
}

impl Transcript {
    /// An empty transcript. The number makes its IDs unique.
    pub fn new(number: u32) -> Self {
        Self {
            session: format!("5e550000-0000-4000-8000-{number:012}"),
            bytes: Vec::new(),
            number,
            records: 0,
            parent: Value::Null,
            fields: Map::new(),
        }
    }

    /// The ID of the last record.
    pub fn last(&self) -> Value {
        self.parent.clone()
    }

    /// Makes the record with this ID the parent of the next one.
    pub fn below(mut self, parent: Value) -> Self {
        self.parent = parent;
        self
    }

    /// Gives all further records these fields.
    pub fn with(mut self, fields: &Value) -> Self {
        self.fields.extend(fields.as_object().unwrap().clone());
        self
    }

    /// A line that is not a record of the conversation.
    pub fn state(self, line: &Value) -> Self {
        self.line(line, &["type"])
    }

    /// A line with these fields first, as the client writes them, if it has them.
    fn line(self, line: &Value, first: &[&str]) -> Self {
        let fields = line.as_object().unwrap();
        let is_first = |name: &&String| first.contains(&name.as_str());
        let others = fields.keys().filter(|name| !is_first(name));
        let names = first
            .iter()
            .copied()
            .filter(|name| fields.contains_key(*name));
        let fields: Vec<_> = names
            .chain(others.map(String::as_str))
            .map(|name| format!("{}:{}", json!(name), fields[name]))
            .collect();
        self.raw(format!("{{{}}}\n", fields.join(",")))
    }

    /// These bytes, unchanged.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// Begins with the line that `claude -p` writes first, which has a time of its own.
    pub fn after_queue_operation(mut self, time: &str) -> Self {
        let line = format!(
            "{{\"type\":\"queue-operation\",\"operation\":\"enqueue\",\"timestamp\":\"{time}\"}}\n"
        );
        self.bytes.splice(..0, line.into_bytes());
        self
    }

    /// Removes the last bytes, this many, of the last record, and its line feed. The next record is
    /// on the same line.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - 1 - bytes);
        self
    }

    /// A record with these fields and those that every record has.
    pub fn record(mut self, fields: &Value) -> Self {
        self.records += 1;
        let id = format!("{:08}-0000-4000-8000-{:012}", self.records, self.number);
        let (minute, second) = (self.records / 60, self.records % 60);
        let mut record = json!({
            "parentUuid": self.parent,
            "isSidechain": false,
            "uuid": id,
            "timestamp": format!("2026-09-{:02}T10:{minute:02}:{second:02}.000Z", 1 + self.number % 28),
            "userType": "external",
            "entrypoint": "cli",
            "cwd": "/home/dev/proj",
            "sessionId": self.session,
            "version": "2.1.197",
            "gitBranch": "main",
        });
        let record_fields = record.as_object_mut().unwrap();
        record_fields.extend(self.fields.clone());
        record_fields.extend(fields.as_object().unwrap().clone());
        self.parent = record["uuid"].clone();
        self.line(&record, &["parentUuid", "isSidechain"])
    }

    /// A `user` record.
    pub fn user(self, content: &Value, fields: &Value) -> Self {
        let mut record = json!({"type": "user", "message": {"role": "user", "content": content}});
        let record_fields = record.as_object_mut().unwrap();
        record_fields.extend(fields.as_object().unwrap().clone());
        self.record(&record)
    }

    /// A prompt as clients before `turnOrigin` wrote it.
    pub fn prompt(self, text: &str) -> Self {
        self.user(&json!(text), &json!({}))
    }

    /// An attachment.
    pub fn attachment(self, attachment: &Value) -> Self {
        self.record(&json!({"type": "attachment", "attachment": attachment}))
    }

    /// One line of a message: of the message with this ID, if there is one.
    pub fn message(self, id: Option<&str>, content: &Value, n: u64, fields: &Value) -> Self {
        self.stopped_message(id, content, (n, None), fields)
    }

    /// One line of a message, with the reason for which the model stopped.
    pub fn stopped_message(
        self,
        id: Option<&str>,
        content: &Value,
        (n, stop_reason): (u64, Option<&str>),
        fields: &Value,
    ) -> Self {
        let mut message = json!({
            "type": "message", "role": "assistant", "model": "claude-opus-4-8", "content": content,
            "stop_reason": stop_reason,
            "usage": {
                "input_tokens": n, "output_tokens": 2 * n,
                "cache_read_input_tokens": 3 * n, "cache_creation_input_tokens": 4 * n
            }
        });
        if let Some(id) = id {
            message["id"] = json!(id);
        }
        let mut record = json!({"type": "assistant", "message": message});
        let record_fields = record.as_object_mut().unwrap();
        record_fields.extend(fields.as_object().unwrap().clone());
        self.record(&record)
    }

    /// A line of a message with a text.
    pub fn answer(self, id: &str, text: &str, n: u64) -> Self {
        let content = json!([{"type": "text", "text": text}]);
        self.message(Some(id), &content, n, &json!({}))
    }

    /// The last line of a message that ends the turn.
    pub fn whole_answer(self, id: &str, text: &str, n: u64) -> Self {
        let content = json!([{"type": "text", "text": text}]);
        self.stopped_message(Some(id), &content, (n, Some("end_turn")), &json!({}))
    }

    /// A line of a message with a call of `Bash`.
    pub fn call(self, id: &str, call: &str, n: u64) -> Self {
        let content = json!([tool_use(call)]);
        self.message(Some(id), &content, n, &json!({}))
    }

    /// The result of a tool call.
    pub fn result(self, call: &str, is_error: bool) -> Self {
        self.user(&json!([tool_result(call, is_error)]), &json!({}))
    }

    /// An error of the API, as the client puts it into the conversation.
    pub fn api_error(self, text: &str) -> Self {
        self.record(&json!({
            "type": "assistant", "isApiErrorMessage": true, "error": "unknown",
            "message": {
                "id": "22409beb-4cc8-4fb8-b5dc-01ba6095a2d3", "type": "message", "role": "assistant",
                "model": "<synthetic>", "content": [{"type": "text", "text": text}],
                "usage": {"input_tokens": 0, "output_tokens": 0}
            }
        }))
    }

    /// What the client charged: as many tokens as messages of `n` used, for `usd`.
    pub fn cost(self, n: u64, usd: f64) -> Self {
        let usage = of_model(n, usd);
        self.cost_state(&json!({
            "totalCostUSD": usd, "modelUsage": {"claude-opus-4-8": usage}, "hasUnknownModelCost": false
        }))
    }

    /// A `cost-state` with these fields.
    pub fn cost_state(self, fields: &Value) -> Self {
        let mut line = json!({"type": "cost-state", "sessionId": self.session});
        line.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        self.state(&line)
    }

    /// Another session that begins with a copy of this one. State is not copied.
    pub fn fork(&self, number: u32, fork: Fork) -> Self {
        let mut forked = Self::new(number);
        forked.records = self.records;
        let renamed = |id: &Value| match id.as_str() {
            Some(id) if fork == Fork::Sdk => json!(format!("{}{number:04}", &id[..id.len() - 4])),
            _ => id.clone(),
        };
        for line in self.bytes.split(|byte| *byte == b'\n') {
            let Ok(mut record) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            let id = record["uuid"].clone();
            if id.is_null() {
                continue;
            }
            record["sessionId"] = json!(forked.session);
            if fork != Fork::Session {
                record["forkedFrom"] = json!({"sessionId": self.session, "messageUuid": id});
            }
            record["uuid"] = renamed(&id);
            record["parentUuid"] = renamed(&record["parentUuid"]);
            forked.parent = record["uuid"].clone();
            forked = forked.line(&record, &["parentUuid", "isSidechain"]);
        }
        forked
    }

    /// The ends of the lines, and the end of the file.
    pub fn line_ends(&self) -> Vec<usize> {
        let mut ends: Vec<_> = (1..=self.bytes.len())
            .filter(|end| self.bytes[end - 1] == b'\n')
            .collect();
        if ends.last() != Some(&self.bytes.len()) {
            ends.push(self.bytes.len());
        }
        ends
    }
}

/// The client's figures for one model: as many tokens as messages of `n` used.
pub fn of_model(n: u64, usd: f64) -> Value {
    json!({
        "inputTokens": n, "outputTokens": 2 * n, "cacheReadInputTokens": 3 * n,
        "cacheCreationInputTokens": 4 * n, "webSearchRequests": 0, "costUSD": usd
    })
}

pub fn tool_use(call: &str) -> Value {
    json!({"type": "tool_use", "id": call, "name": "Bash", "input": {"command": "ls"}})
}

pub fn tool_result(call: &str, is_error: bool) -> Value {
    json!({"type": "tool_result", "tool_use_id": call, "content": "ok", "is_error": is_error})
}
