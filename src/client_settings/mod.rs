//! The client's settings files: which of the hooks in them are ours, and the edits that put them in
//! and take them out.
//!
//! The file belongs to the user and to the client. So nothing is parsed and written anew: JSON is
//! read to know where things are, and an edit touches the bytes of our entries and the commas
//! beside them. Text goes in, text comes out; [`file`] is the edge to the disk.

pub mod shell;

use std::io;
use std::ops::Range;

use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use shell::Call;

/// The events that a record needs: the start, each turn's end, and the end.
pub const EVENTS: [&str; 4] = ["SessionStart", "Stop", "StopFailure", "SessionEnd"];

/// What our entries say, in seconds. Without it the client kills a SessionEnd hook after 1.4 s; a
/// hook takes 1.2 s at most.
const TIMEOUT: u32 = 10;
/// A longer timeout was meant as milliseconds: the client itself gives a hook 600 s if nothing is
/// said.
const GREATEST_TIMEOUT: f64 = 600.0;

/// What `serde_json` takes for space, and with that all that an empty file may hold.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
const BOM: char = '\u{feff}';
/// What a new file starts from.
const EMPTY: &str = "{}\n";

/// One of our entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The event it is for.
    pub event: String,
    /// What the entry is restricted to, if it is.
    pub matcher: Option<String>,
    /// The command as it stands there.
    pub command: String,
    /// The executable that it runs.
    pub program: String,
    /// In seconds, if it says so.
    pub timeout: Option<f64>,
    /// Whether the command does nothing but to run us. Others are left alone.
    pub is_alone: bool,
    /// Whether an entry before it does the same.
    pub is_duplicate: bool,
}

impl Entry {
    /// Whether the timeout was meant as milliseconds.
    #[must_use]
    pub fn has_suspicious_timeout(&self) -> bool {
        self.timeout
            .is_some_and(|seconds| seconds > GREATEST_TIMEOUT)
    }
}

/// What a settings file says that matters to us.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Our entries, in the order of the file.
    pub entries: Vec<Entry>,
    /// The setting that switches hooks off, if one does.
    pub switched_off_by: Option<&'static str>,
    /// The plugin of ours that is enabled, as the client names it: `<plugin>@<marketplace>`.
    pub plugin: Option<String>,
}

/// What is in this settings file.
pub fn find(text: &str) -> Result<Found> {
    if is_blank(text) {
        return Ok(Found::default());
    }
    let view = View::of(text)?;
    let is_on = |name: &str| {
        view.root
            .member(name)
            .is_some_and(|node| &text[node.span.clone()] == "true")
    };
    let switched_off_by = ["disableAllHooks", "allowManagedHooksOnly"]
        .into_iter()
        .find(|name| is_on(name));
    let plugins = view.root.member("enabledPlugins").map(|node| &node.shape);
    let plugin = if let Some(Shape::Object(plugins)) = plugins {
        plugins.iter().find(|plugin| view.is_our_plugin(plugin))
    } else {
        None
    };
    Ok(Found {
        entries: view.ours()?.into_iter().map(|ours| ours.entry).collect(),
        switched_off_by,
        plugin: plugin.map(|plugin| plugin.key.clone()),
    })
}

/// The text with an entry for each event that runs this program, and no other change. What is ours
/// already keeps its place and what the user added to it.
pub fn install(text: &str, program: &str) -> Result<String> {
    let mut text = if is_blank(text) {
        format!(
            "{}{EMPTY}",
            if text.starts_with(BOM) {
                "\u{feff}"
            } else {
                ""
            }
        )
    } else {
        text.to_owned()
    };
    let program = shell::portable(program, cfg!(windows));
    while let Some(edit) = next_step(&text, &program)? {
        edit.apply(&mut text);
    }
    Ok(text)
}

/// The text without our entries, and without what was there only to hold them.
pub fn uninstall(text: &str) -> Result<String> {
    let mut text = text.to_owned();
    while !is_blank(&text) {
        let view = View::of(&text)?;
        let ours = view.ours()?;
        let Some(ours) = ours.iter().find(|ours| ours.entry.is_alone) else {
            break;
        };
        view.removal(ours.place).apply(&mut text);
    }
    Ok(text)
}

/// Whether `before` is what the text was before our entries came: whether the two differ in nothing
/// but these.
///
/// Some of it cannot be seen in the text itself: an empty file, `"hooks": {}`, the space in `{ }`.
#[must_use]
pub fn is_what_it_was(before: &str, text: &str) -> bool {
    let is_free = |text: &str| {
        find(text).is_ok_and(|found| found.entries.iter().all(|entry| !entry.is_alone))
    };
    is_free(before)
        && install(before, "convex-sidecar")
            .and_then(|with| uninstall(&with))
            .is_ok_and(|without| uninstall(text).is_ok_and(|text| text == without))
}

/// Whether there is nothing in the file.
#[must_use]
pub fn is_empty(text: &str) -> bool {
    is_blank(text) || View::of(text).is_ok_and(|view| view.root.is_empty())
}

fn is_blank(text: &str) -> bool {
    text.trim_start_matches(BOM).trim_matches(SPACE).is_empty()
}

/// The next edit on the way to all entries; they are few, so the text is read again after each.
fn next_step(text: &str, program: &str) -> Result<Option<Edit>> {
    let view = View::of(text)?;
    let ours: Vec<_> = view
        .ours()?
        .into_iter()
        .filter(|ours| ours.entry.is_alone)
        .collect();
    for Ours {
        entry,
        place,
        call,
        node,
    } in &ours
    {
        if entry.is_duplicate {
            return Ok(Some(view.removal(*place)));
        }
        if let (false, Some(command)) = (entry.program == program, node.member("command")) {
            let mut changed = entry.command.clone();
            match call {
                Some(call) => {
                    changed.replace_range(call.span.clone(), &shell::quote(program, cfg!(windows)));
                }
                None => program.clone_into(&mut changed),
            }
            return Ok(Some(Edit {
                span: command.span.clone(),
                text: serde_json::to_string(&changed)?,
            }));
        }
        match node.member("timeout") {
            None => return Ok(Some(view.append(node, Some("timeout"), &TIMEOUT)?)),
            Some(timeout) if entry.timeout.is_none() || entry.has_suspicious_timeout() => {
                return Ok(Some(Edit {
                    span: timeout.span.clone(),
                    text: TIMEOUT.to_string(),
                }));
            }
            Some(_) => {}
        }
    }
    let Some(hooks) = view.root.member("hooks") else {
        return Ok(Some(view.append(&view.root, Some("hooks"), &Empty {})?));
    };
    let is_missing = |event: &&str| ours.iter().all(|ours| ours.entry.event != **event);
    let Some(event) = EVENTS.into_iter().find(is_missing) else {
        return Ok(None);
    };
    let Some(groups) = hooks.member(event) else {
        return Ok(Some(view.append(hooks, Some(event), &[(); 0])?));
    };
    let command = format!("{} hook", shell::quote(program, cfg!(windows)));
    Ok(Some(view.append(
        groups,
        None,
        &Group {
            hooks: [Hook {
                kind: "command",
                command,
                timeout: TIMEOUT,
            }],
        },
    )?))
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Group {
    hooks: [Hook; 1],
}

#[derive(Serialize)]
struct Hook {
    #[serde(rename = "type")]
    kind: &'static str,
    command: String,
    timeout: u32,
}

/// Other text for a stretch of a text.
#[derive(Debug)]
struct Edit {
    span: Range<usize>,
    text: String,
}

impl Edit {
    fn apply(&self, text: &mut String) {
        text.replace_range(self.span.clone(), &self.text);
    }
}

/// A value and where it stands.
#[derive(Debug)]
struct Node {
    span: Range<usize>,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Object(Vec<Member>),
    Array(Vec<Node>),
    String(String),
    Other,
}

#[derive(Debug)]
struct Member {
    key: String,
    key_span: Range<usize>,
    value: Node,
}

impl Node {
    /// The value of a key; where one stands there twice, the last one, as the client has it.
    fn member(&self, key: &str) -> Option<&Self> {
        let Shape::Object(members) = &self.shape else {
            return None;
        };
        members
            .iter()
            .rev()
            .find(|member| member.key == key)
            .map(|member| &member.value)
    }

    fn text(&self) -> Option<&str> {
        if let Shape::String(text) = &self.shape {
            Some(text)
        } else {
            None
        }
    }

    /// Where the elements or members stand.
    fn items(&self) -> Vec<Range<usize>> {
        match &self.shape {
            Shape::Object(members) => members
                .iter()
                .map(|member| member.key_span.start..member.value.span.end)
                .collect(),
            Shape::Array(elements) => elements
                .iter()
                .map(|element| element.span.clone())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.items().is_empty()
    }

    /// What stands between the brackets.
    const fn inside(&self) -> Range<usize> {
        self.span.start + 1..self.span.end - 1
    }
}

/// Where one of our entries stands: the event's index in `hooks`, the group's in the event, the
/// entry's in the group.
type Place = [usize; 3];

/// One of our entries in a text.
struct Ours<'a> {
    entry: Entry,
    place: Place,
    /// The call in the command; none in the exec form, where the command is the program itself.
    call: Option<Call>,
    node: &'a Node,
}

/// A text and where its values stand.
struct View<'a> {
    text: &'a str,
    root: Node,
}

impl<'a> View<'a> {
    fn of(text: &'a str) -> Result<Self> {
        let start = text.len() - text.trim_start_matches(BOM).len();
        serde_json::from_str::<IgnoredAny>(&text[start..])
            .map_err(|error| malformed(&text[start..], &error))?;
        let root = Scanner { text, at: start }.value();
        let view = Self { text, root };
        view.members(&view.root, "the file")?;
        Ok(view)
    }

    fn is_our_plugin(&self, plugin: &Member) -> bool {
        plugin.key.starts_with("convex-sidecar@") && &self.text[plugin.value.span.clone()] == "true"
    }

    /// Our entries, and an error where the hooks have another shape than the client knows.
    fn ours(&self) -> Result<Vec<Ours<'_>>> {
        let mut found: Vec<Ours> = Vec::new();
        let Some(hooks) = self.root.member("hooks") else {
            return Ok(found);
        };
        for (event_index, event) in self.members(hooks, "`hooks`")?.iter().enumerate() {
            for (group_index, group) in self
                .elements(&event.value, &format!("`hooks.{}`", event.key))?
                .iter()
                .enumerate()
            {
                self.members(group, &format!("an entry of `hooks.{}`", event.key))?;
                let Some(hooks) = group.member("hooks") else {
                    continue;
                };
                let matcher = group.member("matcher").and_then(Node::text);
                for (index, node) in self
                    .elements(
                        hooks,
                        &format!("`hooks` in an entry of `hooks.{}`", event.key),
                    )?
                    .iter()
                    .enumerate()
                {
                    self.members(node, &format!("a hook of `hooks.{}`", event.key))?;
                    let Some((command, program, call)) = recognise(node) else {
                        continue;
                    };
                    let is_alone = call.as_ref().is_none_or(|call| call.is_alone);
                    let is_same = |other: &Entry| {
                        other.is_alone
                            && is_alone
                            && other.event == event.key
                            && other.matcher.as_deref() == matcher
                    };
                    let entry = Entry {
                        is_duplicate: found.iter().any(|other| is_same(&other.entry)),
                        event: event.key.clone(),
                        matcher: matcher.map(str::to_owned),
                        command: command.to_owned(),
                        program,
                        timeout: node
                            .member("timeout")
                            .and_then(|timeout| self.text[timeout.span.clone()].parse().ok()),
                        is_alone,
                    };
                    found.push(Ours {
                        entry,
                        place: [event_index, group_index, index],
                        call,
                        node,
                    });
                }
            }
        }
        Ok(found)
    }

    fn members<'n>(&self, node: &'n Node, name: &str) -> Result<&'n [Member]> {
        let Shape::Object(members) = &node.shape else {
            bail!(
                "{}: {name} is not an object; make it one",
                self.position(node.span.start)
            )
        };
        for (index, member) in members.iter().enumerate() {
            if members[..index].iter().any(|other| other.key == member.key) {
                bail!(
                    "{}: the key \"{}\" is there twice; remove one of them",
                    self.position(member.key_span.start),
                    member.key
                );
            }
        }
        Ok(members)
    }

    fn elements<'n>(&self, node: &'n Node, name: &str) -> Result<&'n [Node]> {
        let Shape::Array(elements) = &node.shape else {
            bail!(
                "{}: {name} is not an array; make it one",
                self.position(node.span.start)
            )
        };
        Ok(elements)
    }

    fn position(&self, at: usize) -> String {
        position(
            self.text.trim_start_matches(BOM),
            at - (self.text.len() - self.text.trim_start_matches(BOM).len()),
        )
    }

    /// Takes an entry out, and with it what would be left empty, but for the file's own object.
    fn removal(&self, [event, group, entry]: Place) -> Edit {
        let mut levels: Vec<(&Node, usize)> = Vec::new();
        if let Shape::Object(members) = &self.root.shape
            && let Some(index) = members.iter().position(|member| member.key == "hooks")
        {
            levels.push((&self.root, index));
            let hooks = &members[index].value;
            levels.push((hooks, event));
            if let Shape::Object(events) = &hooks.shape
                && let Shape::Array(groups) = &events[event].value.shape
            {
                levels.push((&events[event].value, group));
                levels.extend(
                    groups[group]
                        .member("hooks")
                        .map(|entries| (entries, entry)),
                );
            }
        }
        let (container, index) = levels
            .iter()
            .rev()
            .find(|(container, _)| container.items().len() > 1)
            .copied()
            .unwrap_or((&self.root, 0));
        let items = container.items();
        let span = match (items.len(), index) {
            (1, _) => container.inside(),
            (_, 0) => items[0].start..items[1].start,
            _ => items[index - 1].end..items[index].end,
        };
        Edit {
            span,
            text: String::new(),
        }
    }

    /// Puts a value at the end of an array or object, laid out as what is there already.
    fn append<T: Serialize>(&self, container: &Node, key: Option<&str>, value: &T) -> Result<Edit> {
        let (newline, unit, colon) = (self.newline(), self.unit(), self.colon());
        let on_lines = |indent: &str| -> Result<String> {
            let mut json = Vec::new();
            value.serialize(&mut Serializer::with_formatter(
                &mut json,
                PrettyFormatter::with_indent(unit.as_bytes()),
            ))?;
            let json = String::from_utf8(json)?.replace('\n', &format!("{newline}{indent}"));
            Ok(key.map_or_else(String::new, |key| format!("\"{key}\": ")) + &json)
        };
        let on_one_line = || -> Result<String> {
            let mut json = Vec::new();
            value.serialize(&mut Serializer::with_formatter(
                &mut json,
                OneLine { colon },
            ))?;
            Ok(
                key.map_or_else(String::new, |key| format!("\"{key}\"{colon}"))
                    + &String::from_utf8(json)?,
            )
        };
        let outer = self.indent_of_line(container.span.start);
        let items = container.items();
        let Some(last) = items.last() else {
            if !self.root.is_empty() && !self.text[self.root.span.clone()].contains('\n') {
                return Ok(Edit {
                    span: container.inside(),
                    text: on_one_line()?,
                });
            }
            let text = format!(
                "{newline}{outer}{unit}{}{newline}{outer}",
                on_lines(&format!("{outer}{unit}"))?
            );
            return Ok(Edit {
                span: container.inside(),
                text,
            });
        };
        let before = items
            .len()
            .checked_sub(2)
            .map_or(container.span.start + 1, |index| items[index].end);
        let comma = if colon == ":" { "," } else { ", " };
        let text = if self.text[before..last.start].contains('\n') {
            let indent = self.indent_of_line(last.start);
            format!(",{newline}{indent}{}", on_lines(indent)?)
        } else if self.text[last.clone()].contains('\n') {
            format!("{comma}{}", on_lines(outer)?)
        } else {
            format!("{comma}{}", on_one_line()?)
        };
        Ok(Edit {
            span: last.end..last.end,
            text,
        })
    }

    fn newline(&self) -> &'static str {
        if self.text.contains("\r\n") {
            "\r\n"
        } else {
            "\n"
        }
    }

    /// What a level is indented by: what stands before the first key, if that is on a line of its
    /// own.
    fn unit(&self) -> &str {
        let first = self
            .root
            .items()
            .first()
            .map_or(self.root.span.start, |item| item.start);
        if self.text[self.root.span.start..first].contains('\n') {
            self.indent_of_line(first)
        } else {
            "  "
        }
    }

    fn colon(&self) -> &'static str {
        let Shape::Object(members) = &self.root.shape else {
            return ": ";
        };
        let is_tight = members
            .first()
            .is_some_and(|member| member.key_span.end + 1 == member.value.span.start);
        if is_tight { ":" } else { ": " }
    }

    fn indent_of_line(&self, at: usize) -> &str {
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = &self.text[start..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }
}

/// Our call in a hook: the command, the program, and where the command names it.
fn recognise(node: &Node) -> Option<(&str, String, Option<Call>)> {
    let command = node.member("command")?.text()?;
    if node.member("type")?.text()? != "command" {
        return None;
    }
    // With arguments beside it the command is the program itself, and no shell is asked.
    if let Some(Shape::Array(args)) = node.member("args").map(|args| &args.shape) {
        let is_ours =
            shell::is_sidecar(command) && args.first().and_then(Node::text) == Some("hook");
        return is_ours.then(|| (command, command.to_owned(), None));
    }
    shell::find(command).map(|call| (command, call.program.clone(), Some(call)))
}

/// JSON on one line, with as much space as the rest of the file has.
struct OneLine {
    colon: &'static str,
}

impl OneLine {
    fn separate<W: ?Sized + io::Write>(&self, writer: &mut W, is_first: bool) -> io::Result<()> {
        match (is_first, self.colon) {
            (true, _) => Ok(()),
            (false, ":") => writer.write_all(b","),
            (false, _) => writer.write_all(b", "),
        }
    }
}

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.separate(writer, is_first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.separate(writer, is_first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.colon.as_bytes())
    }
}

/// Says where the JSON ends to be JSON and what to do about it.
fn malformed(text: &str, error: &serde_json::Error) -> anyhow::Error {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = text.floor_char_boundary(line_start + error.column().saturating_sub(1));
    let place = position(text, at);
    if text[at..].starts_with("//") || text[at..].starts_with("/*") {
        return anyhow!("{place}: there is a comment, which JSON does not have; remove it");
    }
    let before = text[..at].trim_end_matches(SPACE);
    if text[at..].starts_with(['}', ']']) && before.ends_with(',') {
        return anyhow!(
            "{}: there is a comma with nothing after it; remove it",
            position(text, before.len() - 1)
        );
    }
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

/// Finds where values stand. The text is known to be JSON, so it looks at no more than it must.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn value(&mut self) -> Node {
        let first = self.peek();
        let start = self.at;
        let shape = match first {
            b'{' => {
                let mut members = Vec::new();
                self.at += 1;
                while self.peek() == b'"' {
                    let key_start = self.at;
                    let key = self.string();
                    let key_span = key_start..self.at;
                    self.skip(b':');
                    members.push(Member {
                        key,
                        key_span,
                        value: self.value(),
                    });
                    self.skip(b',');
                }
                self.skip(b'}');
                Shape::Object(members)
            }
            b'[' => {
                let mut elements = Vec::new();
                self.at += 1;
                while !matches!(self.peek(), b']' | 0) {
                    elements.push(self.value());
                    self.skip(b',');
                }
                self.skip(b']');
                Shape::Array(elements)
            }
            b'"' => Shape::String(self.string()),
            _ => {
                let rest = &self.text[self.at..];
                self.at += rest
                    .find([' ', '\t', '\r', '\n', ',', ']', '}'])
                    .unwrap_or(rest.len());
                Shape::Other
            }
        };
        Node {
            span: start..self.at,
            shape,
        }
    }

    /// The next byte that is no space; 0 at the end.
    fn peek(&mut self) -> u8 {
        self.at +=
            self.text[self.at..].len() - self.text[self.at..].trim_start_matches(SPACE).len();
        self.text
            .as_bytes()
            .get(self.at)
            .copied()
            .unwrap_or_default()
    }

    fn skip(&mut self, byte: u8) {
        if self.peek() == byte {
            self.at += 1;
        }
    }

    fn string(&mut self) -> String {
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.at += 1;
        while let Some(byte) = bytes.get(self.at).filter(|byte| **byte != b'"') {
            self.at += if *byte == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let raw = &self.text[start..self.at];
        // JavaScript's strings may hold half of a surrogate pair, which ours cannot; nothing of
        // ours looks like that.
        serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "/opt/convex-sidecar";

    fn ours(text: &str) -> Vec<Entry> {
        find(text).unwrap().entries
    }

    fn problem(text: &str) -> String {
        let problem = format!("{:#}", install(text, PROGRAM).unwrap_err());
        assert_eq!(format!("{:#}", uninstall(text).unwrap_err()), problem);
        problem
    }

    #[test]
    fn a_new_file_looks_as_the_client_writes_it() {
        let text = install("", PROGRAM).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let snippet = include_str!("../../hooks/settings.json")
            .replace("convex-sidecar hook", "/opt/convex-sidecar hook");
        assert_eq!(text, snippet);
        assert_eq!(value["hooks"].as_object().unwrap().len(), EVENTS.len());
        assert_eq!(uninstall(&text).unwrap(), EMPTY);
    }

    #[test]
    fn the_layout_is_that_of_the_file() {
        assert_eq!(
            install(r#"{"a":1,"hooks":{"Stop":[]}}"#, PROGRAM).unwrap(),
            r#"{"a":1,"hooks":{"Stop":[{"hooks":[{"type":"command","command":"/opt/convex-sidecar hook","timeout":10}]}],"SessionStart":[{"hooks":[{"type":"command","command":"/opt/convex-sidecar hook","timeout":10}]}],"StopFailure":[{"hooks":[{"type":"command","command":"/opt/convex-sidecar hook","timeout":10}]}],"SessionEnd":[{"hooks":[{"type":"command","command":"/opt/convex-sidecar hook","timeout":10}]}]}}"#
        );
        let tabs = install("{\r\n\t\"a\": 1\r\n}", PROGRAM).unwrap();
        let start = "{\r\n\t\"a\": 1,\r\n\t\"hooks\": {\r\n\t\t\"SessionStart\": [\r\n\t\t\t{\r\n\t\t\t\t\"hooks\": [\r\n\t\t\t\t\t{\r\n\t\t\t\t\t\t\"type\": ";
        assert!(tabs.starts_with(start), "{tabs}");
        assert!(tabs.ends_with("]\r\n\t}\r\n}"), "{tabs}");
        assert_eq!(tabs.matches('\n').count(), tabs.matches("\r\n").count());
        let compact = "{\n  \"hooks\": {\n    \"Stop\": [{\n      \"hooks\": []\n    }]\n  }\n}\n";
        let installed = install(compact, PROGRAM).unwrap();
        assert!(
            installed.contains(
                "      \"hooks\": []\n    }, {\n      \"hooks\": [\n        {\n          \"type\""
            ),
            "{installed}"
        );
    }

    #[test]
    fn an_entry_of_another_path_is_changed_where_it_stands_and_keeps_what_the_user_added() {
        let text = r#"{"hooks": {"Stop": [{"matcher": "", "hooks": [{"timeout": 5, "command": "A=1 '/old path/convex-sidecar' hook --verbose || true", "type": "command"}]}]}}"#;
        let installed = install(text, PROGRAM).unwrap();
        assert!(
            installed.starts_with(
                &text.replace("'/old path/convex-sidecar'", PROGRAM)[..text.len() - 20]
            ),
            "{installed}"
        );
        assert_eq!(ours(&installed).len(), 4);
        assert_eq!(install(&installed, PROGRAM).unwrap(), installed);

        let exec = r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"/old path/convex-sidecar","args":["hook"]}]}]}}"#;
        let installed = install(exec, "/new path/convex-sidecar").unwrap();
        assert!(
            installed
                .contains(r#""command":"/new path/convex-sidecar","args":["hook"],"timeout":10}"#),
            "{installed}"
        );
    }

    #[test]
    fn a_doctor_sees_milliseconds_and_duplicates() {
        let hook = r#"{"type":"command","command":"convex-sidecar hook","timeout":10000}"#;
        let text = format!(
            r#"{{"disableAllHooks":true,"hooks":{{"Stop":[{{"hooks":[{hook},{hook}]}},{{"matcher":"x","hooks":[{hook}]}}]}}}}"#
        );
        let found = find(&text).unwrap();
        assert_eq!(found.switched_off_by, Some("disableAllHooks"));
        let seen: Vec<_> = found
            .entries
            .iter()
            .map(|entry| {
                (
                    entry.matcher.as_deref(),
                    entry.is_duplicate,
                    entry.has_suspicious_timeout(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (None, false, true),
                (None, true, true),
                (Some("x"), false, true)
            ]
        );
        let installed = ours(&install(&text, PROGRAM).unwrap());
        assert_eq!(installed.len(), 5);
        assert!(installed.iter().all(|entry| !entry.is_duplicate
            && entry.timeout == Some(10.0)
            && entry.program == PROGRAM));
    }

    #[test]
    fn other_peoples_hooks_stay_even_those_that_run_us_among_other_commands() {
        let text = r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"notify && convex-sidecar hook"},{"type":"prompt","prompt":"convex-sidecar hook"}]}]}}"#;
        let installed = install(text, PROGRAM).unwrap();
        assert_eq!(ours(&installed).len(), 5);
        assert_eq!(uninstall(&installed).unwrap(), text);
        assert_eq!(uninstall(text).unwrap(), text);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_line_and_column() {
        for (text, expected) in [
            (
                "{\n  // why\n}",
                "line 2, column 3: there is a comment, which JSON does not have; remove it",
            ),
            (
                "{\"é\": 1 /* why */}",
                "line 1, column 9: there is a comment, which JSON does not have; remove it",
            ),
            (
                "{\"a\": 1,}",
                "line 1, column 8: there is a comma with nothing after it; remove it",
            ),
            (
                "{\"a\": [1,]}",
                "line 1, column 9: there is a comma with nothing after it; remove it",
            ),
            (
                "{\"a\"",
                "line 1, column 4: EOF while parsing an object; correct it",
            ),
            (
                "{}\n{}",
                "line 2, column 1: trailing characters; correct it",
            ),
            (
                "[]",
                "line 1, column 1: the file is not an object; make it one",
            ),
            (
                "\u{feff}\n\"x\"",
                "line 2, column 1: the file is not an object; make it one",
            ),
            (
                "{\"hooks\": \"x\"}",
                "line 1, column 11: `hooks` is not an object; make it one",
            ),
            (
                "{\"hooks\": null}",
                "line 1, column 11: `hooks` is not an object; make it one",
            ),
            (
                "{\"hooks\": {\"Stop\": {}}}",
                "line 1, column 20: `hooks.Stop` is not an array; make it one",
            ),
            (
                "{\"hooks\": {\"Stop\": [1]}}",
                "line 1, column 21: an entry of `hooks.Stop` is not an object; make it one",
            ),
            (
                "{\"hooks\": {\"X\": [{\"hooks\": {}}]}}",
                "line 1, column 28: `hooks` in an entry of `hooks.X` is not an array; make it one",
            ),
            (
                "{\"hooks\": {\"X\": [{\"hooks\": [[]]}]}}",
                "line 1, column 29: a hook of `hooks.X` is not an object; make it one",
            ),
            (
                "{\"hooks\": {},\n\"hooks\": {}}",
                "line 2, column 1: the key \"hooks\" is there twice; remove one of them",
            ),
            (
                "{\"hooks\": {\"Stop\": [], \"St\\u006fp\": []}}",
                "line 1, column 24: the key \"Stop\" is there twice; remove one of them",
            ),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_before_is_known_again_only_while_nothing_else_changed() {
        for before in [
            "",
            " \n",
            "{ }",
            "{\"hooks\": {}}",
            "{\"a\": 1, \"hooks\": {\"Stop\": [ ]}}",
        ] {
            let text = install(before, PROGRAM).unwrap();
            assert!(is_what_it_was(before, &text), "{before}");
            assert!(
                is_what_it_was(before, &install(&text, "/moved/convex-sidecar").unwrap()),
                "{before}"
            );
            assert!(
                !is_what_it_was(before, &text.replacen('{', "{\"new\": 1,", 1)),
                "{before}"
            );
            assert!(!is_what_it_was(&text, &text), "{before}");
        }
    }
}
