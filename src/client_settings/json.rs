//! JSON text, parsed only to find where its values are.

use std::fmt;
use std::ops::Range;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::system::json::BYTE_ORDER_MARK;

/// What JSON counts as whitespace.
const WHITESPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// The text of a file whose value is an object.
#[derive(Debug)]
pub struct Json<'a> {
    /// All of it, with a byte order mark if there is one.
    pub text: &'a str,
    /// The object.
    pub root: Node<'a>,
}

/// A value as it is written in the text.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a>(&'a RawValue);

/// A member of an object.
#[derive(Debug)]
pub struct Member<'a> {
    /// The key.
    pub key: String,
    /// The key as it is written, with its quotes.
    pub raw_key: &'a str,
    /// The value.
    pub value: Node<'a>,
}

/// Whether the text contains nothing, not even an object.
pub fn is_blank(text: &str) -> bool {
    text.trim_start_matches(BYTE_ORDER_MARK)
        .trim_matches(WHITESPACE)
        .is_empty()
}

impl<'a> Json<'a> {
    /// The error names line, column and remedy, but not the file.
    pub fn parse(text: &'a str) -> Result<Self> {
        let json = text.trim_start_matches(BYTE_ORDER_MARK);
        let root = serde_json::from_str(json).map_err(|error| malformed(json, &error))?;
        let parsed = Self {
            text,
            root: Node(root),
        };
        parsed.object(parsed.root, "the file")?;
        Ok(parsed)
    }

    /// The members of an object with unique keys; `name` is what an error calls the value.
    pub fn object(&self, node: Node<'a>, name: &str) -> Result<Vec<Member<'a>>> {
        let Some(members) = node.members() else {
            bail!("{}: {name} must be an object", self.position(node.raw()))
        };
        for (index, member) in members.iter().enumerate() {
            if members[..index].iter().any(|other| other.key == member.key) {
                bail!(
                    "{}: duplicate key \"{}\"; remove one of the two",
                    self.position(member.raw_key),
                    member.key
                );
            }
        }
        Ok(members)
    }

    /// The elements of an array; `name` is what an error calls the value.
    pub fn array(&self, node: Node<'a>, name: &str) -> Result<Vec<Node<'a>>> {
        node.elements()
            .with_context(|| format!("{}: {name} must be an array", self.position(node.raw())))
    }

    /// The position of a part of the text.
    pub fn span(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr() - self.text.as_ptr().addr();
        start..start + part.len()
    }

    /// Where the elements of an array or the members of an object are.
    pub fn items(&self, node: Node<'a>) -> Vec<Range<usize>> {
        let members = node.members().into_iter().flatten();
        let elements = node.elements().into_iter().flatten();
        members
            .map(|member| self.span(member.raw_key).start..self.span(member.value.raw()).end)
            .chain(elements.map(|element| self.span(element.raw())))
            .collect()
    }

    fn position(&self, part: &str) -> String {
        let json = self.text.trim_start_matches(BYTE_ORDER_MARK);
        position(json, part.as_ptr().addr() - json.as_ptr().addr())
    }
}

impl<'a> Node<'a> {
    /// The value as it is written.
    pub fn raw(self) -> &'a str {
        self.0.get()
    }

    /// The members of an object, in order.
    pub fn members(self) -> Option<Vec<Member<'a>>> {
        let Pairs(pairs) = serde_json::from_str(self.raw()).ok()?;
        let member = |(key, value): (&'a RawValue, &'a RawValue)| Member {
            key: unescape(key.get()),
            raw_key: key.get(),
            value: Node(value),
        };
        Some(pairs.into_iter().map(member).collect())
    }

    /// The elements of an array, in order.
    pub fn elements(self) -> Option<Vec<Self>> {
        let elements: Vec<&RawValue> = serde_json::from_str(self.raw()).ok()?;
        Some(elements.into_iter().map(Node).collect())
    }

    /// The value of a key. The last one counts, as it does for the client.
    pub fn member(self, key: &str) -> Option<Self> {
        let mut members = self.members()?.into_iter().rev();
        Some(members.find(|member| member.key == key)?.value)
    }

    /// The string, if it is one.
    pub fn string(self) -> Option<String> {
        self.raw().starts_with('"').then(|| unescape(self.raw()))
    }
}

/// A JavaScript string can contain half of a surrogate pair, which a Rust string cannot. Nothing
/// that we look for contains one, so such a string stays escaped.
fn unescape(raw: &str) -> String {
    serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
}

/// The members of an object, with duplicates and in order.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Where the text stops being JSON, and how to fix it.
fn malformed(text: &str, error: &serde_json::Error) -> anyhow::Error {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = text.floor_char_boundary(line_start + error.column().saturating_sub(1));
    let place = position(text, at);
    if text[at..].starts_with("//") || text[at..].starts_with("/*") {
        return anyhow!("{place}: comments are not allowed in JSON; remove the comment");
    }
    let before = text[..at].trim_end_matches(WHITESPACE);
    if text[at..].starts_with(['}', ']']) && before.ends_with(',') {
        return anyhow!(
            "{}: trailing comma; remove it",
            position(text, before.len() - 1)
        );
    }
    // serde_json appends its own position, which counts bytes.
    let message = error.to_string();
    let what = message
        .rsplit_once(" at line ")
        .map_or(&message[..], |(what, _)| what);
    anyhow!("{place}: {what}; correct it")
}

fn position(text: &str, at: usize) -> String {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    format!(
        "line {}, column {}",
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1
    )
}
