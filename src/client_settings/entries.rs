//! What in a settings file concerns us: our entries, the plugin, and settings that switch hooks
//! off.

use anyhow::Result;

use super::json::{Json, Member, Node, is_blank};
use super::rules::Switches;
use super::shell::{self, Call};

/// A timeout above this many seconds was probably meant as milliseconds: a hook that sets none gets
/// this one.
const MAX_TIMEOUT: f64 = 600.0;
/// Matchers that mean the same as none.
const MATCH_ALL: [&str; 3] = ["", "*", ".*"];

/// One of our entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The event that it is for.
    pub event: String,
    /// The matcher of its group, if there is one.
    pub matcher: Option<String>,
    /// The command as it is written.
    pub command: String,
    /// The arguments of the exec form; `None` if a shell reads the command.
    pub args: Option<Vec<String>>,
    /// The executable that the command runs.
    pub program: String,
    /// The timeout in seconds; `None` if the entry sets none.
    pub timeout: Option<f64>,
    /// Members of the entry or its group that can keep the client from running the hook each time,
    /// or from letting it finish: a matcher, `once`, `if`, `async`, or a timeout of 0.
    pub conditions: Vec<String>,
    /// Whether its group has a condition that other hooks share, and its command has additions.
    /// `install` leaves it there, because the additions would be lost.
    pub shares_matcher: bool,
    /// Whether the command only runs us. Other entries are never changed.
    pub is_alone: bool,
    /// Whether an earlier entry does the same.
    pub is_duplicate: bool,
}

impl Entry {
    /// Whether the timeout was meant as milliseconds.
    #[must_use]
    pub fn has_suspicious_timeout(&self) -> bool {
        self.timeout.is_some_and(|seconds| seconds > MAX_TIMEOUT)
    }
}

/// An event that a settings file names, regardless of whose hooks it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Whether it has hooks, and we may change all of them.
    pub is_own: bool,
}

/// What a settings file says about our plugin. A value that is not a boolean says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// As the client names it: `<plugin>@<marketplace>`.
    pub name: String,
    /// Whether it is enabled or disabled.
    pub is_enabled: bool,
}

impl Plugin {
    fn read(member: Member) -> Option<Self> {
        let is_ours = member.key.starts_with("convex-sidecar@");
        let is_enabled = member.value.raw().parse().ok().filter(|_| is_ours)?;
        Some(Self {
            name: member.key,
            is_enabled,
        })
    }
}

/// What concerns us in a settings file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Our entries, in the order of the file.
    pub entries: Vec<Entry>,
    /// All events that it names, in the order of the file.
    pub events: Vec<Event>,
    /// The settings that decide which hooks run.
    pub switches: Switches,
    /// Our plugin, once for each marketplace.
    pub plugins: Vec<Plugin>,
}

impl Found {
    /// The entries that we may change.
    pub fn own(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_alone)
    }
}

/// Reads a settings file. If the client could not read its hooks either, the error names line,
/// column and remedy.
pub fn find(text: &str) -> Result<Found> {
    read(text, locate)
}

/// Reads a managed settings file. The client ignores only the hooks if it cannot read them.
pub fn find_managed(text: &str) -> Result<Found> {
    read(text, |json| Ok(locate(json).unwrap_or_default()))
}

fn read(
    text: &str,
    locate: impl for<'a> Fn(&Json<'a>) -> Result<Vec<Located<'a>>>,
) -> Result<Found> {
    if is_blank(text) {
        return Ok(Found::default());
    }
    let json = Json::parse(text)?;
    let plugins = json.root.member("enabledPlugins").and_then(Node::members);
    let plugins = plugins.into_iter().flatten();
    let entries: Vec<_> = locate(&json)?.into_iter().map(|ours| ours.entry).collect();
    Ok(Found {
        events: events(json.root, &entries),
        entries,
        switches: Switches::read(json.root),
        plugins: plugins.filter_map(Plugin::read).collect(),
    })
}

fn events(root: Node, ours: &[Entry]) -> Vec<Event> {
    let events = root.member("hooks").and_then(Node::members);
    let event = |event: Member| {
        let groups = event.value.elements().into_iter().flatten();
        let hooks = groups.filter_map(|group| group.member("hooks")?.elements());
        let count: usize = hooks.map(|hooks| hooks.len()).sum();
        let is_own = |entry: &&Entry| entry.is_alone && entry.event == event.key;
        Event {
            is_own: count > 0 && ours.iter().filter(is_own).count() == count,
            name: event.key,
        }
    };
    events.into_iter().flatten().map(event).collect()
}

/// One of our entries and where it is.
pub struct Located<'a> {
    /// The entry.
    pub entry: Entry,
    /// The call in its command; `None` in the exec form, whose command is the program.
    pub call: Option<Call>,
    /// The entry's object.
    pub node: Node<'a>,
    /// The objects and arrays around it, outermost first, each with the index of the item that
    /// leads to the entry: the file, `hooks`, the event's groups, the group's hooks.
    pub path: [(Node<'a>, usize); 4],
}

/// Finds our entries. Hooks of a shape that the client does not know are an error.
pub fn locate<'a>(json: &Json<'a>) -> Result<Vec<Located<'a>>> {
    let mut found: Vec<Located> = Vec::new();
    let root = json.object(json.root, "the file")?;
    let Some(in_root) = root.iter().position(|member| member.key == "hooks") else {
        return Ok(found);
    };
    let hooks = root[in_root].value;
    for (in_hooks, event) in json.object(hooks, "`hooks`")?.into_iter().enumerate() {
        let name = format!("`hooks.{}`", event.key);
        for (in_event, group) in json.array(event.value, &name)?.into_iter().enumerate() {
            json.object(group, &format!("an entry of {name}"))?;
            let Some(entries) = group.member("hooks") else {
                continue;
            };
            let matcher = group.member("matcher").and_then(Node::string);
            let nodes = json.array(entries, &format!("`hooks` in an entry of {name}"))?;
            let is_shared = nodes.len() > 1
                && group
                    .members()
                    .is_some_and(|members| members.iter().any(is_condition));
            for (in_group, node) in nodes.into_iter().enumerate() {
                json.object(node, &format!("a hook of {name}"))?;
                let Some(Recognized {
                    command,
                    args,
                    call,
                }) = recognize(node)
                else {
                    continue;
                };
                let is_alone = call.as_ref().is_none_or(|call| call.is_alone);
                let is_same = |other: &Entry| {
                    other.is_alone
                        && is_alone
                        && other.event == event.key
                        && narrowing(other.matcher.as_deref()) == narrowing(matcher.as_deref())
                };
                let entry = Entry {
                    is_duplicate: found.iter().any(|other| is_same(&other.entry)),
                    event: event.key.clone(),
                    matcher: matcher.clone(),
                    program: call
                        .as_ref()
                        .map_or_else(|| command.clone(), |call| call.program.clone()),
                    command,
                    args,
                    timeout: node
                        .member("timeout")
                        .and_then(|timeout| timeout.raw().parse().ok()),
                    conditions: [group, node]
                        .iter()
                        .filter_map(|node| node.members())
                        .flatten()
                        .filter(is_condition)
                        .map(|member| format!("{}: {}", member.raw_key, member.value.raw()))
                        .collect(),
                    shares_matcher: is_shared && call.as_ref().is_some_and(|call| !call.is_plain),
                    is_alone,
                };
                found.push(Located {
                    entry,
                    call,
                    node,
                    path: [
                        (json.root, in_root),
                        (hooks, in_hooks),
                        (event.value, in_event),
                        (entries, in_group),
                    ],
                });
            }
        }
    }
    Ok(found)
}

/// The matcher, unless it matches everything.
fn narrowing(matcher: Option<&str>) -> Option<&str> {
    matcher.filter(|matcher| !MATCH_ALL.contains(matcher))
}

/// Whether a member of an entry or of its group is one of [`Entry::conditions`].
#[must_use]
pub fn is_condition(member: &Member) -> bool {
    let value = member.value;
    match member.key.as_str() {
        "matcher" => value
            .string()
            .is_some_and(|matcher| narrowing(Some(&matcher)).is_some()),
        "once" | "async" => value.raw() == "true",
        "if" => value.raw() != "null",
        "timeout" => value.raw().parse().is_ok_and(|seconds: f64| seconds <= 0.0),
        _ => false,
    }
}

/// A hook that runs us: its command, and either the arguments or our call in the command.
struct Recognized {
    command: String,
    args: Option<Vec<String>>,
    call: Option<Call>,
}

fn recognize(hook: Node) -> Option<Recognized> {
    let command = hook.member("command")?.string()?;
    if hook.member("type")?.string()? != "command" {
        return None;
    }
    // With `args` the command is the program itself, and no shell reads it.
    if let Some(args) = hook.member("args").and_then(Node::elements) {
        let args: Option<Vec<_>> = args.into_iter().map(Node::string).collect();
        let args = args?;
        let is_hook = args.first().is_none_or(|verb| verb == "hook");
        return (shell::is_sidecar(&command) && is_hook).then_some(Recognized {
            command,
            args: Some(args),
            call: None,
        });
    }
    let call = Some(shell::find(&command)?);
    Some(Recognized {
        command,
        args: None,
        call,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_duplicates_are_found() {
        let hook = r#"{"type":"command","command":"convex-sidecar hook","timeout":10000}"#;
        let text = format!(
            r#"{{"hooks":{{"Stop":[{{"hooks":[{hook},{hook}]}},{{"matcher":"x","hooks":[{hook}]}}]}}}}"#
        );
        let found = find(&text).unwrap();
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
    }

    #[test]
    fn matchers_of_everything_make_no_difference_between_duplicates() {
        let group = |matcher: &str| {
            format!(
                r#"{{{matcher}"hooks":[{{"type":"command","command":"convex-sidecar hook"}}]}}"#
            )
        };
        let all = [
            r#""matcher":"*","#,
            r#""matcher":"","#,
            r#""matcher":".*","#,
            "",
        ]
        .map(group);
        let text = format!(r#"{{"hooks":{{"Stop":[{}]}}}}"#, all.join(","));
        let found = find(&text).unwrap();
        let duplicates: Vec<_> = found
            .entries
            .iter()
            .map(|entry| entry.is_duplicate)
            .collect();
        assert_eq!(duplicates, [false, true, true, true]);
    }
}
