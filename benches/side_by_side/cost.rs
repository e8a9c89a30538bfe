//! The cost of one hook, counted instead of timed. These figures hardly differ from run to run, so
//! a change in docs/cost.md is a change in the program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::loopback::Loopback;
use crate::sidecar::{EXECUTABLE, Event, Home, KEY, fresh};
use crate::table::{count, table};
use crate::transcripts::{self, Tally};

/// How often each hook is run under each tool, and the most attempts at it.
const RUNS: usize = 5;
const ATTEMPTS: usize = 20;

/// By how much a figure may exceed the one in docs/cost.md, in percent, by column. Processors have
/// different versions of memcpy, and compilers build different executables; a mistake costs more
/// than that. With 0 the figure must be equal: an event that is not synced can be lost, and a
/// request that is not sent delivers nothing.
const TOLERANCES: [u64; 5] = [10, 10, 0, 20, 0];
/// The same for the size of the executable.
const SIZE_TOLERANCE: u64 = 5;

/// A hook, and what happened in its home and its session before it.
struct Scene {
    name: &'static str,
    event: Event,
    before: &'static [Event],
    is_delivered: bool,
}

const SCENES: [Scene; 5] = [
    Scene {
        name: "SessionStart, no server configured",
        event: Event::SessionStart,
        before: &[],
        is_delivered: false,
    },
    Scene {
        name: "SessionStart, delivered",
        event: Event::SessionStart,
        before: &[],
        is_delivered: true,
    },
    Scene {
        name: "UserPromptSubmit, delivered",
        event: Event::UserPromptSubmit,
        before: &[Event::SessionStart],
        is_delivered: true,
    },
    Scene {
        name: "Stop after the first turn, no server configured",
        event: Event::Stop,
        before: &[Event::SessionStart],
        is_delivered: false,
    },
    Scene {
        name: "SessionEnd, delivered",
        event: Event::SessionEnd,
        before: &[Event::SessionStart, Event::Stop],
        is_delivered: true,
    },
];

/// The table, or the name of a missing tool.
pub fn counted(scratch: &Path) -> Result<String, String> {
    let rows = SCENES.iter().map(|scene| {
        let stage = Stage::new(scratch, scene);
        let (all, syncs) = most(|| stage.system_calls())?;
        let instructions = most(|| stage.instructions())?;
        let peak = most(|| Ok(stage.peak()))?;
        Ok(vec![
            scene.name.to_owned(),
            count(instructions),
            count(all),
            count(syncs),
            count(peak),
            count(stage.requests()),
        ])
    });
    let rows = rows.collect::<Result<Vec<_>, String>>()?;
    let headings = [
        "one hook",
        "instructions",
        "system calls",
        "of which `fsync`",
        "peak memory, KiB",
        "requests",
    ];
    let size = count(std::fs::metadata(EXECUTABLE).unwrap().len());
    Ok(format!(
        "{}\nThe executable is {size} bytes.\n",
        table(&headings, rows.into_iter())
    ))
}

/// The figures of `now` that are out of tolerance, as messages.
pub fn exceeded(expected: &str, now: &str) -> Vec<String> {
    let expected = figures(expected);
    let complaint = |(name, figure, tolerance): (String, u64, u64)| {
        let before = expected
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|(_, before, _)| *before);
        let Some(before) = before else {
            return Some(format!(
                "{name}: {figure}, but docs/cost.md has no such figure"
            ));
        };
        let is_exceeded = if tolerance == 0 {
            figure != before
        } else {
            figure > before + before * tolerance / 100
        };
        is_exceeded.then(|| format!("{name}: {figure} instead of {before}"))
    };
    figures(now).into_iter().filter_map(complaint).collect()
}

/// The figures of such a table, named by row and column, each with its tolerance.
fn figures(text: &str) -> Vec<(String, u64, u64)> {
    let number = |cell: &str| cell.replace(',', "").parse::<u64>().ok();
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>());
    let mut rows = cells.filter(|cells| cells.len() == TOLERANCES.len() + 1);
    let headings = rows.next().unwrap_or_default();
    let mut all = Vec::new();
    for row in rows {
        for ((cell, heading), tolerance) in row[1..].iter().zip(&headings[1..]).zip(TOLERANCES) {
            all.extend(
                number(cell).map(|figure| (format!("{}, {heading}", row[0]), figure, tolerance)),
            );
        }
    }
    let size = text.lines().find_map(|line| {
        number(
            line.strip_prefix("The executable is ")?
                .strip_suffix(" bytes.")?,
        )
    });
    all.extend(size.map(|size| ("size of the executable".to_owned(), size, SIZE_TOLERANCE)));
    all
}

/// The maximum of several runs. `run` returns `None` if the hook skipped work: it is slow under these
/// tools, and on a busy machine its time is up before it is done.
fn most<T: Ord>(run: impl Fn() -> Result<Option<T>, String>) -> Result<T, String> {
    let attempts = (0..ATTEMPTS).map(|_| run());
    let runs = attempts.filter_map(Result::transpose).take(RUNS);
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(
        runs.len(),
        RUNS,
        "the machine is too busy to count the cost of a hook"
    );
    Ok(runs.into_iter().max().unwrap())
}

struct Stage<'a> {
    scratch: &'a Path,
    scene: &'a Scene,
    server: Loopback,
    transcript: PathBuf,
    session: String,
}

impl<'a> Stage<'a> {
    fn new(scratch: &'a Path, scene: &'a Scene) -> Self {
        let folder = fresh(scratch, "cost-sessions");
        let Tally { session, .. } = transcripts::write(&folder, 1, 1).unwrap();
        Self {
            scratch,
            scene,
            server: Loopback::start(),
            transcript: folder.join(format!("{session}.jsonl")),
            session,
        }
    }

    /// A new home for each run, because a hook has less to do after an earlier one.
    fn home(&self) -> Home {
        let home = Home::new(self.scratch, "cost");
        let home = if self.scene.is_delivered {
            home.deployment(&self.server.url, KEY)
        } else {
            home
        };
        for event in self.scene.before {
            home.hook(*event, &self.session, &self.transcript);
        }
        self.server.take();
        home
    }

    /// Whether the hook has read the whole transcript and delivered the session, as far as it has to.
    fn is_done(&self, home: &Home) -> bool {
        let document = home.document(&self.session);
        let is_read = document["metadata"]["transcript"]["state"] == "complete";
        let is_delivered = self.server.take().requests == 1;
        (is_read || !self.scene.event.reads_transcript()) && is_delivered == self.scene.is_delivered
    }

    /// Runs the hook under a tool. Returns the tool's stderr, or `None` if the hook skipped work.
    fn under(&self, tool: &str, arguments: &[&str]) -> Result<Option<String>, String> {
        let mut command = Command::new(tool);
        command.args(arguments).args([EXECUTABLE, "hook"]);
        let home = self.home();
        home.set_up(&mut command);
        home.name_client(&mut command, &self.session);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|_| format!("{tool} is missing"))?;
        child
            .stdin
            .take()
            .unwrap()
            .write_all(
                self.scene
                    .event
                    .input(&self.session, &self.transcript)
                    .as_bytes(),
            )
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{tool} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(self.is_done(&home).then_some(stderr))
    }

    fn instructions(&self) -> Result<Option<u64>, String> {
        let output = self.under(
            "valgrind",
            &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
        )?;
        let collected = |output: String| {
            let mut lines = output.lines();
            let (_, number) = lines
                .find_map(|line| line.split_once("Collected : "))
                .expect("callgrind prints what it collected");
            number.trim().parse().unwrap()
        };
        Ok(output.map(collected))
    }

    /// The number of system calls, and of those that sync a file.
    fn system_calls(&self) -> Result<Option<(u64, u64)>, String> {
        let output = self.under("strace", &["-f", "-q", "-c", "-U", "name,calls"])?;
        let counts = |output: String| {
            let calls = |wanted: &str| {
                let row = output
                    .lines()
                    .map(str::split_whitespace)
                    .find_map(|mut row| (row.next() == Some(wanted)).then(|| row.next()))?;
                row?.parse::<u64>().ok()
            };
            let all = calls("total").expect("strace prints the total");
            let syncs = ["fsync", "fdatasync"].map(|name| calls(name).unwrap_or_default());
            (all, syncs.iter().sum())
        };
        Ok(output.map(counts))
    }

    fn peak(&self) -> Option<u64> {
        let home = self.home();
        let peak = home.peak(self.scene.event, &self.session, &self.transcript);
        self.is_done(&home).then_some(peak)
    }

    fn requests(&self) -> usize {
        self.home()
            .hook(self.scene.event, &self.session, &self.transcript);
        self.server.take().requests
    }
}
