//! No text from a server, a transcript, a file, a path, a variable or an argument can control a
//! terminal or be invisible to a reader.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::gate::{Fault, Gate};
use crate::site::{KEY, Site};
use crate::support::{Machine, Output, Sidecar};

/// Each kind of harmful character. A NUL is only in [`EVIL_TEXT`], because arguments, variables and
/// paths cannot have one.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[6n\u{9b}5n\u{8}\r\u{7f}\u{85}\u{61c}\u{200b}\u{200f}\u{2028}\u{2029}\u{202e}txt.exe\u{2066}\u{2060}\u{feff}\u{e0001}\u{e0041}\u{e01ef}";
const EVIL_TEXT: &str = "\u{0}\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31m\u{9b}5n\u{8}\r\u{7f}\u{85}\u{61c}\u{200b}\u{200f}\u{2028}\u{2029}\u{202e}txt.exe\u{2066}\u{2060}\u{feff}\u{e0001}\u{e0041}\u{e01ef}\nnext";
/// A folder's name.
const FOLDER: &str = "\u{1b}[2J\u{9b}1m\u{202e}\u{2028}\u{61c}\u{e0041}\u{7}d";
const SESSION: &str = "5e55104a-0000-4000-8000-00000000000b";

/// Whether the character could control a terminal or be invisible. This is not the program's list,
/// but Unicode's control and format characters, line separators and ignorable characters.
fn is_harmful(char: char) -> bool {
    let code = u32::from(char);
    char.is_control() && char != '\n' && char != '\t'
        || matches!(code, 0x61c | 0x180e | 0x200b | 0x200e..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f)
        || matches!(code, 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
}

#[track_caller]
fn assert_harmless(output: &Output, what: &str) {
    for printed in [&output.stdout, &output.stderr] {
        let harmful = printed.chars().find(|char| is_harmful(*char));
        assert_eq!(harmful, None, "{what}: {printed:?}");
    }
}

/// Runs it without and with colors. With colors, no other sequence may be left.
#[track_caller]
fn check(run: &dyn Fn() -> Sidecar, what: &str) -> Output {
    let colors = regex_lite::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    let mut colored = run().env("CLICOLOR_FORCE", "1").run();
    assert!(
        !colored.stdout.contains("\u{1b}[31m\\u{9b}"),
        "{what}: {colored:?}"
    );
    colored.stdout = colors.replace_all(&colored.stdout, "").into_owned();
    assert_harmless(&colored, &format!("{what}, in color"));
    let output = run().run();
    assert_harmless(&output, what);
    output
}

/// A machine that recorded a session with a harmful text in every field, and its transcript.
fn recorded(machine: Machine) -> Machine {
    fs::create_dir_all(machine.projects()).unwrap();
    let transcript = machine.projects().join(format!("{SESSION}.jsonl"));
    let prompt = json!({"type": "user", "uuid": "u1", "timestamp": "2026-11-22T10:00:00.000Z", "cwd": EVIL_TEXT, "gitBranch": EVIL_TEXT,
        "version": EVIL_TEXT, "entrypoint": EVIL_TEXT, "permissionMode": EVIL_TEXT,
        "message": {"role": "user", "content": format!("prompt {EVIL_TEXT}")}});
    let tool = json!({"type": "tool_use", "id": "t1", "name": EVIL_TEXT, "input": {}});
    let answer = json!({"type": "assistant", "uuid": "u2", "timestamp": "2026-11-22T10:00:01.000Z",
        "message": {"id": "m1", "model": EVIL_TEXT, "usage": {"input_tokens": 1, "output_tokens": 2},
        "content": [{"type": "text", "text": format!("answer {EVIL_TEXT}")}, tool]}});
    let title = json!({"type": "custom-title", "customTitle": EVIL_TEXT});
    let error = json!({"type": "assistant", "isApiErrorMessage": true, "uuid": "u3", "timestamp": "2026-11-22T10:00:02.000Z",
        "message": {"id": "m2", "model": "<synthetic>", "content": [{"type": "text", "text": EVIL_TEXT}]}});
    fs::write(
        &transcript,
        format!("{prompt}\n{answer}\n{title}\n{error}\n"),
    )
    .unwrap();
    let machine = machine
        .env("CONVEX_SIDECAR_WORKFLOW", EVIL)
        .env("CONVEX_SIDECAR_AGENT_TYPE", EVIL);
    for event in [
        json!({"session_id": SESSION, "transcript_path": transcript, "cwd": EVIL_TEXT, "hook_event_name": "SessionStart", "source": EVIL_TEXT, "model": EVIL_TEXT}),
        json!({"session_id": SESSION, "transcript_path": transcript, "cwd": EVIL_TEXT, "hook_event_name": "SessionEnd", "reason": EVIL_TEXT}),
    ] {
        let hook = || machine.sidecar(&["hook"]).stdin(event.to_string());
        hook().run().silent();
        for option in ["--verbose", "--dry-run"] {
            let run = || machine.sidecar(&["hook", option]).stdin(event.to_string());
            check(&run, option);
        }
    }
    machine
}

/// The commands that print what is recorded, here and in Convex.
const SCREENS: [&[&str]; 21] = [
    &["sessions", "--all"],
    &["sessions", "--all", "--json"],
    &["sessions", "--workflow", EVIL],
    &["sessions", "--remote", "--all"],
    &["sessions", "--remote", "--all", "--json"],
    &["show", SESSION],
    &["show", SESSION, "--json"],
    &["show", "5e55104a", "--remote"],
    &["show", "5e55104a", "--remote", "--json"],
    &["workflow", "list"],
    &["workflow", "list", "--json"],
    &["workflow", "list", "--remote"],
    &["workflow", "list", "--remote", "--json"],
    &["workflow", "show", EVIL],
    &["workflow", "show", EVIL, "--json"],
    &["workflow", "show", EVIL, "--remote"],
    &["workflow", "show", "other", "--remote", "--json"],
    &["sync"],
    &["doctor"],
    &["doctor", "--json"],
    &["forget", "nobody", "--yes"],
];

#[test]
fn text_of_a_session_is_harmless_on_every_screen() {
    let machine = recorded(Machine::new());
    machine
        .sidecar(&["workflow", "set", EVIL, "--task", EVIL, "--step", EVIL])
        .args(&["--artifact", EVIL])
        .run()
        .ok();
    for width in ["40", "80", "1000"] {
        for args in SCREENS {
            check(
                &|| machine.sidecar(args).env("COLUMNS", width),
                &format!("{args:?}"),
            );
        }
    }
    let shown = machine.sidecar(&["show", SESSION]).run().ok();
    assert!(shown.contains(r"\u{1b}[2J"), "{shown}");
    let json = machine.sidecar(&["show", SESSION, "--json"]).run().ok();
    assert!(json.contains(r"\u202etxt.exe"), "{json}");
    let document: Value = serde_json::from_str(&json).unwrap();
    assert!(
        document["input"]
            .as_str()
            .unwrap()
            .contains("\u{202e}txt.exe")
    );
}

/// Answers of a malicious server.
fn answers() -> Vec<(&'static str, Fault)> {
    let row = json!({"sessionId": format!("{SESSION}{EVIL_TEXT}"), "agentType": EVIL_TEXT, "status": "completed", "revision": 1, "input": EVIL_TEXT,
        "output": EVIL_TEXT, "error": EVIL_TEXT, "metadata": {"startedAt": 1, "updatedAt": 2, "runs": [], "cwd": EVIL_TEXT, "workflowId": EVIL_TEXT,
        "models": [EVIL_TEXT], "title": EVIL_TEXT}});
    let workflow = json!({"key": EVIL_TEXT, "task": EVIL_TEXT, "status": "running", "currentStep": EVIL_TEXT, "artifacts": [EVIL_TEXT],
        "startedAt": 1, "updatedAt": 2, "setAt": 1});
    let success = |value: Value| {
        Fault::status(
            200,
            &json!({"status": "success", "value": value}).to_string(),
        )
    };
    let page = |row: &Value| json!({"page": [row], "isDone": true, "continueCursor": EVIL_TEXT});
    // As a raw answer, which JSON would not allow.
    let raw = |status: u16, headers: &str| Fault::Answer {
        head: format!("HTTP/1.1 {status} {}\r\n{headers}", EVIL.replace('\r', "")),
        body: EVIL_TEXT.as_bytes().to_vec(),
    };
    let error = json!({"status": "error", "errorMessage": EVIL_TEXT, "errorData": EVIL_TEXT});
    let failure = json!({"code": EVIL_TEXT, "message": EVIL_TEXT}).to_string();
    let html = format!("<html><head><title>{EVIL_TEXT}</title></head></html>");
    vec![
        ("a page of sessions", success(page(&row))),
        ("a list of sessions", success(json!([row, row]))),
        ("a page of workflows", success(page(&workflow))),
        ("a workflow", success(workflow)),
        (
            "a receipt",
            success(json!({"outcome": EVIL_TEXT, "revision": EVIL_TEXT, "deleted": EVIL_TEXT})),
        ),
        ("text", success(json!(EVIL_TEXT))),
        (
            "an error of a function",
            Fault::status(200, &error.to_string()),
        ),
        (
            "an error of a function, as 560",
            Fault::status(560, &error.to_string()),
        ),
        ("a refused key", Fault::status(401, &failure)),
        ("a refused call", Fault::status(400, &failure)),
        ("a broken server", Fault::status(500, &failure)),
        ("text instead of JSON", raw(200, "Content-Type: text/plain")),
        (
            "a broken server with text",
            raw(502, "Content-Type: text/plain"),
        ),
        (
            "a redirect",
            raw(
                302,
                &format!("Location: https://x/{}", EVIL.replace('\r', "")),
            ),
        ),
        (
            "a web page",
            Fault::Answer {
                head: "HTTP/1.1 200 OK\r\nContent-Type: text/html".to_owned(),
                body: html.into_bytes(),
            },
        ),
    ]
}

#[test]
fn answers_of_a_server_are_harmless_in_every_command() {
    for (name, answer) in answers() {
        let gate = Gate::open(None);
        gate.set(answer);
        let machine = Machine::new().deployment(&gate.url, KEY);
        let event = |number: usize| json!({"session_id": format!("{SESSION}{number}"), "hook_event_name": "Stop", "last_assistant_message": "x"});
        machine.hook(event(1).to_string());
        machine
            .sidecar(&["workflow", "set", "key", "--task", "x"])
            .run();
        let verbose = || {
            machine
                .sidecar(&["hook", "--verbose"])
                .stdin(event(2).to_string())
        };
        check(&verbose, &format!("{name}: hook --verbose"));
        let printed = check(
            &|| machine.sidecar(&["workflow", "set", "key", "--task", "y"]),
            name,
        );
        assert!(!printed.stdout.is_empty() || !printed.stderr.is_empty());
        let other = Machine::new();
        let setup = || {
            let args = ["setup", "--url", &gate.url, "--admin-key-stdin"];
            other.sidecar(&args).stdin(KEY)
        };
        check(&setup, &format!("{name}: setup"));
        for args in SCREENS {
            check(&|| machine.sidecar(args), &format!("{name}: {args:?}"));
        }
        check(
            &|| machine.sidecar(&["forget", "5e55104a", "--yes"]),
            &format!("{name}: forget"),
        );
    }
}

#[test]
fn names_and_contents_of_files_are_harmless() {
    let machine = recorded(Machine::new());
    let folder = machine.home().join(FOLDER);
    let (settings, projects) = (folder.join(".claude"), folder.join("projects"));
    for folder in [&settings, &projects] {
        fs::create_dir_all(folder).unwrap();
    }
    let transcript = machine.projects().join(format!("{SESSION}.jsonl"));
    fs::copy(
        transcript,
        projects.join("5e55104a-0000-4000-8000-00000000000c.jsonl"),
    )
    .unwrap();
    let path = folder.to_str().unwrap();
    let bad = [
        json!({"hooks": EVIL_TEXT, EVIL_TEXT: 1}).to_string(),
        format!("{{bad {EVIL_TEXT}"),
        json!({"hooks": {EVIL_TEXT: [{"matcher": EVIL_TEXT, "hooks": [{"type": "command", "command": format!("convex-sidecar hook; echo {EVIL_TEXT}"), "timeout": 99999}]}]}, "enabledPlugins": {format!("convex-sidecar@{EVIL_TEXT}"): true}, "disableAllHooks": EVIL_TEXT}).to_string(),
        json!({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": format!("/{EVIL}/convex-sidecar hook")}]}]}, "env": {EVIL_TEXT: EVIL_TEXT, "CONVEX_SELF_HOSTED_URL": EVIL_TEXT}}).to_string(),
    ];
    for text in &bad {
        fs::write(settings.join("settings.json"), text).unwrap();
        for args in [
            &["install", "--scope", "project"][..],
            &["install", "--scope", "project", "--dry-run"],
            &["uninstall", "--scope", "project", "--dry-run"],
            &["install", "--claude-config-dir", path],
            &["uninstall", "--claude-config-dir", path, "--dry-run"],
            &["doctor"],
            &["doctor", "--claude-config-dir", path],
            &["doctor", "--json", "--claude-config-dir", path],
        ] {
            let run = || {
                fs::write(settings.join("settings.json"), text).unwrap();
                fs::write(folder.join("settings.json"), text).unwrap();
                machine.sidecar(args).folder(&folder).env("HOME", path)
            };
            check(&run, &format!("{text}: {args:?}"));
        }
    }
    for text in [
        "url = ",
        &format!("\"{EVIL_TEXT}\" = 1"),
        &format!("redact_patterns = ['({EVIL}']"),
        "url = 1",
    ] {
        let home = folder.join("sidecar");
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("config.toml"), text).unwrap();
        let home = home.to_str().unwrap();
        for args in [
            &["sessions"][..],
            &["sync"],
            &["doctor"],
            &["setup", "--dry-run"],
            &["import"],
        ] {
            let run = || {
                machine
                    .sidecar(args)
                    .env("CONVEX_SIDECAR_HOME", home)
                    .env("HOME", path)
            };
            check(&run, &format!("{text}: {args:?}"));
        }
    }
    let nowhere = folder.join("nowhere");
    for target in [&projects, &nowhere] {
        let target = target.to_str().unwrap();
        let printed = check(&|| machine.sidecar(&["import", target]), target);
        assert!(format!("{}{}", printed.stdout, printed.stderr).contains(r"\u{1b}[2J"));
    }
    // A file that is not a journal, and a journal that cannot be written.
    for content in ["no journal", ""] {
        let home = folder.join("journal");
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("journal.db"), content.repeat(1_000)).unwrap();
        fs::create_dir(home.join("journal.db-lock")).unwrap();
        let home = home.to_str().unwrap();
        for args in [
            &["sessions"][..],
            &["show", SESSION],
            &["doctor"],
            &["sync"],
        ] {
            check(
                &|| machine.sidecar(args).env("CONVEX_SIDECAR_HOME", home),
                &format!("{args:?}"),
            );
        }
    }
}

#[test]
fn variables_and_arguments_are_harmless() {
    let machine = recorded(Machine::new());
    for name in [
        "CONVEX_SELF_HOSTED_URL",
        "CONVEX_SELF_HOSTED_ADMIN_KEY",
        "CONVEX_SIDECAR_HOME",
        "CONVEX_SIDECAR_OWNER_PID",
        "CONVEX_SIDECAR_DISABLED",
        "CONVEX_SIDECAR_BIN",
        "CONVEX_PORT",
        "CLAUDE_CONFIG_DIR",
        "CLAUDE_PROJECT_DIR",
        "HOME",
        "PATH",
        "XDG_CONFIG_HOME",
        "COLUMNS",
        "TERM",
        "SUDO_USER",
        "VIRTUAL_ENV",
        "DOCKER_HOST",
    ] {
        for args in [
            &["doctor"][..],
            &["sessions"],
            &["sync"],
            &["install", "--dry-run"],
            &["setup"],
        ] {
            let run = || machine.sidecar(args).env(name, EVIL);
            check(&run, &format!("{name}: {args:?}"));
        }
        let both = || {
            let url = format!("http://127.0.0.1:1/{EVIL}");
            let sync = machine
                .sidecar(&["sync"])
                .env("CONVEX_SELF_HOSTED_ADMIN_KEY", "a|b");
            sync.env("CONVEX_SELF_HOSTED_URL", &url)
        };
        check(&both, "a URL with a path");
    }
    for args in [
        &[EVIL][..],
        &["show", EVIL],
        &["show", SESSION, EVIL],
        &["sessions", "--status", EVIL],
        &["sessions", "--limit", EVIL],
        &["sessions", &format!("--{EVIL}")],
        &["workflow", EVIL],
        &["workflow", "show", EVIL],
        &["forget", EVIL, "--yes"],
        &["install", "--scope", EVIL],
        &["setup", "--url", EVIL, "--admin-key-stdin"],
        &["completions", EVIL],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["completions", "elvish"],
        &["completions", "powershell"],
        &["--help"],
        &["show", "--help"],
    ] {
        check(&|| machine.sidecar(args).stdin("a|b"), &format!("{args:?}"));
    }
    for args in [&["--help"][..], &["show"], &["sessions", "--bad"]] {
        let script = format!("exec -a '{EVIL}' \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_convex-sidecar")]);
        let output = command.args(args).env_clear().output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let output = Output {
            status: 0,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        assert!(output.stdout.len() + output.stderr.len() > 0);
        assert_harmless(&output, &format!("another name, {args:?}"));
    }
    // Text that is not UTF-8.
    let output = Command::new(env!("CARGO_BIN_EXE_convex-sidecar"))
        .args([
            OsStr::from_bytes(b"show"),
            OsStr::from_bytes(b"\xff\x1b[2J\x9b1m"),
        ])
        .env_clear()
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(!printed.chars().any(is_harmful), "{printed:?}");
}

/// Docker, npm and the Convex CLI repeat text from servers and files.
#[test]
fn output_of_programs_is_harmless() {
    let print = format!(
        "printf '%b' '{}'; printf '%b' '{0}' >&2; exit 3",
        EVIL_TEXT.replace('\0', "\\0000")
    );
    for command in [
        "compose version",
        "node --version",
        "npm ci",
        "convex deploy",
        "up --detach --wait",
        "generate_admin_key",
    ] {
        let site = Site::new().instead(command, &print);
        let output = site.setup(&[]);
        assert_eq!(output.status, 1, "{command}: {output:?}");
        assert_harmless(&output, command);
    }
    let success = print.replace("exit 3", "exit 0");
    for command in [
        "compose version",
        "node --version",
        "info --format",
        "ps --all --format json",
        "config --format json",
        "port backend 3210",
        "port dashboard 6791",
        "logs --no-color",
    ] {
        let site = Site::new().instead(command, &success);
        assert_harmless(&site.setup(&[]), command);
    }
}
