//! Importing past sessions, compared with only reading their files; delivering them; and being
//! killed partway through.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::backend::Backend;
use crate::loopback::{self, Loopback};
use crate::sidecar::{Event, Home, KEY, executable, fresh};
use crate::table::{Column, beside, count, millis, table};
use crate::timing::{Contender, in_turn, timed};
use crate::transcripts::{self, Numbers};

pub const SESSIONS: usize = 2_000;
const RUNS: usize = 5;
const MIB: u64 = 1_024 * 1_024;

pub fn import(scratch: &Path) -> String {
    let (folder, bytes) = projects(scratch);
    let home = Home::bare(scratch, "import");
    let mut cat = Command::new("sh");
    cat.args(["-c", "cat \"$0\"/*/*.jsonl >/dev/null"])
        .arg(&folder);
    // Fill the page cache for all contenders.
    timed(&mut cat, "");
    let import = |command: &mut Command| {
        fresh(scratch, "import");
        timed(command.arg(&folder), "")
    };
    let on_one_core = || {
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", "0"])
            .arg(executable())
            .arg("import");
        home.set_up(&mut command);
        command
    };
    let outcomes = in_turn(vec![
        Contender::new(RUNS, || import(&mut home.sidecar(&["import"]))),
        if Command::new("taskset").arg("--version").output().is_ok() {
            Contender::new(RUNS, || import(&mut on_one_core()))
        } else {
            Contender::program(RUNS, Err("not run: taskset is missing".to_owned()))
        },
        Contender::program(RUNS, Ok(cat)),
    ]);
    let speed = outcomes
        .first()
        .and_then(|outcome| outcome.as_ref().ok())
        .map(|times| speed(bytes, times.median()))
        .unwrap();
    // The last contender may have left the folder of another.
    import(&mut home.sidecar(&["import"]));
    let whole = home.documents();
    assert_eq!(whole.len(), SESSIONS);
    let heading = format!("{} sessions, {:.1} GiB", count(SESSIONS), gib(bytes));
    let names = [
        "**convex-sidecar import**, all cores",
        "**convex-sidecar import**, one core",
        "`cat` of the same files",
    ];
    let beside = beside(&names, &[Column { heading, outcomes }]);
    let rows = [
        vec!["import, all cores".to_owned(), speed],
        delivery(scratch, &home),
        interruption(scratch, &folder, &whole),
        hook_after(scratch, &home),
    ];
    format!("{beside}\n{}", table(&["", "result"], rows.into_iter()))
}

/// Transcripts of 0.5 to 1.5 MiB in twenty projects, and their size in bytes.
pub fn projects(scratch: &Path) -> (PathBuf, u64) {
    let folder = fresh(scratch, "projects");
    let mut numbers = Numbers::new(7);
    for seed in 0..SESSIONS as u64 {
        let project = folder.join(format!("-home-dev-{}", seed % 20));
        std::fs::create_dir_all(&project).unwrap();
        transcripts::write(&project, MIB / 2 + numbers.below(MIB), 10_000 + seed).unwrap();
    }
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .flat_map(|project| std::fs::read_dir(project.unwrap().path()).unwrap());
    let bytes = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    (folder, bytes)
}

#[expect(clippy::cast_precision_loss, reason = "bytes are far fewer than 2^52")]
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_024.0 * 1_024.0 * 1_024.0)
}

fn speed(bytes: u64, time: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let sessions = SESSIONS as f64 / time.as_secs_f64();
    format!(
        "{sessions:.0} sessions and {:.2} GiB per second",
        gib(bytes) / time.as_secs_f64()
    )
}

/// `sync` of all sessions, to a server that answers at once and to the real functions.
fn delivery(scratch: &Path, home: &Home) -> Vec<String> {
    let server = Loopback::start();
    let copy = Home::bare(scratch, "delivery");
    copy.start_over_from(home);
    let quick = timed(
        &mut copy.deployment(&server.url, KEY).sidecar(&["sync"]),
        "",
    );
    let received = server.take();
    let backend = Backend::start();
    let copy = Home::bare(scratch, "delivery");
    copy.start_over_from(home);
    let home = copy.deployment(&backend.url, &backend.key);
    let real = timed(&mut home.sidecar(&["sync"]), "");
    assert_eq!(
        backend.sessions(&home).len(),
        SESSIONS,
        "each session is in Convex once"
    );
    vec![
        "`sync` of all of them".to_owned(),
        format!(
            "{} requests, {} KiB in total; {} with a server that answers at once, {} with the real functions in one Node process",
            count(received.requests),
            count(received.bytes / 1_024),
            millis(quick),
            millis(real)
        ),
    ]
}

/// Killed while it imports and while it delivers, then run again: nothing is missing or duplicated.
fn interruption(scratch: &Path, folder: &Path, whole: &[Value]) -> Vec<String> {
    let home = Home::bare(scratch, "interrupted");
    let kill_at = |command: &mut Command, is_halfway: &dyn Fn() -> bool| {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while process.try_wait().unwrap().is_none() {
            if is_halfway() {
                process.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        process.wait().unwrap();
    };
    kill_at(home.sidecar(&["import"]).arg(folder), &|| {
        home.documents().len() > SESSIONS / 2
    });
    let imported = home.documents().len();
    timed(home.sidecar(&["import"]).arg(folder), "");
    let mut recorded = home.documents();
    assert_eq!(
        figures(&mut recorded),
        figures(&mut whole.to_vec()),
        "each session is recorded once, with its figures"
    );

    let backend = Backend::start();
    let delivering = home.deployment(&backend.url, &backend.key);
    kill_at(&mut delivering.sidecar(&["sync"]), &|| {
        !backend.sessions(&home).is_empty()
    });
    let delivered = backend.sessions(&home).len();
    timed(&mut delivering.sidecar(&["sync"]), "");
    let mut arrived = backend.sessions(&home);
    assert_eq!(
        figures(&mut arrived),
        figures(&mut recorded),
        "each session is in Convex once, with its figures"
    );
    vec![
        "SIGKILL during `import` and again during `sync`; both run again afterwards".to_owned(),
        format!(
            "killed with {} sessions recorded and with {} delivered; afterwards each of the {} was stored once, with the figures of an uninterrupted import",
            count(imported),
            count(delivered),
            count(SESSIONS)
        ),
    ]
}

/// What must not depend on interruptions.
fn figures(documents: &mut [Value]) -> Vec<(String, Value, Value)> {
    documents.sort_by_key(|document| document["sessionId"].as_str().unwrap().to_owned());
    let text = |document: &Value| document["sessionId"].as_str().unwrap().to_owned();
    documents
        .iter()
        .map(|document| {
            (
                text(document),
                document["metadata"]["usage"].clone(),
                document["output"].clone(),
            )
        })
        .collect()
}

/// The time of a hook on a journal with all sessions.
fn hook_after(scratch: &Path, home: &Home) -> Vec<String> {
    let down = loopback::down();
    let (full, empty) = (Home::bare(scratch, "full"), Home::new(scratch, "empty"));
    full.start_over_from(home);
    let hook = |home: &Home, session: &str| {
        home.deployment(&down, KEY)
            .hook(Event::SessionStart, session, Path::new("/nowhere"))
    };
    // The first hooks fail and start the backoff.
    let _ = [hook(&full, "first"), hook(&empty, "first")];
    let next = std::cell::Cell::new(0);
    let session = || format!("session-{}", next.replace(next.get() + 1));
    let outcomes = in_turn(vec![
        Contender::new(4 * RUNS, || hook(&full, &session())),
        Contender::new(4 * RUNS, || hook(&empty, &session())),
    ]);
    let median = |index: usize| {
        outcomes[index]
            .as_ref()
            .map(|times| millis(times.median()))
            .unwrap()
    };
    vec![
        "SessionStart, not delivered".to_owned(),
        format!(
            "{} on the journal with all sessions, {} on a new one",
            median(0),
            median(1)
        ),
    ]
}
