//! `show`: one session, from the journal or from Convex.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::sessions::listed;
use super::{ask, load_config, now, print};
use crate::cli::Show;
use crate::config::Config;
use crate::hook_input::is_session_id;
use crate::journal::Journal;
use crate::render::{self, Listed};

/// How many candidates are named when a prefix is not unique.
const CANDIDATES: usize = 5;

/// Runs `show`.
pub fn run(options: &Show) -> Result<()> {
    ensure!(is_session_id(&options.session), "{:?} is not a session id or the beginning of one", options.session);
    let config = load_config()?;
    let session = if options.remote { remote(&config, &options.session)? } else { local(&config, &options.session)? };
    let text = if options.json { render::json_line(&session.document) } else { render::session(&session, render::width(), now().0) };
    print(&text)
}

fn local(config: &Config, prefix: &str) -> Result<Listed> {
    let found = Journal::open(&config.journal)?.by_prefix(prefix, CANDIDATES + 1)?;
    match &found[..] {
        [] => bail!("no session {prefix} in the journal {}; `convex-sidecar sessions` lists what is there", config.journal.display()),
        [entry] => listed(entry),
        [entry, ..] if entry.session_id == prefix => listed(entry),
        several => {
            let ids: Vec<_> = several.iter().take(CANDIDATES).map(|entry| entry.session_id.as_str()).collect();
            bail!(
                "{prefix} is the beginning of several sessions: {}{}",
                ids.join(", "),
                if several.len() > CANDIDATES { ", …" } else { "" }
            )
        }
    }
}

fn remote(config: &Config, prefix: &str) -> Result<Listed> {
    // Convex finds whole ids only; the journal knows what a prefix stands for, if the session is of this machine.
    let known = Journal::open(&config.journal)?.by_prefix(prefix, 2)?;
    let session_id = if let [entry] = &known[..] { entry.session_id.as_str() } else { prefix };
    match ask(config, "agents:getAgentSession", &json!({ "sessionId": session_id }))? {
        Value::Null => bail!("no session {session_id} in Convex"),
        document => Ok(Listed { document, delivered: None }),
    }
}
