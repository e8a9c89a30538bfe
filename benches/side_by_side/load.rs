//! The load of one session on the server; docs/scaling.md uses these figures.

use std::io::Write;
use std::path::Path;

use crate::loopback::{Loopback, Received};
use crate::sidecar::{Event, Home, KEY, fresh, root};
use crate::table::{count, table};
use crate::timing::timed;
use crate::transcripts::{self, Numbers, Tally};

const TURNS: usize = 1_000;

pub fn of_one_session(scratch: &Path) -> String {
    let rows = [captured(scratch), long(scratch)];
    table(
        &[
            "session",
            "hooks",
            "requests",
            "request bytes, including headers",
            "final document, bytes",
            "final journal, bytes",
        ],
        rows.into_iter(),
    )
}

fn row(
    name: String,
    hooks: usize,
    received: &Received,
    document: usize,
    home: &Home,
) -> Vec<String> {
    vec![
        name,
        count(hooks),
        count(received.requests),
        count(received.bytes),
        count(document),
        count(home.bytes()),
    ]
}

/// The captured session with parallel tool calls, hook by hook.
fn captured(scratch: &Path) -> Vec<String> {
    let capture = root().join("tests/fixtures/claude-code-2.1.197/parallel-tools");
    let server = Loopback::start();
    let home = Home::new(scratch, "load").deployment(&server.url, KEY);
    let mut hooks: Vec<_> = std::fs::read_dir(capture.join("hooks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    hooks.sort();
    let transcripts = capture.join("transcripts");
    for hook in &hooks {
        let input = std::fs::read_to_string(hook).unwrap().replace(
            "/home/dev/.claude/projects/-home-dev-proj",
            transcripts.to_str().unwrap(),
        );
        timed(&mut home.sidecar(&["hook"]), &input);
    }
    let document = home.documents()[0].to_string().len();
    row(
        "captured: one prompt, two tool calls in parallel".to_owned(),
        hooks.len(),
        &server.take(),
        document,
        &home,
    )
}

fn long(scratch: &Path) -> Vec<String> {
    let server = Loopback::start();
    let home = Home::new(scratch, "load").deployment(&server.url, KEY);
    let transcript = fresh(scratch, "long").join("long.jsonl");
    let (mut numbers, mut tally) = (
        Numbers::new(3),
        Tally {
            session: "long".to_owned(),
            ..Tally::default()
        },
    );
    let mut file = std::fs::File::create(&transcript).unwrap();
    home.hook(Event::SessionStart, "long", &transcript);
    for _ in 0..TURNS {
        home.hook(Event::UserPromptSubmit, "long", &transcript);
        file.write_all(transcripts::turn(&mut numbers, &mut tally).as_bytes())
            .unwrap();
        home.hook(Event::Stop, "long", &transcript);
    }
    home.hook(Event::SessionEnd, "long", &transcript);
    let mib = std::fs::metadata(&transcript).unwrap().len() / (1_024 * 1_024);
    row(
        format!("{} turns, {mib} MiB of transcript", count(TURNS)),
        2 * TURNS + 2,
        &server.take(),
        home.document("long").to_string().len(),
        &home,
    )
}
