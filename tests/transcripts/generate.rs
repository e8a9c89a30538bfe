//! Generates transcripts, both as the client writes them and malformed ones, from a list of small
//! operations, so that a failure shrinks to the few lines that matter.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The transcript files of a session: the main one, and those of its subagents by id.
#[derive(Clone, Default)]
pub struct Files {
    pub main: Vec<u8>,
    pub subagents: Vec<(String, Vec<u8>)>,
}

/// One step of writing a transcript.
#[derive(Debug, Clone)]
pub enum Op {
    /// A human's prompt.
    Prompt {
        text: usize,
        shape: usize,
        known_human: bool,
    },
    /// A `user` record that no human wrote.
    NotHuman {
        kind: usize,
        text: usize,
    },
    /// One more line of a message: of the one `back` messages before the last of its chain, or of a
    /// new one.
    Answer {
        chain: usize,
        back: usize,
        blocks: usize,
        text: usize,
        tool: usize,
        growth: u64,
    },
    /// The results of some of the last tool calls.
    Results {
        chain: usize,
        results: Vec<(usize, usize)>,
    },
    /// A repeated line.
    Again {
        back: usize,
    },
    /// A record without facts.
    Unknown {
        kind: usize,
    },
    /// A line that is not a record.
    Garbage {
        kind: usize,
    },
    Compaction,
    ApiError {
        text: usize,
    },
    Title {
        custom: bool,
        text: usize,
    },
    Cost {
        cents: u32,
    },
}

/// How the lines of a transcript are written.
#[derive(Debug, Clone)]
pub struct Style {
    /// Which lines have spaces between the JSON tokens, which the client does not write: a bit for
    /// each line.
    pub spaced: u64,
    /// Which lines end in CRLF: a bit for each line.
    pub crlf: u64,
    /// Whether the last line lacks its line feed.
    pub is_open: bool,
    /// Whether every record has a time, as those of the client do. Times distinguish repeated lines
    /// from new ones.
    pub is_timed: bool,
}

/// The contents of JSON strings, as they are in the file.
const TEXTS: [&[u8]; 14] = [
    b"plain",
    b"  two\\nlines \\t",
    "na\u{ef}ve caf\u{e9} \u{1f980} \u{202e}x".as_bytes(),
    b"\\ud83e\\udd80 escaped",
    b"cut \\ud83d",
    b"\\udc00 and \\ud83d\\ud83d x",
    b"not utf-8 \xff\xc3 here",
    br#"{\"is_error\":true,\"type\":\"user\"}"#,
    br#"\\\"is_error\\\":true \\ud83d \\"#,
    b"\\u0000 \\u001b[31m",
    b"<b>text</b> } ] , : ",
    b"x",
    br#"\"type\":\"user\",\"message\":{\"role\":\"user\",\"content\":[{\"tool_use_id\":\"t\""#,
    // The last one is white space.
    b" \\n ",
];
const MODELS: [&str; 3] = ["claude-opus-4-8", "claude-haiku-4-5", "m\u{f6}del"];
const TOOLS: [&str; 4] = ["Bash", "Read", "mcp__x__y", "\u{1f980}"];
/// The subagents with their own files, by their paths below `subagents`.
pub const AGENTS: [&str; 2] = ["a1b2", "workflows/x/deep"];
/// The number of chains: the main one, two sidechains in the main file (one of an older client, one
/// with an id), and one in the file of each subagent.
const CHAINS: usize = 3 + AGENTS.len();
const NOT_HUMAN: [&str; 4] = [
    "<command-name>/clear",
    "<local-command-stdout>",
    "<local-command-caveat>",
    "<command-name>",
];
const UNKNOWN: [&str; 12] = [
    r#"{"type":"file-history-snapshot","messageId":"m","snapshot":{"messageId":"m","trackedFileBackups":{}},"isSnapshotUpdate":false}"#,
    r#"{"type":"queue-operation","operation":"enqueue","timestamp":"2026-11-22T23:02:35.968Z","content":"hello"}"#,
    r#"{"type":"last-prompt","lastPrompt":"x","leafUuid":"u1"}"#,
    r#"{"type":"mode","mode":"normal"}"#,
    r#"{"type":7,"message":[1,2,{"id":3}]}"#,
    r"{}",
    r#"{"type":"user","message":{"role":"user","content":[{"type":"image","source":{"data":"AAAA"}}]}}"#,
    r#"{"type":"assistant","message":{"id":null,"model":"x","content":[]}}"#,
    r#"{"type":"system","subtype":"turn_duration","durationMs":201,"isMeta":false}"#,
    r#"{"type":"custom-title","customTitle":""}"#,
    r#"{"type":"cost-state","totalCostUSD":-1}"#,
    r#"{"type":"brand-new","message":{"id":"m1","model":"y","usage":{"input_tokens":5}},"tool_use_id":"t1","is_error":true}"#,
];
/// None of these begins with a whole JSON object. Cut behind such an object, it would be a record.
const GARBAGE: [&[u8]; 9] = [
    b"garbage",
    b"[1,{\"type\":\"user\"}]",
    b"{\"type\":\"us",
    b"\0\0\0\xff\xfe",
    b"null",
    b"\"{}\"",
    b"",
    b"  \t",
    b"{\"type\":\"user\",}",
];

/// How far the transcripts deviate from those of the client.
#[derive(Debug, Clone, Copy)]
pub struct Deviation {
    /// How many messages before the last of a chain can get one more line. The client finishes a
    /// message before it begins the next one.
    pub interleaved: usize,
    /// How many lines back a repeated line can be.
    pub repeated: usize,
    /// Whether texts can be blank.
    pub blank: bool,
}

pub fn ops(most: usize, deviation: Deviation) -> impl Strategy<Value = Vec<Op>> {
    vec(op(deviation), 0..most)
}

pub fn style() -> impl Strategy<Value = Style> {
    let sometimes = || prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    (sometimes(), sometimes(), any::<bool>()).prop_map(|(spaced, crlf, is_open)| Style {
        spaced,
        crlf,
        is_open,
        is_timed: false,
    })
}

fn op(deviation: Deviation) -> impl Strategy<Value = Op> {
    let text = move || {
        0..if deviation.blank {
            TEXTS.len()
        } else {
            TEXTS.len() - 1
        }
    };
    // The main chain has the most rules.
    let chain = || prop_oneof![3 => Just(0), 2 => 0..CHAINS];
    prop_oneof![
        3 => (text(), 0..3_usize, any::<bool>()).prop_map(|(text, shape, known_human)| Op::Prompt { text, shape, known_human }),
        1 => (0..NOT_HUMAN.len() + 4, text()).prop_map(|(kind, text)| Op::NotHuman { kind, text }),
        9 => (chain(), 0..=1 + deviation.interleaved, 0..7_usize, text(), 0..TOOLS.len(), 0..50_u64)
            .prop_map(|(chain, back, blocks, text, tool, growth)| Op::Answer { chain, back, blocks, text, tool, growth }),
        4 => (chain(), vec((0..4_usize, 0..4_usize), 1..4)).prop_map(|(chain, results)| Op::Results { chain, results }),
        2 => (1..=deviation.repeated).prop_map(|back| Op::Again { back }),
        1 => (0..UNKNOWN.len()).prop_map(|kind| Op::Unknown { kind }),
        1 => (0..GARBAGE.len()).prop_map(|kind| Op::Garbage { kind }),
        1 => Just(Op::Compaction),
        1 => text().prop_map(|text| Op::ApiError { text }),
        1 => (any::<bool>(), text()).prop_map(|(custom, text)| Op::Title { custom, text }),
        1 => (0..10_000_u32).prop_map(|cents| Op::Cost { cents }),
    ]
}

/// How many bytes are read at once: all of them, or a segment.
pub fn bound() -> impl Strategy<Value = u64> {
    prop_oneof![Just(u64::MAX), 1..3_000_u64]
}

/// The positions at which the files are cut, one row per read.
pub fn cuts(most: usize) -> impl Strategy<Value = Vec<[Index; 1 + AGENTS.len()]>> {
    vec(any::<[Index; 1 + AGENTS.len()]>(), 0..most)
}

/// The lengths to which each file has grown at each read; the last is the whole file.
pub fn growth(files: &Files, cuts: &[[Index; 1 + AGENTS.len()]]) -> Vec<[usize; 1 + AGENTS.len()]> {
    let lengths: [usize; 1 + AGENTS.len()] = std::array::from_fn(|file| {
        if file == 0 {
            files.main.len()
        } else {
            files.subagents[file - 1].1.len()
        }
    });
    let mut columns = lengths.map(|length| {
        cuts.iter()
            .map(|cut| cut[0].index(length + 1))
            .collect::<Vec<_>>()
    });
    for (file, column) in columns.iter_mut().enumerate() {
        for (at, cut) in column.iter_mut().zip(cuts) {
            *at = cut[file].index(lengths[file] + 1);
        }
        column.sort_unstable();
        column.push(lengths[file]);
    }
    (0..=cuts.len())
        .map(|read| std::array::from_fn(|file| columns[file][read]))
        .collect()
}

/// Writes the transcripts.
pub fn write(ops: &[Op], style: &Style) -> Files {
    let mut writer = Writer::new(style);
    for op in ops {
        writer.write(op);
    }
    writer.finish()
}

struct Message {
    id: usize,
    model: usize,
    usage: [u64; 4],
}

struct Writer<'a> {
    style: &'a Style,
    files: [Vec<u8>; 1 + AGENTS.len()],
    lines: Vec<(usize, Vec<u8>)>,
    /// The messages of each chain.
    messages: [Vec<Message>; CHAINS],
    /// The ids of all tool calls.
    calls: usize,
    ids: usize,
}

impl<'a> Writer<'a> {
    fn new(style: &'a Style) -> Self {
        Self {
            style,
            files: Default::default(),
            lines: Vec::new(),
            messages: Default::default(),
            calls: 0,
            ids: 0,
        }
    }

    fn finish(mut self) -> Files {
        if self.style.is_open {
            for file in &mut self.files {
                while file.last().is_some_and(u8::is_ascii_whitespace) {
                    file.pop();
                }
            }
        }
        let [main, subagents @ ..] = self.files;
        Files {
            main,
            subagents: AGENTS
                .iter()
                .map(|id| (*id).to_owned())
                .zip(subagents)
                .collect(),
        }
    }

    fn write(&mut self, op: &Op) {
        match op {
            Op::Prompt {
                text,
                shape,
                known_human,
            } => {
                let mut fields = Vec::new();
                if *known_human {
                    fields.extend_from_slice(br#""origin":{"kind":"human"},"#);
                }
                let content = content(*shape, TEXTS[*text]);
                self.user(0, &content, &fields);
            }
            Op::NotHuman { kind, text } => self.not_human(*kind, TEXTS[*text]),
            Op::Answer {
                chain,
                back,
                blocks,
                text,
                tool,
                growth,
            } => {
                self.begin(*chain);
                self.answer(*chain, *back, *blocks, TEXTS[*text], TOOLS[*tool], *growth);
            }
            Op::Results { chain, results } => {
                self.begin(*chain);
                self.results(*chain, results);
            }
            Op::Again { back } => {
                if let Some((file, line)) = self
                    .lines
                    .len()
                    .checked_sub(*back)
                    .map(|at| self.lines[at].clone())
                {
                    self.line(file, line);
                }
            }
            Op::Unknown { kind } => self.line(0, UNKNOWN[*kind].as_bytes().to_vec()),
            Op::Garbage { kind } => self.line(0, GARBAGE[*kind].to_vec()),
            Op::Compaction => {
                let end = self.end();
                let line = format!(
                    r#"{{"parentUuid":null,"isSidechain":false,"type":"system","subtype":"compact_boundary",{end}"#
                );
                self.line(0, line.into_bytes());
            }
            Op::ApiError { text } => {
                let (id, end) = (self.id(), self.end());
                let line = [
                    format!(r#"{{"parentUuid":"u","isSidechain":false,"type":"assistant","message":{{"id":"api{id}","model":"<synthetic>","usage":{{"input_tokens":9}},"content":[{{"type":"text","text":"API Error: "#).as_bytes(),
                    TEXTS[*text],
                    format!(r#""}}]}},"isApiErrorMessage":true,"apiErrorStatus":400,{end}"#).as_bytes(),
                ]
                .concat();
                self.line(0, line);
            }
            Op::Title { custom, text } => {
                let name = if *custom {
                    ("custom-title", "customTitle")
                } else {
                    ("ai-title", "aiTitle")
                };
                let line = [
                    format!(r#"{{"type":"{}","{}":""#, name.0, name.1).as_bytes(),
                    TEXTS[*text],
                    br#"","sessionId":"s"}"#,
                ]
                .concat();
                self.line(0, line);
            }
            Op::Cost { cents } => {
                let line = format!(
                    r#"{{"type":"cost-state","totalCostUSD":{}.{:02},"modelUsage":{{}}}}"#,
                    cents / 100,
                    cents % 100
                );
                self.line(0, line.into_bytes());
            }
        }
    }

    /// A sidechain begins with the prompt of its subagent.
    fn begin(&mut self, chain: usize) {
        if chain > 0 && self.messages[chain].is_empty() {
            self.user(chain, br#""SUBTASK please""#, b"");
            let id = self.id();
            self.messages[chain].push(Message {
                id,
                model: 0,
                usage: [0; 4],
            });
        }
    }

    fn not_human(&mut self, kind: usize, text: &[u8]) {
        if let Some(mark) = NOT_HUMAN.get(kind) {
            self.user(0, &[b"\"", mark.as_bytes(), text, b"\""].concat(), b"");
            return;
        }
        let fields: &[u8] = match kind - NOT_HUMAN.len() {
            0 => br#""isMeta":true,"#,
            1 => br#""isCompactSummary":true,"isVisibleInTranscriptOnly":true,"#,
            2 => br#""origin":{"kind":"task-notification"},"#,
            _ => br#""isMeta":true,"origin":{"kind":"human"},"#,
        };
        self.user(0, &content(kind % 3, text), fields);
    }

    fn user(&mut self, chain: usize, content: &[u8], fields: &[u8]) {
        let head = format!(
            r#"{{"parentUuid":null,{}"promptId":"p","type":"user","message":{{"role":"user","content":"#,
            chain_fields(chain)
        );
        let end = self.end();
        // The client writes these fields behind the id and the time of the record; some older
        // clients wrote them first.
        let at = if self.lines.len().is_multiple_of(3) {
            0
        } else {
            end.find(r#""cwd""#).unwrap_or_default()
        };
        let (id, place) = end.as_bytes().split_at(at);
        let line = [head.as_bytes(), content, b"},", id, fields, place].concat();
        self.line(file_of(chain), line);
    }

    fn answer(
        &mut self,
        chain: usize,
        back: usize,
        blocks: usize,
        text: &[u8],
        tool: &str,
        growth: u64,
    ) {
        let known = self.messages[chain].len();
        if back == 0 || back > known {
            let id = self.id();
            self.messages[chain].push(Message {
                id,
                model: id % MODELS.len(),
                usage: [growth, 1, growth / 3, 0],
            });
        } else {
            let message = &mut self.messages[chain][known - back];
            // Early lines of a streamed message have smaller token counts, and sometimes they are
            // written late.
            message.usage[1] = (message.usage[1] + growth).saturating_sub(20);
            message.usage[3] = growth;
        }
        let back = back.clamp(1, self.messages[chain].len());
        let Message { id, model, usage } = &self.messages[chain][self.messages[chain].len() - back];
        let head = format!(
            r#"{{"parentUuid":"u",{}"message":{{"id":"msg_{id}","type":"message","role":"assistant","model":"{}","content":["#,
            chain_fields(chain),
            MODELS[*model]
        );
        let tail = format!(
            r#"],"stop_reason":null,"usage":{{"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"output_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":7}},"iterations":[]}}}},"requestId":"r","type":"assistant","#,
            usage[0], usage[3], usage[2], usage[1]
        );
        let text = [br#"{"type":"text","text":""#, text, br#""}"#].concat();
        let thinking =
            br#"{"type":"thinking","thinking":"hm {\"type\":\"text\"}","signature":"s"}"#.to_vec();
        let call = self.calls;
        let tool = format!(r#"{{"type":"tool_use","id":"toolu_{call}","name":"{tool}","input":{{"command":"false","is_error":true}}}}"#)
            .into_bytes();
        let content = match blocks {
            0 => vec![thinking],
            1 | 2 => vec![text],
            3 | 4 => vec![tool],
            5 => vec![text.clone(), text],
            _ => vec![thinking, text, tool],
        };
        self.calls += usize::from([3, 4, 6].contains(&blocks));
        let line = [
            head.as_bytes(),
            &content.join(&b','),
            tail.as_bytes(),
            self.end().as_bytes(),
        ]
        .concat();
        self.line(file_of(chain), line);
    }

    fn results(&mut self, chain: usize, results: &[(usize, usize)]) {
        let mut blocks = Vec::new();
        for (back, kind) in results {
            // A result can be that of a call that was never written.
            let Some(call) = self.calls.checked_sub(*back) else {
                continue;
            };
            let content = String::from_utf8_lossy(TEXTS[7]);
            blocks.push(match kind {
                0 => format!(r#"{{"tool_use_id":"toolu_{call}","type":"tool_result","content":"{content}","is_error":false}}"#),
                1 => format!(r#"{{"tool_use_id":"toolu_{call}","type":"tool_result","content":[{{"type":"text","text":"{content}"}}]}}"#),
                2 => format!(r#"{{"tool_use_id":"toolu_{call}","type":"tool_result","content":"{content}","is_error":true}}"#),
                _ => format!(r#"{{"type":"tool_result","content":"{content}","is_error":true,"tool_use_id":"toolu_{call}"}}"#),
            });
        }
        if !blocks.is_empty() {
            self.user(
                chain,
                format!("[{}]", blocks.join(",")).as_bytes(),
                br#""toolUseResult":{"stdout":"a","is_error":false},"#,
            );
        }
    }

    fn line(&mut self, file: usize, line: Vec<u8>) {
        let number = self.lines.len() % 64;
        let written = if self.style.spaced >> number & 1 == 1 {
            spaced(&line)
        } else {
            line.clone()
        };
        self.files[file].extend_from_slice(&written);
        self.files[file].extend_from_slice(if self.style.crlf >> number & 1 == 1 {
            b"\r\n"
        } else {
            b"\n"
        });
        self.lines.push((file, line));
    }

    fn id(&mut self) -> usize {
        self.ids += 1;
        self.ids
    }

    /// The end of a record: its id and time.
    fn end(&mut self) -> String {
        let id = self.id();
        let time = if id.is_multiple_of(7) && !self.style.is_timed {
            String::new()
        } else {
            format!(
                r#""timestamp":"2026-11-22T23:{:02}:{:02}.{:03}Z","#,
                id / 60 % 60,
                id % 60,
                id % 1_000
            )
        };
        format!(
            r#""uuid":"u{id}",{time}"cwd":"/home/dev/proj{}","sessionId":"s","version":"2.1.{id}","gitBranch":"b{id}"}}"#,
            id % 2
        )
    }
}

fn content(shape: usize, text: &[u8]) -> Vec<u8> {
    match shape {
        0 => [b"\"", text, b"\""].concat(),
        1 => [br#"[{"type":"text","text":""#, text, br#""}]"#].concat(),
        _ => [
            br#"[{"type":"text","text":""#,
            text,
            br#""},{"type":"image","source":{}},{"type":"text","text":"two"}]"#,
        ]
        .concat(),
    }
}

fn chain_fields(chain: usize) -> String {
    match chain {
        0 => r#""isSidechain":false,"#.to_owned(),
        1 => r#""isSidechain":true,"#.to_owned(),
        2 => r#""isSidechain":true,"agentId":"inside","#.to_owned(),
        _ => format!(
            r#""isSidechain":true,"agentId":"{}","#,
            AGENTS[chain - 3].rsplit('/').next().unwrap_or_default()
        ),
    }
}

/// The file that a chain is written to.
fn file_of(chain: usize) -> usize {
    chain.saturating_sub(2)
}

/// The same JSON with spaces between its tokens, which no client writes.
fn spaced(json: &[u8]) -> Vec<u8> {
    let mut spaced = Vec::with_capacity(json.len() * 2);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        spaced.push(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b':' | b',' | b'{' | b'[' if !in_string => spaced.push(b' '),
            _ => {}
        }
    }
    spaced
}
