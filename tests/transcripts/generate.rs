//! Generates transcripts, both as the client writes them and malformed ones, from a list of small
//! operations, so that a failure shrinks to the few lines that matter.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The transcript files of a session: the main one, and those of its subagents by ID.
#[derive(Clone, Default)]
pub struct Files {
    pub session: String,
    pub main: Vec<u8>,
    pub subagents: Vec<(String, Vec<u8>)>,
}

/// One step of writing a transcript.
#[derive(Debug, Clone)]
pub enum Op {
    /// A prompt.
    Prompt {
        text: usize,
        shape: usize,
        by: By,
    },
    /// A text that is not a prompt: a `user` record, or a queued command.
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
        /// Whether there is an attachment before it.
        is_after_attachment: bool,
    },
    /// The results of the last tool calls.
    Results {
        chain: usize,
        kinds: Vec<usize>,
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
    /// A record whose end was not written before the next one began on its line.
    Torn {
        kept: Index,
    },
    /// The line feed before the next record was not written.
    Joined,
    Compaction,
    ApiError {
        text: usize,
    },
    Title {
        custom: bool,
        text: usize,
    },
}

/// Who sent a prompt, and how the client recorded that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum By {
    /// Older clients did not record it.
    Unknown,
    /// `origin`.
    Human,
    /// `turnOrigin` and `promptSource` of the terminal.
    Typed,
    /// Those of the SDK.
    Sdk,
    /// A command with its own prompt.
    Command,
    /// While the agent worked.
    Queued,
    QueuedBySdk,
}

/// The IDs of messages and tool calls, which the backend chooses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ids {
    Unique,
    /// One for all messages.
    Constant,
    /// By their position in the turn; those of tool calls look like `Bash:0`.
    PerTurn,
    /// Messages have none.
    Absent,
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
    pub ids: Ids,
    /// Whether messages have the ID of their request.
    pub has_requests: bool,
}

/// How a session was forked from an older one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fork {
    /// `--fork-session`: the same records, without a mark.
    Session,
    /// `/bg`: the same, and the older session names the one that continues it.
    Background,
    /// `/branch`: the same records, each with its origin.
    Branch,
    /// `forkSession()` of the SDK: new IDs, each with its origin.
    Sdk,
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
/// One of them costs more for long prompts, and one has no price.
const MODELS: [&str; 3] = ["claude-opus-4-8", "claude-haiku-5-5", "m\u{f6}del"];
const TOOLS: [&str; 4] = ["Bash", "Read", "mcp__x__y", "\u{1f980}"];
/// The subagents with their own files, by their paths below `subagents`.
pub const AGENTS: [&str; 2] = ["a1b2", "workflows/x/deep"];
/// The number of chains: the main one, two sidechains in the main file (one of an older client, one
/// with an ID), and one in the file of each subagent.
const CHAINS: usize = 3 + AGENTS.len();
const NOT_HUMAN: [&str; 7] = [
    "<command-name>/clear",
    "<local-command-stdout>",
    "<local-command-caveat>",
    "<command-name>",
    "<task-notification>",
    "<teammate-message teammate_id=\\\"bob\\\">",
    "<bash-stdout>",
];
/// The fields of records that are not prompts.
const MARKED: [&[u8]; 7] = [
    br#""isMeta":true,"#,
    br#""isCompactSummary":true,"isVisibleInTranscriptOnly":true,"#,
    br#""origin":{"kind":"task-notification"},"#,
    br#""isMeta":true,"origin":{"kind":"human"},"#,
    br#""turnOrigin":"task_notification","promptSource":"system","#,
    br#""turnOrigin":"scheduled","wakeupSource":"loop_wakeup","#,
    br#""turnOrigin":"peer","#,
];
/// The fields of queued commands that are not prompts.
const QUEUED: [&str; 3] = [
    r#""commandMode":"task-notification","origin":{"kind":"task-notification"}"#,
    r#""commandMode":"prompt","origin":{"kind":"coordinator"},"isMeta":true"#,
    r#""commandMode":"prompt","isMeta":true"#,
];
const UNKNOWN: [&str; 19] = [
    r#"{"type":"file-history-snapshot","messageId":"m","snapshot":{"messageId":"m","trackedFileBackups":{}},"isSnapshotUpdate":false}"#,
    r#"{"type":"queue-operation","operation":"enqueue","timestamp":"2026-11-22T23:02:35.968Z","content":"hello"}"#,
    r#"{"type":"last-prompt","lastPrompt":"x","leafUuid":"u1"}"#,
    r#"{"type":"mode","mode":"normal"}"#,
    r#"{"type":7,"message":[1,2,{"id":3}]}"#,
    r"{}",
    r#"{"type":"assistant","message":null}"#,
    r#"{"type":"system","subtype":"turn_duration","durationMs":201,"isMeta":false}"#,
    r#"{"type":"custom-title","customTitle":""}"#,
    r#"{"type":"cost-state","totalCostUSD":-1}"#,
    r#"{"type":"api-request","sessionId":"s","id":"a816b6f8","querySource":"sdk","params":"(left out)","keep":0,"tail":["5f4d"]}"#,
    r#"{"type":"api-request-blob","sessionId":"s","hash":"5f4d","message":{"role":"user","content":"quoted"}}"#,
    r#"{"type":"atis-latch","atis":"","sessionId":"s"}"#,
    r#"{"type":"tools-used","tools":["Agent"],"sessionId":"s"}"#,
    r#"{"type":"agent-name","agentName":"br1","sessionId":"s"}"#,
    r#"{"type":"permission-mode","permissionMode":"bypassPermissions","sessionId":"s"}"#,
    r#"{"type":"tag","tag":"t1","sessionId":"s"}"#,
    r#"{"type":"worktree-state","sessionId":"s","worktree":{"path":"/home/dev/proj/w1"}}"#,
    r#"{"type":"brand-new","message":{"id":"m1","model":"y","usage":{"input_tokens":5}},"tool_use_id":"t1","is_error":true}"#,
];
/// None of these begins with a whole JSON object. Cut after such an object, it would be a record.
const GARBAGE: [&[u8]; 9] = [
    b"garbage",
    b"[1,{\"type\":\"mode\"}]",
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
    let ids = prop_oneof![
        3 => Just(Ids::Unique),
        1 => Just(Ids::Constant),
        1 => Just(Ids::PerTurn),
        1 => Just(Ids::Absent),
    ];
    (sometimes(), sometimes(), any::<bool>(), ids, any::<bool>()).prop_map(
        |(spaced, crlf, is_open, ids, has_requests)| Style {
            spaced,
            crlf,
            is_open,
            is_timed: false,
            ids,
            has_requests,
        },
    )
}

fn op(deviation: Deviation) -> impl Strategy<Value = Op> {
    let text = move || {
        0..if deviation.blank {
            TEXTS.len()
        } else {
            TEXTS.len() - 1
        }
    };
    let by = prop_oneof![
        Just(By::Unknown),
        Just(By::Human),
        Just(By::Typed),
        Just(By::Sdk),
        Just(By::Command),
        Just(By::Queued),
        Just(By::QueuedBySdk),
    ];
    // The main chain has the most rules.
    let chain = || prop_oneof![3 => Just(0), 2 => 0..CHAINS];
    let answer = (
        chain(),
        0..=1 + deviation.interleaved,
        0..8_usize,
        text(),
        0..TOOLS.len(),
        0..50_u64,
        prop_oneof![5 => Just(false), 1 => Just(true)],
    );
    prop_oneof![
        3 => (text(), 0..4_usize, by).prop_map(|(text, shape, by)| Op::Prompt { text, shape, by }),
        1 => (0..NOT_HUMAN.len() + MARKED.len() + QUEUED.len(), text()).prop_map(|(kind, text)| Op::NotHuman { kind, text }),
        9 => answer.prop_map(|(chain, back, blocks, text, tool, growth, is_after_attachment)| {
            Op::Answer { chain, back, blocks, text, tool, growth, is_after_attachment }
        }),
        4 => (chain(), vec(0..4_usize, 1..4)).prop_map(|(chain, kinds)| Op::Results { chain, kinds }),
        2 => (1..=deviation.repeated).prop_map(|back| Op::Again { back }),
        1 => (0..UNKNOWN.len()).prop_map(|kind| Op::Unknown { kind }),
        1 => (0..GARBAGE.len()).prop_map(|kind| Op::Garbage { kind }),
        1 => any::<Index>().prop_map(|kept| Op::Torn { kept }),
        1 => Just(Op::Joined),
        1 => Just(Op::Compaction),
        1 => text().prop_map(|text| Op::ApiError { text }),
        1 => (any::<bool>(), text()).prop_map(|(custom, text)| Op::Title { custom, text }),
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

/// Writes the transcripts of one session.
pub fn write(ops: &[Op], style: &Style) -> Files {
    let mut writer = Writer::new(0, style);
    writer.write_all(ops);
    writer.files()
}

/// A message that may get more lines.
struct Message {
    id: String,
    request: usize,
    model: usize,
    usage: [u64; 4],
    last_record: String,
}

/// A tool call without a result.
struct Call {
    record: String,
    id: String,
}

/// The state of writing one chain of records.
#[derive(Default)]
struct Chain {
    last_record: Option<String>,
    messages: Vec<Message>,
    calls: Vec<Call>,
    /// Whether the client writes a `user` record before the next message, because it sends nothing
    /// without one.
    needs_user: bool,
}

/// A line of a transcript.
#[derive(Clone)]
enum Line {
    /// A record of the conversation, which forks copy.
    Record(Record),
    /// Anything else.
    State(Vec<u8>),
}

/// A record of the conversation.
#[derive(Clone)]
struct Record {
    id: String,
    parent: Option<String>,
    /// The session and the record that it was copied from.
    original: Option<(String, String)>,
    /// The time and the place.
    envelope: String,
    /// Its other fields, each followed by a comma.
    fields: Vec<u8>,
    /// Whether the ID is the first of its fields, as some older clients wrote it.
    is_id_first: bool,
}

impl Record {
    fn bytes(&self, session: &str) -> Vec<u8> {
        let parent = self
            .parent
            .as_ref()
            .map_or("null".to_owned(), |id| format!("\"{id}\""));
        let parent = format!(r#""parentUuid":{parent},"#);
        let id = format!(r#""uuid":"{}",{}"#, self.id, self.envelope);
        let origin = self
            .original
            .as_ref()
            .map_or(String::new(), |(session, record)| {
                format!(r#","forkedFrom":{{"sessionId":"{session}","messageUuid":"{record}"}}"#)
            });
        let end = format!(r#""sessionId":"{session}"{origin}}}"#);
        let (first, last) = if self.is_id_first {
            (&id, &parent)
        } else {
            (&parent, &id)
        };
        [
            b"{",
            first.as_bytes(),
            &self.fields,
            last.as_bytes(),
            end.as_bytes(),
        ]
        .concat()
    }
}

/// Writes the transcripts of one session, step by step.
pub struct Writer<'a> {
    style: &'a Style,
    /// The session's number. Older sessions have smaller ones.
    number: usize,
    pub session: String,
    files: [Vec<u8>; 1 + AGENTS.len()],
    lines: Vec<(usize, Line)>,
    chains: [Chain; CHAINS],
    /// How many messages and tool calls the turn has.
    in_turn: [usize; 2],
    ids: usize,
    /// How often writing was resumed.
    resumed: usize,
    /// The file whose next record is written on the same line as the previous one, unless another
    /// file is written first.
    joined: Option<usize>,
    /// Which files end in a line with several records.
    ends_joined: [bool; 1 + AGENTS.len()],
}

impl<'a> Writer<'a> {
    pub fn new(number: usize, style: &'a Style) -> Self {
        Self {
            style,
            number,
            session: format!("5e55104a-{number}"),
            files: Default::default(),
            lines: Vec::new(),
            chains: Default::default(),
            in_turn: [0; 2],
            ids: 0,
            resumed: 0,
            joined: None,
            ends_joined: Default::default(),
        }
    }

    /// A session that begins with a copy of this one's main file.
    pub fn fork(&self, number: usize, style: &'a Style, fork: Fork) -> Self {
        let mut forked = Self::new(number, style);
        let session = forked.session.clone();
        let renamed = |id: &String| match fork {
            Fork::Sdk => format!("{id}-of-{session}"),
            _ => id.clone(),
        };
        for (_, line) in self.lines.iter().filter(|(file, _)| *file == 0) {
            let Line::Record(mut record) = line.clone() else {
                continue;
            };
            record.original = match fork {
                Fork::Branch | Fork::Sdk => Some((self.session.clone(), record.id.clone())),
                // The client keeps the marks of a branch (measured with 2.1.197 and 2.1.332).
                Fork::Session | Fork::Background => record.original,
            };
            record.id = renamed(&record.id);
            record.parent = record.parent.as_ref().map(renamed);
            forked.chains[0].last_record = Some(record.id.clone());
            forked.line(0, Line::Record(record));
        }
        // A sidechain that continues after the fork is a different one.
        forked
    }

    pub fn files(&self) -> Files {
        let mut files = self.files.clone();
        if self.style.is_open {
            // A line that is still being written is not whole.
            for (file, _) in files
                .iter_mut()
                .zip(self.ends_joined)
                .filter(|(_, joined)| !joined)
            {
                while file.last().is_some_and(u8::is_ascii_whitespace) {
                    file.pop();
                }
            }
        }
        let [main, subagents @ ..] = files;
        Files {
            session: self.session.clone(),
            main,
            subagents: AGENTS
                .iter()
                .map(|id| (*id).to_owned())
                .zip(subagents)
                .collect(),
        }
    }

    pub fn write_all(&mut self, ops: &[Op]) {
        for op in ops {
            self.write(op);
        }
    }

    fn write(&mut self, op: &Op) {
        match op {
            Op::Prompt { text, shape, by } => self.prompt(TEXTS[*text], *shape, *by),
            Op::NotHuman { kind, text } => self.not_human(*kind, TEXTS[*text]),
            Op::Answer {
                chain,
                back,
                blocks,
                text,
                tool,
                growth,
                is_after_attachment,
            } => {
                self.begin(*chain);
                if *is_after_attachment {
                    let fields =
                        br#""type":"attachment","attachment":{"type":"date","content":"today"},"#;
                    self.record(*chain, fields.to_vec());
                }
                self.answer(*chain, *back, *blocks, TEXTS[*text], TOOLS[*tool], *growth);
            }
            Op::Results { chain, kinds } => self.results(*chain, kinds),
            Op::Again { back } => {
                let lines = &self.lines;
                let Some((file, line)) = lines.len().checked_sub(*back).map(|at| lines[at].clone())
                else {
                    return;
                };
                if let Line::Record(Record { fields, .. }) = &line
                    && memchr::memmem::find(fields, br#""type":"assistant""#).is_none()
                {
                    self.end_turn();
                }
                self.line(file, line);
            }
            Op::Unknown { kind } => self.state(UNKNOWN[*kind].as_bytes().to_vec()),
            Op::Garbage { kind } => self.state(GARBAGE[*kind].to_vec()),
            Op::Torn { kept } => {
                let torn = br#"{"parentUuid":"u0","isSidechain":false,"message":{"id":"msg_torn","type":"message","role":"assistant","model":"torn","content":[{"type":"text","text":"a \"torn\" {text}"}],"usage":{"input_tokens":1000000}},"type":"assistant","uuid":"torn","sessionId":"s"}"#;
                let kept = kept.index(torn.len() - 1) + 1;
                self.state(torn[..kept].to_vec());
                self.joined = Some(0);
            }
            Op::Joined => {
                let number = self.lines.len().wrapping_sub(1) % 64;
                let is_spaced = self.style.spaced >> number & 1 == 1;
                self.joined = match self.lines.last() {
                    Some((file, Line::Record(record))) if !record.is_id_first && !is_spaced => {
                        Some(*file)
                    }
                    _ => None,
                };
            }
            Op::Compaction => {
                let fields =
                    br#""isSidechain":false,"type":"system","subtype":"compact_boundary","#;
                self.record(0, fields.to_vec());
                self.end_turn();
            }
            Op::ApiError { text } => {
                let id = self.id();
                let fields = [
                    format!(r#""isSidechain":false,"type":"assistant","message":{{"id":"api{id}","model":"<synthetic>","usage":{{"input_tokens":9}},"content":[{{"type":"text","text":"API Error: "#).as_bytes(),
                    TEXTS[*text],
                    br#""}]},"isApiErrorMessage":true,"apiErrorStatus":400,"#,
                ]
                .concat();
                self.record(0, fields);
                self.end_turn();
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
                    format!(r#"","sessionId":"{}"}}"#, self.session).as_bytes(),
                ]
                .concat();
                self.state(line);
            }
        }
    }

    /// Ends the writing for now: the next record begins on a new line.
    pub fn pause(&mut self) {
        self.joined = None;
    }

    /// Goes on after all other sessions were paused.
    pub fn resume(&mut self) {
        self.resumed += 1;
    }

    /// When a record with this number is written, in seconds. A session takes several days, so that
    /// some messages have lines on both sides of midnight.
    fn clock(&self, number: usize) -> i64 {
        let hours = 24 * 60 * (self.number + 10 * self.resumed) + 5 * number;
        1_780_000_000 + 3_600 * i64::try_from(hours).unwrap()
    }

    /// When the next line is written, in epoch milliseconds.
    pub fn now(&self) -> i64 {
        1_000 * self.clock(self.ids + 1)
    }

    /// A line that is not a record of the conversation.
    pub fn state(&mut self, line: Vec<u8>) {
        self.line(0, Line::State(line));
    }

    /// No message continues, and the next one answers a `user` record.
    fn end_turn(&mut self) {
        for chain in &mut self.chains {
            chain.messages.clear();
            chain.calls.clear();
            chain.needs_user = chain.last_record.is_some();
        }
    }

    /// A sidechain begins with the prompt of its subagent.
    fn begin(&mut self, chain: usize) {
        let is_begun = chain == 0 || self.chains[chain].last_record.is_some();
        if !is_begun || self.chains[chain].needs_user {
            let (content, fields): (&[u8], &[u8]) = match chain {
                0 => (
                    br#""Continue from where you left off.""#,
                    br#""isMeta":true,"#,
                ),
                _ => (br#""SUBTASK please""#, b""),
            };
            self.user(chain, content, fields);
        }
    }

    fn prompt(&mut self, text: &[u8], shape: usize, by: By) {
        self.end_turn();
        self.in_turn = [0; 2];
        let fields: &[u8] = match by {
            By::Unknown => b"",
            By::Human => br#""origin":{"kind":"human"},"#,
            By::Typed => {
                br#""origin":{"kind":"human"},"promptSource":"typed","turnOrigin":"human","#
            }
            By::Sdk => br#""promptSource":"sdk","turnOrigin":"sdk","#,
            By::Command => {
                let content = [
                    br#""<command-message>do</command-message>\n<command-name>/do</command-name>\n<command-args>"#,
                    text,
                    br#"</command-args>""#,
                ];
                self.user(0, &content.concat(), br#""turnOrigin":"sdk","#);
                // The client's expansion of the command.
                return self.user(
                    0,
                    br#"[{"type":"text","text":"Do it."}]"#,
                    br#""isMeta":true,"#,
                );
            }
            By::Queued => {
                return self.queued(
                    text,
                    r#""commandMode":"prompt","origin":{"kind":"human"},"humanTurn":true"#,
                );
            }
            By::QueuedBySdk => {
                return self.queued(text, r#""commandMode":"prompt","hostsOwnTurn":true"#);
            }
        };
        self.user(0, &content(shape, text), fields);
    }

    /// An attachment with a command that was queued.
    fn queued(&mut self, text: &[u8], fields: &str) {
        let before = br#""isSidechain":false,"attachment":{"type":"queued_command","prompt":""#;
        let after = format!(r#"","source_uuid":"q",{fields}}},"type":"attachment","#);
        self.record(0, [before, text, after.as_bytes()].concat());
        self.chains[0].needs_user = false;
    }

    fn not_human(&mut self, kind: usize, text: &[u8]) {
        if let Some(mark) = NOT_HUMAN.get(kind) {
            return self.user(0, &[b"\"", mark.as_bytes(), text, b"\""].concat(), b"");
        }
        let kind = kind - NOT_HUMAN.len();
        if let Some(fields) = MARKED.get(kind) {
            return self.user(0, &content(kind % 3, text), fields);
        }
        self.queued(text, QUEUED[kind - MARKED.len()]);
        self.end_turn();
    }

    fn user(&mut self, chain: usize, content: &[u8], fields: &[u8]) {
        let chain_fields = chain_fields(chain);
        let fields = [
            chain_fields.as_bytes(),
            br#""promptId":"p","type":"user","message":{"role":"user","content":"#,
            content,
            b"},",
            fields,
        ];
        self.record(chain, fields.concat());
        self.chains[chain].needs_user = false;
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
        let known = self.chains[chain].messages.len();
        let place = known
            .checked_sub(back)
            .filter(|_| back > 0)
            .unwrap_or(known);
        if place == known {
            if known > 0 && self.style.ids != Ids::Unique {
                // A request has only one answer.
                self.chains[chain].needs_user = true;
                self.begin(chain);
            }
            let number = self.id();
            let message = Message {
                id: match self.style.ids {
                    Ids::Unique => format!("msg_{}_{number}", self.number),
                    Ids::Constant => "relay".to_owned(),
                    Ids::PerTurn => format!("msg_{}", self.in_turn[0]),
                    Ids::Absent => String::new(),
                },
                request: number,
                model: number % MODELS.len(),
                usage: [growth, 1, 1_500 * growth, 0],
                last_record: String::new(),
            };
            self.in_turn[0] += 1;
            self.chains[chain].messages.push(message);
        } else {
            let message = &mut self.chains[chain].messages[place];
            // Early lines of a streamed message have smaller token counts, and sometimes they are
            // written late.
            message.usage[1] = (message.usage[1] + growth).saturating_sub(20);
            message.usage[3] = 2_500 * growth;
            // The client names the previous line of the message as the parent, even if there are
            // results or lines of other messages in between.
            let last = message.last_record.clone();
            self.chains[chain].last_record = Some(last);
        }
        let call = match self.style.ids {
            Ids::Unique => format!("toolu_{}_{}", self.number, self.ids),
            _ => format!("{tool}:{}", self.in_turn[1]),
        };
        let message = &self.chains[chain].messages[place];
        let usage = message.usage;
        let id = match self.style.ids {
            Ids::Absent => String::new(),
            _ => format!(r#""id":"{}","#, message.id),
        };
        let head = format!(
            r#"{}"message":{{{id}"type":"message","role":"assistant","model":"{}","content":["#,
            chain_fields(chain),
            MODELS[message.model]
        );
        let request = if self.style.has_requests {
            format!(r#""requestId":"req_{}_{}","#, self.number, message.request)
        } else {
            String::new()
        };
        let speed = ["standard", "fast"][usize::from(message.request.is_multiple_of(4))];
        let geo = ["not_available", "us"][usize::from(message.request.is_multiple_of(3))];
        let tail = format!(
            r#"],"stop_reason":null,"usage":{{"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"output_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":7,"ephemeral_1h_input_tokens":{}}},"speed":"{speed}","inference_geo":"{geo}","iterations":[]}}}},{request}"type":"assistant","#,
            usage[0],
            usage[3],
            usage[2],
            usage[1],
            usage[3] / 2
        );
        let text = [br#"{"type":"text","text":""#, text, br#""}"#].concat();
        let thinking =
            br#"{"type":"thinking","thinking":"hm {\"type\":\"text\"}","signature":"s"}"#.to_vec();
        let tool = format!(r#"{{"type":"tool_use","id":"{call}","name":"{tool}","input":{{"command":"false","is_error":true}}}}"#)
            .into_bytes();
        let content = match blocks {
            0 => vec![thinking],
            1 | 2 => vec![text],
            3 | 4 => vec![tool],
            5 => vec![text.clone(), text],
            6 => vec![thinking, text, tool],
            _ => {
                let advice = br#"{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"x"}}"#;
                vec![text.clone(), advice.to_vec(), text]
            }
        };
        let record = self.record(
            chain,
            [head.as_bytes(), &content.join(&b','), tail.as_bytes()].concat(),
        );
        let chain = &mut self.chains[chain];
        chain.messages[place].last_record.clone_from(&record);
        if [3, 4, 6].contains(&blocks) {
            self.in_turn[1] += 1;
            chain.calls.push(Call { record, id: call });
        }
    }

    /// Writes the results of the last calls, each in a record whose parent is that of the call.
    fn results(&mut self, chain: usize, kinds: &[usize]) {
        for kind in kinds {
            let Some(Call { record, id }) = self.chains[chain].calls.pop() else {
                return;
            };
            self.chains[chain].last_record = Some(record);
            let text = String::from_utf8_lossy(TEXTS[7]);
            let result = match kind {
                0 => format!(
                    r#"{{"tool_use_id":"{id}","type":"tool_result","content":"{text}","is_error":false}}"#
                ),
                1 => format!(
                    r#"{{"tool_use_id":"{id}","type":"tool_result","content":[{{"type":"text","text":"{text}"}}]}}"#
                ),
                2 => format!(
                    r#"{{"tool_use_id":"{id}","type":"tool_result","content":"{text}","is_error":true}}"#
                ),
                _ => format!(
                    r#"{{"type":"tool_result","content":"{text}","is_error":true,"tool_use_id":"{id}"}}"#
                ),
            };
            let fields = br#""toolUseResult":{"stdout":"a","is_error":false},"#;
            self.user(chain, format!("[{result}]").as_bytes(), fields);
        }
    }

    /// Writes a record of a chain. Returns its ID.
    fn record(&mut self, chain: usize, fields: Vec<u8>) -> String {
        let number = self.id();
        let record = Record {
            id: format!("u{}-{number}", self.number),
            parent: self.chains[chain].last_record.clone(),
            original: None,
            envelope: self.envelope(number),
            fields,
            is_id_first: number.is_multiple_of(5),
        };
        let id = record.id.clone();
        self.chains[chain].last_record = Some(id.clone());
        self.line(file_of(chain), Line::Record(record));
        id
    }

    fn line(&mut self, file: usize, mut line: Line) {
        let is_joined = self.joined.take() == Some(file);
        if let Line::Record(record) = &mut line {
            record.is_id_first &= !is_joined;
        }
        let bytes = match &line {
            Line::Record(record) => record.bytes(&self.session),
            Line::State(bytes) => bytes.clone(),
        };
        let number = self.lines.len() % 64;
        let is_spaced = self.style.spaced >> number & 1 == 1 && !is_joined;
        let written = if is_spaced && matches!(line, Line::Record(_)) {
            spaced(&bytes)
        } else {
            bytes
        };
        self.ends_joined[file] = is_joined;
        let before = &mut self.files[file];
        if is_joined {
            while before.last().is_some_and(u8::is_ascii_whitespace) {
                before.pop();
            }
        }
        before.extend_from_slice(&written);
        before.extend_from_slice(if self.style.crlf >> number & 1 == 1 {
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

    /// The time and the place of a record.
    fn envelope(&self, number: usize) -> String {
        let time = if number.is_multiple_of(7) && !self.style.is_timed {
            String::new()
        } else {
            let at = jiff::Timestamp::from_second(self.clock(number)).unwrap();
            let at = at.strftime("%Y-%m-%dT%H:%M:%S");
            format!(r#""timestamp":"{at}.{:03}Z","#, number % 1_000)
        };
        format!(
            r#"{time}"cwd":"/home/dev/proj{}","version":"2.1.{number}","gitBranch":"b{number}","#,
            number % 2
        )
    }
}

fn content(shape: usize, text: &[u8]) -> Vec<u8> {
    match shape {
        0 => [b"\"", text, b"\""].concat(),
        1 => [br#"[{"type":"text","text":""#, text, br#""}]"#].concat(),
        2 => br#"[{"type":"image","source":{"data":"AAAA"}}]"#.to_vec(),
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
