//! What people look at, held as it looks at 80 and at 140 columns: `UPDATE_SCREENS=1 cargo test
//! --test binary screens` writes the screens anew.
//!
//! The sessions are imported from transcripts that are written here. Their times are either fixed,
//! more than a hundred days ago, when ages are shown as months, or so long before now that the age
//! does not change while the test runs. What only hooks and answers of Convex tell (runs, delivery)
//! is put into the journal by the journal's own room.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use convex_sidecar::journal::{Journal, StoreOptions};
use convex_sidecar::record::Millis;
use convex_sidecar::record::failure::{Failure, FailureKind};
use convex_sidecar::record::run::{End, EndedBy, Run};
use convex_sidecar::record::workflow::{Change, Status, Workflow};
use serde_json::json;

use crate::support::{Backend, Machine, root};

const URL: &str = "http://127.0.0.1:3210";
const KEY: &str = "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7";
const UNREACHABLE: &str =
    "could not reach http://127.0.0.1:3210: Connection refused (os error 111)";
const REFUSED: &str = "Server Error: ArgumentValidationError: Object contains extra field `costUsd` that is not in the validator.";
const TOOLS: [&str; 3] = ["Read", "Bash", "Edit"];
const MAX_OUTPUT: usize = 65_536;
const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
/// 2025-03-01 10:00:00 UTC.
const LONG_AGO: Millis = 1_740_823_200_000;

/// How a run of the story's client ended.
#[derive(Clone, Copy)]
enum Ended {
    ByHook,
    Swept,
    NotYet,
}

/// A session as it is told to the machine.
struct Story {
    id: &'static str,
    prompt: &'static str,
    project: &'static str,
    branch: &'static str,
    model: &'static str,
    workflow: Option<&'static str>,
    start: Millis,
    length: Millis,
    tools: usize,
    failed_tools: usize,
    tokens: u64,
    cost: Option<f64>,
    fails: bool,
    ended: Ended,
}

impl Story {
    fn transcript(&self) -> String {
        let time = |at: Millis| jiff::Timestamp::from_millisecond(at).unwrap().to_string();
        let line = |kind: &str, number: usize, at: Millis, message: serde_json::Value| {
            json!({
                "type": kind, "uuid": format!("{}-{kind}-{number}", self.id), "timestamp": time(at), "cwd": format!("/home/dev/{}", self.project),
                "sessionId": self.id, "version": "2.1.197", "gitBranch": self.branch, "entrypoint": "cli", "message": message,
            })
        };
        let end = self.start + self.length;
        let mut lines = vec![line(
            "user",
            0,
            self.start,
            json!({ "role": "user", "content": self.prompt }),
        )];
        let mut content =
            vec![json!({ "type": "text", "text": "All of it is done; the tests pass." })];
        for number in 0..self.tools {
            content.push(json!({ "type": "tool_use", "id": format!("{}-tool-{number}", self.id), "name": TOOLS[number % TOOLS.len()] }));
        }
        let usage = json!({
            "input_tokens": self.tokens / 10, "output_tokens": self.tokens / 20, "cache_read_input_tokens": self.tokens * 3 / 4,
            "cache_creation_input_tokens": self.tokens / 10,
        });
        lines.push(line(
            "assistant",
            1,
            end,
            json!({ "id": format!("{}-message", self.id), "model": self.model, "usage": usage, "content": content }),
        ));
        for number in 0..self.tools {
            let is_error = number < self.failed_tools;
            let result = json!([{ "type": "tool_result", "tool_use_id": format!("{}-tool-{number}", self.id), "is_error": is_error, "content": "" }]);
            lines.push(line(
                "user",
                2 + number,
                end,
                json!({ "role": "user", "content": result }),
            ));
        }
        if self.fails {
            let content = json!([{ "type": "text", "text": "API Error: 529 Overloaded" }]);
            let message = json!({ "id": "synthetic", "model": "<synthetic>", "role": "assistant", "content": content, "usage": {} });
            let mut failure = line("assistant", 99, end, message);
            failure["isApiErrorMessage"] = json!(true);
            lines.push(failure);
        }
        if let Some(usd) = self.cost {
            lines
                .push(json!({ "type": "cost-state", "totalCostUSD": usd, "timestamp": time(end) }));
        }
        lines
            .iter()
            .flat_map(|line| [line.to_string(), "\n".to_owned()])
            .collect()
    }

    fn run(&self) -> Run {
        let (at, by, reason) = match self.ended {
            Ended::NotYet => {
                return Run {
                    owner: None,
                    started_at: self.start,
                    source: Some("startup".to_owned()),
                    end: None,
                };
            }
            Ended::ByHook => (
                self.start + self.length,
                EndedBy::Hook,
                Some("prompt_input_exit".to_owned()),
            ),
            Ended::Swept => (self.start + self.length, EndedBy::Swept, None),
        };
        Run {
            owner: None,
            started_at: self.start,
            source: Some("startup".to_owned()),
            end: Some(End { at, by, reason }),
        }
    }
}

fn now() -> Millis {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis()
        .try_into()
        .unwrap()
}

fn stories(now: Millis) -> Vec<Story> {
    let opus = "claude-opus-4-8";
    let story = Story {
        id: "",
        prompt: "",
        project: "shop",
        branch: "main",
        model: opus,
        workflow: None,
        start: 0,
        length: 0,
        tools: 0,
        failed_tools: 0,
        tokens: 0,
        cost: None,
        fails: false,
        ended: Ended::ByHook,
    };
    vec![
        Story {
            id: "c3a1f0de-52b7-4c1e-9d0a-8f7e6b5a4c3d",
            prompt: "Find out why the nightly import is slow, and make it fast",
            branch: "faster-import",
            workflow: Some("nightly"),
            start: now - 72 * MINUTE - 20 * SECOND,
            length: 70 * MINUTE,
            tools: 41,
            failed_tools: 2,
            tokens: 1_840_000,
            ended: Ended::NotYet,
            ..story
        },
        Story {
            id: "7be20c94-0d3f-4b6a-8e21-5c9d1f7a3b60",
            prompt: "Review the change to the cart, with an eye on rounding",
            branch: "cart-rounding",
            model: "claude-sonnet-4-5-20250929",
            workflow: Some("nightly"),
            start: now - 3 * HOUR - 30 * MINUTE,
            length: 6 * MINUTE + 12 * SECOND,
            tools: 9,
            tokens: 88_000,
            cost: Some(0.214),
            ..story
        },
        Story {
            id: "e5946036-721f-49fa-8e01-6cae1b5557a9",
            prompt: "Upgrade the dependencies",
            project: "docs",
            start: now - 5 * HOUR - 30 * MINUTE,
            length: 48 * SECOND,
            tools: 1,
            tokens: 5_200,
            fails: true,
            ..story
        },
        Story {
            id: "14d87a6b-c2e5-4f39-b870-9a6d4e2f1c85",
            prompt: "Umlaute im Checkout prüfen: 日本語 und ✓",
            branch: "i18n",
            start: now - 26 * HOUR - 30 * MINUTE,
            length: 2 * HOUR + 3 * MINUTE,
            tools: 120,
            failed_tools: 11,
            tokens: 9_400_000,
            cost: Some(12.5),
            ended: Ended::Swept,
            ..story
        },
        Story {
            id: "9f3b71c0-4e2d-4a58-b6c9-0d1e2f3a4b5c",
            prompt: "Ship version 1.0: tag it, build it, write the notes",
            workflow: Some("release-1.0"),
            start: LONG_AGO,
            length: 41 * MINUTE,
            tools: 23,
            failed_tools: 1,
            tokens: 640_000,
            cost: Some(2.314),
            ..story
        },
        Story {
            id: "0c5e8d17-a9b4-4d62-8f30-7e6c5b4a3d2e",
            prompt: "Check the release notes against the commits",
            model: "claude-sonnet-4-5-20250929",
            workflow: Some("release-1.0"),
            start: LONG_AGO + HOUR,
            length: 7 * MINUTE + 30 * SECOND,
            tools: 12,
            tokens: 120_000,
            ..story
        },
    ]
}

/// A machine with all stories: two were delivered, one was refused, the others wait for a server
/// that is away.
fn machine() -> Machine {
    let machine = Machine::new();
    let now = now();
    let stories = stories(now);
    let folder = machine.home().join("projects");
    std::fs::create_dir(&folder).unwrap();
    for story in &stories {
        std::fs::write(
            folder.join(format!("{}.jsonl", story.id)),
            story.transcript(),
        )
        .unwrap();
    }
    machine.sidecar(&["import", "projects"]).run().ok();
    let mut journal = Journal::open(&machine.sidecar_home().join("journal.db")).unwrap();
    journal
        .write(|write| {
            for story in &stories {
                let mut row = write.load(story.id)?.unwrap();
                let session = &mut row.session;
                "laptop".clone_into(&mut session.host);
                session.transcript_path = Some(format!(
                    "/home/dev/.claude/projects/-home-dev-{}/{}.jsonl",
                    story.project, story.id
                ));
                session.workflow_key = story.workflow.map(str::to_owned);
                session.runs.push(story.run());
                let options = StoreOptions {
                    deployment: Some(URL),
                    max_output: MAX_OUTPUT,
                    now,
                    changed_at: story.start + story.length,
                    is_finalized: true,
                };
                write.store(&mut row, &options)?;
            }
            let mut workflow = Workflow::new("release-1.0");
            let task = Some("Version 1.0 is out, with notes that name every change".to_owned());
            let artifacts = Some(vec![
                "dist/shop-1.0.tar.gz".to_owned(),
                "https://example.com/releases/1.0".to_owned(),
            ]);
            workflow.set(
                Change {
                    task,
                    status: Some(Status::Running),
                    ..Change::default()
                },
                LONG_AGO,
            );
            let current_step = Some("announce".to_owned());
            workflow.set(
                Change {
                    current_step,
                    status: Some(Status::Completed),
                    artifacts,
                    ..Change::default()
                },
                LONG_AGO + 2 * HOUR,
            );
            write.store_workflow(&workflow, Some(URL))
        })
        .unwrap();
    for prefix in ["7be20c94", "9f3b71c0", "0c5e8d17"] {
        let entry = journal.by_prefix(prefix, 1).unwrap().remove(0);
        journal
            .write(|write| write.confirm_session(&entry, URL))
            .unwrap();
    }
    let outbox = journal.due_outbox(URL, 9, now).unwrap();
    let refused = journal.by_prefix("e5946036", 1).unwrap().remove(0);
    journal
        .write(|write| {
            outbox
                .iter()
                .try_for_each(|entry| write.confirm_outbox_entry(entry, URL))?;
            write.refuse_session(&refused, URL, &Failure::refused(REFUSED), |_| now + HOUR)?;
            write.record_backoff(
                URL,
                &Failure::new(FailureKind::Unreachable, UNREACHABLE),
                |_| now + HOUR,
            )
        })
        .unwrap();
    machine.deployment(URL, KEY)
}

/// The file that holds a screen.
pub fn file(name: &str, columns: usize) -> PathBuf {
    root()
        .join("tests/binary/screens")
        .join(format!("{name}-{columns}.txt"))
}

#[track_caller]
fn assert_screen(machine: &Machine, name: &str, args: &[&str]) {
    for columns in [80, 140] {
        assert_held(
            name,
            columns,
            &machine
                .sidecar(args)
                .env("COLUMNS", &columns.to_string())
                .run()
                .ok(),
        );
    }
}

#[track_caller]
fn assert_held(name: &str, columns: usize, screen: &str) {
    let file = file(name, columns);
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, screen).unwrap();
    }
    let held = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        screen == held,
        "{} is not what is shown; UPDATE_SCREENS=1 writes it anew. Shown:\n{screen}",
        file.display()
    );
}

#[test]
fn look_as_they_are_held() {
    let machine = machine();
    assert_screen(&machine, "sessions", &["sessions"]);
    assert_screen(&machine, "show", &["show", "9f3b71c0"]);
    assert_screen(&machine, "workflow-list", &["workflow", "list"]);
    assert_screen(
        &machine,
        "workflow-show",
        &["workflow", "show", "release-1.0"],
    );
    assert_screen(&machine, "help", &["--help"]);
    assert_screen(&machine, "sessions-help", &["sessions", "--help"]);
}

/// Paths are told from the home folder, so the executable is put there, too; the port has five
/// digits on every machine.
#[test]
fn a_doctor_s_table_looks_as_it_is_held() {
    let backend = Backend::start();
    let machine = backend.machine().linked().with_executable();
    machine.shell("bin/convex-sidecar install").run().ok();
    let settings = machine.home().join(".claude/settings.json");
    let text = std::fs::read_to_string(&settings).unwrap().replacen(
        "\"timeout\": 10",
        "\"timeout\": 10000",
        1,
    );
    std::fs::write(settings, text).unwrap();
    machine
        .shell("bin/convex-sidecar hook")
        .stdin(r#"{"session_id": "s", "hook_event_name": "Stop"}"#)
        .run()
        .silent();
    for columns in [80, 140] {
        let table = machine
            .shell("bin/convex-sidecar doctor")
            .env("COLUMNS", &columns.to_string())
            .run()
            .ok();
        assert_held(
            "doctor",
            columns,
            &table.replace(&backend.url, "http://127.0.0.1:43210"),
        );
    }
}

#[test]
fn a_pipe_gets_every_column_uncut_and_plain() {
    let machine = machine();
    let table = machine
        .sidecar(&["sessions"])
        .env("TERM", "xterm-256color")
        .run()
        .ok();
    assert!(!table.contains('\x1b'), "{table}");
    for whole in [
        "BRANCH",
        "COST",
        "faster-import",
        "Find out why the nightly import is slow, and make it fast",
    ] {
        assert!(table.contains(whole), "{whole}: {table}");
    }
    let forced = machine
        .sidecar(&["sessions"])
        .env("CLICOLOR_FORCE", "1")
        .run()
        .ok();
    assert!(
        forced.contains("\x1b[31mfailed\x1b[0m") && forced.contains("\x1b[32mcompleted\x1b[0m"),
        "{forced}"
    );
    assert_eq!(
        machine
            .sidecar(&["sessions"])
            .env("CLICOLOR_FORCE", "1")
            .env("NO_COLOR", "1")
            .run()
            .ok(),
        table
    );
}

#[test]
fn a_reason_that_the_table_names_in_a_word_is_told_in_full() {
    let machine = machine();
    let page = machine.sidecar(&["show", "e5946036"]).run().ok();
    assert!(
        page.contains(&format!(
            "convex      refused: {}; `npx convex deploy` updates the functions",
            REFUSED.trim_end_matches('.')
        )),
        "{page}"
    );
    let page = machine.sidecar(&["show", "c3a1f0de"]).run().ok();
    assert!(
        page.contains(&format!("convex      offline: {UNREACHABLE}; ")),
        "{page}"
    );
    let elsewhere = machine
        .sidecar(&["show", "c3a1f0de"])
        .env("CONVEX_SELF_HOSTED_URL", "http://127.0.0.1:9")
        .run()
        .ok();
    assert!(
        elsewhere.contains("convex      elsewhere: it belongs to http://127.0.0.1:3210"),
        "{elsewhere}"
    );
    let local = machine
        .sidecar(&["show", "c3a1f0de"])
        .env("CONVEX_SELF_HOSTED_URL", "")
        .env("CONVEX_SELF_HOSTED_ADMIN_KEY", "")
        .run()
        .ok();
    assert!(
        local.contains("convex      local: no Convex deployment is configured"),
        "{local}"
    );
}

#[test]
fn a_prefix_must_be_unique_and_known() {
    let machine = Machine::new();
    for id in ["abc-1", "abc-2", "abd"] {
        machine
            .sidecar(&["hook"])
            .stdin(json!({ "session_id": id, "hook_event_name": "SessionStart" }).to_string())
            .run()
            .silent();
    }
    let stderr = |args: &[&str]| {
        let output = machine.sidecar(args).run();
        assert_eq!((output.status, output.stdout.as_str()), (1, ""));
        output.stderr
    };
    let several = "convex-sidecar: abc is the beginning of several sessions; give more of the id:\n  abc-1  running\n  abc-2  running\n";
    assert_eq!(stderr(&["show", "abc"]), several);
    assert_eq!(stderr(&["forget", "abc", "--yes"]), several);
    assert!(stderr(&["show", "x"]).contains("no session x in the journal "));
    assert!(
        stderr(&["show", "../x"]).contains("\"../x\" is not a session id or the beginning of one")
    );
    assert!(
        machine
            .sidecar(&["show", "abc-1"])
            .run()
            .ok()
            .starts_with("session     abc-1\n")
    );
    assert!(
        machine
            .sidecar(&["show", "abd"])
            .run()
            .ok()
            .starts_with("session     abd\n")
    );
}

#[test]
fn watching_needs_a_terminal() {
    let output = Machine::new().sidecar(&["sessions", "--watch"]).run();
    assert_eq!(
        (
            output.status,
            output.stdout.as_str(),
            output.stderr.as_str()
        ),
        (
            1,
            "",
            "convex-sidecar: could not watch: stdout is no terminal to draw on; leave out --watch, or repeat `convex-sidecar sessions`\n"
        )
    );
}

/// A watching sidecar on a pseudo-terminal, which `script` makes; that is part of every Linux.
#[cfg(target_os = "linux")]
struct Watching(std::process::Child);

#[cfg(target_os = "linux")]
impl Watching {
    fn start(machine: &Machine, columns: usize) -> Self {
        use std::process::{Command, Stdio};
        // What is started in the background of a script, as CI may be, ignores Ctrl-C, and so would
        // this.
        let command = format!(
            "exec env --default-signal=INT {} sessions --watch",
            env!("CARGO_BIN_EXE_convex-sidecar")
        );
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_clear();
        script
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .env("COLUMNS", columns.to_string())
            .env("CONVEX_SIDECAR_HOME", machine.sidecar_home());
        Self(
            script
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("script, of util-linux, is needed"),
        )
    }

    /// What is drawn until a frame is whole that holds `wanted`.
    fn draw_until(&mut self, wanted: &str) -> String {
        use std::io::Read;
        let mut drawn = Vec::new();
        loop {
            let mut byte = [0];
            let count = self.0.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert!(
                count == 1,
                "it ended without {wanted}: {}",
                String::from_utf8_lossy(&drawn)
            );
            drawn.push(byte[0]);
            if drawn.ends_with(b"\x1b[J") && String::from_utf8_lossy(&drawn).contains(wanted) {
                return String::from_utf8(drawn).unwrap();
            }
        }
    }

    /// Presses Ctrl-C; returns what is written after that, and how the process ended.
    fn interrupt(mut self) -> (String, Option<i32>) {
        use std::io::{Read, Write};
        self.0.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        let mut rest = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        (rest, self.0.wait().unwrap().code())
    }
}

#[cfg(target_os = "linux")]
impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Without what moves the cursor and paints.
#[cfg(target_os = "linux")]
#[test]
fn the_watched_screen_looks_as_it_is_held() {
    let machine = machine();
    for columns in [80, 140] {
        let drawn = Watching::start(&machine, columns).draw_until("Ctrl-C ends");
        let sequence = regex_lite::Regex::new("\x1b\\[[0-9;]*[A-Za-z]|\r").unwrap();
        assert_held("watch", columns, &sequence.replace_all(&drawn, ""));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn watching_redraws_in_place_and_ends_on_control_c() {
    let machine = machine();
    let mut watching = Watching::start(&machine, 80);
    let first = watching.draw_until("Ctrl-C ends");
    assert!(
        first.starts_with("\x1b[2J\x1b[H\x1b[1mSESSION\x1b[0m "),
        "{first:?}"
    );
    assert!(
        first.contains("\x1b[31mfailed\x1b[0m") && first.contains("\x1b[K\r\n"),
        "{first:?}"
    );
    let hook = r#"{"session_id":"brandnew","hook_event_name":"SessionStart"}"#;
    machine
        .sidecar(&["hook"])
        .stdin(hook)
        .env("CONVEX_SIDECAR_WORKFLOW", "nightly")
        .run()
        .silent();
    let second = watching.draw_until("brandnew");
    assert!(
        second.starts_with("\x1b[H") && !second.contains("\x1b[2J"),
        "{second:?}"
    );
    let (rest, code) = watching.interrupt();
    assert_eq!(code, Some(130), "ended by the signal");
    assert!(
        ![first, second, rest].concat().contains("\x1b[?"),
        "the cursor stays visible and the screen is the terminal's own"
    );
}
