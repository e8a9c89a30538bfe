//! The cost of one hook, counted instead of timed. These figures hardly differ from run to run, so
//! a change in docs/cost.md is a change in the program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::loopback::Loopback;
use crate::sidecar::{Event, Home, KEY, executable, fresh};
use crate::table::{count, table};
use crate::transcripts::{self, Tally};

/// How often each hook is run under each tool, and the most attempts at it.
const RUNS: usize = 5;
const ATTEMPTS: usize = 15;

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
        // The 100 ms that it may take to deliver are over before these tools have started it.
        name: "UserPromptSubmit, no server configured",
        event: Event::UserPromptSubmit,
        before: &[Event::SessionStart],
        is_delivered: false,
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

/// The table and the names of hooks that skipped work, or the name of a missing tool.
pub fn counted(scratch: &Path) -> Result<(String, Vec<&'static str>), String> {
    let mut skipping = Vec::new();
    let rows = SCENES.iter().map(|scene| {
        let stage = Stage::new(scratch, scene);
        let mut is_complete = true;
        let (all, syncs) = stage.most(&mut is_complete, Stage::system_calls)?;
        let instructions = stage.most(&mut is_complete, Stage::instructions)?;
        let peak = stage.most(&mut is_complete, |stage, home| Ok(stage.peak(home)))?;
        skipping.extend(Some(scene.name).filter(|_| !is_complete));
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
    let size = count(std::fs::metadata(executable()).unwrap().len());
    let table = table(&headings, rows.into_iter());
    let text = format!("{table}\nThe executable is {size} bytes.\n");
    Ok((text, skipping))
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

    /// The maximum of several runs. Under these tools a hook is slow, and on a busy machine its
    /// time is up before its work is done; such runs are repeated, and `is_complete` is cleared if
    /// there are too many of them.
    fn most<T: Ord>(
        &self,
        is_complete: &mut bool,
        count: impl Fn(&Self, &Home) -> Result<T, String>,
    ) -> Result<T, String> {
        let (mut complete, mut others) = (Vec::new(), Vec::new());
        while complete.len() < RUNS && complete.len() + others.len() < ATTEMPTS {
            let home = self.home();
            let figure = count(self, &home)?;
            let runs = if self.is_done(&home) {
                &mut complete
            } else {
                &mut others
            };
            runs.push(figure);
        }
        *is_complete &= complete.len() == RUNS;
        Ok(complete.into_iter().chain(others).max().unwrap())
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

    /// Whether the hook has read the whole transcript and delivered the session, as far as it has
    /// to.
    fn is_done(&self, home: &Home) -> bool {
        let document = home.document(&self.session);
        let is_read = document["metadata"]["transcript"]["state"] == "complete";
        let is_delivered = self.server.take().requests == 1;
        (is_read || !self.scene.event.reads_transcript()) && is_delivered == self.scene.is_delivered
    }

    /// Runs the hook under a tool. Returns the tool's stderr.
    fn under(&self, tool: &str, arguments: &[&str], home: &Home) -> Result<String, String> {
        let mut command = Command::new(tool);
        command.args(arguments).arg(executable()).arg("hook");
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
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn instructions(&self, home: &Home) -> Result<u64, String> {
        let arguments = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let output = self.under("valgrind", &arguments, home)?;
        let collected = output
            .lines()
            .find_map(|line| line.split_once("Collected : "));
        Ok(collected
            .expect("callgrind prints what it collected")
            .1
            .trim()
            .parse()
            .unwrap())
    }

    /// The number of system calls, and of those that sync a file.
    fn system_calls(&self, home: &Home) -> Result<(u64, u64), String> {
        let arguments = ["-f", "-q", "-c", "-U", "name,calls"];
        let output = self.under("strace", &arguments, home)?;
        let calls = |wanted: &str| {
            let row = output
                .lines()
                .map(str::split_whitespace)
                .find_map(|mut row| (row.next() == Some(wanted)).then(|| row.next()))?;
            row?.parse::<u64>().ok()
        };
        let all = calls("total").expect("strace prints the total");
        Ok((
            all,
            calls("fsync").unwrap_or_default() + calls("fdatasync").unwrap_or_default(),
        ))
    }

    fn peak(&self, home: &Home) -> u64 {
        home.peak(self.scene.event, &self.session, &self.transcript)
    }

    fn requests(&self) -> usize {
        self.home()
            .hook(self.scene.event, &self.session, &self.transcript);
        self.server.take().requests
    }
}
