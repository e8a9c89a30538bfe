//! `doctor` compares each client on the machine with the oldest one that runs the hooks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Machine, json_lines};

/// A program that must not be asked, because its version is known without it.
const NEVER_RUN: &str = "#!/bin/sh\ntouch \"$0.ran\"\n";

fn checks(machine: &Machine) -> Vec<Value> {
    let output = machine.sidecar(&["doctor", "--json"]).run();
    let mut checks = json_lines(&output.stdout);
    checks.retain(|check| check["name"] == "clients");
    checks
}

fn package(name: &str, field: &str, version: &str) -> String {
    json!({"name": name, field: version}).to_string()
}

/// Installs a client of this version on the machine, in one of the possible ways.
fn put(machine: &Machine, way: &str, version: &str) -> &'static str {
    let npm = package("@anthropic-ai/claude-code", "version", version);
    let link = |target: &str, name: &str| {
        let name = machine.home().join(name);
        fs::create_dir_all(name.parent().unwrap()).unwrap();
        symlink(Path::new(target), name).unwrap();
    };
    match way {
        "npm" | "npm, a program" => {
            let folder = "lib/node_modules/@anthropic-ai/claude-code";
            let program = if way == "npm" {
                "cli.js"
            } else {
                "bin/claude.exe"
            };
            machine.write(&format!("{folder}/package.json"), &npm, 0o644);
            machine.write(&format!("{folder}/{program}"), NEVER_RUN, 0o755);
            link(&format!("../{folder}/{program}"), "bin/claude");
            "bin/claude"
        }
        "the installer" => {
            let file = format!(".local/share/claude/versions/{version}");
            machine.write(&file, NEVER_RUN, 0o755);
            link(
                &format!("../share/claude/versions/{version}"),
                ".local/bin/claude",
            );
            ".local/bin/claude"
        }
        "the older local installation" => {
            machine.write(".claude/local/claude", NEVER_RUN, 0o755);
            let folder = ".claude/local/node_modules/@anthropic-ai/claude-code";
            machine.write(&format!("{folder}/package.json"), &npm, 0o644);
            ".claude/local/claude"
        }
        "a script" => {
            let script =
                format!("#!/bin/sh\n[ \"$*\" = --version ] && echo '{version} (Claude Code)'\n");
            machine.write("bin/claude", &script, 0o755);
            "bin/claude"
        }
        "an editor" | "another editor" => {
            let editor = if way == "an editor" {
                ".vscode"
            } else {
                ".cursor-server"
            };
            let folder =
                format!("{editor}/extensions/anthropic.claude-code-{version}-linux-x64/resources");
            machine.write(&format!("{folder}/native-binary/claude"), NEVER_RUN, 0o755);
            "resources/native-binary/claude"
        }
        "the SDK" => {
            let folder = "node_modules/@anthropic-ai/claude-agent-sdk";
            let text = package(
                "@anthropic-ai/claude-agent-sdk",
                "claudeCodeVersion",
                version,
            );
            machine.write(&format!("{folder}/package.json"), &text, 0o644);
            "node_modules/@anthropic-ai/claude-agent-sdk"
        }
        "the SDK for Python" | "the SDK for Python on Windows" => {
            let folder = if way == "the SDK for Python" {
                "lib/python3.12"
            } else {
                "Lib"
            };
            let file = format!(".venv/{folder}/site-packages/claude_agent_sdk/_cli_version.py");
            let text = format!("\"\"\"Bundled version.\"\"\"\n\n__cli_version__ = \"{version}\"\n");
            machine.write(&file, &text, 0o644);
            "claude_agent_sdk/_cli_version.py"
        }
        _ => unreachable!(),
    }
}

const WAYS: [&str; 10] = [
    "npm",
    "npm, a program",
    "the installer",
    "the older local installation",
    "a script",
    "an editor",
    "another editor",
    "the SDK",
    "the SDK for Python",
    "the SDK for Python on Windows",
];

#[test]
fn client_that_is_too_old_is_reported_wherever_it_comes_from() {
    for way in WAYS {
        for (version, mark) in [
            ("1.0.127", "warning"),
            ("1.0.128", "ok"),
            ("2.0.0", "ok"),
            ("10.0.0", "ok"),
        ] {
            let machine = Machine::new().linked();
            let place = put(&machine, way, version);
            let found = checks(&machine);
            assert_eq!(found.len(), 1, "{way} {version}: {found:?}");
            let (says, check) = (found[0]["says"].as_str().unwrap(), &found[0]);
            assert_eq!(check["mark"], mark, "{way} {version}: {check}");
            assert!(
                says.contains(&format!("{version} (")) && says.contains(place),
                "{way}: {says}"
            );
            assert!(!machine.home().join(place).with_extension("ran").exists());
        }
    }
}

#[test]
fn stop_failure_needs_a_newer_client() {
    for (version, mark) in [("2.1.77", "warning"), ("2.1.78", "ok")] {
        let machine = Machine::new().linked();
        put(&machine, "an editor", version);
        machine.sidecar(&["install"]).run().ok();
        assert_eq!(checks(&machine)[0]["mark"], "ok");
        machine.sidecar(&["install", "--stop-failure"]).run().ok();
        assert_eq!(checks(&machine)[0]["mark"], mark);
        machine.sidecar(&["install"]).run().ok();
        assert_eq!(checks(&machine)[0]["mark"], "ok");
    }
}

/// Adds a hook of another program for this event to the user's settings.
fn add_other_hook(machine: &Machine, event: &str) {
    let path = machine.home().join(".claude/settings.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    let group = json!({"hooks": [{"type": "command", "command": "notify"}]});
    let groups = settings["hooks"].as_object_mut().unwrap().entry(event);
    groups
        .or_insert(json!([]))
        .as_array_mut()
        .unwrap()
        .push(group);
    fs::write(path, settings.to_string()).unwrap();
}

#[test]
fn event_of_another_program_needs_a_client_that_knows_it() {
    // The first client that reads a file with the event, and the one before it.
    for (event, before, since) in [
        ("SubagentStart", "2.0.42", "2.0.43"),
        ("PostToolUseFailure", "2.0.55", "2.0.56"),
        ("StopFailure", "2.1.77", "2.1.78"),
        ("PermissionDenied", "2.1.88", "2.1.89"),
        ("PreModelSwitch", "2.1.100", "2.1.101"),
        ("NotAnEvent", "2.1.100", "2.1.101"),
    ] {
        let machine = Machine::new().linked();
        machine.sidecar(&["install"]).run().ok();
        add_other_hook(&machine, event);
        put(&machine, "the SDK", since);
        assert_eq!(checks(&machine)[0]["mark"], "ok", "{event}");
        put(&machine, "an editor", before);
        let found = checks(&machine);
        let [check] = &found[..] else {
            panic!("{event}: {found:?}");
        };
        let settings = machine.home().join(".claude/settings.json");
        let settings = settings.display();
        let finding = format!("): it does not know {event} in {settings}, and ignores the whole");
        let says = check["says"].as_str().unwrap();
        assert!(
            says.starts_with(before) && says.contains(&finding),
            "{check}"
        );
        let remedy = format!("update it to {since} or newer, or remove {event} from {settings}");
        assert_eq!(check["remedy"], remedy);
    }
    for event in [
        "PreToolUse",
        "PostToolUse",
        "Notification",
        "SubagentStop",
        "PreCompact",
    ] {
        let machine = Machine::new().linked();
        put(&machine, "an editor", "1.0.128");
        machine.sidecar(&["install"]).run().ok();
        add_other_hook(&machine, event);
        assert_eq!(checks(&machine)[0]["mark"], "ok", "{event}");
    }
}

#[test]
fn events_of_one_file_are_reported_together_with_the_version_that_reads_all() {
    let machine = Machine::new().linked();
    put(&machine, "an editor", "2.0.50");
    machine.sidecar(&["install", "--stop-failure"]).run().ok();
    add_other_hook(&machine, "Setup");
    let settings = machine.home().join(".claude/settings.json");
    let settings = settings.display();
    let remedy = |stop_failure: &str| {
        format!(
            "update it to 2.1.78 or newer, or remove Setup from {settings} and remove StopFailure {stop_failure}"
        )
    };
    let found = checks(&machine);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["remedy"], remedy("with `convex-sidecar install`"));
    // `install` leaves the hooks of others there, and with them the event.
    add_other_hook(&machine, "StopFailure");
    let found = checks(&machine);
    assert_eq!(found[0]["remedy"], remedy(&format!("from {settings}")));
}

#[test]
fn event_counts_only_in_a_file_that_our_hooks_come_from() {
    let machine = Machine::new().linked();
    put(&machine, "an editor", "2.0.50");
    let with_plugin = |plugins: &Value| {
        let settings = json!({"hooks": {"Setup": []}, "enabledPlugins": plugins});
        machine.write(".claude/settings.json", &settings.to_string(), 0o644);
        checks(&machine)[0]["mark"].clone()
    };
    assert_eq!(with_plugin(&json!({})), "ok");
    let plugin = json!({"convex-sidecar@convex-sidecar": true});
    assert_eq!(with_plugin(&plugin), "warning");
}

#[test]
fn clients_are_counted_once_and_the_oldest_is_named() {
    let machine = Machine::new().linked();
    assert_eq!(checks(&machine), Vec::<Value>::new());
    put(&machine, "the installer", "2.1.332");
    put(&machine, "the SDK", "2.1.9");
    put(&machine, "an editor", "2.1.100");
    let found = checks(&machine);
    assert!(
        found[0]["says"]
            .as_str()
            .unwrap()
            .starts_with("3; the oldest is 2.1.9 ("),
        "{found:?}"
    );
    put(&machine, "another editor", "1.0.60");
    put(&machine, "npm", "1.0.99");
    let found = checks(&machine);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn file_that_is_not_a_client_is_ignored() {
    let machine = Machine::new().linked();
    machine.write(
        "bin/claude",
        "#!/bin/sh\necho 'no version'; exit 1\n",
        0o755,
    );
    machine.write(".local/share/claude/versions/latest", "", 0o644);
    machine.write(
        ".vscode/extensions/anthropic.claude-code-1.0.1/package.json",
        "{}",
        0o644,
    );
    machine.write(
        ".vscode/extensions/other.claude-code-1.0.1/resources/native-binary/claude",
        "",
        0o755,
    );
    machine.write(
        "node_modules/@anthropic-ai/claude-code/package.json",
        "{\"name\": \"mine\", \"version\": \"1.0.0\"}",
        0o644,
    );
    machine.write(
        "node_modules/@anthropic-ai/claude-agent-sdk/package.json",
        "{",
        0o644,
    );
    assert_eq!(checks(&machine), Vec::<Value>::new());

    // A client that does not answer is stopped after a few seconds.
    machine.write("bin/claude", "#!/bin/sh\nexec /bin/sleep 60\n", 0o755);
    assert_eq!(checks(&machine), Vec::<Value>::new());
}
