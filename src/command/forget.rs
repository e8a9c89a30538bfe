//! `forget`: delete a session from the journal and from Convex.
//!
//! The journal comes first. Then the session is deleted in Convex. If Convex cannot be reached, the
//! journal remembers that, and the next `sync` or hook deletes it there.

use std::io::IsTerminal;

use anyhow::{Result, bail, ensure};

use super::show::{find, find_remote};
use super::{COMMAND_BUDGET, listed, listed_row, load_config, now, print, write_error};
use crate::cli::Forget;
use crate::config::Config;
use crate::convex::delivery::Delivery;
use crate::convex::delivery::receipt::Deletion;
use crate::convex::delivery_state::DeliveryContext;
use crate::ingest;
use crate::journal::{self, Journal};
use crate::record::session::Status;
use crate::system::deadline::Deadline;
use crate::transcript::files::local_path;
use crate::ui::{self, ListedSession, escape};

/// Runs `forget`.
pub fn run(options: &Forget) -> Result<()> {
    let config = load_config()?;
    let mut journal = Journal::open(&config.journal)?;
    let (session, owner) = select(&journal, &config, &options.session)?;
    let session_id = session.document.session_id.as_str();
    if !options.yes && !is_confirmed(&session)? {
        return print("nothing was deleted\n");
    }
    let (now, jitter) = now();
    let deployment = owner.as_deref().or(config.deployment_name());
    journal.write(|write| write.forget(session_id, deployment, now))?;
    // This fails while another process uses the journal; the bytes are then overwritten later.
    let _ = journal.scrub();
    // What forks copied from the session now counts as theirs.
    ingest::finalize(&mut journal, &config, now, Deadline::never())?;
    let there = match (deployment, &config.deployment) {
        (None, _) => "; it was never delivered".to_owned(),
        (Some(name), Ok(Some(configured))) if configured.name() == name => {
            let deadline = Deadline::never().within(COMMAND_BUDGET);
            let report = Delivery::new(&mut journal, configured, deadline, now, jitter)
                .deliver_deletion(session_id)?;
            match (report.problem, report.deletions.get(session_id)) {
                (_, Some(Deletion::Done)) => format!(" and from {name}"),
                (_, Some(Deletion::Absent)) => format!("; {name} did not have it"),
                (_, Some(Deletion::Kept(_))) => format!(
                    "; it is still in {name}, because it has changed there in the meantime; run `convex-sidecar forget` again"
                ),
                (Some(why), _) => format!(
                    "; it is still in {name}, and `convex-sidecar sync` deletes it there: {why}"
                ),
                (None, _) => format!("; {name} did not say whether it still has the session"),
            }
        }
        (Some(name), _) => format!(
            "; it is still in {name}, and `convex-sidecar sync` deletes it once that deployment is configured"
        ),
    };
    print(&format!(
        "session {session_id} is deleted from the journal{there}\n"
    ))?;
    for rest in transcript(&session).into_iter().chain(copies(&config)) {
        print(&format!("{rest}\n"))?;
    }
    Ok(())
}

/// What `forget` does not delete: the client's own files. `import` leaves them out from now on.
fn transcript(session: &ListedSession) -> Option<String> {
    let path = local_path(&session.document.metadata.transcript.path);
    path.is_file().then(|| {
        format!(
            "Claude Code's transcript is still there: {}",
            escape(&path.to_string_lossy())
        )
    })
}

/// What `forget` cannot delete: a damaged journal that was set aside may still contain the session.
fn copies(config: &Config) -> Option<String> {
    let copies = journal::damaged_copies(&config.journal);
    let names: Vec<_> = copies
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "a damaged journal that was set aside may still contain it; delete {}",
            names.join(" ")
        )
    })
}

/// The session, from the journal or else from Convex, and the deployment that it belongs to.
fn select(
    journal: &Journal,
    config: &Config,
    prefix: &str,
) -> Result<(ListedSession, Option<String>)> {
    if let Some(entry) = find(journal, config, prefix)? {
        return Ok((
            listed(&DeliveryContext::new(journal, &config.deployment)?, &entry)?,
            entry.deployment,
        ));
    }
    let in_convex = if config.deployment_name().is_some() {
        find_remote(config, prefix)?
    } else {
        None
    };
    match in_convex {
        Some(row) => Ok((listed_row(&row)?, None)),
        None => bail!(
            "no session {prefix}, neither in the journal nor in Convex; `convex-sidecar sessions` lists the journal's sessions{}",
            copies(config)
                .map(|copies| format!("; {copies}"))
                .unwrap_or_default()
        ),
    }
}

fn is_confirmed(session: &ListedSession) -> Result<bool> {
    ensure!(
        std::io::stdin().is_terminal(),
        "could not ask for confirmation, because stdin is not a terminal; --yes deletes without asking"
    );
    let is_running = session.document.status == Status::Running;
    let again = if is_running {
        "\nIt is still running: its next hook records it again."
    } else {
        ""
    };
    write_error(&format!(
        "This will be deleted here and in Convex:{}{again}\nDelete it? [y/N] ",
        ui::session_lines(std::slice::from_ref(session))
    ));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
