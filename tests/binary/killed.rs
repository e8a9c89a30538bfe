//! Hooks that are killed at any moment lose nothing that they have journaled, and leave a journal
//! that can be read.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Backend, by_system};

const KILLS: u64 = by_system(1_000, 60) as u64;
const SESSIONS: u64 = by_system(20, 4) as u64;

/// A pseudorandom number (splitmix64), the same in each run of the tests.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

fn event(session: u64, index: u64) -> String {
    let session = format!("killed-{session}");
    match index % 4 {
        0 => json!({"session_id": session, "hook_event_name": "SessionStart", "source": "resume"}),
        3 => json!({"session_id": session, "hook_event_name": "SessionEnd", "reason": "other"}),
        _ => json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": format!("answer {index}")}),
    }
    .to_string()
}

fn answer(document: &Value) -> u64 {
    document["output"].as_str().map_or(0, |text| {
        text.strip_prefix("answer ").unwrap().parse().unwrap()
    })
}

fn by_session(documents: Vec<Value>) -> HashMap<String, Value> {
    documents
        .into_iter()
        .map(|document| (document["sessionId"].as_str().unwrap().to_owned(), document))
        .collect()
}

#[test]
fn killed_hooks_lose_nothing() {
    let backend = Backend::start();
    let machine = backend.machine();
    let (mut state, mut known, mut journaled) = (42, HashMap::new(), 0);
    for index in 1..=KILLS {
        // In a quarter of the cases the server answers slowly.
        let is_slow = index % 4 == 1;
        if is_slow {
            backend.fault(&json!({"delayMs": 60, "times": 1}));
        }
        let longest = if is_slow { 80_000 } else { 12_000 } * by_system(1, 20) as u64;
        let mut hook = machine
            .sidecar(&["hook"])
            .stdin(event(index % SESSIONS, index))
            .spawn();
        sleep(Duration::from_micros(random(&mut state) % longest));
        let _ = hook.kill();
        hook.wait().unwrap();
        // Every few kills, because reading the documents costs as much as a hook.
        if index % 5 == 0 {
            let now = by_session(machine.documents());
            for (session, before) in &known {
                let after: &Value = &now[session];
                let revision = |document: &Value| document["revision"].as_i64().unwrap();
                assert!(
                    revision(after) >= revision(before),
                    "{session} has an older revision: {before} to {after}"
                );
                assert!(
                    answer(after) >= answer(before),
                    "{session} lost an answer: {before} to {after}"
                );
                journaled += u64::from(revision(after) > revision(before));
            }
            known = now;
        }
    }
    assert!(
        journaled > KILLS / 20,
        "most hooks were killed before they journaled anything: {journaled}"
    );
    backend.fault(&json!({"times": 0}));
    for session in 0..SESSIONS {
        for index in [KILLS + 2, KILLS + 3] {
            machine.hook(event(session, index));
        }
    }
    machine.sidecar(&["sync"]).run().ok();
    let mut rows = machine.remote_sessions();
    assert_eq!(rows.len() as u64, SESSIONS);
    for row in &mut rows {
        row.as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with('_'));
        assert_eq!(
            (answer(row), row["status"].as_str()),
            (KILLS + 2, Some("completed"))
        );
    }
    assert_eq!(by_session(rows), by_session(machine.documents()));
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let check: String = journal
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    println!(
        "{KILLS} kills; in {journaled} of {} comparisons a session had a new revision",
        known.len() as u64 * KILLS / 5
    );
}
