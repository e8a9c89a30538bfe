//! Generates transcripts of realistic shape and any size, the same on every machine: lines as
//! client 2.1.197 writes them (`tests/fixtures/claude-code-2.1.197`), with the sizes that users
//! report. Most of it is tool results of several kilobytes, which the client writes twice
//! (`content` and `toolUseResult`), messages of one to three lines, and attachments.

#![expect(
    clippy::format_push_string,
    clippy::cast_possible_truncation,
    reason = "a format string per line is easy to compare with real lines"
)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A pseudorandom generator (xorshift64*) without dependencies. Benches need the same bytes each
/// time.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const SOURCE: &str = "    let mut total = 0;\\n    for entry in std::fs::read_dir(path)? {\\n        let name = entry?.file_name();\\n        println!(\\\"{name:?} of {total}\\\");\\n        total += 1;\\n    }\\n";

/// What a generated transcript contains.
#[derive(Debug, Default)]
pub struct Tally {
    pub session: String,
    pub lines: u64,
    /// Tokens: input, output, cache reads, cache writes. Each message is counted once.
    pub tokens: [u64; 4],
}

/// Writes a transcript of at least `bytes` bytes into the folder `path`.
pub fn write(path: &Path, bytes: u64, seed: u64) -> io::Result<Tally> {
    let mut numbers = Numbers::new(seed);
    let session = format!(
        "{:08x}-0000-4000-8000-{:012x}",
        seed,
        numbers.below(1 << 48)
    );
    let file = path.join(format!("{session}.jsonl"));
    let mut tally = Tally {
        session,
        ..Tally::default()
    };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut written = 0;
    while written < bytes {
        let turn = turn(&mut numbers, &mut tally);
        out.write_all(turn.as_bytes())?;
        written += turn.len() as u64;
    }
    out.flush()?;
    Ok(tally)
}

/// The lines of one more turn: a prompt, some tool calls, an answer.
pub fn turn(numbers: &mut Numbers, tally: &mut Tally) -> String {
    let mut turn = Turn {
        numbers,
        tally,
        lines: String::new(),
    };
    turn.prompt();
    for _ in 0..3 + turn.numbers.below(8) {
        let id = turn.message();
        turn.tool_result(&id);
        if turn.numbers.below(4) == 0 {
            turn.attachment();
        }
    }
    turn.answer();
    turn.lines
}

/// A turn that is being generated.
struct Turn<'a> {
    numbers: &'a mut Numbers,
    tally: &'a mut Tally,
    lines: String,
}

impl Turn<'_> {
    /// Counts a line and returns its end. `fields` are those that only some records have; the
    /// client writes them between the time and the rest.
    fn end(&mut self, fields: &str) -> String {
        self.tally.lines += 1;
        let (session, count) = (&self.tally.session, self.tally.lines);
        let (hour, minute, second) = (count / 3_600 % 24, count / 60 % 60, count % 60);
        format!(
            r#""uuid":"{session}-{count:x}","timestamp":"2026-11-22T{hour:02}:{minute:02}:{second:02}.000Z",{fields}"userType":"external","entrypoint":"cli","cwd":"/home/dev/proj","sessionId":"{session}","version":"2.1.197","gitBranch":"main"}}
"#
        )
    }

    fn count_tokens(&mut self, tokens: [u64; 4]) {
        for (sum, tokens) in self.tally.tokens.iter_mut().zip(tokens) {
            *sum += tokens;
        }
    }

    fn prompt(&mut self) {
        let end = self.end(r#""permissionMode":"default","promptSource":"user","#);
        let count = self.tally.lines;
        self.lines += &format!(
            r#"{{"parentUuid":null,"isSidechain":false,"promptId":"p{count}","type":"user","message":{{"role":"user","content":"please look at module {count} and make it simpler"}},{end}"#
        );
    }

    /// A message that calls a tool, one line per content block. Returns the number in its ids.
    fn message(&mut self) -> String {
        let id = self.numbers.below(u64::MAX);
        let [input, created, read, output] =
            [90, 9_000, 90_000, 2_000].map(|end| self.numbers.below(end));
        self.count_tokens([input, output, read, created]);
        let count = self.tally.lines;
        let head = format!(
            r#"{{"parentUuid":"{count:032x}","isSidechain":false,"message":{{"id":"msg_{id:024x}","type":"message","role":"assistant","model":"claude-opus-4-8","content":["#
        );
        let usage = format!(
            r#""usage":{{"input_tokens":{input},"cache_creation_input_tokens":{created},"cache_read_input_tokens":{read},"output_tokens":{output},"server_tool_use":{{"web_search_requests":0,"web_fetch_requests":0}},"service_tier":"standard","cache_creation":{{"ephemeral_1h_input_tokens":0,"ephemeral_5m_input_tokens":{created}}},"inference_geo":"","iterations":[],"speed":"standard"}},"stop_details":null}},"requestId":"req_{id:016x}","type":"assistant","#
        );
        for block in self.blocks(id) {
            let end = self.end("");
            self.lines += &format!(
                r#"{head}{block}],"stop_reason":"tool_use","stop_sequence":null,{usage}{end}"#
            );
        }
        format!("{id:024x}")
    }

    fn blocks(&mut self, id: u64) -> Vec<String> {
        let mut blocks = Vec::new();
        if self.numbers.below(10) < 4 {
            blocks.push(format!(
                r#"{{"type":"thinking","thinking":"{}","signature":"{}"}}"#,
                "It may be simpler to read it once. ".repeat(self.numbers.below(20) as usize),
                "c2ln".repeat(100)
            ));
        }
        if self.numbers.below(10) < 4 {
            blocks.push(format!(
                r#"{{"type":"text","text":"I will look at the file.\n{}"}}"#,
                "Then I change it. ".repeat(self.numbers.below(10) as usize)
            ));
        }
        blocks.push(format!(
            r#"{{"type":"tool_use","id":"toolu_{id:024x}","name":"Read","input":{{"file_path":"/home/dev/proj/src/main.rs"}}}}"#
        ));
        blocks
    }

    /// Three tenths of the results are a few lines, half are several pages, the rest are whole
    /// files.
    fn tool_result(&mut self, id: &str) {
        let pieces = match self.numbers.below(10) {
            0..3 => 1 + self.numbers.below(3),
            3..8 => 5 + self.numbers.below(30),
            _ => 40 + self.numbers.below(80),
        };
        let text = SOURCE.repeat(pieces as usize);
        let (result, output) = if self.numbers.below(20) == 0 {
            (
                format!(
                    r#""type":"tool_result","content":"{text}","is_error":true,"tool_use_id":"toolu_{id}""#
                ),
                format!(r#""Error: {text}""#),
            )
        } else {
            (
                format!(
                    r#""tool_use_id":"toolu_{id}","type":"tool_result","content":"{text}","is_error":false"#
                ),
                format!(
                    r#"{{"type":"text","file":{{"filePath":"/home/dev/proj/src/main.rs","content":"{text}","numLines":24}}}}"#
                ),
            )
        };
        let count = self.tally.lines;
        let end = self.end(&format!(
            r#""toolUseResult":{output},"sourceToolAssistantUUID":"{count:032x}","#
        ));
        let count = self.tally.lines;
        self.lines += &format!(
            r#"{{"parentUuid":"{count:032x}","isSidechain":false,"promptId":"p","type":"user","message":{{"role":"user","content":[{{{result}}}]}},{end}"#
        );
    }

    fn attachment(&mut self) {
        let end = self.end("");
        let (count, text) = (self.tally.lines, SOURCE.repeat(2));
        self.lines += &format!(
            r#"{{"parentUuid":"{count:032x}","isSidechain":false,"attachment":{{"type":"todo_reminder","content":"{text}"}},"type":"attachment",{end}"#
        );
    }

    fn answer(&mut self) {
        let id = self.numbers.below(u64::MAX);
        self.count_tokens([3, 11, 7, 5]);
        let end = self.end("");
        let count = self.tally.lines;
        self.lines += &format!(
            r#"{{"parentUuid":"{count:032x}","isSidechain":false,"message":{{"id":"msg_{id:024x}","type":"message","role":"assistant","model":"claude-opus-4-8","content":[{{"type":"text","text":"It is done: module {count} is simpler now."}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":11}}}},"requestId":"r","type":"assistant",{end}"#
        );
    }
}
