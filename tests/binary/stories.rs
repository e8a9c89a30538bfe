//! A machine whose recorded sessions show everything that the screens can show.
//!
//! The sessions are imported from transcripts that are written here. Their times are either fixed
//! and more than a hundred days ago, so that their age is a month, or chosen so that the age does
//! not change while a test runs. What only hooks and Convex know (runs, delivery) is written
//! directly into the journal.

use std::time::{SystemTime, UNIX_EPOCH};

use convex_sidecar::journal::{Journal, Recipient, StoreOptions};
use convex_sidecar::record::Millis;
use convex_sidecar::record::failure::{Failure, FailureKind};
use convex_sidecar::record::prices::Prices;
use convex_sidecar::record::run::{End, EndedBy, Run};
use convex_sidecar::record::workflow::{Change, Status, Workflow};
use serde_json::json;

use crate::support::Machine;

const URL: &str = "http://127.0.0.1:3210";
const KEY: &str = "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7";
pub const UNREACHABLE: &str =
    "could not reach http://127.0.0.1:3210: Connection refused (os error 111)";
pub const REFUSED: &str = "Server Error: ArgumentValidationError: Value does not match validator. Path: .metadata.costSource";
const TOOLS: [&str; 3] = ["Read", "Bash", "Edit"];
const MAX_OUTPUT: usize = 65_536;
const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
/// 2025-03-01 10:00:00 UTC.
const LONG_AGO: Millis = 1_740_823_200_000;

/// How the run of the session ended.
#[derive(Clone, Copy)]
enum Ended {
    ByHook,
    Swept,
    NotYet,
}

/// A session to record, and how its client ended.
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
        let mut content = Vec::new();
        for number in 0..self.tools {
            content.push(json!({ "type": "tool_use", "id": format!("{}-tool-{number}", self.id), "name": TOOLS[number % TOOLS.len()] }));
        }
        // A client that vanished was in the middle of its turn.
        if !matches!(self.ended, Ended::Swept) {
            content.push(json!({ "type": "text", "text": "All of it is done; the tests pass." }));
        }
        let usage = json!({
            "input_tokens": self.tokens / 10, "output_tokens": self.tokens / 20, "cache_read_input_tokens": self.tokens * 3 / 4,
            "cache_creation_input_tokens": self.tokens / 10,
        });
        lines.push(line(
            "assistant",
            1,
            end,
            json!({ "id": format!("{}-message", self.id), "model": self.model, "usage": usage.clone(), "content": content }),
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
            let charge = json!({
                "inputTokens": usage["input_tokens"], "outputTokens": usage["output_tokens"], "cacheReadInputTokens": usage["cache_read_input_tokens"],
                "cacheCreationInputTokens": usage["cache_creation_input_tokens"], "costUSD": usd,
            });
            lines.push(json!({
                "type": "cost-state", "sessionId": self.id, "totalCostUSD": usd, "startTime": self.start, "totalDuration": self.length,
                "modelUsage": { self.model: charge },
            }));
        }
        lines
            .iter()
            .flat_map(|line| [line.to_string(), "\n".to_owned()])
            .collect()
    }

    fn run(&self) -> Run {
        let end = |by, reason: Option<&str>| End {
            at: self.start + self.length,
            by,
            reason: reason.map(str::to_owned),
        };
        let end = match self.ended {
            Ended::NotYet => None,
            Ended::ByHook => Some(end(EndedBy::Hook, Some("prompt_input_exit"))),
            Ended::Swept => Some(end(EndedBy::Swept, None)),
        };
        Run {
            owner: None,
            started_at: self.start,
            source: Some("startup".to_owned()),
            end,
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
            prompt: "Check café names at checkout: 日本語 and ✓",
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

/// A machine with all these sessions: three are delivered, one was refused, and the others wait for
/// a server that is down.
pub fn machine() -> Machine {
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
    let import = machine.sidecar(&["import", "projects"]);
    import
        .env("CONVEX_SIDECAR_USER", "dev@example.com")
        .run()
        .ok();
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
                    prices: &Prices::default(),
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
            .write(|write| write.confirm_session(&entry, URL, false))
            .unwrap();
    }
    let recipient = Recipient {
        deployment: URL,
        takes_unassigned: true,
    };
    let outbox = journal.due_outbox(recipient, 9, now).unwrap();
    let refused = journal.by_prefix("e5946036", 1).unwrap().remove(0);
    journal
        .write(|write| {
            outbox
                .iter()
                .try_for_each(|entry| write.confirm_outbox_entry(entry, URL))?;
            write.delay_session(&refused, URL, &Failure::refused(REFUSED), |_| now + HOUR)?;
            write.record_backoff(
                URL,
                &Failure::new(FailureKind::Unreachable, UNREACHABLE),
                |_| now + HOUR,
            )
        })
        .unwrap();
    machine.deployment(URL, KEY)
}
