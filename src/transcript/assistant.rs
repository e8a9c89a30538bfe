//! One pass over an assistant line, as the client writes it.
//!
//! Answers are half of the lines that count, and `serde_json` took a third of a cold read's time
//! for them: it looks at every value with care, of which a tenth is wanted. Here the others are
//! stepped over. This room never judges: what is not plainly an assistant line in compact JSON is
//! `None`, and [`super::records::parse`] decides.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::records::{Block, Envelope, Record, SYNTHETIC, Usage, Words, time, unescape};

/// How many digits a figure may have so that a Convex number (float64) surely holds it.
const MAX_DIGITS: usize = 15;
/// How far a string's end is looked for word by word, in bytes.
const NEAR: usize = 48;
/// How deep values that are stepped over may be nested.
const MAX_DEPTH: u8 = 64;

/// What was stepped over in the last line. The client ends `usage` and the line with the same bytes
/// most of the time; from the same place in a record the same bytes say the same, so they need no
/// second look.
#[derive(Debug, Default)]
pub struct Habits {
    /// The rest of `usage` behind the last of the wanted figures.
    usage: String,
    /// The rest of the line behind `timestamp`.
    line: String,
    /// Where in that rest the steady fields stand.
    steady: [Option<Raw>; STEADY],
}

/// Fields that hardly change from line to line: cwd, gitBranch, version, entrypoint,
/// permissionMode.
const STEADY: usize = 5;

/// Reads an assistant line. `None` says nothing about the line.
#[must_use]
pub fn read<'a>(line: &'a [u8], habits: &mut Habits) -> Option<(Envelope<'a>, Record<'a>)> {
    // The lowest byte; without a way out of the loop it is found by vectors.
    let has_control = line.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte)) < b' ';
    let line = std::str::from_utf8(line).ok().filter(|_| !has_control)?;
    let mut walk = Walk { line, at: 0 };
    let mut fields = Fields::default();
    walk.object(|walk, key| fields.take(walk, key, habits))?;
    if walk.at < line.len() {
        return None;
    }
    fields.teach(line, habits);
    fields.into_parts(line)
}

/// A string as it stands between its quotation marks, by its place in the line.
#[derive(Debug, Clone, Copy)]
struct Raw {
    start: usize,
    end: usize,
    /// Whether it has to be read before it can be compared.
    is_escaped: bool,
}

impl Raw {
    /// The same in a line where all stands so much later.
    const fn moved(self, by: usize) -> Self {
        Self {
            start: self.start + by,
            end: self.end + by,
            ..self
        }
    }
}

/// What is wanted of a line.
#[derive(Default)]
struct Fields<'a> {
    is_assistant: bool,
    uuid: Option<Raw>,
    parent_uuid: Option<Raw>,
    timestamp: Option<Raw>,
    is_sidechain: Option<bool>,
    agent_id: Option<Raw>,
    steady: [Option<Raw>; STEADY],
    message: Option<Message<'a>>,
    /// Where the rest behind `timestamp` begins, as long as it holds nothing else of this line.
    rest: Option<usize>,
}

#[derive(Default)]
struct Message<'a> {
    id: Option<Raw>,
    model: Option<Raw>,
    usage: Option<Usage>,
    blocks: Option<Vec<Block<'a>>>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, walk: &mut Walk<'a>, key: &str, habits: &mut Habits) -> Option<()> {
        let steady = match key {
            "cwd" => 0,
            "gitBranch" => 1,
            "version" => 2,
            "entrypoint" => 3,
            "permissionMode" => 4,
            _ => return self.take_own(walk, key, habits),
        };
        once(&mut self.steady[steady], walk.string()?)
    }

    fn take_own(&mut self, walk: &mut Walk<'a>, key: &str, habits: &mut Habits) -> Option<()> {
        let rest = self.rest.take();
        match key {
            "type" if !self.is_assistant => {
                self.is_assistant = walk.word()? == "assistant";
                self.is_assistant.then_some(())
            }
            "uuid" => once(&mut self.uuid, walk.string()?),
            "parentUuid" if self.parent_uuid.is_none() && walk.eat_all("null") => once(
                &mut self.parent_uuid,
                Raw {
                    start: walk.at,
                    end: walk.at,
                    is_escaped: false,
                },
            ),
            "parentUuid" => once(&mut self.parent_uuid, walk.string()?),
            "timestamp" => {
                once(&mut self.timestamp, walk.string()?)?;
                if self.steady.iter().all(Option::is_none) {
                    self.rest = Some(walk.at);
                    if walk.ends_with(&habits.line) {
                        self.steady = habits.steady.map(|raw| raw.map(|raw| raw.moved(walk.at)));
                        walk.at = walk.line.len() - 1;
                    }
                }
                Some(())
            }
            "isSidechain" => once(&mut self.is_sidechain, walk.boolean()?),
            "agentId" => once(&mut self.agent_id, walk.string()?),
            "message" => {
                let mut message = Message::default();
                walk.object(|walk, key| message.take(walk, key, habits))?;
                once(&mut self.message, message)
            }
            // Of another meaning, or twice there.
            "type" | "isApiErrorMessage" | "isMeta" | "isCompactSummary" | "origin" | "subtype"
            | "customTitle" | "aiTitle" | "summary" | "totalCostUSD" => None,
            _ => {
                self.rest = rest;
                walk.skip(0)
            }
        }
    }

    /// Remembers the rest of the line for the next one.
    fn teach(&self, line: &str, habits: &mut Habits) {
        let Some((start, rest)) = self
            .rest
            .and_then(|start| Some((start, line.get(start..)?)))
        else {
            return;
        };
        if rest != habits.line {
            rest.clone_into(&mut habits.line);
            habits.steady = self.steady.map(|raw| {
                raw.map(|raw| Raw {
                    start: raw.start - start,
                    end: raw.end - start,
                    ..raw
                })
            });
        }
    }

    fn into_parts(self, line: &'a str) -> Option<(Envelope<'a>, Record<'a>)> {
        let message = self.message.filter(|_| self.is_assistant)?;
        let record = Record::Assistant {
            id: text(line, message.id)??,
            model: text(line, message.model)?.filter(|model| model != SYNTHETIC)?,
            usage: message.usage.unwrap_or_default(),
            blocks: message.blocks.unwrap_or_default(),
        };
        let [cwd, git_branch, version, entrypoint, permission_mode] =
            self.steady.map(|raw| text(line, raw));
        let envelope = Envelope {
            uuid: text(line, self.uuid)?,
            at: text(line, self.timestamp)?.and_then(|timestamp| time(&timestamp)),
            sidechain: self.is_sidechain.unwrap_or_default(),
            agent_id: text(line, self.agent_id)?,
            is_root: self
                .parent_uuid
                .is_none_or(|parent| parent.start == parent.end),
            cwd: cwd?,
            git_branch: git_branch?,
            version: version?,
            entrypoint: entrypoint?,
            permission_mode: permission_mode?,
        };
        Some((envelope, record))
    }
}

impl<'a> Message<'a> {
    fn take(&mut self, walk: &mut Walk<'a>, key: &str, habits: &mut Habits) -> Option<()> {
        match key {
            // A user's line is left before its content is walked through.
            "role" => (walk.word()? == "assistant").then_some(()),
            "id" => once(&mut self.id, walk.string()?),
            "model" => once(&mut self.model, walk.string()?),
            "usage" => once(&mut self.usage, usage(walk, &mut habits.usage)?),
            "content" => {
                let mut blocks = Vec::new();
                walk.array(|walk| {
                    blocks.extend(block(walk)?);
                    Some(())
                })?;
                once(&mut self.blocks, blocks)
            }
            _ => walk.skip(0),
        }
    }
}

fn usage(walk: &mut Walk<'_>, habit: &mut String) -> Option<Usage> {
    let mut figures = [None; 4];
    let mut rest = None;
    walk.object(|walk, key| {
        let place = match key {
            "input_tokens" => 0,
            "output_tokens" => 1,
            "cache_read_input_tokens" => 2,
            "cache_creation_input_tokens" => 3,
            _ => return walk.skip(0),
        };
        once(&mut figures[place], walk.figure()?)?;
        if figures.iter().all(Option::is_some) {
            rest = Some(walk.at);
            if !habit.is_empty() && walk.rest().starts_with(habit.as_bytes()) {
                walk.at += habit.len() - 1;
            }
        }
        Some(())
    })?;
    if let Some(rest) = rest
        .and_then(|start| walk.line.get(start..walk.at))
        .filter(|rest| rest != habit)
    {
        rest.clone_into(habit);
    }
    let [
        input_tokens,
        output_tokens,
        cache_read_input_tokens,
        cache_creation_input_tokens,
    ] = figures.map(Option::unwrap_or_default);
    Some(Usage {
        input_tokens,
        output_tokens,
        cache_read_input_tokens,
        cache_creation_input_tokens,
    })
}

/// A content block: `Some(None)` for one that does not count.
#[expect(
    clippy::option_option,
    reason = "the outer one says that the full parse is needed, as everywhere here"
)]
fn block<'a>(walk: &mut Walk<'a>) -> Option<Option<Block<'a>>> {
    let [mut words, mut id, mut name] = [None; 3];
    let mut kind = None;
    walk.object(|walk, key| match key {
        "type" => once(&mut kind, walk.word()?),
        "text" => once(&mut words, walk.string()?),
        "id" => once(&mut id, walk.string()?),
        "name" => once(&mut name, walk.string()?),
        "tool_use_id" | "is_error" => None,
        _ => walk.skip(0),
    })?;
    let line = walk.line;
    match kind {
        Some("text") => match words {
            Some(raw) if raw.start < raw.end => {
                words_of(line, raw).map(|words| Some(Block::Text(words)))
            }
            _ => Some(None),
        },
        Some("tool_use" | "server_tool_use") => Some(
            text(line, id)?
                .zip(text(line, name)?)
                .map(|(id, name)| Block::ToolUse { id, name }),
        ),
        _ => Some(None),
    }
}

/// Fills a place that is still empty; a key that stands there twice is for the full parse.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value);
    Some(())
}

/// What a string says that may be missing; an empty one is none.
#[expect(
    clippy::option_option,
    reason = "the outer one says that the full parse is needed, as everywhere here"
)]
fn text(line: &str, raw: Option<Raw>) -> Option<Option<Cow<'_, str>>> {
    let Some(Raw {
        start,
        end,
        is_escaped,
    }) = raw.filter(|raw| raw.start < raw.end)
    else {
        return Some(None);
    };
    let text = line.get(start..end)?;
    Some(Some(if is_escaped {
        Cow::Owned(unescape(text)?)
    } else {
        Cow::Borrowed(text)
    }))
}

/// The words of a text block. They are left as they stand, as nobody will ask for most of them; but
/// it is made sure that they can be read later, and what stands for one half of a character is for
/// the full parse.
fn words_of(line: &str, raw: Raw) -> Option<Words<'_>> {
    let text = line.get(raw.start..raw.end)?;
    if !raw.is_escaped {
        return Some(Words::Plain(text.into()));
    }
    let mut rest = text.as_bytes();
    while let Some(at) = memchr(b'\\', rest) {
        if !br#""\/bfnrt"#.contains(rest.get(at + 1)?) {
            return None;
        }
        rest = &rest[at + 2..];
    }
    Some(Words::Escaped(text.into()))
}

/// Where the next quotation mark or backslash is. Most strings are shorter than what it costs to
/// begin a search by vectors.
fn mark(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 255;
    // The lowest byte that equals the mark, and maybe some above it, gets its highest bit set.
    let marked = |word: u64, mark: u8| {
        let other = word ^ (EACH * u64::from(mark));
        other.wrapping_sub(EACH) & !other & (EACH * 0x80)
    };
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(NEAR / 8).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = marked(word, b'"') | marked(word, b'\\');
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let far = NEAR.min(words.len() * 8);
    memchr2(b'"', b'\\', &bytes[far..]).map(|at| far + at)
}

/// A place in a line of JSON that is known to hold no control characters.
struct Walk<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.line.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn eat_all(&mut self, bytes: &str) -> bool {
        let is_there = self.rest().starts_with(bytes.as_bytes());
        self.at += if is_there { bytes.len() } else { 0 };
        is_there
    }

    /// Whether the rest is `text`, and that is some.
    fn ends_with(&self, text: &str) -> bool {
        !text.is_empty() && self.rest() == text.as_bytes()
    }

    /// Walks through an object; `each` has to take the value of each key.
    fn object(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.eat(b'{')?;
        if self.peek()? == b'}' {
            return self.eat(b'}');
        }
        loop {
            let key = self.word()?;
            self.eat(b':')?;
            each(self, key)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.eat(b'}'),
            }
        }
    }

    fn array(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.eat(b'[')?;
        if self.peek()? == b']' {
            return self.eat(b']');
        }
        loop {
            each(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.eat(b']'),
            }
        }
    }

    fn string(&mut self) -> Option<Raw> {
        self.eat(b'"')?;
        let start = self.at;
        let mut is_escaped = false;
        loop {
            let end = self.at + mark(self.line.as_bytes().get(self.at..)?)?;
            if self.line.as_bytes()[end] == b'"' {
                self.at = end + 1;
                return Some(Raw {
                    start,
                    end,
                    is_escaped,
                });
            }
            is_escaped = true;
            self.at = end + 2;
        }
    }

    /// A string that is compared with what it may say; one with an escape may be any of them and is
    /// for the full parse.
    fn word(&mut self) -> Option<&'a str> {
        let raw = self.string().filter(|raw| !raw.is_escaped)?;
        self.line.get(raw.start..raw.end)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.scalar() {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    fn figure(&mut self) -> Option<u64> {
        let start = self.at;
        let mut figure = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            figure = figure * 10 + u64::from(digit - b'0');
            self.at += 1;
            if self.at - start > MAX_DIGITS {
                return None;
            }
        }
        let digits = &self.line.as_bytes()[start..self.at];
        (is_whole_number(digits) && matches!(self.peek()?, b',' | b'}')).then_some(figure)
    }

    /// What stands up to the end of the value.
    fn scalar(&mut self) -> &'a [u8] {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|byte| !matches!(byte, b',' | b'}' | b']'))
        {
            self.at += 1;
        }
        &self.line.as_bytes()[start..self.at]
    }

    fn skip(&mut self, depth: u8) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' if depth < MAX_DEPTH => self.object(|walk, _| walk.skip(depth + 1)),
            b'[' if depth < MAX_DEPTH => self.array(|walk| walk.skip(depth + 1)),
            _ => match self.scalar() {
                b"true" | b"false" | b"null" => Some(()),
                number if is_whole_number(number) => Some(()),
                number => serde_json::from_slice::<f64>(number).ok().map(drop),
            },
        }
    }
}

fn is_whole_number(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_digit)
        && (digits == b"0" || digits.first().is_some_and(|&first| first != b'0'))
}

#[cfg(test)]
mod tests {
    use super::super::records::parse;
    use super::*;
    use proptest::prelude::*;

    /// After a line like this one, and after none.
    fn read_twice(line: &[u8]) -> Option<String> {
        let mut habits = Habits::default();
        let first = read(line, &mut habits).map(|parts| format!("{parts:?}"));
        assert!(read(LINE.as_bytes(), &mut habits).is_some());
        let second = read(line, &mut habits).map(|parts| format!("{parts:?}"));
        assert_eq!(first, second);
        second
    }

    const LINE: &str = r#"{"parentUuid":null,"isSidechain":false,"message":{"id":"m1","type":"message","role":"assistant","model":"x","content":[{"type":"thinking","thinking":"a \"b\" \\","signature":"c"},{"type":"text","text":"one\ntwo"},{"type":"tool_use","id":"t1","name":"Read","input":{"file":{"a":[1,-2.5e3,{}],"b":null},"usage":{"input_tokens":9}}}],"stop_reason":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":11,"iterations":[]}},"requestId":"r","type":"assistant","uuid":"u1","timestamp":"2026-11-22T10:00:00.000Z","cwd":"/p","version":"2.1.197","gitBranch":""}"#;

    #[test]
    fn it_says_what_the_full_parse_says() {
        let read = read_twice(LINE.as_bytes()).unwrap();
        assert_eq!(read, format!("{:?}", parse(LINE.as_bytes()).unwrap()));
        assert!(
            read.contains("output_tokens: 11")
                && read.contains(r#"ToolUse { id: "t1", name: "Read" }"#),
            "{read}"
        );
    }

    #[test]
    fn what_is_not_plainly_an_answer_is_left() {
        let left = [
            LINE.replace("\"assistant\",\"uuid\"", "\"user\",\"uuid\""),
            LINE.replace("\"model\":\"x\"", "\"model\":\"<synthetic>\""),
            LINE.replace("\"id\":\"m1\",", ""),
            LINE.replace("\"id\":\"m1\",", "\"id\":\"m1\",\"id\":\"m2\","),
            LINE.replace("\"output_tokens\":11", "\"output_tokens\":-11"),
            LINE.replace("\"uuid\"", "\"isApiErrorMessage\":true,\"uuid\""),
            LINE.replace("\"model\"", "\"mode\\u006c\""),
            LINE.replace(',', ", "),
            LINE.replace("\"gitBranch\":\"\"}", "\"gitBranch\":\"\"}}"),
            LINE[..LINE.len() - 1].to_owned(),
        ];
        for line in left {
            assert!(read_twice(line.as_bytes()).is_none(), "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Some bytes of a line are others: either it is left, or it says what the full parse says.
        #[test]
        fn damage_is_never_taken_for_something_else(
            damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(br#"{}[]",:0-9etnx "#.to_vec())), 1..4),
            moved in any::<Option<(prop::sample::Index, prop::sample::Index)>>(),
        ) {
            let mut line = LINE.as_bytes().to_vec();
            for (place, byte) in damage {
                let place = place.index(line.len());
                line[place] = byte;
            }
            if let Some((from, to)) = moved {
                let (from, to) = (from.index(line.len()), to.index(line.len()));
                line.copy_within(from..(from + 20).min(LINE.len()), to.min(LINE.len() - 20));
            }
            // A bad escape in what nobody wants to know is stepped over.
            if let (Some(read), false) = (read_twice(&line), line.windows(2).any(|pair| pair[0] == b'\\' && !br#"\"n"#.contains(&pair[1]))) {
                prop_assert_eq!(read, format!("{:?}", parse(&line).unwrap()));
            }
        }
    }
}
