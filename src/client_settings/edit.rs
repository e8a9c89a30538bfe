//! Adds our entries to the text of a settings file and removes them again, byte for byte.

use std::ops::Range;

use anyhow::Result;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::entries::{Located, find, is_condition, locate};
use super::json::{Json, Node, is_blank};
use super::{EVENTS, STOP_FAILURE, shell};
use crate::system::json::BYTE_ORDER_MARK;

/// The timeout of our entries, in seconds. Without one the client kills a SessionEnd hook after
/// 1.4 s; a hook takes 1.2 s at most.
const TIMEOUT: u32 = 10;
/// What a new file starts from.
const EMPTY: &str = "{}\n";

/// The entries that [`install`] writes.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The path of the executable.
    pub program: &'a str,
    /// Whether `StopFailure` is one of the events.
    pub has_stop_failure: bool,
    /// Whether the client runs on Windows.
    pub is_windows: bool,
}

impl Wanted<'_> {
    fn events(&self) -> impl Iterator<Item = &'static str> {
        EVENTS
            .into_iter()
            .chain(self.has_stop_failure.then_some(STOP_FAILURE))
    }
}

/// The text with an entry for each event that runs this program, and no other change. Our entries
/// stay where they are and keep what the user added to their commands. An entry for `StopFailure`
/// that is not wanted is removed.
pub fn install(text: &str, wanted: Wanted) -> Result<String> {
    let mut text = match text {
        blank if is_blank(blank) && blank.starts_with(BYTE_ORDER_MARK) => {
            format!("{BYTE_ORDER_MARK}{EMPTY}")
        }
        blank if is_blank(blank) => EMPTY.to_owned(),
        _ => text.to_owned(),
    };
    let program = &shell::portable(wanted.program, wanted.is_windows);
    let wanted = Wanted { program, ..wanted };
    // There are few edits, so the text is simply read again after each of them.
    while let Some(edit) = next_edit(&text, wanted)? {
        edit.apply(&mut text);
    }
    Ok(text)
}

/// The text without our entries, and without the objects and arrays that only contained them.
pub fn uninstall(text: &str) -> Result<String> {
    let mut text = text.to_owned();
    while !is_blank(&text) {
        let json = Json::parse(&text)?;
        let ours = locate(&json)?;
        let Some(ours) = ours.iter().find(|ours| ours.entry.is_alone) else {
            break;
        };
        removal(&json, &ours.path).apply(&mut text);
    }
    Ok(text)
}

/// Whether `before` is the text without our entries, that is, whether they are the only difference.
///
/// [`uninstall`] alone cannot restore everything: an empty file, `"hooks": {}`, the space in `{ }`.
#[must_use]
pub fn is_original(before: &str, text: &str) -> bool {
    let wanted = Wanted {
        program: "convex-sidecar",
        has_stop_failure: find(text)
            .is_ok_and(|found| found.own().any(|entry| entry.event == STOP_FAILURE)),
        is_windows: cfg!(windows),
    };
    find(before).is_ok_and(|found| found.own().next().is_none())
        && install(before, wanted)
            .and_then(|with| uninstall(&with))
            .is_ok_and(|without| uninstall(text).is_ok_and(|text| text == without))
}

/// Whether the file contains no settings.
#[must_use]
pub fn is_empty(text: &str) -> bool {
    is_blank(text) || Json::parse(text).is_ok_and(|json| json.items(json.root).is_empty())
}

/// The next edit towards one correct entry for each event; `None` if nothing is left to do.
fn next_edit(text: &str, wanted: Wanted) -> Result<Option<Edit>> {
    let json = Json::parse(text)?;
    let mut ours = locate(&json)?;
    ours.retain(|ours| ours.entry.is_alone);
    for ours in &ours {
        let is_unwanted = ours.entry.event == STOP_FAILURE && !wanted.has_stop_failure;
        let edit = if ours.entry.is_duplicate || is_unwanted {
            Some(removal(&json, &ours.path))
        } else if let Some(edit) = lift_condition(&json, ours) {
            Some(edit)
        } else {
            match correct_command(&json, ours, wanted)? {
                None => correct_timeout(&json, ours)?,
                edit => edit,
            }
        };
        if edit.is_some() {
            return Ok(edit);
        }
    }
    let Some(hooks) = json.root.member("hooks") else {
        return append(&json, json.root, Some("hooks"), &Empty {}).map(Some);
    };
    let is_missing = |event: &&str| ours.iter().all(|ours| ours.entry.event != **event);
    let Some(event) = wanted.events().find(is_missing) else {
        return Ok(None);
    };
    let Some(groups) = hooks.member(event) else {
        return append(&json, hooks, Some(event), &[(); 0]).map(Some);
    };
    let invocation = shell::invocation(wanted.program, wanted.is_windows);
    let hook = Hook {
        kind: "command",
        command: invocation.command,
        args: invocation.args,
        timeout: TIMEOUT,
    };
    append(&json, groups, None, &Group { hooks: [hook] }).map(Some)
}

/// Removes what can keep the client from running the entry. If other hooks share the matcher, the
/// entry is removed from their group and later added in a group of its own, unless its command has
/// additions that would be lost.
fn lift_condition(json: &Json, ours: &Located) -> Option<Edit> {
    let [.., (groups, in_groups), (entries, _)] = ours.path;
    let group = groups.elements()?.into_iter().nth(in_groups)?;
    let find = |object: Node| object.members()?.iter().position(is_condition);
    if let Some(index) = find(ours.node) {
        return Some(removal(json, &[(ours.node, index)]));
    }
    let index = find(group)?;
    if json.items(entries).len() == 1 {
        return Some(removal(json, &[(group, index)]));
    }
    (!ours.entry.shares_matcher).then(|| removal(json, &ours.path))
}

/// Replaces the program, or the whole command if it consists only of the call, as in earlier
/// versions.
fn correct_command(json: &Json, ours: &Located, wanted: Wanted) -> Result<Option<Edit>> {
    let mut command = ours.entry.command.clone();
    let mut args = None;
    match &ours.call {
        None => wanted.program.clone_into(&mut command),
        Some(call) if call.is_plain => {
            let invocation = shell::invocation(wanted.program, wanted.is_windows);
            (command, args) = (invocation.command, invocation.args);
        }
        Some(call) if call.program != wanted.program => command.replace_range(
            call.span.clone(),
            &shell::quote(wanted.program, wanted.is_windows),
        ),
        Some(_) => {}
    }
    let members = ours.node.members().unwrap_or_default();
    let written = members.iter().find(|member| member.key == "command");
    let Some(written) = written.filter(|_| command != ours.entry.command) else {
        return Ok(None);
    };
    let mut text = serde_json::to_string(&command)?;
    if let Some(args) = args {
        let style = Style::of(json);
        let key = json.span(written.raw_key).start;
        let indent = indent_of_line(json.text, key);
        let separator = if json.text[..key].ends_with(&format!("\n{indent}")) {
            format!(",{}{indent}", style.newline)
        } else {
            style.comma().to_owned()
        };
        let member = style.on_one_line(&format!("\"args\": {}", serde_json::to_string(&args)?));
        text = text + &separator + &member;
    }
    Ok(Some(Edit {
        span: json.span(written.value.raw()),
        text,
    }))
}

fn correct_timeout(json: &Json, ours: &Located) -> Result<Option<Edit>> {
    Ok(match ours.node.member("timeout") {
        None => Some(append(json, ours.node, Some("timeout"), &TIMEOUT)?),
        Some(timeout) if ours.entry.timeout.is_none() || ours.entry.has_suspicious_timeout() => {
            Some(Edit {
                span: json.span(timeout.raw()),
                text: TIMEOUT.to_string(),
            })
        }
        Some(_) => None,
    })
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
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Vec<String>>,
    timeout: u32,
}

/// A replacement for a part of a text.
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

/// Removes the item at the end of this path and everything around it that would be empty, except
/// for the file's own object.
fn removal(json: &Json, path: &[(Node, usize)]) -> Edit {
    let (items, index) = path
        .iter()
        .rev()
        .map(|(container, index)| (json.items(*container), *index))
        .find(|(items, _)| items.len() > 1)
        .unwrap_or_default();
    let span = match (items.as_slice(), index) {
        ([], _) => inside(json, json.root),
        (items, 0) => items[0].start..items[1].start,
        (items, _) => items[index - 1].end..items[index].end,
    };
    Edit {
        span,
        text: String::new(),
    }
}

/// Adds a value at the end of an array, or a member at the end of an object, in the style of the
/// existing text.
fn append<T: Serialize>(
    json: &Json,
    container: Node,
    key: Option<&str>,
    value: &T,
) -> Result<Edit> {
    let style = Style::of(json);
    let Style { newline, unit, .. } = style;
    let mut pretty = Vec::new();
    value.serialize(&mut Serializer::with_formatter(
        &mut pretty,
        PrettyFormatter::with_indent(unit.as_bytes()),
    ))?;
    let key = key.map_or_else(String::new, |key| format!("\"{key}\": "));
    let pretty = key + &String::from_utf8(pretty)?;
    let on_lines = |indent: &str| pretty.replace('\n', &format!("{newline}{indent}"));

    let outer = indent_of_line(json.text, json.span(container.raw()).start);
    let items = json.items(container);
    let Some(last) = items.last() else {
        let is_new_file = json.items(json.root).is_empty();
        let text = if is_new_file || json.root.raw().contains('\n') {
            let indent = format!("{outer}{unit}");
            format!("{newline}{indent}{}{newline}{outer}", on_lines(&indent))
        } else {
            style.on_one_line(&pretty)
        };
        return Ok(Edit {
            span: inside(json, container),
            text,
        });
    };
    let before = items
        .len()
        .checked_sub(2)
        .map_or(inside(json, container).start, |index| items[index].end);
    let comma = style.comma();
    let text = if json.text[before..last.start].contains('\n') {
        let indent = indent_of_line(json.text, last.start);
        format!(",{newline}{indent}{}", on_lines(indent))
    } else if json.text[last.clone()].contains('\n') {
        format!("{comma}{}", on_lines(outer))
    } else {
        format!("{comma}{}", style.on_one_line(&pretty))
    };
    Ok(Edit {
        span: last.end..last.end,
        text,
    })
}

/// What is between the brackets of an object or array.
fn inside(json: &Json, container: Node) -> Range<usize> {
    let span = json.span(container.raw());
    span.start + 1..span.end - 1
}

/// How a file is laid out.
#[derive(Debug, Clone, Copy)]
struct Style<'a> {
    newline: &'static str,
    /// The indentation of one level: that of the first key if it starts a line.
    unit: &'a str,
    /// Whether the file has no spaces after colons and commas.
    is_tight: bool,
}

impl<'a> Style<'a> {
    fn of(json: &Json<'a>) -> Self {
        let root = json.span(json.root.raw()).start;
        let first = json.root.members().and_then(|members| {
            let first = members.first()?;
            Some((json.span(first.raw_key), json.span(first.value.raw())))
        });
        let starts_line = |key: &Range<usize>| {
            json.text[root..key.start]
                .contains('\n')
                .then_some(key.start)
        };
        Self {
            newline: if json.text.contains("\r\n") {
                "\r\n"
            } else {
                "\n"
            },
            unit: first
                .as_ref()
                .and_then(|(key, _)| starts_line(key))
                .map_or("  ", |at| indent_of_line(json.text, at)),
            is_tight: first.is_some_and(|(key, value)| key.end + 1 == value.start),
        }
    }

    fn comma(self) -> &'static str {
        if self.is_tight { "," } else { ", " }
    }

    /// Pretty JSON on one line. Each of its lines has at most one member.
    fn on_one_line(self, pretty: &str) -> String {
        let join = |line: &str| match line.trim_start() {
            line if self.is_tight => line.replacen("\": ", "\":", 1),
            line if line.ends_with(',') => format!("{line} "),
            line => line.to_owned(),
        };
        pretty.lines().map(join).collect()
    }
}

fn indent_of_line(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = &text[start..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

#[cfg(test)]
mod tests {
    use super::super::entries::Entry;
    use super::*;

    const PROGRAM: &str = "/opt/convex-sidecar";

    const UNIX: Wanted = Wanted {
        program: PROGRAM,
        has_stop_failure: false,
        is_windows: false,
    };

    fn install(text: &str, program: &str) -> Result<String> {
        super::install(text, Wanted { program, ..UNIX })
    }

    fn ours(text: &str) -> Vec<Entry> {
        find(text).unwrap().entries
    }

    fn problem(text: &str) -> String {
        let problem = format!("{:#}", install(text, PROGRAM).unwrap_err());
        assert_eq!(format!("{:#}", uninstall(text).unwrap_err()), problem);
        problem
    }

    #[test]
    fn install_into_empty_text_gives_the_documented_snippet() {
        let text = install("", PROGRAM).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let snippet = include_str!("../../hooks/settings.json")
            .replace("exec convex-sidecar hook", "exec /opt/convex-sidecar hook");
        assert_eq!(text, snippet);
        assert_eq!(value["hooks"].as_object().unwrap().len(), EVENTS.len());
        assert_eq!(uninstall(&text).unwrap(), EMPTY);
    }

    #[test]
    fn install_follows_the_layout_of_the_file() {
        assert_eq!(
            install(r#"{"a":1,"hooks":{"Stop":[]}}"#, PROGRAM).unwrap(),
            r#"{"a":1,"hooks":{"Stop":[{"hooks":[{"type":"command","command":"exec /opt/convex-sidecar hook","timeout":10}]}],"SessionStart":[{"hooks":[{"type":"command","command":"exec /opt/convex-sidecar hook","timeout":10}]}],"UserPromptSubmit":[{"hooks":[{"type":"command","command":"exec /opt/convex-sidecar hook","timeout":10}]}],"SessionEnd":[{"hooks":[{"type":"command","command":"exec /opt/convex-sidecar hook","timeout":10}]}]}}"#
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
    fn install_changes_an_old_path_in_place_and_keeps_additions_of_the_user() {
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
    fn install_corrects_milliseconds_and_removes_duplicates() {
        let hook = r#"{"type":"command","command":"convex-sidecar hook","timeout":10000}"#;
        let text = format!(
            r#"{{"disableAllHooks":true,"hooks":{{"Stop":[{{"hooks":[{hook},{hook}]}},{{"matcher":"x","hooks":[{hook}]}}]}}}}"#
        );
        let installed = ours(&install(&text, PROGRAM).unwrap());
        assert_eq!(installed.len(), 4);
        assert!(installed.iter().all(|entry| !entry.is_duplicate
            && entry.timeout == Some(10.0)
            && entry.program == PROGRAM));
    }

    #[test]
    fn conditions_are_removed_and_other_hooks_keep_theirs() {
        let other = r#"{"type":"command","command":"notify","once":true,"timeout":0}"#;
        let ours_with =
            |more: &str| format!(r#"{{"type":"command","command":"A=1 {PROGRAM} hook"{more}}}"#);
        let file = |group: &str| format!(r#"{{"hooks":{{"SessionStart":[{{{group}}}]}}}}"#);
        let only = format!(r#""hooks":[{}]"#, ours_with(r#","timeout":5"#));
        for more in [
            r#","once":true,"timeout":5"#,
            r#","if":"Bash(git *)","async":true,"timeout":5"#,
            r#","timeout":5,"async":true"#,
        ] {
            let group = format!(r#""matcher":"startup","hooks":[{}]"#, ours_with(more));
            assert_eq!(
                install(&file(&group), PROGRAM).unwrap(),
                install(&file(&only), PROGRAM).unwrap()
            );
        }
        let no_time = file(&format!(r#""hooks":[{}]"#, ours_with(r#","timeout":0"#)));
        let ten_seconds = no_time.replace(r#""timeout":0"#, r#""timeout":10"#);
        assert_eq!(
            install(&no_time, PROGRAM).unwrap(),
            install(&ten_seconds, PROGRAM).unwrap()
        );

        // A group with another hook keeps its matcher; an entry with additions stays in it.
        let shared = |hook: &str| file(&format!(r#""matcher":"startup","hooks":[{other},{hook}]"#));
        let plain = r#"{"type":"command","command":"convex-sidecar hook"}"#;
        let installed = install(&shared(plain), PROGRAM).unwrap();
        assert!(
            installed.contains(&format!(r#"[{{"matcher":"startup","hooks":[{other}]}},{{"#)),
            "{installed}"
        );
        assert!(
            ours(&installed)
                .iter()
                .all(|entry| entry.conditions.is_empty())
        );
        let kept = shared(&ours_with(r#","timeout":5"#));
        let installed = install(&kept, PROGRAM).unwrap();
        assert!(
            installed.starts_with(&kept[..kept.len() - 2]),
            "{installed}"
        );
        assert_eq!(ours(&installed)[0].conditions, [r#""matcher": "startup""#]);
        assert!(ours(&installed)[0].shares_matcher);
    }

    /// What `install` turns the command and arguments of a hook into.
    #[test]
    fn every_form_is_replaced_by_the_one_of_the_system() {
        let unix = r#""command":"exec '/a b/convex-sidecar' hook""#;
        let windows = r#""command":"C:/a b/convex-sidecar.exe","args":["hook"]"#;
        for (before, on_unix, on_windows) in [
            // What earlier versions wrote, on Unix, on Windows and in the documentation.
            (r#""command":"'/a b/convex-sidecar' hook""#, unix, windows),
            (r#""command":"/old/convex-sidecar hook""#, unix, windows),
            (
                r#""command":"\"C:/old/convex-sidecar.exe\" hook""#,
                unix,
                windows,
            ),
            (r#""command":"convex-sidecar hook""#, unix, windows),
            // What this version writes.
            (r#""command":"exec convex-sidecar hook""#, unix, windows),
            (
                r#""command":"/old/convex-sidecar","args":["hook"]"#,
                r#""command":"/a b/convex-sidecar","args":["hook"]"#,
                windows,
            ),
            // By hand.
            (r#""command":"convex-sidecar""#, unix, windows),
            (
                r#""command":"/old/convex-sidecar","args":[]"#,
                r#""command":"/a b/convex-sidecar","args":[]"#,
                r#""command":"C:/a b/convex-sidecar.exe","args":[]"#,
            ),
            (
                r#""command":"A=1 /old/convex-sidecar hook --verbose || true""#,
                r#""command":"A=1 '/a b/convex-sidecar' hook --verbose || true""#,
                r#""command":"A=1 \"C:/a b/convex-sidecar.exe\" hook --verbose || true""#,
            ),
            (
                r#""command":"& \"C:/old/convex-sidecar.exe\" hook","shell":"powershell""#,
                r#""command":"& '/a b/convex-sidecar' hook","shell":"powershell""#,
                r#""command":"& \"C:/a b/convex-sidecar.exe\" hook","shell":"powershell""#,
            ),
        ] {
            let file = |hook: &str| {
                format!(
                    r#"{{"hooks":{{"Stop":[{{"hooks":[{{"type":"command",{hook},"timeout":5}}]}}]"#
                )
            };
            for (program, is_windows, expected) in [
                ("/a b/convex-sidecar", false, on_unix),
                (r"\\?\C:\a b\convex-sidecar.exe", true, on_windows),
            ] {
                let wanted = Wanted {
                    program,
                    is_windows,
                    ..UNIX
                };
                let text = super::install(&(file(before) + "}}"), wanted).unwrap();
                assert!(text.starts_with(&file(expected)), "{before}: {text}");
                assert_eq!(super::install(&text, wanted).unwrap(), text, "{before}");
                assert_eq!(ours(&text).len(), EVENTS.len(), "{before}");
                assert_eq!(uninstall(&text).unwrap(), "{}", "{before}");
            }
        }
    }

    #[test]
    fn arguments_follow_the_layout_of_the_file() {
        let windows = Wanted {
            program: "C:/convex-sidecar.exe",
            is_windows: true,
            ..UNIX
        };
        let old = install("", "convex-sidecar").unwrap();
        assert_eq!(
            super::install(&old, windows).unwrap(),
            super::install("", windows)
                .unwrap()
                .replace("[\n              \"hook\"\n            ]", "[\"hook\"]")
        );
        let spaced = r#"{"é": {"ü": 1}, "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "convex-sidecar hook"}]}]}}"#;
        let text = super::install(spaced, windows).unwrap();
        assert!(
            text.contains(
                r#""command": "C:/convex-sidecar.exe", "args": ["hook"], "timeout": 10}"#
            ),
            "{text}"
        );
    }

    #[test]
    fn stop_failure_is_there_only_if_it_is_wanted() {
        let other = r#"{"type": "command", "command": "notify"}"#;
        let with_flag = Wanted {
            has_stop_failure: true,
            ..UNIX
        };
        for before in [
            "{}".to_owned(),
            r#"{"a": 1}"#.to_owned(),
            format!(r#"{{"hooks": {{"StopFailure": [{{"hooks": [{other}]}}]}}}}"#),
            format!(r#"{{"hooks": {{"Stop": [{{"hooks": [{other}]}}]}}}}"#),
        ] {
            let without = install(&before, PROGRAM).unwrap();
            let with = super::install(&before, with_flag).unwrap();
            let events = |text: &str| ours(text).into_iter().map(|entry| entry.event);
            assert!(events(&without).all(|event| event != STOP_FAILURE));
            assert_eq!(
                events(&with).filter(|event| event == STOP_FAILURE).count(),
                1
            );
            assert_eq!(install(&with, PROGRAM).unwrap(), without, "{before}");
            assert_eq!(super::install(&with, with_flag).unwrap(), with, "{before}");
            assert_eq!(
                super::install(&without, with_flag).unwrap(),
                with,
                "{before}"
            );
            for text in [&with, &without] {
                assert_eq!(uninstall(text).unwrap(), before);
                assert!(is_original(&before, text), "{before}");
            }
        }
    }

    #[test]
    fn hooks_of_others_stay_even_if_they_run_us_among_other_commands() {
        let text = r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"notify && convex-sidecar hook"},{"type":"prompt","prompt":"convex-sidecar hook"}]}]}}"#;
        let installed = install(text, PROGRAM).unwrap();
        assert_eq!(ours(&installed).len(), 5);
        assert_eq!(uninstall(&installed).unwrap(), text);
        assert_eq!(uninstall(text).unwrap(), text);
    }

    #[test]
    fn malformed_settings_are_refused_with_line_and_column() {
        for (text, expected) in [
            (
                "{\n  // why\n}",
                "line 2, column 3: comments are not allowed in JSON; remove the comment",
            ),
            (
                "{\"é\": 1 /* why */}",
                "line 1, column 9: comments are not allowed in JSON; remove the comment",
            ),
            ("{\"a\": 1,}", "line 1, column 8: trailing comma; remove it"),
            (
                "{\"a\": [1,]}",
                "line 1, column 9: trailing comma; remove it",
            ),
            (
                "{\"a\"",
                "line 1, column 4: EOF while parsing an object; correct it",
            ),
            (
                "{}\n{}",
                "line 2, column 1: trailing characters; correct it",
            ),
            ("[]", "line 1, column 1: the file must be an object"),
            (
                "\u{feff}\n\"x\"",
                "line 2, column 1: the file must be an object",
            ),
            (
                "{\"hooks\": \"x\"}",
                "line 1, column 11: `hooks` must be an object",
            ),
            (
                "{\"hooks\": null}",
                "line 1, column 11: `hooks` must be an object",
            ),
            (
                "{\"hooks\": {\"Stop\": {}}}",
                "line 1, column 20: `hooks.Stop` must be an array",
            ),
            (
                "{\"hooks\": {\"Stop\": [1]}}",
                "line 1, column 21: an entry of `hooks.Stop` must be an object",
            ),
            (
                "{\"hooks\": {\"X\": [{\"hooks\": {}}]}}",
                "line 1, column 28: `hooks` in an entry of `hooks.X` must be an array",
            ),
            (
                "{\"hooks\": {\"X\": [{\"hooks\": [[]]}]}}",
                "line 1, column 29: a hook of `hooks.X` must be an object",
            ),
            (
                "{\"hooks\": {},\n\"hooks\": {}}",
                "line 2, column 1: duplicate key \"hooks\"; remove one of the two",
            ),
            (
                "{\"hooks\": {\"Stop\": [], \"St\\u006fp\": []}}",
                "line 1, column 24: duplicate key \"Stop\"; remove one of the two",
            ),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
    }

    #[test]
    fn original_is_recognized_only_if_nothing_else_changed() {
        for before in [
            "",
            " \n",
            "{ }",
            "{\"hooks\": {}}",
            "{\"a\": 1, \"hooks\": {\"Stop\": [ ]}}",
        ] {
            let text = install(before, PROGRAM).unwrap();
            assert!(is_original(before, &text), "{before}");
            assert!(
                is_original(before, &install(&text, "/moved/convex-sidecar").unwrap()),
                "{before}"
            );
            assert!(
                !is_original(before, &text.replacen('{', "{\"new\": 1,", 1)),
                "{before}"
            );
            assert!(!is_original(&text, &text), "{before}");
        }
    }
}
