//! JSON as the client writes it. Any field may be missing, have another type, or contain half of a
//! surrogate pair; none of that is an error.

mod object;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub(crate) use self::object::object;
pub use self::object::{Lenient, Object, Place};

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
    /// Any number.
    Number(f64),
    /// Missing, null, an array or an object.
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

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts beyond 2^53 are not used"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts beyond 2^53 are not used"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// Whether a value is `true`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(|value| Self(value == Scalar::Bool(true)))
    }
}

/// A number as a count ([`Scalar::count`]).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(|value| Self(value.count()))
    }
}

/// The methods of a visitor for scalars other than strings, all of which have the same value.
macro_rules! visit_scalars {
    ($value:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}
pub(crate) use visit_scalars;

/// The items of an array; none for a value of another type, which is skipped.
#[derive(Debug)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(List::default())
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(List::default())
    }
    visit_scalars!(List::default());
}

/// Parses a JSON object, with or without a byte order mark. An array is an error here, because
/// serde would read it as the fields of a struct, in order.
pub fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    let json = json
        .strip_prefix(BYTE_ORDER_MARK.as_bytes())
        .unwrap_or(json);
    match json.trim_ascii_start().first() {
        // Checking the whole text once is faster than checking each string, as serde_json does with
        // bytes.
        Some(b'{') | None => match std::str::from_utf8(json) {
            Ok(text) => serde_json::from_str(text),
            Err(error) => Err(serde::de::Error::custom(error)),
        },
        Some(_) => Err(serde::de::Error::custom(
            "expected a JSON object at line 1 column 1",
        )),
    }
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
