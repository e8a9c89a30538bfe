//! Reads the values of a JSON text one after another.
//!
//! A line of a transcript consists mostly of short strings that do not matter. `serde_json` takes 1.6
//! times as many instructions for it, which makes the first read of a long transcript a seventh
//! slower (measured). It still decodes strings with escapes and words the errors.

#![expect(
    clippy::inline_always,
    reason = "this package is optimized for size, so these would be called for every few bytes"
)]

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny};
use serde_json::Result;
use smallvec::SmallVec;
use wide::u8x32;

/// How deep the objects and arrays that are not skipped can be nested, as in `serde_json`.
const MAX_DEPTH: u8 = 127;

/// A place in a JSON text. Each public method reads what comes next, after any whitespace.
#[derive(Debug)]
pub struct Parser<'json> {
    json: &'json str,
    at: usize,
    depth: u8,
}

/// A type that can be read from JSON.
pub trait ReadJson<'json> {
    /// Reads the next value into this place. One of another type is skipped.
    fn read(&mut self, parser: &mut Parser<'json>) -> Result<()>;
}

impl<'json> Parser<'json> {
    /// A parser at the start of a text.
    #[must_use]
    pub const fn new(json: &'json str) -> Self {
        Self {
            json,
            at: 0,
            depth: 0,
        }
    }

    /// The first byte of what comes next, which says what it is.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<u8> {
        match self.byte() {
            Some(byte) if byte > b' ' => Ok(byte),
            _ => self.peek_after_whitespace(),
        }
    }

    #[cold]
    fn peek_after_whitespace(&mut self) -> Result<u8> {
        self.pass_whitespace();
        self.byte().ok_or_else(|| self.error())
    }

    fn pass_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    /// Checks that nothing comes next.
    pub fn end(&mut self) -> Result<()> {
        self.pass_whitespace();
        match self.byte() {
            None => Ok(()),
            Some(_) => Err(self.error()),
        }
    }

    /// Reads an object. `read_field` reads or skips the value of the field with this name.
    pub fn object(
        &mut self,
        mut read_field: impl FnMut(&str, &mut Self) -> Result<()>,
    ) -> Result<()> {
        self.items(b'{', |parser| {
            let name = parser.string()?;
            parser.pass(b':')?;
            read_field(&name, parser)
        })
    }

    /// Reads an array. `read_item` reads or skips one item.
    pub fn array(&mut self, read_item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.items(b'[', read_item)
    }

    /// Reads what is between an opening bracket and the closing one, separated by commas.
    #[inline(always)]
    fn items(
        &mut self,
        opening: u8,
        mut read_item: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.pass(opening)?;
        if self.depth == MAX_DEPTH {
            return Err(Error::custom("recursion limit exceeded"));
        }
        self.depth += 1;
        if self.peek()? != closing(opening) {
            read_item(self)?;
            while self.peek()? == b',' {
                self.at += 1;
                read_item(self)?;
            }
        }
        self.depth -= 1;
        self.pass(closing(opening))
    }

    /// Reads a string.
    #[inline(always)]
    pub fn string(&mut self) -> Result<Cow<'json, str>> {
        self.pass(b'"')?;
        let start = self.at;
        if self.pass_string()? {
            let quoted = &self.json[start - 1..self.at];
            return serde_json::from_str(quoted).map(Cow::Owned);
        }
        Ok(Cow::Borrowed(&self.json[start..self.at - 1]))
    }

    /// Reads a number. One that is out of range is infinite, as in JavaScript.
    pub fn number(&mut self) -> Result<f64> {
        self.peek()?;
        let start = self.at;
        self.pass_number()?;
        let text = &self.json[start..self.at];
        if let Ok(integer) = text.parse::<u32>() {
            return Ok(integer.into());
        }
        text.parse().map_err(Error::custom)
    }

    /// The JSON of the next value.
    pub fn raw(&mut self) -> Result<&'json str> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        Ok(&self.json[start..self.at])
    }

    /// Passes the next value, however deep it is nested.
    pub fn skip(&mut self) -> Result<()> {
        // The closing brackets of the objects and arrays around the next value.
        let mut around = SmallVec::<[u8; 32]>::new();
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.pass_string()?;
                }
                opening @ (b'{' | b'[') => {
                    self.at += 1;
                    let closing = closing(opening);
                    if self.peek()? != closing {
                        around.push(closing);
                        self.pass_name_within(closing)?;
                        continue;
                    }
                    self.at += 1;
                }
                b't' => self.pass_word("true")?,
                b'f' => self.pass_word("false")?,
                b'n' => self.pass_word("null")?,
                _ => self.pass_number()?,
            }
            while let Some(&closing) = around.last() {
                let byte = self.peek()?;
                if byte == b',' {
                    self.at += 1;
                    self.pass_name_within(closing)?;
                    break;
                }
                self.pass(closing)?;
                around.pop();
            }
            if around.is_empty() {
                return Ok(());
            }
        }
    }

    /// Passes the name of a field, if this is within an object.
    fn pass_name_within(&mut self, closing: u8) -> Result<()> {
        if closing == b'}' {
            self.pass(b'"')?;
            self.pass_string()?;
            self.pass(b':')?;
        }
        Ok(())
    }

    fn pass_word(&mut self, word: &str) -> Result<()> {
        if !self.json.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error());
        }
        self.at += word.len();
        Ok(())
    }

    fn pass_number(&mut self) -> Result<()> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.pass_digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.pass_digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.pass_digits()?;
        }
        Ok(())
    }

    fn pass_digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error());
        }
        Ok(())
    }

    /// Passes the rest of a string whose opening quotation mark was passed. Returns whether it
    /// contains an escape.
    #[inline(always)]
    fn pass_string(&mut self) -> Result<bool> {
        self.at = special(self.json.as_bytes(), self.at);
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(false);
        }
        self.pass_escapes().map(|()| true)
    }

    /// Passes the rest of a string, from its first escape on.
    #[inline(never)]
    fn pass_escapes(&mut self) -> Result<()> {
        let bytes = self.json.as_bytes();
        while self.byte() != Some(b'"') {
            self.at += match bytes[self.at..] {
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    ..,
                ] => 2,
                [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => {
                    6
                }
                _ => return Err(self.error()),
            };
            if self.byte() != Some(b'\\') {
                self.at = special(bytes, self.at);
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Passes this byte.
    #[inline(always)]
    fn pass(&mut self, byte: u8) -> Result<()> {
        if self.peek()? != byte {
            return Err(self.error());
        }
        self.at += 1;
        Ok(())
    }

    #[inline(always)]
    fn byte(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    /// What is wrong with the text.
    #[cold]
    fn error(&self) -> serde_json::Error {
        let error = serde_json::from_str::<IgnoredAny>(self.json).err();
        error.unwrap_or_else(|| Error::custom("expected another type"))
    }
}

/// The closing bracket, which follows the opening one by two places in ASCII.
const fn closing(opening: u8) -> u8 {
    opening + 2
}

/// The place of the next byte that does not stand for itself in a string: a quotation mark, a
/// backslash or a control character.
#[inline(always)]
fn special(bytes: &[u8], at: usize) -> usize {
    let mut rest = &bytes[at..];
    // Most strings end within the first 32 bytes, so the processor seldom mispredicts this loop.
    while let Some((chunk, next)) = rest.split_first_chunk() {
        let chunk = u8x32::new(*chunk);
        let found = chunk.simd_eq(u8x32::splat(b'"'))
            | chunk.simd_eq(u8x32::splat(b'\\'))
            | chunk.simd_le(u8x32::splat(0x1F));
        let found = found.to_bitmask();
        if found != 0 {
            return bytes.len() - rest.len() + found.trailing_zeros() as usize;
        }
        rest = next;
    }
    bytes.len() - rest.len() + special_in_rest(rest)
}

#[inline(never)]
fn special_in_rest(rest: &[u8]) -> usize {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    rest.iter().position(is_special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a whole text as a value.
    fn read<'json, T>(
        json: &'json str,
        read: impl FnOnce(&mut Parser<'json>) -> Result<T>,
    ) -> Result<T> {
        let mut parser = Parser::new(json);
        let value = read(&mut parser)?;
        parser.end()?;
        Ok(value)
    }

    fn descend(parser: &mut Parser<'_>) -> Result<()> {
        parser.array(descend)
    }

    fn accepts(json: &str) -> bool {
        read(json, Parser::skip).is_ok()
    }

    #[test]
    fn malformed_json_is_refused() {
        for json in [
            "",
            " ",
            "{",
            "}",
            "[1",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":1]",
            "[1}",
            "1 2",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "nulll",
            "\"a",
            "\"\t\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\",
            "\u{a0}1",
        ] {
            assert!(!accepts(json), "{json}");
            let expected = serde_json::from_str::<IgnoredAny>(json).unwrap_err();
            let error = read(json, Parser::skip).unwrap_err();
            assert_eq!(error.to_string(), expected.to_string(), "{json}");
        }
    }

    #[test]
    fn values_that_are_skipped_can_be_nested_deeper_than_others() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(accepts(&nested(10_000)));
        assert!(read(&nested(127), descend).is_ok());
        assert!(read(&nested(128), descend).is_err());
    }

    /// JSON texts, many of them with an error.
    fn texts() -> impl Strategy<Value = String> {
        let string = r#""([a-z {}\[\]:,é😀]|\\["\\/bfnrtux]|\\u[0-9a-fA-F]{4}|.){0,40}""#;
        let number = r"-?(0|[1-9][0-9]{0,20}|0[0-9])(\.[0-9]{0,3})?([eE][+-]?[0-9]{0,3})?";
        let scalar = prop_oneof![
            string,
            number,
            prop::sample::select(vec!["true", "false", "null", "{}", "[]", "nul"])
                .prop_map(str::to_owned),
        ];
        let value = scalar.prop_recursive(4, 40, 5, move |inner| {
            let blank = || prop::sample::select(vec!["", "", "", " ", "\n\t\r "]);
            let item = (blank(), inner, blank()).prop_map(|(a, item, b)| a.to_owned() + &item + b);
            let items = prop::collection::vec(item.clone(), 0..5);
            let fields = prop::collection::vec((string, item), 0..5);
            prop_oneof![
                items.prop_map(|items| format!("[{}]", items.join(","))),
                fields.prop_map(|fields| {
                    let fields = fields.into_iter().map(|(name, item)| name + ":" + &item);
                    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
                }),
            ]
        });
        let change = (
            any::<prop::sample::Index>(),
            "[\\[\\]{}:,\"\\\\ 0-9a-z\u{0}]?",
            0..3_usize,
        );
        (value, prop::option::of(change)).prop_map(|(text, change)| {
            let Some((place, new, removed)) = change else {
                return text;
            };
            let mut characters: Vec<char> = text.chars().collect();
            let place = place.index(characters.len());
            let end = characters.len().min(place + removed);
            characters.splice(place..end, new.chars());
            characters.into_iter().collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn accepts_what_serde_json_accepts(text in texts()) {
            let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(accepts(&text), expected);
        }

        #[test]
        fn strings_and_numbers_are_those_of_serde_json(text in texts()) {
            let expected = serde_json::from_str::<String>(&text).ok();
            prop_assert_eq!(read(&text, Parser::string).map(Cow::into_owned).ok(), expected);
            if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
                let expected = serde_json::from_str::<f64>(&text).ok();
                let number = read(&text, Parser::number).ok();
                prop_assert_eq!(number.filter(|number| number.is_finite()), expected);
            }
        }
    }
}
