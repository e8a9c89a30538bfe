//! Where the files of a session are.
//!
//! A session is a set of files: its transcript, parts of that in other project folders (the client
//! changes the folder with a worktree), and the transcripts of its subagents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::beginning;
use crate::record::facts::Source;
use crate::system::files::read_regular;
use crate::system::json::{Scalar, object, parse_object};

/// How many levels below `subagents/` are searched for files.
const MAX_DEPTH: usize = 8;
/// The maximum number of subagent files of one session.
const MAX_FILES: usize = 10_000;
/// What the client runs agents of its own for.
const INTERNAL_AGENTS: [&str; 8] = [
    "agent_summary",
    "auto_dream",
    "compact",
    "extract_memories",
    "prompt_suggestion",
    "session_memory",
    "side_question",
    "speculation",
];
/// How much of `agent-<id>.meta.json` is read, in bytes.
const MAX_META: u64 = 64 * 1024;

/// A file of a session.
pub type SessionFile = (PathBuf, Source);

/// The transcript at the path that the client stated, as a path on this system: a client on Windows
/// can run its hooks in WSL.
#[must_use]
pub fn local_path(stated: &str) -> PathBuf {
    let windows = stated
        .split_once(":\\")
        .or_else(|| stated.split_once(":/"))
        .filter(|(drive, _)| cfg!(unix) && drive.len() == 1);
    match windows {
        Some((drive, rest)) => PathBuf::from(format!(
            "/mnt/{}/{}",
            drive.to_ascii_lowercase(),
            rest.replace('\\', "/")
        )),
        None => PathBuf::from(stated),
    }
}

/// The transcript of a session and its parts in other folders of the client's projects
/// (`<projects>/<folder>/<session>.jsonl`), each once, however many links lead to it. A part may
/// not exist itself: some folders have only transcripts of its subagents.
#[must_use]
pub fn fragments(stated: &Path, session_id: &str) -> Vec<PathBuf> {
    let name = format!("{session_id}.jsonl");
    let has_name = stated.file_name().is_some_and(|stated| *stated == *name);
    let projects = stated
        .parent()
        .and_then(Path::parent)
        .filter(|_| has_name)
        .and_then(|projects| std::fs::read_dir(projects).ok());
    let others = projects
        .into_iter()
        .flatten()
        .flatten()
        .map(|folder| folder.path().join(&name));
    let mut others: Vec<_> = others.collect();
    others.sort();
    let real_path = |path: &PathBuf| {
        let in_real_folder = || Some(path.parent()?.canonicalize().ok()?.join(&name));
        path.canonicalize().ok().or_else(in_real_folder)
    };
    let mut seen = BTreeSet::new();
    std::iter::once(stated.to_owned())
        .chain(others)
        .filter(|path| path.is_file() || subagent_folder(path).is_dir())
        .filter(|path| seen.insert(real_path(path)))
        .collect()
}

/// A transcript and those of its subagents.
#[must_use]
pub fn with_subagents(main: PathBuf) -> Vec<SessionFile> {
    let subagents = subagents_in(&subagent_folder(&main)).into_iter();
    std::iter::once((main, Source::Main))
        .chain(subagents.map(|path| (path, Source::Subagent)))
        .collect()
}

/// The main file of the session that has this file. It may not exist: some folders have only
/// transcripts of its subagents.
#[must_use]
pub fn main_file((path, source): &SessionFile, session_id: &str) -> PathBuf {
    if *source == Source::Main {
        return path.clone();
    }
    let own = Path::new(session_id).join("subagents");
    let mut folders = path.ancestors();
    let project = folders
        .find(|folder| folder.ends_with(&own))
        .and_then(|folder| folder.parent()?.parent())
        .or_else(|| path.parent());
    project.unwrap_or(path).join(format!("{session_id}.jsonl"))
}

/// The ID in `agent-<id>.jsonl`.
#[must_use]
pub fn subagent_id(path: &Path) -> Option<&str> {
    path.file_name()?
        .to_str()?
        .strip_prefix("agent-")?
        .strip_suffix(".jsonl")
}

/// Whether the client runs the agent with this ID for itself, so that it is not a subagent, although
/// its tokens count. Clients 2.0.76 to 2.1.97 name such agents `a<purpose>-<hex>` (read in their
/// code).
#[must_use]
pub fn is_internal(agent_id: &str) -> bool {
    let purpose = agent_id
        .strip_prefix('a')
        .and_then(|id| id.rsplit_once('-'));
    purpose.is_some_and(|(purpose, _)| INTERNAL_AGENTS.contains(&purpose))
}

/// The type of the subagent whose transcript this is, from `agent-<id>.meta.json` beside it.
/// Clients before 2.1 do not write that file.
#[must_use]
pub fn subagent_type(path: &Path) -> Option<String> {
    object! {
        /// The part of that file that is read here.
        struct Meta<'a> {
            "agentType" => agent_type: Scalar<'a>,
        }
    }
    let meta = read_regular(&path.with_extension("meta.json"), MAX_META).ok()?;
    let meta: Meta<'_> = parse_object(&meta).ok()?;
    meta.agent_type.owned()
}

/// `<session>/subagents` beside `<session>.jsonl`.
fn subagent_folder(main: &Path) -> PathBuf {
    main.with_extension("").join("subagents")
}

/// `**/agent-<id>.jsonl` in a folder `<session>/subagents`, sorted. Links to folders are not
/// followed.
#[must_use]
pub fn subagents_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => folders.push((path, depth + 1)),
                Ok(kind) if !kind.is_dir() && subagent_id(&path).is_some() && path.is_file() => {
                    files.push(path);
                }
                _ => {}
            }
        }
        if files.len() >= MAX_FILES {
            break;
        }
    }
    files.sort();
    files
}

/// `<folder>/agent-<id>.jsonl`, by the session ID in their records. Older clients wrote subagents
/// there.
#[must_use]
pub fn subagents_beside(folder: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut by_session: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if subagent_id(&path).is_some()
            && let Some(session_id) = beginning::of(&path).session_id
        {
            by_session.entry(session_id).or_default().push(path);
        }
    }
    for files in by_session.values_mut() {
        files.sort();
    }
    by_session
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn path_of_a_client_on_windows_is_found_in_wsl() {
        let path = local_path(r"C:\Users\dev\.claude\projects\p\s.jsonl");
        let mounted = "/mnt/c/Users/dev/.claude/projects/p/s.jsonl";
        assert_eq!(path, Path::new(mounted));
        let path = local_path("c:/Users/dev/.claude/projects/p/s.jsonl");
        assert_eq!(path, Path::new(mounted));
        assert_eq!(local_path("/home/a:\\b"), Path::new("/home/a:\\b"));
    }
}
