//! Where the files of a session are.

use std::path::{Path, PathBuf};

/// How deep below `subagents/` files are searched for.
const MAX_DEPTH: usize = 8;
/// The most subagent files of one session.
const MAX_FILES: usize = 10_000;

/// The path that the client stated, if it exists. Otherwise the file of the same name in another
/// folder of the client's projects (`<projects>/<folder>/<session>.jsonl`): the client moves it when
/// a session continues in another working directory.
#[must_use]
pub fn find_transcript(stated: &Path, session_id: &str) -> PathBuf {
    let moved = || {
        let (name, projects) = (stated.file_name()?, stated.parent()?.parent()?);
        if name != format!("{session_id}.jsonl").as_str() {
            return None;
        }
        std::fs::read_dir(projects)
            .ok()?
            .flatten()
            .map(|folder| folder.path().join(name))
            .find(|path| path.is_file())
    };
    if stated.exists() {
        stated.to_owned()
    } else {
        moved().unwrap_or_else(|| stated.to_owned())
    }
}

/// The id in `agent-<id>.jsonl`.
#[must_use]
pub fn subagent_id(path: &Path) -> Option<&str> {
    path.file_name()?
        .to_str()?
        .strip_prefix("agent-")?
        .strip_suffix(".jsonl")
}

/// `<session>/subagents/**/agent-<id>.jsonl` beside `<session>.jsonl`, sorted. Links are not
/// followed.
#[must_use]
pub fn subagent_files(main: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![(main.with_extension("").join("subagents"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => folders.push((path, depth + 1)),
                Ok(kind) if kind.is_file() && subagent_id(&path).is_some() => files.push(path),
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
