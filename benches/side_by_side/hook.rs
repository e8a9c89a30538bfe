//! A hook that delivers, compared with other ways to send the same data; and a hook whose server is
//! down, compared with the least that storing an event costs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::backend::Backend;
use crate::loopback::{self, Loopback};
use crate::rivals;
use crate::sidecar::{Event, Home, KEY, fresh};
use crate::table::{Column, beside};
use crate::timing::{Contender, in_turn, timed};
use crate::transcripts::{self, Tally};

const RUNS: usize = 21;
const EVENTS: [Event; 3] = [Event::SessionStart, Event::Stop, Event::SessionEnd];
/// The argument that makes this program run [`commit_once`].
pub const COMMIT: &str = "commit";

/// Sessions of one turn each, one after the other.
struct Sessions {
    home: Home,
    folder: PathBuf,
    count: u64,
}

impl Sessions {
    fn new(scratch: &Path, home: Home) -> Self {
        Self {
            home,
            folder: fresh(scratch, "sessions"),
            count: 0,
        }
    }

    /// A new session that had all hooks before `event`.
    fn until(&mut self, event: Event) -> (String, PathBuf) {
        self.count += 1;
        let Tally { session, .. } =
            transcripts::write(&self.folder, 1, 100_000 + self.count).unwrap();
        let transcript = self.folder.join(format!("{session}.jsonl"));
        for before in EVENTS.into_iter().take_while(|before| *before != event) {
            self.home.hook(before, &session, &transcript);
        }
        (session, transcript)
    }

    /// Times one hook, and ends its session: the next one of the same client would supersede it.
    fn time(&mut self, event: Event) -> Duration {
        let (session, transcript) = self.until(event);
        let time = self.home.hook(event, &session, &transcript);
        if event != Event::SessionEnd {
            self.home.hook(Event::SessionEnd, &session, &transcript);
        }
        time
    }
}

pub fn delivered(scratch: &Path) -> String {
    check(scratch);
    let server = Loopback::start();
    let mut sessions = Sessions::new(
        scratch,
        Home::new(scratch, "home").deployment(&server.url, KEY),
    );
    let state = fresh(scratch, "claude-code-sync");
    let columns = EVENTS.map(|event| {
        let (session, transcript) = sessions.until(event);
        server.take();
        sessions.home.hook(event, &session, &transcript);
        let received = server.take();
        sessions.home.hook(Event::SessionEnd, &session, &transcript);
        assert_eq!(received.requests, 1, "a hook sends exactly its session");
        let body = scratch.join("body.json");
        std::fs::write(&body, &received.body).unwrap();
        let outcomes = in_turn(vec![
            Contender::new(RUNS, || sessions.time(event)),
            Contender::program(RUNS, rivals::curl(&server.url, KEY, &body)),
            Contender::program(RUNS, rivals::convex_for_node(&server.url, KEY, &body)),
            Contender::program(RUNS, rivals::convex_for_python(&server.url, KEY, &body)),
            Contender::program_with(
                RUNS,
                rivals::claude_code_sync(&server.url, &state, event),
                event.input(&session, &transcript),
            ),
        ]);
        Column {
            heading: format!("{}, {} bytes sent", event.name(), received.body.len()),
            outcomes,
        }
    });
    let names = [
        "**convex-sidecar hook**: journaled, read, sent",
        "`curl`",
        "script with the `convex` client for Node.js",
        "script with the `convex` client for Python",
        "`claude-code-sync hook`",
    ];
    beside(&names, &columns)
}

/// Checks with the real functions that each contender stores its session in Convex.
fn check(scratch: &Path) {
    let (backend, server) = (Backend::start(), Loopback::start());
    let home = Home::new(scratch, "check");
    let mut sessions = Sessions::new(scratch, home.deployment(&server.url, KEY));
    let (session, transcript) = sessions.until(Event::SessionStart);
    sessions
        .home
        .hook(Event::SessionStart, &session, &transcript);
    let (request, body) = (server.take().body, scratch.join("check.json"));
    let mut expected = vec![];
    let rivals = [
        rivals::curl,
        rivals::convex_for_node,
        rivals::convex_for_python,
    ];
    for (index, rival) in rivals.iter().enumerate() {
        if let Ok(mut command) = rival(&backend.url, &backend.key, &body) {
            let own = format!("rival-{index}");
            std::fs::write(&body, request.replace(&session, &own)).unwrap();
            timed(&mut command, "");
            expected.push(own);
        }
    }
    sessions.home = home.deployment(&backend.url, &backend.key);
    sessions.home.hook(Event::SessionStart, "ours", &transcript);
    expected.push("ours".to_owned());
    let mut arrived: Vec<_> = backend
        .sessions(&home)
        .iter()
        .map(|session| session["sessionId"].as_str().unwrap().to_owned())
        .collect();
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected, "a contender did not deliver");
}

pub fn server_down(scratch: &Path) -> String {
    let mut sessions = Sessions::new(
        scratch,
        Home::new(scratch, "down").deployment(&loopback::down(), KEY),
    );
    // The first hook fails and starts the backoff.
    sessions.time(Event::SessionStart);
    let journal = fresh(scratch, "commit").join("commit.db");
    Connection::open(&journal)
        .unwrap()
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE events (event TEXT)")
        .unwrap();
    let mut commit = std::process::Command::new(std::env::current_exe().unwrap());
    commit.arg(COMMIT).arg(&journal);
    let outcomes = in_turn(vec![
        Contender::new(RUNS, || sessions.time(Event::SessionStart)),
        Contender::program(RUNS, Ok(std::process::Command::new("true"))),
        Contender::program(RUNS, Ok(commit)),
    ]);
    let names = [
        "**convex-sidecar hook**",
        "`true`, a process that does nothing",
        "a process that opens a SQLite database, commits one row and closes it",
    ];
    beside(
        &names,
        &[Column {
            heading: "SessionStart".to_owned(),
            outcomes,
        }],
    )
}

/// The least that any program needs to store one event as durably as the journal does.
pub fn commit_once(journal: &Path) {
    let connection = Connection::open(journal).unwrap();
    connection
        .pragma_update(None, "synchronous", "FULL")
        .unwrap();
    connection
        .execute(
            "INSERT INTO events VALUES (?1)",
            [Event::SessionStart.input("commit", journal)],
        )
        .unwrap();
}
