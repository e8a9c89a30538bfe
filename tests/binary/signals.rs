//! A hook that is told to stop records its event first, and then ends by that signal.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;

use crate::support::Machine;

const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];
/// The maximum time that a signal is held back, plus time for a busy machine.
const LIMIT: Duration = Duration::from_millis(1_600);
/// Shorter than the time limits of a hook, so that only the signal can have ended it.
const AT_ONCE: Duration = Duration::from_millis(450);

fn event() -> String {
    json!({"session_id": "s", "hook_event_name": "StopFailure", "error": "unknown", "last_assistant_message": "API Error: 400"})
        .to_string()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Waits until the hook holds signals back, because a signal to a process that has just started
/// ends it.
fn wait_until_held(child: &Child) {
    for _ in 0..500 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let Ok(status) = status else {
            // Other systems do not show it.
            return sleep(Duration::from_millis(200));
        };
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        if blocked.is_some_and(|mask| !mask.trim().trim_start_matches('0').is_empty()) {
            return;
        }
        sleep(Duration::from_millis(2));
    }
    panic!("the hook does not hold signals back");
}

/// Waits for the end of a process that got a signal at `since`.
#[track_caller]
fn assert_ended_by(child: &mut Child, signal: Signal, since: Instant, within: Duration) {
    let status = child.wait().unwrap();
    let took = since.elapsed();
    assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    assert!(took < within, "{signal:?}: ended after {took:?}");
}

#[track_caller]
fn assert_recorded(machine: &Machine) {
    let documents = machine.documents();
    assert_eq!(documents.len(), 1, "{documents:?}");
    assert_eq!(documents[0]["error"], "API Error: 400");
}

/// A machine with a journal without sessions.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.documents();
    machine
}

fn busy(machine: &Machine) -> Connection {
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal
}

fn start(machine: &Machine, input: &str) -> Child {
    machine.sidecar(&["hook"]).stdin(input).spawn()
}

/// Gives a hook the beginning of its input, then the signals, then the rest.
fn interrupt_at(length: usize, signals: &[Signal]) -> (Machine, Child, Instant) {
    let machine = machine();
    let event = event();
    let mut hook = start(&machine, &event[..length]);
    wait_until_held(&hook);
    let since = Instant::now();
    for &signal in signals {
        kill_process(pid(&hook), signal).unwrap();
        sleep(Duration::from_millis(30));
    }
    let stdin = hook.stdin.as_mut().unwrap();
    stdin.write_all(&event.as_bytes()[length..]).unwrap();
    (machine, hook, since)
}

/// Sends a signal to a hook that has read its input and waits for the journal.
fn interrupt_while_it_waits(machine: &Machine, signal: Signal) -> (Child, Instant) {
    let hook = start(machine, &event());
    sleep(Duration::from_millis(100));
    let since = Instant::now();
    kill_process(pid(&hook), signal).unwrap();
    (hook, since)
}

#[test]
fn signal_before_or_within_the_input_is_obeyed_once_the_event_is_durable() {
    for signal in SIGNALS {
        for length in [0, 1, 40] {
            let (machine, mut hook, since) = interrupt_at(length, &[signal]);
            assert_ended_by(&mut hook, signal, since, AT_ONCE);
            assert_recorded(&machine);
        }
    }
}

#[test]
fn second_signal_changes_nothing() {
    for second in SIGNALS {
        let (machine, mut hook, _) = interrupt_at(20, &[Signal::TERM, second, second]);
        let ended_by = hook.wait().unwrap().signal().unwrap();
        assert!([Signal::TERM.as_raw(), second.as_raw()].contains(&ended_by));
        assert_recorded(&machine);
    }
}

#[test]
fn signal_while_the_journal_is_busy_is_obeyed_once_the_event_is_durable() {
    for signal in SIGNALS {
        let machine = machine();
        let journal = busy(&machine);
        let (mut hook, since) = interrupt_while_it_waits(&machine, signal);
        sleep(Duration::from_millis(300));
        assert_eq!(hook.try_wait().unwrap(), None, "it waits for the journal");
        journal.execute_batch("ROLLBACK").unwrap();
        assert_ended_by(&mut hook, signal, since, LIMIT);
        assert_recorded(&machine);
    }
}

#[test]
fn signal_in_the_queue_of_writers_is_obeyed_once_the_event_is_durable() {
    let machine = machine();
    let lock = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(machine.sidecar_home().join("journal.db-lock"))
        .unwrap();
    lock.lock().unwrap();
    let (mut hook, since) = interrupt_while_it_waits(&machine, Signal::TERM);
    sleep(Duration::from_millis(300));
    assert_eq!(hook.try_wait().unwrap(), None, "it waits for its turn");
    lock.unlock().unwrap();
    assert_ended_by(&mut hook, Signal::TERM, since, LIMIT);
    assert_recorded(&machine);
}

#[test]
fn signal_is_held_back_for_a_second_at_most() {
    for signal in SIGNALS {
        let machine = machine();
        let journal = busy(&machine);
        let (mut hook, since) = interrupt_while_it_waits(&machine, signal);
        assert_ended_by(&mut hook, signal, since, LIMIT);
        assert!(since.elapsed() > Duration::from_millis(900), "{signal:?}");
        journal.execute_batch("ROLLBACK").unwrap();
        assert!(machine.documents().is_empty());
    }
}

#[test]
fn signal_is_obeyed_if_the_input_never_ends() {
    for input in ["", "{\"session_id\":"] {
        let machine = machine();
        let mut hook = start(&machine, input);
        wait_until_held(&hook);
        let since = Instant::now();
        kill_process(pid(&hook), Signal::TERM).unwrap();
        assert_ended_by(&mut hook, Signal::TERM, since, LIMIT);
    }
}

#[test]
fn signal_during_the_delivery_is_obeyed_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for signal in SIGNALS {
        let machine =
            machine().deployment(&url, "anonymous-agent|0123456789abcdef0123456789abcdef");
        let mut hook = start(&machine, &event());
        silent.accept().unwrap();
        let since = Instant::now();
        kill_process(pid(&hook), signal).unwrap();
        assert_ended_by(&mut hook, signal, since, AT_ONCE);
        assert_recorded(&machine);
    }
}

#[test]
fn sigkill_is_obeyed_at_once() {
    let machine = machine();
    let journal = busy(&machine);
    let mut hook = start(&machine, &event());
    sleep(Duration::from_millis(100));
    let since = Instant::now();
    kill_process(pid(&hook), Signal::KILL).unwrap();
    assert_ended_by(&mut hook, Signal::KILL, since, AT_ONCE);
    drop(journal);
}

#[test]
fn other_commands_are_ended_by_a_signal_at_once() {
    for command in [
        vec!["sync"],
        vec!["workflow", "set", "nightly", "--step", "build"],
        vec!["hook", "--dry-run"],
    ] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let machine =
            machine().deployment(&url, "anonymous-agent|0123456789abcdef0123456789abcdef");
        let journal = busy(&machine);
        let mut child = machine.sidecar(&command).stdin(event()).spawn();
        sleep(Duration::from_millis(100));
        let since = Instant::now();
        kill_process(pid(&child), Signal::TERM).unwrap();
        assert_ended_by(&mut child, Signal::TERM, since, AT_ONCE);
        drop(journal);
    }
}

/// A shell that runs the hook as its child, in a process group of its own.
fn in_a_group(machine: &Machine, script: &str) -> Child {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_convex-sidecar")])
        .env_clear()
        .env("CONVEX_SIDECAR_HOME", machine.sidecar_home())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = shell.stdin.as_mut().unwrap();
    stdin.write_all(event().as_bytes()).unwrap();
    shell
}

/// As Claude Code ends the hooks of a run that failed.
#[test]
fn signal_to_the_process_group_ends_the_shell_and_loses_no_event() {
    let machine = machine();
    let journal = busy(&machine);
    let mut shell = in_a_group(&machine, "\"$0\" hook; true");
    sleep(Duration::from_millis(200));
    kill_process_group(pid(&shell), Signal::TERM).unwrap();
    assert_ended_by(&mut shell, Signal::TERM, Instant::now(), AT_ONCE);
    journal.execute_batch("ROLLBACK").unwrap();
    for _ in 0..200 {
        if !machine.documents().is_empty() {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    assert_recorded(&machine);
}

#[test]
fn signal_that_the_caller_ignores_is_still_ignored() {
    for wait in [300, 1_500] {
        let machine = machine();
        let journal = busy(&machine);
        let mut shell = in_a_group(&machine, "trap '' HUP; exec \"$0\" hook");
        sleep(Duration::from_millis(150));
        kill_process(pid(&shell), Signal::HUP).unwrap();
        sleep(Duration::from_millis(wait));
        journal.execute_batch("ROLLBACK").unwrap();
        assert_eq!(shell.wait().unwrap().code(), Some(0));
        assert_recorded(&machine);
    }
}
