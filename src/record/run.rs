//! Runs: a run is the time that one client process works on a session.

use serde::{Deserialize, Serialize};

use super::Millis;

/// Two `SessionStart` events of one process and session with the same source count as one start if
/// they are closer together than this, in milliseconds. Clients may fire the hook twice, and no
/// user leaves a session and returns to it that fast.
const SAME_START: Millis = 10_000;

/// The client process on whose behalf a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process ID.
    pub pid: u32,
    /// When it started: clock ticks since boot on Linux (as in `/proc/PID/stat`), epoch seconds
    /// elsewhere.
    pub start_time: u64,
    /// Where the process ID is valid: the machine (its name, on macOS the ID of its hardware), on
    /// Linux with boot and process namespace. Several containers can write to a journal on a shared
    /// volume, and none of them can see the others' processes.
    pub place: String,
}

/// The time that one client process works on a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The process; `None` if the hook was not started by a client.
    pub owner: Option<Owner>,
    /// When its first event arrived.
    pub started_at: Millis,
    /// The source of its SessionStart; `None` until that arrives.
    pub source: Option<String>,
    /// When and how it ended; `None` while it is open.
    pub end: Option<End>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When it ended.
    pub at: Millis,
    /// How the end was detected.
    pub by: EndedBy,
    /// The reason that the SessionEnd hook gave.
    pub reason: Option<String>,
}

/// How the end of a run was detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// Its SessionEnd hook.
    Hook,
    /// An event of the same process on another session.
    Superseded,
    /// Its process is no longer alive.
    Swept,
}

impl Run {
    /// Whether a SessionStart with this source is the one that opened this run, fired again.
    fn repeats(&self, source: &str, now: Millis) -> bool {
        let is_open = self.end.is_none();
        match self.source.as_deref() {
            // A process has only one startup.
            Some("startup") if source == "startup" && self.owner.is_some() => true,
            Some(known) if known == source => is_open || (now - self.started_at).abs() < SAME_START,
            // A compaction does not end the run.
            _ => source == "compact",
        }
    }

    /// Whether a SessionStart with this source can belong to this run, which was opened by an event
    /// that arrived earlier.
    fn may_have_started_by(&self, source: Option<&str>, now: Millis) -> bool {
        self.end.is_none()
            || source == Some("startup")
            || (now - self.started_at).abs() < SAME_START
    }
}

/// The runs of a session, in the order in which they opened. Runs without an owner are treated as
/// runs of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// Folds a SessionStart: opens a run, unless it belongs to a run that is known.
    pub fn start(&mut self, owner: Option<&Owner>, source: Option<&str>, now: Millis) {
        let is_repeated = source.is_some_and(|source| {
            self.iter()
                .any(|run| run.owner.as_ref() == owner && run.repeats(source, now))
        });
        if is_repeated {
            return;
        }
        match self.last_of(owner) {
            Some(run) if run.source.is_none() && run.may_have_started_by(source, now) => {
                run.source = source.map(str::to_owned);
                run.owner = run.owner.take().or_else(|| owner.cloned());
            }
            Some(run) if run.end.is_none() => {}
            _ => self.open(owner, source, now),
        }
    }

    /// Folds a SessionEnd: ends the last run of its owner.
    pub fn end(&mut self, owner: Option<&Owner>, reason: Option<&str>, now: Millis) {
        let end = End {
            at: now,
            by: EndedBy::Hook,
            reason: reason.map(str::to_owned),
        };
        let run = self.last_or_open(owner, now);
        match &mut run.end {
            // The hook is more reliable than an inferred end, but the time of the end is kept.
            Some(inferred) if inferred.by != EndedBy::Hook => {
                *inferred = End {
                    at: inferred.at,
                    ..end
                }
            }
            Some(_) => {}
            None => run.end = Some(end),
        }
    }

    /// Folds an event that neither starts nor ends a run. It belongs to the last run of its owner,
    /// whether that has ended or not.
    pub fn touch(&mut self, owner: Option<&Owner>, now: Millis) {
        self.last_or_open(owner, now);
    }

    /// Ends the open runs of `owner`, which was seen on another session. Returns whether there were
    /// any.
    pub fn supersede(&mut self, owner: &Owner, now: Millis) -> bool {
        self.end_open(
            |run| run.owner.as_ref() == Some(owner),
            EndedBy::Superseded,
            now,
        )
    }

    /// Ends the open runs whose owner is gone. Returns whether there were any.
    pub fn sweep(&mut self, is_gone: impl Fn(&Owner) -> bool, now: Millis) -> bool {
        self.end_open(
            |run| run.owner.as_ref().is_some_and(&is_gone),
            EndedBy::Swept,
            now,
        )
    }

    /// Adds a run.
    pub fn push(&mut self, run: Run) {
        self.0.push(run);
    }

    /// All of them.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Run> + ExactSizeIterator {
        self.0.iter()
    }

    /// Whether there are none, because no hook of the session was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a run is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.iter().any(|run| run.end.is_none())
    }

    /// Whether the last run of `owner` is open.
    #[must_use]
    pub fn is_open_for(&self, owner: Option<&Owner>) -> bool {
        let last = self.iter().rfind(|run| run.owner.as_ref() == owner);
        last.is_some_and(|run| run.end.is_none())
    }

    /// The owners of the open runs.
    pub fn open_owners(&self) -> impl Iterator<Item = &Owner> {
        self.iter()
            .filter(|run| run.end.is_none())
            .filter_map(|run| run.owner.as_ref())
    }

    /// When each open run started.
    pub(super) fn open_starts(&mut self) -> impl Iterator<Item = &mut Millis> {
        let open = self.0.iter_mut().filter(|run| run.end.is_none());
        open.map(|run| &mut run.started_at)
    }

    /// When the latest end was.
    #[must_use]
    pub fn ended_at(&self) -> Option<Millis> {
        self.ends().map(|end| end.at).max()
    }

    /// Whether the last run ended with its process instead of a hook.
    #[must_use]
    pub fn is_swept(&self) -> bool {
        let last_end = self.0.last().and_then(|run| run.end.as_ref());
        last_end.is_some_and(|end| end.by == EndedBy::Swept)
    }

    fn ends(&self) -> impl Iterator<Item = &End> {
        self.iter().filter_map(|run| run.end.as_ref())
    }

    fn end_open(&mut self, ends: impl Fn(&Run) -> bool, by: EndedBy, now: Millis) -> bool {
        let mut has_ended = false;
        for run in &mut self.0 {
            if run.end.is_none() && ends(run) {
                run.end = Some(End {
                    at: now,
                    by,
                    reason: None,
                });
                has_ended = true;
            }
        }
        has_ended
    }

    /// The last run of `owner`. If there is none and one of the two owners is unknown, it may be an
    /// open run without a SessionStart, because a hook that was detached from its client does not
    /// always find the client.
    fn last_of(&mut self, owner: Option<&Owner>) -> Option<&mut Run> {
        let place = self.last_place(|run| run.owner.as_ref() == owner);
        let place = place.or_else(|| {
            self.last_place(|run| {
                run.end.is_none()
                    && run.source.is_none()
                    && (run.owner.is_none() || owner.is_none())
            })
        });
        Some(&mut self.0[place?])
    }

    /// The run of an event that does not start one. An unknown process is assumed to be that of the
    /// open run, else that of the last one.
    fn last_or_open(&mut self, owner: Option<&Owner>, now: Millis) -> &mut Run {
        let same = |run: &Run| run.owner.as_ref() == owner;
        let is_open = |run: &Run| run.end.is_none();
        let place = match owner {
            Some(_) => self
                .last_place(same)
                .or_else(|| self.last_place(|run| is_open(run) && run.owner.is_none())),
            None => self
                .last_place(|run| is_open(run) && same(run))
                .or_else(|| self.last_place(is_open))
                .or_else(|| self.0.len().checked_sub(1)),
        };
        if place.is_none() {
            self.open(owner, None, now);
        }
        let place = place.unwrap_or(self.0.len() - 1);
        let run = &mut self.0[place];
        run.owner = run.owner.take().or_else(|| owner.cloned());
        run
    }

    fn last_place(&self, is_it: impl Fn(&Run) -> bool) -> Option<usize> {
        self.0.iter().rposition(is_it)
    }

    fn open(&mut self, owner: Option<&Owner>, source: Option<&str>, now: Millis) {
        self.push(Run {
            owner: owner.cloned(),
            started_at: now,
            source: source.map(str::to_owned),
            end: None,
        });
    }
}
