//! A run: one life of a client process on a session.

use serde::{Deserialize, Serialize};

use super::Millis;
use super::document::{OwnerDocument, RunDocument};

/// Two `SessionStart`s of one process on one session within this time are one, in milliseconds:
/// clients fire it twice, and nobody leaves a session and comes back to it so fast.
const SAME_START: Millis = 10_000;
/// The process on whose behalf a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// When it started: clock ticks since boot on Linux (as in `/proc/PID/stat`), epoch seconds
    /// elsewhere.
    pub start_time: u64,
    /// Where the process id means anything: boot and process namespace on Linux. A journal on a
    /// shared volume is written by several containers, of which none can say whether another's
    /// process lives.
    pub place: String,
}

/// One life of a client process on a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The process; unknown when JSON is piped by hand.
    pub owner: Option<Owner>,
    /// When its first event arrived.
    pub started_at: Millis,
    /// The source of its SessionStart.
    pub source: Option<String>,
    /// When and how it ended.
    pub end: Option<End>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Millis,
    /// How it is known.
    pub by: EndedBy,
    /// The reason that the SessionEnd hook gave.
    pub reason: Option<String>,
}

/// How the end of a run is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// By its SessionEnd hook.
    Hook,
    /// Because its process went on with another session.
    Superseded,
    /// Because its process is no longer alive.
    Swept,
}

impl Run {
    /// Whether a SessionStart with this source is the one that opened this run, fired again.
    #[must_use]
    pub fn repeats(&self, source: &str, now: Millis) -> bool {
        let is_open = self.end.is_none();
        match self.source.as_deref() {
            // A process starts up once.
            Some("startup") if source == "startup" && self.owner.is_some() => true,
            Some(known) if known == source => is_open || (now - self.started_at).abs() < SAME_START,
            // Compaction goes on within a run.
            _ => source == "compact",
        }
    }

    /// Whether a SessionStart with this source can be the one of this run, of which only later
    /// events were seen.
    #[must_use]
    pub fn may_have_started_by(&self, source: Option<&str>, now: Millis) -> bool {
        self.end.is_none()
            || source == Some("startup")
            || (now - self.started_at).abs() < SAME_START
    }

    /// The run as it is sent.
    #[must_use]
    pub fn document(&self) -> RunDocument {
        RunDocument {
            owner: self.owner.as_ref().map(|owner| OwnerDocument {
                pid: owner.pid,
                start_time: owner.start_time,
            }),
            started_at: self.started_at,
            source: self.source.clone(),
            ended_at: self.end.as_ref().map(|end| end.at),
            reason: self.end.as_ref().and_then(|end| end.reason.clone()),
            ended_by: self.end.as_ref().map(|end| end.by),
        }
    }
}
