//! Many hooks at the same moment, as with agents that work in parallel, and the cost of sharing one
//! journal.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::loopback::Loopback;
use crate::sidecar::{Event, Home, KEY};
use crate::table::{millis, table};
use crate::timing::{Times, timed};

/// How many hooks start at once, and how often: at least 100 hooks for each size.
const CROWDS: [(usize, usize); 3] = [(1, 100), (10, 20), (50, 8)];

pub fn at_once(scratch: &Path) -> String {
    let server = Loopback::start();
    let home = |name: &str| Home::new(scratch, name).deployment(&server.url, KEY);
    let rows = CROWDS.into_iter().flat_map(|(crowd, rounds)| {
        let (shared, own): (Home, Vec<_>) = (
            home("shared"),
            (0..crowd)
                .map(|index| home(&format!("own-{index}")))
                .collect(),
        );
        let (mut on_one, mut on_own, mut yardstick) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let session = |index: usize| format!("crowd-{crowd}-{round}-{index}");
            on_one.extend(together(crowd, |index| hook(&shared, &session(index))));
            on_own.extend(together(crowd, |index| hook(&own[index], &session(index))));
            yardstick.extend(together(crowd, |_| {
                timed(&mut std::process::Command::new("true"), "")
            }));
        }
        assert_eq!(shared.documents().len(), crowd * rounds, "a hook was lost");
        [
            ("all on one journal", on_one),
            ("each on its own journal", on_own),
            ("`true`", yardstick),
        ]
        .map(|(what, times)| {
            let times = Times::new(times);
            vec![
                crowd.to_string(),
                what.to_owned(),
                millis(times.median()),
                millis(times.percentile(95)),
                millis(times.most()),
            ]
        })
    });
    table(
        &["hooks", "SessionStart, delivered", "p50", "p95", "longest"],
        rows,
    )
}

fn hook(home: &Home, session: &str) -> Duration {
    // Without a client: a new session of the same client would supersede the previous one.
    timed(
        home.sidecar(&["hook"]).env_remove("CLAUDECODE"),
        &Event::SessionStart.input(session, Path::new("/nowhere")),
    )
}

/// The time of each of `crowd` calls that start at the same moment.
fn together(crowd: usize, run: impl Fn(usize) -> Duration + Sync) -> Vec<Duration> {
    let barrier = Barrier::new(crowd);
    let wait_and_run = |index| {
        barrier.wait();
        let start = Instant::now();
        run(index);
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let wait_and_run = &wait_and_run;
        let hooks: Vec<_> = (0..crowd)
            .map(|index| scope.spawn(move || wait_and_run(index)))
            .collect();
        hooks.into_iter().map(|hook| hook.join().unwrap()).collect()
    })
}
