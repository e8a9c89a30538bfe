//! Forgetting a session, here and in Convex, at once and later.

use serde_json::{Value, json};

use crate::support::{Backend, Capture, Machine, copy_folder, root};

const PARENT: &str = "cb59ddfc-5ec4-4b59-b897-bf42b0ff09ef";
const FORK: &str = "6a24769d";

fn start(id: &str) -> String {
    json!({ "session_id": id, "hook_event_name": "UserPromptSubmit", "prompt": format!("the words of {id}") }).to_string()
}

fn remote_ids(machine: &Machine) -> Vec<Value> {
    let rows = crate::support::json_lines(
        &machine
            .sidecar(&["sessions", "--remote", "--json"])
            .run()
            .ok(),
    );
    rows.into_iter()
        .map(|row| row["sessionId"].clone())
        .collect()
}

/// Everything that stands in the journal's files.
fn bytes(machine: &Machine) -> Vec<u8> {
    let files = std::fs::read_dir(machine.sidecar_home()).unwrap();
    files
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

fn holds(bytes: &[u8], words: &str) -> bool {
    bytes
        .windows(words.len())
        .any(|window| window == words.as_bytes())
}

#[test]
fn nothing_of_it_is_left_here_or_there() {
    let backend = Backend::start();
    let machine = backend.machine();
    for id in ["one-1", "two-2"] {
        machine.sidecar(&["hook"]).stdin(start(id)).run().silent();
    }
    assert!(holds(&bytes(&machine), "the words of one-1"));
    let said = machine.sidecar(&["forget", "one", "--yes"]).run().ok();
    assert_eq!(
        said,
        format!(
            "session one-1 is deleted from the journal and from {}\n",
            backend.url
        )
    );
    assert_eq!(machine.documents().len(), 1);
    assert_eq!(remote_ids(&machine), ["two-2"]);
    assert!(
        !holds(&bytes(&machine), "the words of one-1")
            && holds(&bytes(&machine), "the words of two-2")
    );
    let again = machine.sidecar(&["forget", "one-1", "--yes"]).run();
    assert!(
        again.status == 1
            && again
                .stderr
                .contains("no session one-1, neither in the journal nor in Convex"),
        "{}",
        again.stderr
    );
}

#[test]
fn it_asks_first_and_only_a_terminal_can_answer() {
    let machine = Machine::new();
    machine
        .sidecar(&["hook"])
        .stdin(start("one-1"))
        .run()
        .silent();
    let output = machine.sidecar(&["forget", "one-1"]).run();
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (
            1,
            "convex-sidecar: could not ask for confirmation, because stdin is not a terminal; --yes deletes without asking\n"
        )
    );
    assert_eq!(machine.documents().len(), 1);
    let said = machine.sidecar(&["forget", "one-1", "--yes"]).run().ok();
    assert_eq!(
        said,
        "session one-1 is deleted from the journal; no Convex deployment has it\n"
    );
}

/// Through a pseudo-terminal, which `script` makes.
#[cfg(target_os = "linux")]
#[test]
fn only_a_yes_deletes() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let machine = Machine::new();
    machine
        .sidecar(&["hook"])
        .stdin(start("one-1"))
        .run()
        .silent();
    let command = format!("exec {} forget one", env!("CARGO_BIN_EXE_convex-sidecar"));
    for (answer, said, left) in [
        ("\n", "nothing was deleted", 1),
        ("n\n", "nothing was deleted", 1),
        ("y\n", "is deleted from the journal", 0),
    ] {
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("CONVEX_SIDECAR_HOME", machine.sidecar_home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script, of util-linux, is needed");
        script
            .stdin
            .as_mut()
            .unwrap()
            .write_all(answer.as_bytes())
            .unwrap();
        let output = script.wait_with_output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.contains("one-1  running  the words of one-1")
                && output.contains("its next hook records it again"),
            "{output}"
        );
        assert!(
            output.contains("Delete it? [y/N] ") && output.contains(said),
            "{output}"
        );
        assert_eq!(machine.documents().len(), left, "{answer:?}");
    }
}

#[test]
fn what_convex_has_is_deleted_later_when_it_is_away_now() {
    let backend = Backend::start();
    let machine = backend.machine();
    for id in ["one-1", "two-2"] {
        machine.sidecar(&["hook"]).stdin(start(id)).run().silent();
    }
    backend.pause();
    let said = machine.sidecar(&["forget", "one-1", "--yes"]).run().ok();
    assert!(
        said.starts_with(&format!(
            "session one-1 is deleted from the journal; it is still in {}, ",
            backend.url
        )),
        "{said}"
    );
    let failed = machine.sidecar(&["sync"]).run();
    assert!(
        failed.status == 1
            && failed
                .stdout
                .ends_with("0 forgotten sessions deleted, 1 pending\n"),
        "{failed:?}"
    );
    backend.resume();
    assert_eq!(remote_ids(&machine).len(), 2);
    let said = machine.sidecar(&["sync"]).run().ok();
    assert!(
        said.ends_with("1 forgotten session deleted, 0 pending\n"),
        "{said}"
    );
    assert_eq!(remote_ids(&machine), ["two-2"]);
}

#[test]
fn what_a_later_hook_records_anew_stays() {
    let backend = Backend::start();
    let machine = backend.machine();
    machine
        .sidecar(&["hook"])
        .stdin(start("one-1"))
        .run()
        .silent();
    backend.pause();
    machine.sidecar(&["forget", "one-1", "--yes"]).run().ok();
    // Of the deletion and the new record, whichever arrives later, the new record is left.
    machine
        .sidecar(&["hook"])
        .stdin(start("one-1"))
        .run()
        .silent();
    backend.resume();
    machine.sidecar(&["sync"]).run().ok();
    assert_eq!(remote_ids(&machine), ["one-1"]);
    assert_eq!(
        machine.document("one-1")["metadata"]["runs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_session_that_only_convex_has_is_deleted_there() {
    let backend = Backend::start();
    backend
        .machine()
        .sidecar(&["hook"])
        .stdin(start("one-1"))
        .run()
        .silent();
    let another = backend.machine();
    another.sidecar(&["forget", "one", "--yes"]).run().ok();
    assert_eq!(remote_ids(&another), [] as [Value; 0]);
}

/// Each message counts once on this machine: what the fork had copied counts for it when nobody
/// else has it.
#[test]
fn a_fork_has_the_figures_that_it_has_without_its_parent() {
    let projects = |machine: &Machine| {
        let transcripts = root().join("tests/fixtures/claude-code-2.1.197/fork/transcripts");
        copy_folder(&transcripts, &machine.home().join("projects"));
    };
    let figures = |machine: &Machine| {
        let mut document = machine.document(FORK);
        document["revision"] = Value::Null;
        document["metadata"]["updatedAt"] = Value::Null;
        document["metadata"]["transcript"]["path"] = Value::Null;
        document
    };
    let (machine, alone) = (Machine::new(), Machine::new());
    projects(&alone);
    std::fs::remove_file(alone.home().join(format!("projects/{PARENT}.jsonl"))).unwrap();
    alone.sidecar(&["import", "projects"]).run().ok();

    projects(&machine);
    machine.sidecar(&["import", "projects"]).run().ok();
    let expected =
        &Capture::new("fork").expected()[machine.document(FORK)["sessionId"].as_str().unwrap()];
    assert_eq!(
        machine.document(FORK)["metadata"]["inheritedUsage"],
        expected["inheritedUsage"]
    );
    machine.sidecar(&["forget", PARENT, "--yes"]).run().ok();
    assert_eq!(figures(&machine), figures(&alone));
    // Recorded anew, the parent has again what is its own.
    machine.sidecar(&["import", "projects"]).run().ok();
    assert_eq!(
        machine.document(FORK)["metadata"]["inheritedUsage"],
        expected["inheritedUsage"]
    );
}
