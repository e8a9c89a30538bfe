//! Timing in turn, because machines are noisy: a disturbance then affects all contenders.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Times of repeated runs, shortest first.
#[derive(Debug, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that this percentage of the runs did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent).div_ceil(100).max(1) - 1]
    }

    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub fn least(&self) -> Duration {
        self.0[0]
    }

    pub fn most(&self) -> Duration {
        self.percentile(100)
    }

    pub const fn runs(&self) -> usize {
        self.0.len()
    }
}

/// The result of a contender: its times, or why there are none.
pub type Outcome = Result<Times, String>;

/// Something that is timed in turn with others.
pub struct Contender<'a> {
    runs: usize,
    run: Result<Box<dyn FnMut() -> Duration + 'a>, String>,
}

impl<'a> Contender<'a> {
    pub fn new(runs: usize, run: impl FnMut() -> Duration + 'a) -> Self {
        Self {
            runs,
            run: Ok(Box::new(run)),
        }
    }

    /// A program without input; it may be missing on this machine.
    pub fn program(runs: usize, program: Result<Command, String>) -> Self {
        Self::program_with(runs, program, String::new())
    }

    /// A program that reads `input`; it may be missing on this machine.
    pub fn program_with(runs: usize, program: Result<Command, String>, input: String) -> Self {
        match program {
            Ok(mut command) => Self::new(runs, move || timed(&mut command, &input)),
            Err(why) => Self {
                runs,
                run: Err(why),
            },
        }
    }
}

/// Runs the contenders in turn; one with fewer runs than others skips the last rounds.
pub fn in_turn(mut contenders: Vec<Contender<'_>>) -> Vec<Outcome> {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..contenders
        .iter()
        .map(|contender| contender.runs)
        .max()
        .unwrap_or(0)
    {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            if let Ok(run) = &mut contender.run
                && round < contender.runs
            {
                times.push(run());
            }
        }
    }
    contenders
        .into_iter()
        .zip(times)
        .map(|(contender, times)| contender.run.map(|_| Times::new(times)))
        .collect()
}

/// The time from before the start of a process to its end, which must be successful.
pub fn timed(command: &mut Command, input: &str) -> Duration {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // A program that ignores its input may exit before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    assert!(child.wait().unwrap().success(), "{command:?} failed");
    start.elapsed()
}
