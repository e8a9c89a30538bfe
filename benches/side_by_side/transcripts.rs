//! Transcripts of realistic shape and any size, the same on every machine: lines as client 2.1.197
//! writes them (`tests/fixtures/claude-code-2.1.197`), with the sizes that users report: mostly
//! tool results of some kilobytes, which the client writes twice (`content` and `toolUseResult`),
//! answers of one, two or three lines, attachments.

#![expect(
    clippy::format_push_string,
    clippy::cast_possible_truncation,
    reason = "lines are put together as they are read"
)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A small generator of numbers (xorshift64*); the benches need the same bytes each time, not
/// chance.
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

    /// From 0 to `end`, without it.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const SOURCE: &str = "    let mut total = 0;\\n    for entry in std::fs::read_dir(path)? {\\n        let name = entry?.file_name();\\n        println!(\\\"{name:?} of {total}\\\");\\n        total += 1;\\n    }\\n";

/// What was written of a transcript.
#[derive(Debug, Default)]
pub struct Tally {
    pub session: String,
    pub lines: u64,
    /// Tokens in, out, read from the cache, written to it, each message counted once.
    pub tokens: [u64; 4],
}

/// Writes a transcript of at least `bytes` bytes.
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

fn add(tokens: &mut [u64; 4], further: [u64; 4]) {
    tokens
        .iter_mut()
        .zip(further)
        .for_each(|(tokens, further)| *tokens += further);
}

/// A prompt, some calls of tools, an answer.
pub fn turn(numbers: &mut Numbers, tally: &mut Tally) -> String {
    let (session, count, tokens) = (&tally.session, &mut tally.lines, &mut tally.tokens);
    let mut lines = String::new();
    // What the client writes only into some records stands between when and where.
    let end_with = |count: &mut u64, between: &str| {
        *count += 1;
        let (minute, second) = (*count / 60 % 60, *count % 60);
        format!(
            r#""uuid":"{session}-{count:x}","timestamp":"2026-11-22T{:02}:{minute:02}:{second:02}.000Z",{between}"userType":"external","entrypoint":"cli","cwd":"/home/dev/proj","sessionId":"{session}","version":"2.1.197","gitBranch":"main"}}
"#,
            *count / 3_600 % 24
        )
    };
    let end = |count: &mut u64| end_with(count, "");
    lines += &format!(
        r#"{{"parentUuid":null,"isSidechain":false,"promptId":"p{count}","type":"user","message":{{"role":"user","content":"please look at module {count} and make it simpler"}},{}"#,
        end_with(
            count,
            r#""permissionMode":"default","promptSource":"user","#
        )
    );
    for _ in 0..3 + numbers.below(8) {
        let message = numbers.below(u64::MAX);
        let (input, created, read, output) = (
            numbers.below(90),
            numbers.below(9_000),
            numbers.below(90_000),
            numbers.below(2_000),
        );
        add(tokens, [input, output, read, created]);
        let usage = format!(
            r#""usage":{{"input_tokens":{input},"cache_creation_input_tokens":{created},"cache_read_input_tokens":{read},"output_tokens":{output},"server_tool_use":{{"web_search_requests":0,"web_fetch_requests":0}},"service_tier":"standard","cache_creation":{{"ephemeral_1h_input_tokens":0,"ephemeral_5m_input_tokens":{created}}},"inference_geo":"","iterations":[],"speed":"standard"}},"stop_details":null}},"requestId":"req_{message:016x}","type":"assistant","#
        );
        let head = format!(
            r#"{{"parentUuid":"{count:032x}","isSidechain":false,"message":{{"id":"msg_{message:024x}","type":"message","role":"assistant","model":"claude-opus-4-8","content":["#
        );
        let mut block = |block: String, count: &mut u64| {
            lines += &format!(
                r#"{head}{block}],"stop_reason":"tool_use","stop_sequence":null,{usage}{}"#,
                end(count)
            );
        };
        if numbers.below(10) < 4 {
            block(
                format!(
                    r#"{{"type":"thinking","thinking":"{}","signature":"{}"}}"#,
                    "It may be simpler to read it once. ".repeat(numbers.below(20) as usize),
                    "c2ln".repeat(100)
                ),
                count,
            );
        }
        if numbers.below(10) < 4 {
            block(
                format!(
                    r#"{{"type":"text","text":"I will look at the file.\n{}"}}"#,
                    "Then I change it. ".repeat(numbers.below(10) as usize)
                ),
                count,
            );
        }
        block(
            format!(
                r#"{{"type":"tool_use","id":"toolu_{message:024x}","name":"Read","input":{{"file_path":"/home/dev/proj/src/main.rs"}}}}"#
            ),
            count,
        );
        // A third of the results is a few lines, half of them some pages, the rest whole files.
        let pieces = match numbers.below(10) {
            0..3 => 1 + numbers.below(3),
            3..8 => 5 + numbers.below(30),
            _ => 40 + numbers.below(80),
        };
        let text = SOURCE.repeat(pieces as usize);
        let (result, output) = if numbers.below(20) == 0 {
            (
                format!(
                    r#""type":"tool_result","content":"{text}","is_error":true,"tool_use_id":"toolu_{message:024x}""#
                ),
                format!(r#""Error: {text}""#),
            )
        } else {
            (
                format!(
                    r#""tool_use_id":"toolu_{message:024x}","type":"tool_result","content":"{text}","is_error":false"#
                ),
                format!(
                    r#"{{"type":"text","file":{{"filePath":"/home/dev/proj/src/main.rs","content":"{text}","numLines":24}}}}"#
                ),
            )
        };
        let between =
            format!(r#""toolUseResult":{output},"sourceToolAssistantUUID":"{count:032x}","#);
        lines += &format!(
            r#"{{"parentUuid":"{count:032x}","isSidechain":false,"promptId":"p","type":"user","message":{{"role":"user","content":[{{{result}}}]}},{}"#,
            end_with(count, &between)
        );
        if numbers.below(4) == 0 {
            lines += &format!(
                r#"{{"parentUuid":"{count:032x}","isSidechain":false,"attachment":{{"type":"todo_reminder","content":"{}"}},"type":"attachment",{}"#,
                SOURCE.repeat(2),
                end(count)
            );
        }
    }
    let message = numbers.below(u64::MAX);
    add(tokens, [3, 11, 7, 5]);
    lines += &format!(
        r#"{{"parentUuid":"{count:032x}","isSidechain":false,"message":{{"id":"msg_{message:024x}","type":"message","role":"assistant","model":"claude-opus-4-8","content":[{{"type":"text","text":"It is done: module {count} is simpler now."}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":11}}}},"requestId":"r","type":"assistant",{}"#,
        end(count)
    );
    lines
}
