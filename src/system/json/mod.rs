//! JSON as the client writes it. Any field may be missing, have another type, or contain half of a
//! surrogate pair; none of that is an error.

mod object;
mod parser;

use std::borrow::Cow;

use serde::de::Error;
use serde_json::Result;

pub(crate) use self::object::object;
pub use self::object::{Lenient, Object};
pub use self::parser::{Parser, ReadJson};

/// The largest integer that a Convex number (float64) represents exactly; larger counts are
/// garbage.
const MAX_COUNT: f64 = 9_007_199_254_740_991.0;

/// The byte order mark that some programs on Windows write before UTF-8.
pub const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A JSON value of which only scalars matter. Arrays and objects are skipped.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scalar<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Missing, null, an array, an object, or a number that no f64 can hold.
    #[default]
    Other,
}

impl<'a> Scalar<'a> {
    /// The string, if it is one and not empty.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// As [`Scalar::text`], with the lifetime of the JSON.
    #[must_use]
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// As [`Scalar::text`], copied.
    #[must_use]
    pub fn owned(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    /// The number as a count; 0 if it is not a count or larger than 2^53.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    pub fn count(&self) -> u64 {
        match self {
            Self::Number(number) if (0.0..=MAX_COUNT).contains(number) => *number as u64,
            _ => 0,
        }
    }
}

impl<'json: 'a, 'a> ReadJson<'json> for Scalar<'a> {
    fn read(&mut self, parser: &mut Parser<'json>) -> Result<()> {
        *self = match parser.peek()? {
            b'"' => Self::Text(parser.string()?),
            first @ (b't' | b'f') => {
                parser.skip()?;
                Self::Bool(first == b't')
            }
            b'-' | b'0'..=b'9' => {
                let number = parser.number()?;
                if number.is_finite() {
                    Self::Number(number)
                } else {
                    Self::Other
                }
            }
            _ => {
                parser.skip()?;
                Self::Other
            }
        };
        Ok(())
    }
}

/// Whether a value is `true`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flag(pub bool);

impl<'a> ReadJson<'a> for Flag {
    fn read(&mut self, parser: &mut Parser<'a>) -> Result<()> {
        self.0 = parser.peek()? == b't';
        parser.skip()
    }
}

/// A number as a count ([`Scalar::count`]).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count(pub u64);

impl<'a> ReadJson<'a> for Count {
    fn read(&mut self, parser: &mut Parser<'a>) -> Result<()> {
        let mut scalar = Scalar::default();
        scalar.read(parser)?;
        self.0 = scalar.count();
        Ok(())
    }
}

/// The JSON of a value; empty if it is missing.
#[derive(Debug, Default)]
pub struct Raw<'a>(pub &'a str);

impl<'json: 'a, 'a> ReadJson<'json> for Raw<'a> {
    fn read(&mut self, parser: &mut Parser<'json>) -> Result<()> {
        self.0 = parser.raw()?;
        Ok(())
    }
}

/// The items of an array; none for a value of another type.
#[derive(Debug)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T: ReadJson<'a> + Default> ReadJson<'a> for List<T> {
    fn read(&mut self, parser: &mut Parser<'a>) -> Result<()> {
        self.0.clear();
        if parser.peek()? != b'[' {
            return parser.skip();
        }
        parser.array(|parser| {
            let mut item = T::default();
            item.read(parser)?;
            self.0.push(item);
            Ok(())
        })
    }
}

/// Parses a JSON object, with or without a byte order mark.
pub fn parse_object<'a, T: Object<'a>>(json: &'a [u8]) -> Result<T> {
    let json = json
        .strip_prefix(BYTE_ORDER_MARK.as_bytes())
        .unwrap_or(json);
    let text = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
    let mut object = T::default();
    let mut parser = Parser::new(text);
    if parser.peek()? != b'{' {
        let message = "expected a JSON object at line 1 column 1";
        return Err(serde_json::Error::custom(message));
    }
    parser.object(|key, parser| object.read_field(key, parser))?;
    parser.end()?;
    Ok(object)
}

/// Replaces what a Rust string cannot contain, bytes that are not UTF-8 and lone surrogates
/// (`\ud83d` without its other half), by U+FFFD. `None` if there is nothing to replace.
#[must_use]
pub fn repair(json: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(json);
    let bytes = text.as_bytes();
    let mut repaired = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        repaired.extend_from_slice(before);
        let length = match surrogate(escape) {
            Some(0xD800..=0xDBFF)
                if matches!(escape.get(6..).and_then(surrogate), Some(0xDC00..=0xDFFF)) =>
            {
                12
            }
            Some(_) => {
                repaired.extend_from_slice(b"\\ufffd");
                rest = &escape[6..];
                continue;
            }
            None => escape.len().min(2),
        };
        repaired.extend_from_slice(&escape[..length]);
        rest = &escape[length..];
    }
    repaired.extend_from_slice(rest);
    (repaired != json).then_some(repaired)
}

/// The value of a `\uXXXX` escape at the start of `bytes`, if it is one half of a surrogate pair.
fn surrogate(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..=0xDFFF).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_that_is_out_of_range_is_nothing() {
        for (json, expected) in [
            ("1e308", Scalar::Number(1e308)),
            ("1e309", Scalar::Other),
            ("-1e309", Scalar::Other),
        ] {
            let mut scalar = Scalar::default();
            scalar.read(&mut Parser::new(json)).unwrap();
            assert_eq!(scalar, expected, "{json}");
        }
    }

    #[test]
    fn repair_changes_only_lone_surrogates_and_invalid_bytes() {
        assert_eq!(repair(br#"{"a":"\ud83d\ude00 \\ud83d ok"}"#), None);
        assert_eq!(
            repair(br#"{"a":"\ud83d x \ude00"}"#).unwrap(),
            br#"{"a":"\ufffd x \ufffd"}"#
        );
        assert_eq!(
            repair(b"{\"a\":\"\xff\"}").unwrap(),
            "{\"a\":\"\u{fffd}\"}".as_bytes()
        );
        assert_eq!(repair(br#""\ud83d"#).unwrap(), br#""\ufffd"#);
    }
}
