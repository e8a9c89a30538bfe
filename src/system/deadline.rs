//! The deadline of an invocation, from which every timeout derives: the agent waits for its hooks.
//!
//! Separate timeouts add up; three steps of half a second each take a second and a half. With a
//! deadline, the timeout of each step is the time that is left.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads the monotonic clock"
)]

use std::time::{Duration, Instant};

/// How long a hook may take from process start. The rest of the promised 1.2 s is for starting and
/// ending the process on a busy machine.
pub const HOOK_BUDGET: Duration = Duration::from_millis(1_050);

/// The point in time after which an invocation starts no new work.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Option<Instant>,
}

impl Deadline {
    /// A deadline `budget` after `start`, the start of the process.
    #[must_use]
    pub fn after(start: Instant, budget: Duration) -> Self {
        Self {
            end: Some(start + budget),
        }
    }

    /// No deadline, for commands such as `sync` that run until they are done.
    #[must_use]
    pub const fn never() -> Self {
        Self { end: None }
    }

    /// The time that is left, at most `cap`.
    #[must_use]
    pub fn remaining(&self, cap: Duration) -> Duration {
        match self.end {
            None => cap,
            Some(end) => end.saturating_duration_since(Instant::now()).min(cap),
        }
    }

    /// Whether no time is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// The earlier of this deadline and `budget` from now.
    #[must_use]
    pub fn within(&self, budget: Duration) -> Self {
        let end = Instant::now() + budget;
        Self {
            end: Some(self.end.map_or(end, |own| own.min(end))),
        }
    }

    /// A deadline that is earlier by `reserve`, for the steps that follow.
    #[must_use]
    pub fn keeping(&self, reserve: Duration) -> Self {
        Self {
            end: self.end.map(|end| end.checked_sub(reserve).unwrap_or(end)),
        }
    }
}
