//! One pass over an assistant line, as the client writes it.
//!
//! Answers are half of the lines that count, and `serde_json` took a third of a cold read's time for them: it looks at
//! every value with care, of which a tenth is wanted. Here the others are stepped over. This room never judges: what
//! is not plainly an assistant line in compact JSON is `None`, and [`super::records::parse`] decides.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;

use super::records::{Block, Envelope, Record, SYNTHETIC, Usage, Words, time, unescape};

/// How many digits a figure may have so that a Convex number (float64) surely holds it.
const MAX_DIGITS: usize = 15;
/// How far a string's end is looked for word by word, in bytes.
const NEAR: usize = 48;
/// How deep values that are stepped over may be nested.
const MAX_DEPTH: u8 = 64;

/// What was stepped over in the last line. The client ends `usage` and the line with the same bytes most of the time;
/// from the same place in a record the same bytes say the same, so they need no second look.
#[derive(Debug, Default)]
pub struct Habits {
    /// The rest of `usage` behind the last of the wanted figures.
    usage: Vec<u8>,
    /// The rest of the line behind `timestamp`.
    line: Vec<u8>,
    /// Where in that rest the steady fields stand.
    steady: [Option<Range<usize>>; STEADY],
}

/// Fields that hardly change from line to line: cwd, gitBranch, version, entrypoint, permissionMode.
const STEADY: usize = 5;

/// Reads an assistant line. `None` says nothing about the line.
#[must_use]
pub fn read<'a>(line: &'a [u8], habits: &mut Habits) -> Option<(Envelope<'a>, Record<'a>)> {
    // The lowest byte, and all bits of all of them; without a way out of the loop it is done by vectors.
    let (lowest, bits) = line.iter().fold((u8::MAX, 0), |(lowest, bits), &byte| (lowest.min(byte), bits | byte));
    let (has_control, is_ascii) = (lowest < b' ', bits.is_ascii());
    if has_control || !is_ascii && std::str::from_utf8(line).is_err() {
        return None;
    }
    let mut walk = Walk { line, at: 0 };
    let mut fields = Fields::default();
    walk.object(|walk, key| fields.take(walk, key, habits))?;
    if walk.at < line.len() {
        return None;
    }
    fields.teach(line, habits);
    fields.into_parts(line)
}

/// A string as it stands between its quotation marks.
type Raw<'a> = &'a [u8];

/// What is wanted of a line.
#[derive(Default)]
struct Fields<'a> {
    is_assistant: bool,
    uuid: Option<Raw<'a>>,
    parent_uuid: Option<Raw<'a>>,
    timestamp: Option<Raw<'a>>,
    is_sidechain: Option<bool>,
    agent_id: Option<Raw<'a>>,
    steady: [Option<Range<usize>>; STEADY],
    message: Option<Message<'a>>,
    /// Where the rest behind `timestamp` begins, as long as it holds nothing else of this line.
    rest: Option<usize>,
}

#[derive(Default)]
struct Message<'a> {
    id: Option<Raw<'a>>,
    model: Option<Raw<'a>>,
    usage: Option<Usage>,
    blocks: Option<Vec<Block<'a>>>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, walk: &mut Walk<'a>, key: Raw<'a>, habits: &mut Habits) -> Option<()> {
        let steady = match key {
            b"cwd" => 0,
            b"gitBranch" => 1,
            b"version" => 2,
            b"entrypoint" => 3,
            b"permissionMode" => 4,
            _ => return self.take_own(walk, key, habits),
        };
        let length = walk.string()?.len();
        once(&mut self.steady[steady], walk.at - 1 - length..walk.at - 1)
    }

    fn take_own(&mut self, walk: &mut Walk<'a>, key: Raw<'a>, habits: &mut Habits) -> Option<()> {
        let rest = self.rest.take();
        match key {
            b"type" if !self.is_assistant => {
                self.is_assistant = walk.string()? == b"assistant";
                self.is_assistant.then_some(())
            }
            b"uuid" => once(&mut self.uuid, walk.string()?),
            b"parentUuid" if self.parent_uuid.is_none() && walk.eat_all("null") => once(&mut self.parent_uuid, b""),
            b"parentUuid" => once(&mut self.parent_uuid, walk.string()?),
            b"timestamp" => {
                once(&mut self.timestamp, walk.string()?)?;
                if self.steady.iter().all(Option::is_none) {
                    self.rest = Some(walk.at);
                    if walk.ends_with(&habits.line) {
                        let moved = |place: &Range<usize>| place.start + walk.at..place.end + walk.at;
                        self.steady = habits.steady.each_ref().map(|place| place.as_ref().map(moved));
                        walk.at = walk.line.len() - 1;
                    }
                }
                Some(())
            }
            b"isSidechain" => once(&mut self.is_sidechain, walk.boolean()?),
            b"agentId" => once(&mut self.agent_id, walk.string()?),
            b"message" => {
                let mut message = Message::default();
                walk.object(|walk, key| message.take(walk, key, habits))?;
                once(&mut self.message, message)
            }
            // Of another meaning, or twice there.
            b"type" | b"isApiErrorMessage" | b"isMeta" | b"isCompactSummary" | b"origin" | b"subtype" | b"customTitle" | b"aiTitle"
            | b"summary" | b"totalCostUSD" => None,
            _ => {
                self.rest = rest;
                walk.skip(0)
            }
        }
    }

    /// Remembers the rest of the line for the next one.
    fn teach(&self, line: &[u8], habits: &mut Habits) {
        let Some(start) = self.rest.filter(|&start| line[start..] != habits.line) else { return };
        habits.line.clear();
        habits.line.extend_from_slice(&line[start..]);
        habits.steady = self.steady.each_ref().map(|place| place.as_ref().map(|place| place.start - start..place.end - start));
    }

    fn into_parts(self, line: &'a [u8]) -> Option<(Envelope<'a>, Record<'a>)> {
        let message = self.message.filter(|_| self.is_assistant)?;
        let record = Record::Assistant {
            id: decode(message.id.filter(|id| !id.is_empty())?)?,
            model: decode(message.model.filter(|model| !model.is_empty() && *model != SYNTHETIC.as_bytes())?)?,
            usage: message.usage.unwrap_or_default(),
            blocks: message.blocks.unwrap_or_default(),
        };
        let [cwd, git_branch, version, entrypoint, permission_mode] =
            self.steady.map(|place| text(place.and_then(|place| line.get(place))));
        let envelope = Envelope {
            uuid: text(self.uuid)?,
            at: match self.timestamp {
                Some(timestamp) => time(&decode(timestamp)?),
                None => None,
            },
            sidechain: self.is_sidechain.unwrap_or_default(),
            agent_id: text(self.agent_id)?,
            is_root: self.parent_uuid.is_none_or(<[u8]>::is_empty),
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
    fn take(&mut self, walk: &mut Walk<'a>, key: Raw<'a>, habits: &mut Habits) -> Option<()> {
        match key {
            // A user's line is left before its content is walked through.
            b"role" => (walk.string()? == b"assistant").then_some(()),
            b"id" => once(&mut self.id, walk.string()?),
            b"model" => once(&mut self.model, walk.string()?),
            b"usage" => once(&mut self.usage, usage(walk, &mut habits.usage)?),
            b"content" => {
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

fn usage(walk: &mut Walk<'_>, habit: &mut Vec<u8>) -> Option<Usage> {
    let mut figures = [None; 4];
    let mut rest = None;
    walk.object(|walk, key| {
        let place = match key {
            b"input_tokens" => 0,
            b"output_tokens" => 1,
            b"cache_read_input_tokens" => 2,
            b"cache_creation_input_tokens" => 3,
            _ => return walk.skip(0),
        };
        once(&mut figures[place], walk.figure()?)?;
        if figures.iter().all(Option::is_some) {
            rest = Some(walk.at);
            if !habit.is_empty() && walk.rest().starts_with(habit) {
                walk.at += habit.len() - 1;
            }
        }
        Some(())
    })?;
    if let Some(rest) = rest.map(|start| &walk.line[start..walk.at]).filter(|rest| *rest != habit) {
        habit.clear();
        habit.extend_from_slice(rest);
    }
    let [input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens] = figures.map(Option::unwrap_or_default);
    Some(Usage { input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens })
}

/// A content block: `Some(None)` for one that does not count.
#[expect(clippy::option_option, reason = "the outer one says that the full parse is needed, as everywhere here")]
fn block<'a>(walk: &mut Walk<'a>) -> Option<Option<Block<'a>>> {
    let [mut kind, mut words, mut id, mut name] = [None; 4];
    walk.object(|walk, key| match key {
        b"type" => once(&mut kind, walk.string()?),
        b"text" => once(&mut words, walk.string()?),
        b"id" => once(&mut id, walk.string()?),
        b"name" => once(&mut name, walk.string()?),
        b"tool_use_id" | b"is_error" => None,
        _ => walk.skip(0),
    })?;
    match kind {
        Some(b"text") => match words {
            Some(raw) if !raw.is_empty() => escaped(raw).map(|words| Some(Block::Text(words))),
            _ => Some(None),
        },
        Some(b"tool_use" | b"server_tool_use") => Some(text(id)?.zip(text(name)?).map(|(id, name)| Block::ToolUse { id, name })),
        // An escaped kind is for the full parse.
        Some(kind) => memchr(b'\\', kind).is_none().then_some(None),
        None => Some(None),
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

/// The text of a string that may be missing; an empty one is none.
#[expect(clippy::option_option, reason = "the outer one says that the full parse is needed, as everywhere here")]
fn text(raw: Option<Raw<'_>>) -> Option<Option<Cow<'_, str>>> {
    match raw {
        Some(raw) if !raw.is_empty() => decode(raw).map(Some),
        _ => Some(None),
    }
}

fn decode(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let raw = std::str::from_utf8(raw).ok()?;
    if raw.contains('\\') { unescape(raw).map(Cow::Owned) } else { Some(Cow::Borrowed(raw)) }
}

/// The words of a text block. They are left as they stand, as nobody will ask for most of them; but it is made sure
/// that they can be read later, and what stands for one half of a character is for the full parse.
fn escaped(raw: Raw<'_>) -> Option<Words<'_>> {
    let mut rest = raw;
    let mut has_escape = false;
    while let Some(at) = memchr(b'\\', rest) {
        let escape = *rest.get(at + 1)?;
        if !br#""\/bfnrt"#.contains(&escape) {
            return None;
        }
        has_escape = true;
        rest = &rest[at + 2..];
    }
    let raw = std::str::from_utf8(raw).ok()?;
    Some(if has_escape { Words::Escaped(raw.into()) } else { Words::Plain(raw.into()) })
}

/// Where the next quotation mark is. Most strings are shorter than what it costs to begin a search by vectors.
fn quote(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 255;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(NEAR / 8).enumerate() {
        // The lowest byte that equals the mark, and maybe some above it, gets its highest bit set.
        let other = u64::from_le_bytes(*word) ^ (EACH * u64::from(b'"'));
        let found = other.wrapping_sub(EACH) & !other & (EACH * 0x80);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let far = NEAR.min(words.len() * 8);
    memchr(b'"', &bytes[far..]).map(|at| far + at)
}

/// A place in a line of JSON that is known to hold no control characters.
struct Walk<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.line[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn eat_all(&mut self, bytes: &str) -> bool {
        let is_there = self.rest().starts_with(bytes.as_bytes());
        self.at += if is_there { bytes.len() } else { 0 };
        is_there
    }

    /// Whether the rest is `bytes`, and they are some.
    fn ends_with(&self, bytes: &[u8]) -> bool {
        !bytes.is_empty() && self.rest() == bytes
    }

    /// Walks through an object; `each` has to take the value of each key.
    fn object(&mut self, mut each: impl FnMut(&mut Self, Raw<'a>) -> Option<()>) -> Option<()> {
        self.eat(b'{')?;
        if self.peek()? == b'}' {
            return self.eat(b'}');
        }
        loop {
            let key = self.string()?;
            // It may be one of the wanted keys.
            if memchr(b'\\', key).is_some() {
                return None;
            }
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

    fn string(&mut self) -> Option<Raw<'a>> {
        self.eat(b'"')?;
        let start = self.at;
        let bytes = self.line;
        loop {
            let end = self.at + quote(&bytes[self.at..])?;
            self.at = end + 1;
            // A quotation mark behind an odd number of backslashes is escaped.
            let backslashes = bytes[start..end].iter().rev().take_while(|&&byte| byte == b'\\').count();
            if backslashes % 2 == 0 {
                return Some(&bytes[start..end]);
            }
        }
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.scalar() {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    fn figure(&mut self) -> Option<u64> {
        let digits = self.scalar();
        if digits.len() <= MAX_DIGITS && is_whole_number(digits) { decode(digits)?.parse().ok() } else { None }
    }

    /// What stands up to the end of the value.
    fn scalar(&mut self) -> Raw<'a> {
        let start = self.at;
        while self.peek().is_some_and(|byte| !matches!(byte, b',' | b'}' | b']')) {
            self.at += 1;
        }
        &self.line[start..self.at]
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
    digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || digits.first().is_some_and(|&first| first != b'0'))
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
        assert!(read.contains("output_tokens: 11") && read.contains(r#"ToolUse { id: "t1", name: "Read" }"#), "{read}");
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
