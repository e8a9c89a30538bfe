//! What the client's transcripts show about the hooks: how long ours took, as the client measured
//! it, and which sessions are not in the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client_settings::shell;
use crate::command::import::{is_uuid, modified_at};
use crate::config::{Config, Environment, client_environments, client_folder};
use crate::ingest;
use crate::journal::Journal;
use crate::record::Millis;
use crate::record::facts::Source;
use crate::record::period::DAY;
use crate::system::deadline::Deadline;
use crate::system::files::open_regular;
use crate::transcript::hook_times::{HookTime, hook_times};
use crate::ui::{Check, plural};

/// How many transcripts are searched for times, newest first, and how many bytes at the end of
/// each.
const MEASURED: usize = 20;
const TAIL: u64 = 64 * 1024;
/// The maximum age of sessions to search for: 7 days, in milliseconds.
const RECENT: Millis = 7 * DAY;
/// How long files may be read to find out whether they contain a session.
const SCAN_BUDGET: Duration = Duration::from_millis(500);
/// The longest that a hook takes, in milliseconds.
const MAX_DURATION: u64 = 1_200;

/// A transcript.
struct Transcript {
    session_id: String,
    path: PathBuf,
    modified_at: Millis,
}

/// The checks of the transcripts of clients with these folders, or of the one that this environment
/// names.
pub fn checks(
    config: &Config,
    environment: &Environment,
    folders: &[String],
    now: Millis,
) -> Vec<Check> {
    let clients = client_environments(environment, folders);
    let clients = clients.iter().filter_map(client_folder);
    let projects: BTreeSet<_> = clients.map(|folder| folder.join("projects")).collect();
    let mut checks = Vec::new();
    let mut all = Vec::new();
    for folder in projects {
        let transcripts = transcripts(&folder);
        if !config.is_disabled {
            checks.extend(not_recorded(config, &folder, &transcripts, now));
        }
        all.extend(transcripts);
    }
    all.sort_by_key(|transcript| std::cmp::Reverse(transcript.modified_at));
    checks.extend(duration(&all));
    checks
}

/// The transcripts below a client's folder of projects.
fn transcripts(projects: &Path) -> Vec<Transcript> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let files = entries(projects)
        .into_iter()
        .flat_map(|path| entries(&path));
    files
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let session_id = name.strip_suffix(".jsonl").filter(|id| is_uuid(id))?;
            Some(Transcript {
                session_id: session_id.to_owned(),
                modified_at: modified_at(&path),
                path,
            })
        })
        .collect()
}

/// How long the client waited for our hook at the end of a turn.
fn duration(transcripts: &[Transcript]) -> Option<Check> {
    let newest = transcripts.iter().take(MEASURED);
    let mut durations: Vec<u64> = newest
        .filter_map(|transcript| tail(&transcript.path).ok())
        .flat_map(|text| hook_times(&text))
        .filter(is_ours)
        .map(|time| ((time.record, time.command), time.duration))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect();
    durations.sort_unstable();
    let (median, longest) = (*durations.get(durations.len() / 2)?, durations.last()?);
    let finding = format!(
        "the client measured the hook in {}: median {median} ms, longest {longest} ms",
        plural(durations.len() as u64, "recent turn")
    );
    Some(if median > MAX_DURATION {
        let remedy = "a hook ends within 1.2 s; if it takes longer, the machine is busy or the journal's disk is slow";
        Check::warning("duration", finding, remedy)
    } else {
        Check::ok("duration", finding)
    })
}

fn is_ours(time: &HookTime) -> bool {
    let command = &time.command;
    // With `args` the client names program and arguments without quotes.
    shell::find(command).is_some()
        || command.strip_suffix(" hook").is_some_and(shell::is_sidecar)
        || command.contains("/hooks/convex-sidecar.sh\"")
}

/// The end of a file.
fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file: File = open_regular(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    Ok(text)
}

/// Sessions that no hook has recorded, and that were not imported either.
fn not_recorded(
    config: &Config,
    folder: &Path,
    transcripts: &[Transcript],
    now: Millis,
) -> Option<Check> {
    let journal = config
        .journal
        .exists()
        .then(|| Journal::open(&config.journal));
    // A journal that cannot be read has a check of its own.
    let known = match journal {
        None => BTreeSet::new(),
        Some(journal) => {
            let journal = journal.ok()?;
            let mut known = journal.left_out().ok()?;
            known.extend(journal.read_versions().ok()?.into_keys());
            known
        }
    };
    let deadline = Deadline::never().within(SCAN_BUDGET);
    let mut buffer = Vec::new();
    let mut missing = BTreeSet::new();
    for transcript in transcripts {
        let Transcript {
            session_id,
            path,
            modified_at,
        } = transcript;
        if now - modified_at > RECENT || known.contains(session_id) || deadline.is_over() {
            continue;
        }
        // `import` does not record a file without a conversation either.
        let files = [(path.clone(), Source::Main)];
        let delta = ingest::read_files(
            session_id,
            &files,
            &BTreeMap::new(),
            config,
            &mut buffer,
            deadline,
        );
        if !delta.has_no_facts() {
            missing.insert(session_id);
        }
    }
    let verb = match missing.len() {
        0 => return None,
        1 => "is",
        _ => "are",
    };
    let import = if *folder == config.projects {
        "`convex-sidecar import`".to_owned()
    } else {
        let folder = shell::quote(&folder.to_string_lossy(), cfg!(windows));
        format!("`convex-sidecar import {folder}`")
    };
    Some(Check::warning(
        "sessions",
        format!(
            "{} of the last 7 days {verb} not in the journal",
            plural(missing.len() as u64, "session")
        ),
        format!("{import} records sessions that no hook has recorded"),
    ))
}
