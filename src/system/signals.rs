//! The signals that end a hook, held back until its event is durable.
//!
//! A client that fails ends its hooks within milliseconds: it sends SIGTERM to their process group
//! (measured with 2.1.332), and the event would be lost. So a hook first blocks these signals. Once
//! the event is durable it unblocks them, and the kernel ends the process as usual. Blocking takes
//! one system call and no handler. SIGKILL cannot be held back.

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

    /// The maximum time that a signal is held back.
    const MAX_HOLD: Duration = Duration::from_secs(1);

    static STATE: Mutex<State> = Mutex::new(State {
        before: None,
        taken: None,
        is_limited: false,
    });
    static RELEASED: Condvar = Condvar::new();

    struct State {
        /// While signals are held back: the mask from before.
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

    /// Holds the signals back until [`release`]. This must be called before any thread is started,
    /// because threads inherit the mask.
    pub fn hold() {
        // Without this signal, a write beyond a limit of file sizes fails like one on a full disk.
        // It is never released.
        let _ = SigSet::from_iter([Signal::SIGXFSZ]).thread_block();
        let before = signals().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        state().before = before.ok();
    }

    /// Obeys the signals from now on, and immediately those that have arrived.
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

    /// Limits how long the signals are held back. It is called only when the process has to wait
    /// for something, because it starts a thread, which waits for a signal at the same time.
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
            // The process continues if it was started with the signal ignored, for example by
            // `nohup`.
            let _ = signals.thread_unblock();
            let _ = raise(signal);
            let _ = signals.thread_block();
        }
    }
}
