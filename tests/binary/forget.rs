//! `forget` deletes a session from the journal and from Convex, at once or later.

use serde_json::{Value, json};

use crate::support::{Backend, Capture, Machine, contains, copy_folder, root, with_slashes};

const PARENT: &str = "cb59ddfc-5ec4-4b59-b897-bf42b0ff09ef";
const FORK: &str = "6a24769d";

fn start(id: &str) -> String {
    json!({ "session_id": id, "hook_event_name": "UserPromptSubmit", "prompt": format!("the prompt of {id}") }).to_string()
}

fn remote_ids(machine: &Machine) -> Vec<Value> {
    let rows = machine.remote_sessions();
    rows.into_iter()
        .map(|row| row["sessionId"].clone())
        .collect()
}

/// The bytes of all files of the journal.
fn bytes(machine: &Machine) -> Vec<u8> {
    let files = std::fs::read_dir(machine.sidecar_home()).unwrap();
    files
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn forgotten_session_leaves_nothing_behind() {
    let backend = Backend::start();
    let machine = backend.machine();
    for id in ["one-1", "two-2"] {
        machine.hook(start(id));
    }
    assert!(contains(&bytes(&machine), "the prompt of one-1"));
    let printed = machine.sidecar(&["forget", "one", "--yes"]).run().ok();
    assert_eq!(
        printed,
        format!(
            "session one-1 is deleted from the journal and from {}\n",
            backend.url
        )
    );
    assert_eq!(machine.documents().len(), 1);
    assert_eq!(remote_ids(&machine), ["two-2"]);
    assert!(
        !contains(&bytes(&machine), "the prompt of one-1")
            && contains(&bytes(&machine), "the prompt of two-2")
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
fn import_leaves_out_a_forgotten_session() {
    let machine = Machine::new();
    let path = machine
        .projects()
        .join("0f0f0f0f-0000-4000-8000-000000000001.jsonl");
    std::fs::create_dir_all(machine.projects()).unwrap();
    let line = json!({
        "type": "user", "uuid": "u", "sessionId": "0f0f0f0f-0000-4000-8000-000000000001", "timestamp": "2026-09-01T10:00:00.000Z",
        "message": {"role": "user", "content": "private words"},
    });
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let import = |flags: &[&str]| {
        let args = [&["import", ".claude/projects"], flags].concat();
        machine.sidecar(&args).run().ok()
    };
    assert_eq!(import(&[]), "1 session read from .claude/projects\n");
    let printed = machine.sidecar(&["forget", "0f0f", "--yes"]).run().ok();
    let rest = format!(
        "Claude Code's transcript is still there: {}\n",
        path.display()
    );
    let (printed, rest) = (with_slashes(&printed), with_slashes(&rest));
    assert!(printed.ends_with(&rest), "{printed}");
    assert_eq!(
        import(&[]),
        "0 sessions read from .claude/projects\n\
         1 session left out, because `convex-sidecar forget` deleted it; --forgotten imports it\n"
    );
    assert!(machine.documents().is_empty());
    let report = machine.sidecar(&["doctor"]).run().stdout;
    assert!(!report.contains("not in the journal"), "{report}");
    import(&["--forgotten"]);
    assert_eq!(machine.documents().len(), 1);
}

#[test]
fn without_a_terminal_nothing_is_deleted() {
    let machine = Machine::new();
    machine.hook(start("one-1"));
    let output = machine.sidecar(&["forget", "one-1"]).run();
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (
            1,
            "convex-sidecar: could not ask for confirmation, because stdin is not a terminal; --yes deletes without asking\n"
        )
    );
    assert_eq!(machine.documents().len(), 1);
    let printed = machine.sidecar(&["forget", "one-1", "--yes"]).run().ok();
    assert_eq!(
        printed,
        "session one-1 is deleted from the journal; it was never delivered\n"
    );
}

/// Through a pseudoterminal, which `script` provides.
#[cfg(target_os = "linux")]
#[test]
fn only_yes_deletes() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let machine = Machine::new();
    machine.hook(start("one-1"));
    let command = format!("exec {} forget one", env!("CARGO_BIN_EXE_convex-sidecar"));
    for (answer, printed, left) in [
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
            .expect("this needs script, of util-linux");
        script
            .stdin
            .as_mut()
            .unwrap()
            .write_all(answer.as_bytes())
            .unwrap();
        let output = script.wait_with_output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.contains("one-1  running  the prompt of one-1")
                && output.contains("its next hook records it again"),
            "{output}"
        );
        assert!(
            output.contains("Delete it? [y/N] ") && output.contains(printed),
            "{output}"
        );
        assert_eq!(machine.documents().len(), left, "{answer:?}");
    }
}

#[test]
fn session_is_deleted_later_if_convex_is_unreachable() {
    let backend = Backend::start();
    let machine = backend.machine();
    for id in ["one-1", "two-2"] {
        machine.hook(start(id));
    }
    backend.pause();
    let printed = machine.sidecar(&["forget", "one-1", "--yes"]).run().ok();
    assert!(
        printed.starts_with(&format!(
            "session one-1 is deleted from the journal; it is still in {}, ",
            backend.url
        )),
        "{printed}"
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
    let printed = machine.sidecar(&["sync"]).run().ok();
    assert!(
        printed.ends_with("1 forgotten session deleted, 0 pending\n"),
        "{printed}"
    );
    assert_eq!(remote_ids(&machine), ["two-2"]);
}

#[test]
fn later_hook_of_a_forgotten_session_is_recorded() {
    let backend = Backend::start();
    let machine = backend.machine();
    machine.hook(start("one-1"));
    backend.pause();
    machine.sidecar(&["forget", "one-1", "--yes"]).run().ok();
    // Whichever arrives later, the deletion or the new record, the new record remains.
    machine.hook(start("one-1"));
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
fn session_that_only_convex_has_is_deleted_there() {
    let backend = Backend::start();
    backend.machine().hook(start("one-1"));
    let another = backend.machine();
    another.sidecar(&["forget", "one", "--yes"]).run().ok();
    assert_eq!(remote_ids(&another), [] as [Value; 0]);
}

/// Each message counts once on this machine: what a fork copied counts as its own if no other
/// session has it.
#[test]
fn fork_of_a_forgotten_parent_counts_what_it_copied() {
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
    // If it is imported again, the parent has its own figures again.
    machine
        .sidecar(&["import", "projects", "--forgotten"])
        .run()
        .ok();
    assert_eq!(
        machine.document(FORK)["metadata"]["inheritedUsage"],
        expected["inheritedUsage"]
    );
}

/// A damaged journal is kept, so it may still contain a forgotten session.
#[test]
fn journals_that_were_set_aside_are_named() {
    let machine = Machine::new();
    let hook = |id: &str| machine.hook(start(id));
    hook("first");
    let journal = machine.sidecar_home().join("journal.db");
    let _ = std::fs::remove_file(journal.with_extension("db-wal"));
    std::fs::write(journal, "damaged ".repeat(1_000)).unwrap();
    hook("second");
    let printed = machine.sidecar(&["forget", "second", "--yes"]).run();
    let aside = std::fs::read_dir(machine.sidecar_home()).unwrap();
    let names = aside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<_> = names.filter(|name| name.contains(".damaged-")).collect();
    assert!(!aside.is_empty());
    let text = printed.stdout + &printed.stderr;
    assert!(
        aside
            .iter()
            .all(|name| name.contains("-wal") || text.contains(name)),
        "{text}"
    );
    assert!(text.contains("may still contain it; delete"), "{text}");
}
