//! The signals that end a hook, held back until its event is durable.
//!
//! A client that fails ends its hooks within milliseconds: it sends SIGTERM to their process group
//! (measured with 2.1.332), and the event would be lost. So a hook blocks these signals first. Once
//! the event is durable it lets them through, and the kernel ends the process as it always would.
//! Blocking takes one system call and no handler. SIGKILL cannot be held back.

#[cfg(unix)]
pub use self::unix::{hold, limit, release};

/// Other systems have no such signals.
#[cfg(not(unix))]
pub const fn hold() {}
/// Other systems have no such signals.
#[cfg(not(unix))]
pub const fn limit() {}
/// Other systems have no such signals.
#[cfg(not(unix))]
pub const fn release() {}

#[cfg(unix)]
mod unix {
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::thread;
    use std::time::Duration;

    use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};

    /// How long a signal is held back at most.
    const MAX_HOLD: Duration = Duration::from_secs(1);

    static STATE: Mutex<State> = Mutex::new(State {
        before: None,
        taken: None,
        is_limited: false,
    });
    static RELEASED: Condvar = Condvar::new();

    struct State {
        /// The signals that were blocked before, while ours are held back.
        before: Option<SigSet>,
        /// A signal that the thread of [`limit`] has taken.
        taken: Option<Signal>,
        /// Whether that thread was started.
        is_limited: bool,
    }

    fn state() -> MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signals() -> SigSet {
        SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
    }

    /// Holds the signals back, until [`release`]. This is called before any thread is started,
    /// because a thread inherits what is blocked.
    pub fn hold() {
        let before = signals().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        state().before = before.ok();
    }

    /// Obeys the signals from now on, and those that have arrived at once.
    pub fn release() {
        let (before, taken, is_limited) = {
            let mut state = state();
            (state.before.take(), state.taken, state.is_limited)
        };
        if is_limited {
            RELEASED.notify_all();
        }
        if let Some(before) = before {
            let _ = before.thread_set_mask();
            taken.map(raise);
        }
    }

    /// Limits how long the signals are held back. This is called when the process has to wait for
    /// something, because it takes a thread: only a thread can wait for a signal as well.
    pub fn limit() {
        let mut state = state();
        if state.before.is_some() && !state.is_limited {
            state.is_limited = true;
            thread::spawn(obey_in_time);
        }
    }

    /// Waits for the signals and obeys each after [`MAX_HOLD`], or earlier if they are released.
    fn obey_in_time() {
        let signals = signals();
        while let Ok(signal) = signals.wait() {
            let mut state = state();
            state.taken = Some(signal);
            let _ = RELEASED.wait_timeout_while(state, MAX_HOLD, |state| state.before.is_some());
            // The process goes on if it was started with the signal ignored, as by `nohup`.
            let _ = signals.thread_unblock();
            let _ = raise(signal);
            let _ = signals.thread_block();
        }
    }
}
