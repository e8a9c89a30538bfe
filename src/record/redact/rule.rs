//! How one kind of secret is found in a text.

use std::ops::Range;
use std::sync::OnceLock;

use memchr::{memchr, memmem, memrchr};
use regex_lite::{Captures, Regex};

use super::value;

/// How much of a long line before and after a needle is searched, in bytes. A match that ends at
/// the limit is searched again in the whole line.
const BEFORE: usize = 256;
pub(super) const AFTER: usize = 4096;

/// By what factor finding the end of a line is faster than matching an expression.
const FASTER: usize = 64;

/// How much the expressions may still search, in bytes. The work is counted instead of timed, so
/// that a text is always stored in the same way.
pub(super) struct Work(usize);

impl Work {
    pub const fn limited(bytes: usize) -> Self {
        Self(bytes)
    }

    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }
}

/// Where a match starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At a needle, whatever precedes it.
    Needle,
    /// At a needle that no letter or digit precedes, unless it belongs to an escape such as `\n` or
    /// `%3D`.
    Word,
    /// Anywhere in the line of a needle.
    Anywhere,
}

/// One kind of secret. The expression is compiled and run only for a line that contains one of the
/// needles, because running all expressions on all texts would take longer than the rest of a hook.
pub(super) struct Rule {
    pub kind: &'static str,
    /// A needle in lower case also matches upper case.
    pub needles: &'static [&'static str],
    pub start: Start,
    /// The secret is the match of the group `any`, `given`, `mixed` or `random` (see [`value`]), or
    /// the whole match if there is no such group. A group `name` is the name of a variable.
    pub expression: &'static str,
    /// How much of a long line after a needle is searched, in bytes. A needle that is frequent in
    /// ordinary text, and whose secret is near it, has less.
    pub within: usize,
    /// How many bytes after the line are searched as well.
    pub reach: usize,
    pub compiled: OnceLock<Option<Regex>>,
    /// A text in which the secret is between « and », and a text that is not masked. `<N>` stands
    /// for N letters and digits, `<hN>` for hexadecimal digits, `<AN>` for capitals and digits.
    #[cfg(test)]
    pub examples: (&'static str, &'static str),
}

/// A secret in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub range: Range<usize>,
    /// The number of the rule; the first one names the kind.
    pub rule: usize,
}

/// A text, prepared for looking for many needles.
pub(super) struct Haystack<'a> {
    text: &'a str,
    lower: String,
    /// The pairs of neighboring bytes in the text, in lower case and with seven bits each. Most
    /// needles contain a pair that an ordinary text does not contain.
    pairs: [u64; 256],
}

impl<'a> Haystack<'a> {
    pub fn new(text: &'a str) -> Self {
        let lower = text.to_ascii_lowercase();
        let mut pairs = [0; 256];
        for pair in lower.as_bytes().windows(2) {
            let (word, bit) = position(pair);
            pairs[word] |= bit;
        }
        Self { text, lower, pairs }
    }

    /// Where the needles are, in order.
    fn hits(&self, needles: &[&str]) -> Vec<usize> {
        let mut hits = Vec::new();
        for needle in needles {
            let may_be_there = needle.as_bytes().windows(2).all(|pair| {
                let (word, bit) = position(pair);
                self.pairs[word] & bit != 0
            });
            if !may_be_there {
                continue;
            }
            let is_exact = needle.bytes().any(|byte| byte.is_ascii_uppercase());
            let searched = if is_exact { self.text } else { &self.lower };
            hits.extend(memmem::find_iter(searched.as_bytes(), needle.as_bytes()));
        }
        hits.sort_unstable();
        hits
    }
}

/// The place of a pair in [`Haystack::pairs`]. Letters share it with their capitals, and some other
/// characters with each other, so a pair that is not there may seem to be.
fn position(pair: &[u8]) -> (usize, u64) {
    let bits = |byte: u8| usize::from((byte | 0x20) & 0x7f);
    let index = bits(pair[0]) << 7 | bits(pair[1]);
    (index / 64, 1 << (index % 64))
}

impl Rule {
    pub fn regex(&self) -> Option<&Regex> {
        let compiled = || match self.start {
            Start::Anywhere => Regex::new(self.expression),
            Start::Needle | Start::Word => Regex::new(&format!("^(?:{})", self.expression)),
        };
        self.compiled.get_or_init(|| compiled().ok()).as_ref()
    }

    /// Adds the secrets of this kind to `found`. `None` if that takes more than the rest of `work`.
    pub fn find(
        &self,
        rule: usize,
        haystack: &Haystack<'_>,
        work: &mut Work,
        found: &mut Vec<Found>,
    ) -> Option<()> {
        let text = haystack.text;
        let mut searched = 0;
        for hit in haystack.hits(self.needles) {
            if hit < searched || self.start == Start::Word && !starts_word(&text[..hit]) {
                continue;
            }
            // If an expression is invalid, the text is left out. A test compiles all of them.
            let regex = self.regex()?;
            let line_end = memchr(b'\n', &text.as_bytes()[hit..]).map_or(text.len(), |at| hit + at);
            let end = text.floor_char_boundary(line_end.saturating_add(self.reach));
            let near = text.floor_char_boundary(end.min(hit + self.within + self.reach));
            let start = if self.start == Start::Anywhere {
                let line = memrchr(b'\n', &text.as_bytes()[..hit]).map_or(0, |at| at + 1);
                text.floor_char_boundary(line.max(hit.saturating_sub(BEFORE)))
            } else {
                hit
            };
            let mut window = start..near;
            work.spend(window.len() + (end - start) / FASTER)?;
            let mut secrets = secrets(regex, text, window.clone());
            if near < end && secrets.iter().any(|secret| secret.end == near) {
                window.end = end;
                work.spend(window.len())?;
                secrets = self::secrets(regex, text, window.clone());
            }
            searched = match self.start {
                Start::Needle | Start::Word => hit + 1,
                Start::Anywhere if window.end == end => line_end,
                // The next window may need the end of this one as context.
                Start::Anywhere => hit + self.within / 2,
            };
            found.extend(secrets.into_iter().map(|range| Found { range, rule }));
        }
        Some(())
    }
}

/// Whether a word can start after `before`.
fn starts_word(before: &str) -> bool {
    let before = before.as_bytes();
    match before {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'%', first, second] => first.is_ascii_hexdigit() && second.is_ascii_hexdigit(),
        _ => before
            .last()
            .is_none_or(|last| !last.is_ascii_alphanumeric()),
    }
}

/// The secrets that the expression finds in a part of the text.
fn secrets(regex: &Regex, text: &str, part: Range<usize>) -> Vec<Range<usize>> {
    let from = part.start;
    let secret = |captures: Captures<'_>| {
        let whole = captures.get(0)?;
        let mut secret = whole.range();
        for (name, group) in regex.capture_names().zip(captures.iter()) {
            let (Some(name), Some(group)) = (name, group) else {
                continue;
            };
            if !value::is_secret(name, group.as_str(), &text[..from + whole.start()]) {
                return None;
            }
            secret = group.range();
        }
        Some(from + secret.start..from + secret.end)
    };
    regex
        .captures_iter(&text[part])
        .filter_map(secret)
        .collect()
}
