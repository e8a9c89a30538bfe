//! Reading transcripts of every size, compared with other programs that read them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::figures;
use crate::loopback::Loopback;
use crate::rivals;
use crate::sidecar::{Event, Home, fresh};
use crate::table::{Column, beside, count, table};
use crate::timing::{Contender, in_turn};
use crate::transcripts::{self, Numbers, Tally};

const MIB: u64 = 1_024 * 1_024;
const SIZES: [u64; 4] = [1, 10, 100, 1_024];
const RUNS: usize = 9;

/// A client's folder with one transcript.
struct Client {
    folder: PathBuf,
    session: String,
    transcript: PathBuf,
    tokens: u64,
}

impl Client {
    fn new(scratch: &Path, mib: u64) -> Self {
        let folder = fresh(scratch, &format!("client-{mib}"));
        let project = folder.join("projects/-home-dev-proj");
        std::fs::create_dir_all(&project).unwrap();
        let Tally {
            session, tokens, ..
        } = transcripts::write(&project, mib * MIB, mib).unwrap();
        Self {
            transcript: project.join(format!("{session}.jsonl")),
            folder,
            session,
            tokens: tokens.iter().sum(),
        }
    }
}

/// The number of runs of a program that takes seconds for a large file.
const fn slow_runs(mib: u64) -> usize {
    match mib {
        0..100 => RUNS,
        100..1_024 => 3,
        _ => 1,
    }
}

pub fn transcripts(scratch: &Path) -> String {
    let server = Loopback::start();
    let mut notes = Vec::new();
    let columns = SIZES.map(|mib| {
        let client = Client::new(scratch, mib);
        let (
            Client {
                folder,
                session,
                transcript,
                tokens,
            },
            slow,
        ) = (&client, slow_runs(mib));
        let (empty, home, warm) = (
            Home::new(scratch, "empty"),
            Home::new(scratch, "home"),
            Home::new(scratch, "warm"),
        );
        let state = fresh(scratch, "claude-code-sync");
        let mut grown = Grown::new(scratch, &client, &warm);
        let cold = || {
            home.start_over_from(&empty);
            home.hook(Event::Stop, session, transcript)
        };
        let outcomes = in_turn(vec![
            Contender::new(RUNS, cold),
            Contender::new(RUNS, || grown.turn()),
            Contender::program(RUNS, rivals::wc(transcript)),
            Contender::program(slow, rivals::jq(transcript)),
            Contender::program(slow, rivals::ccusage(folder, "session")),
            Contender::program(slow, rivals::python_usage(transcript)),
            Contender::program_with(
                slow,
                rivals::claude_code_sync(&server.url, &state, Event::SessionEnd),
                Event::SessionEnd.input(session, transcript),
            ),
        ]);
        let document = home.document(session);
        home.start_over_from(&empty);
        let peak = home.peak(Event::Stop, session, transcript) / 1_024;
        let state = document["metadata"]["transcript"]["state"]
            .as_str()
            .unwrap();
        let ours = figures::share(Ok(figures::tokens_of(&document)), *tokens);
        let theirs = outcomes
            .last()
            .is_some_and(Result::is_ok)
            .then(|| figures::tokens_sent(&server.take().body));
        let theirs = figures::share(theirs.ok_or_else(|| "not run".to_owned()), *tokens);
        notes.push(vec![
            format!("{} MiB", count(mib)),
            state.to_owned(),
            ours,
            theirs,
            format!("{peak} MiB"),
        ]);
        Column {
            heading: format!("{} MiB", count(mib)),
            outcomes,
        }
    });
    let names = [
        "**convex-sidecar hook** (Stop), first read",
        "**convex-sidecar hook** (Stop), one more turn since the last Stop",
        "`wc -l`",
        "`jq -c .type`",
        "`ccusage session --json --offline`",
        "script that sums tokens with Python's `json`",
        "`claude-code-sync hook SessionEnd`",
    ];
    let headings = [
        "transcript",
        "read by our first Stop",
        "tokens counted by our first Stop",
        "tokens counted by `claude-code-sync`",
        "peak memory of our first Stop",
    ];
    format!(
        "{}\n{}\n{}",
        beside(&names, &columns),
        warm(scratch),
        table(&headings, notes.into_iter())
    )
}

/// The same turn on a small and on a large transcript, in turn: in the table above, each runs next
/// to programs that load the disk differently.
fn warm(scratch: &Path) -> String {
    let clients = [SIZES[0], SIZES[3]].map(|mib| Client::new(scratch, mib));
    let homes = ["small", "large"].map(|name| Home::new(scratch, name));
    let mut small = Grown::new(scratch, &clients[0], &homes[0]);
    let mut large = Grown::new(scratch, &clients[1], &homes[1]);
    let outcomes = in_turn(vec![
        Contender::new(3 * RUNS, || small.turn()),
        Contender::new(3 * RUNS, || large.turn()),
    ]);
    let names = ["one new turn after 1 MiB", "one new turn after 1,024 MiB"];
    beside(
        &names,
        &[Column {
            heading: "Stop".to_owned(),
            outcomes,
        }],
    )
}

/// A copy of a transcript that grows by a turn before each Stop.
struct Grown<'a> {
    home: &'a Home,
    transcript: PathBuf,
    numbers: Numbers,
    tally: Tally,
}

impl<'a> Grown<'a> {
    fn new(scratch: &Path, client: &Client, home: &'a Home) -> Self {
        let transcript = fresh(scratch, &format!("grown-{}", client.session))
            .join(client.transcript.file_name().unwrap());
        std::fs::copy(&client.transcript, &transcript).unwrap();
        // The first Stop may run out of time; `sync` reads the rest.
        home.hook(Event::Stop, &client.session, &transcript);
        home.sidecar(&["sync"]).output().unwrap();
        // New line numbers give the new lines new ids.
        let tally = Tally {
            session: client.session.clone(),
            lines: 1 << 40,
            ..Tally::default()
        };
        Self {
            home,
            transcript,
            numbers: Numbers::new(1 << 40),
            tally,
        }
    }

    fn turn(&mut self) -> Duration {
        let turn = transcripts::turn(&mut self.numbers, &mut self.tally);
        std::fs::OpenOptions::new()
            .append(true)
            .open(&self.transcript)
            .unwrap()
            .write_all(turn.as_bytes())
            .unwrap();
        self.home
            .hook(Event::Stop, &self.tally.session, &self.transcript)
    }
}
