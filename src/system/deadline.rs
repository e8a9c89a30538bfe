//! One point in time from which every timeout of an invocation derives, because the agent waits for
//! its hooks.
//!
//! A timeout of its own for each step adds up: three steps of half a second are a second and a
//! half. Here each step asks what is left.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the room that asks the monotonic clock"
)]

use std::time::{Duration, Instant};

/// What a hook may take from process start, with some of the promised 1.2 s kept back for the
/// process's own start and end on a busy machine.
pub const HOOK_BUDGET: Duration = Duration::from_millis(1_050);

/// The point in time at which an invocation stops starting anything. `None` for commands a person
/// waits for.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Option<Instant>,
}

impl Deadline {
    /// A deadline `budget` after `start`, which is the start of the process.
    #[must_use]
    pub fn after(start: Instant, budget: Duration) -> Self {
        Self {
            end: Some(start + budget),
        }
    }

    /// No deadline: `sync` and `import` run until they are done.
    #[must_use]
    pub const fn never() -> Self {
        Self { end: None }
    }

    /// What is left, at most `cap`; zero when it is over.
    #[must_use]
    pub fn remaining(&self, cap: Duration) -> Duration {
        match self.end {
            None => cap,
            Some(end) => end.saturating_duration_since(Instant::now()).min(cap),
        }
    }

    /// Whether nothing is left.
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

    /// A deadline that leaves `reserve` of this one for what comes after.
    #[must_use]
    pub fn keeping(&self, reserve: Duration) -> Self {
        Self {
            end: self.end.map(|end| end.checked_sub(reserve).unwrap_or(end)),
        }
    }
}
