//! Which files a session has now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::journal::SessionRow;
use crate::record::facts::Source;
use crate::transcript::beginning::{self, has_subagents_beside};
use crate::transcript::checkpoint::Checkpoint;
use crate::transcript::files::{
    SessionFile, fragments, local_path, subagent_id, subagents_beside, with_subagents,
};

/// The files of a session. While it runs, only the known files and those of subagents are checked.
/// Otherwise the client may have written parts of it elsewhere. A session whose transcript
/// is nowhere according to the client has no files.
pub(super) fn files_of(
    row: &SessionRow,
    checkpoints: &BTreeMap<PathBuf, Checkpoint>,
) -> Vec<SessionFile> {
    let Some(stated) = row.session.transcript_path.as_deref().map(local_path) else {
        return Vec::new();
    };
    let is_known = row.session.runs.is_open() && !row.is_stale && checkpoints.contains_key(&stated);
    let fragments = if is_known && stated.is_file() {
        vec![stated]
    } else {
        fragments(&stated, &row.session.session_id)
    };
    let version = row.figures.latest.version.text();
    let has_subagents_beside = !is_known
        && match version {
            Some(version) => has_subagents_beside(&version),
            // It is unknown only at the first read.
            None => fragments
                .first()
                .and_then(|main| beginning::of(main).version)
                .is_some_and(|version| has_subagents_beside(&version)),
        };
    let folders: BTreeSet<_> = fragments.iter().filter_map(|path| path.parent()).collect();
    let beside = folders
        .iter()
        .filter(|_| has_subagents_beside)
        .filter_map(|folder| subagents_beside(folder).remove(&row.session.session_id))
        .flatten()
        .map(|path| (path, Source::Subagent))
        .collect::<Vec<_>>();
    let mut files: Vec<_> = fragments.into_iter().flat_map(with_subagents).collect();
    files.extend(beside);
    for path in checkpoints.keys() {
        if !files.iter().any(|(known, _)| known == path) && path.is_file() {
            let source = subagent_id(path).map_or(Source::Main, |_| Source::Subagent);
            files.push((path.clone(), source));
        }
    }
    files
}
