//! `import` records past sessions from the client's transcripts.

use serde_json::{Value, json};

use crate::capture::record_in;
use crate::support::{Backend, CAPTURES, Capture, Machine, by_system};

/// Puts the transcripts of client 2.1.197 into the client's folder, one project per capture.
fn place_all(machine: &Machine) {
    for name in CAPTURES {
        let project = machine.home().join(".claude/projects").join(name);
        Capture::new(name).copy_transcripts(&project);
    }
}

/// Puts the transcripts of all clients there, one project per capture.
fn place_every_client(machine: &Machine) {
    for capture in Capture::all() {
        let project = format!("{}-{}", capture.client, capture.name);
        capture.copy_transcripts(&machine.projects().with_file_name(project));
    }
}

fn machine() -> Machine {
    let machine = Machine::new();
    let home = machine.home().to_str().unwrap().to_owned();
    machine.env("HOME", &home)
}

/// All documents in the order of their session IDs, without what differs between imports.
fn documents(machine: &Machine) -> Vec<Value> {
    let mut documents = machine.documents();
    for document in &mut documents {
        document["revision"] = Value::Null;
    }
    documents.sort_by_key(|document| document["sessionId"].to_string());
    documents
}

/// The stand-in that answered client 2.1.332 gave the same message IDs in each capture, as gateways
/// do. All captures are on one machine here.
#[test]
fn imported_sessions_have_the_figures_of_hooks_but_no_runs() {
    let machine = machine();
    place_every_client(&machine);
    machine.sidecar(&["import"]).run().ok();
    let mut imported = 0;
    for capture in Capture::all() {
        for (session_id, mut expected) in capture.expected() {
            if expected["prompts"] == 0 || !capture.has_transcript(&session_id) {
                continue;
            }
            imported += 1;
            expected["runs"] = json!([]);
            let document = machine.document(&session_id);
            let mut record = record_in(&document);
            if expected.get("title").is_none() {
                record.as_object_mut().unwrap().remove("title");
            }
            assert_eq!(record, expected, "{}", capture.name);
            // A session with a single record ends when it starts.
            assert!(
                document["metadata"]["startedAt"].as_i64()
                    <= document["metadata"]["completedAt"].as_i64(),
                "{document:#}"
            );
        }
    }
    assert_eq!(machine.documents().len(), imported);
}

/// Sessions are read in parallel, so that a fork may be read before its parent.
#[test]
fn each_import_of_the_same_folders_gives_the_same_documents() {
    let machine = machine();
    place_every_client(&machine);
    machine.sidecar(&["import"]).run().ok();
    let first = documents(&machine);
    for _ in 0..by_system(10, 2) {
        std::fs::remove_file(machine.journal()).unwrap();
        machine.sidecar(&["import"]).run().ok();
        assert!(documents(&machine) == first);
    }
}

#[test]
fn second_import_counts_only_what_is_new() {
    let machine = machine();
    place_all(&machine);
    machine.sidecar(&["import"]).run().ok();
    let before = machine.documents();
    machine.sidecar(&["import"]).run().ok();
    assert_eq!(machine.documents(), before);

    let path = machine
        .home()
        .join(".claude/projects/print-mode/6ecd139f-dbf0-4634-8ed8-e4a4170ff7fb.jsonl");
    let more = r#"{"type":"user","uuid":"u9","timestamp":"2026-11-22T23:09:00.000Z","message":{"role":"user","content":"and more"}}"#;
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + more).unwrap();
    machine.sidecar(&["import"]).run().ok();
    assert_eq!(machine.document("6ecd139f")["metadata"]["prompts"], 2);
    let unchanged = |documents: Vec<Value>| {
        documents
            .into_iter()
            .filter(|document| document["sessionId"] != before[0]["sessionId"])
            .count()
    };
    assert_eq!(unchanged(machine.documents()), unchanged(before.clone()));
}

#[test]
fn import_keeps_what_only_hooks_know() {
    let machine = machine();
    let capture = Capture::new("print-mode");
    for hook in capture.hooks(&machine) {
        machine.hook(hook.json);
    }
    let runs = machine.document("6ecd139f")["metadata"]["runs"].clone();
    place_all(&machine);
    machine.sidecar(&["import"]).run().ok();
    let document = machine.document("6ecd139f");
    assert_eq!(document["metadata"]["runs"], runs);
    assert_eq!(document["metadata"]["usage"]["inputTokens"], 246);
}

/// The copied history belongs to the parent, whichever is read first.
#[test]
fn fork_can_be_read_before_its_parent() {
    let machine = machine();
    let parent = machine
        .home()
        .join(".claude/projects/fork/cb59ddfc-5ec4-4b59-b897-bf42b0ff09ef.jsonl");
    place_all(&machine);
    let kept = std::fs::read(&parent).unwrap();
    std::fs::remove_file(&parent).unwrap();
    machine.sidecar(&["import"]).run().ok();
    assert_eq!(
        machine.document("6a24769d")["metadata"]["apiMessages"],
        4,
        "no other session has them"
    );
    std::fs::write(&parent, kept).unwrap();
    machine.sidecar(&["import"]).run().ok();
    for (session_id, mut expected) in Capture::new("fork").expected() {
        expected["runs"] = json!([]);
        assert_eq!(record_in(&machine.document(&session_id)), expected);
    }
}

#[test]
fn interrupted_import_continues_and_delivers_each_session_once_in_batches() {
    let backend = Backend::start();
    let (whole, cut) = (machine(), machine());
    for machine in [&whole, &cut] {
        for number in 0..150 {
            let project = machine
                .home()
                .join(format!(".claude/projects/p{}", number % 5));
            std::fs::create_dir_all(&project).unwrap();
            // One prompt, and 40 KB of messages whose IDs only this session has.
            let mut lines = format!(
                "{{\"type\":\"user\",\"uuid\":\"u{number}\",\"timestamp\":\"2026-11-22T23:00:00.000Z\",\"message\":{{\"content\":\"prompt {number}\"}}}}\n"
            );
            for message in 0..200 {
                lines += &format!(
                    "{{\"type\":\"assistant\",\"timestamp\":\"2026-11-22T23:00:01.000Z\",\"message\":{{\"id\":\"m{number}-{message}\",\"model\":\"x\",\"usage\":{{\"input_tokens\":{message}}},\"content\":[{{\"type\":\"text\",\"text\":\"answer {message}\"}}]}}}}\n"
                );
            }
            std::fs::write(project.join(format!("s{number}.jsonl")), lines).unwrap();
        }
    }
    whole.sidecar(&["import"]).run().ok();
    for wait in [5, 15, 30, 60] {
        let mut child = cut.sidecar(&["import"]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    cut.sidecar(&["import"]).run().ok();
    let comparable = |machine: &Machine| {
        let mut documents = documents(machine);
        for document in &mut documents {
            document["metadata"]["transcript"]["path"] = Value::Null;
        }
        documents
    };
    assert_eq!(comparable(&cut), comparable(&whole));
    assert_eq!(comparable(&cut).len(), 150);

    let cut = cut.deployment(&backend.url, &backend.key);
    let printed = cut.sidecar(&["import"]).run().ok();
    assert!(printed.contains("150 sessions delivered"), "{printed}");
    let calls = backend.calls();
    assert!(
        calls.iter().all(|call| call == "agents:syncAgentSessions") && calls.len() <= 5,
        "{calls:?}"
    );
    assert_eq!(cut.remote_sessions().len(), 150);
}

#[test]
fn missing_folder_is_named() {
    let output = Machine::new().sidecar(&["import", "no/such/folder"]).run();
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (
            1,
            "convex-sidecar: could not find the folder no/such/folder; pass the folder with the client's transcripts\n"
        )
    );
}

/// Some users keep the folders of their projects on another disk. A link there can lead anywhere.
#[cfg(unix)]
#[test]
fn linked_folders_are_read_but_not_searched_deeply() {
    let machine = machine();
    let place = |path: &str, id: u32| {
        let name = format!("{path}/{id:08x}-0000-4000-8000-000000000000.jsonl");
        let record = json!({
            "type": "user", "uuid": format!("u{id}"), "timestamp": "2026-07-01T10:00:00.000Z",
            "sessionId": format!("{id:08x}-0000-4000-8000-000000000000"),
            "message": {"role": "user", "content": "hi"}
        });
        machine.write(&name, &format!("{record}\n"), 0o600);
    };
    place("disk/shop", 1);
    place("disk/all/shop", 2);
    place("disk/all/shop/deep/deeper", 3);
    place(".claude/projects/own/deep/deeper", 4);
    let projects = machine.home().join(".claude/projects");
    for (name, target) in [
        ("shop", "disk/shop"),
        ("all", "disk/all"),
        ("own-again", ".claude/projects/own"),
        ("up", "."),
    ] {
        std::os::unix::fs::symlink(machine.home().join(target), projects.join(name)).unwrap();
    }
    machine.sidecar(&["import"]).run().ok();
    let listed = machine.sidecar(&["sessions", "--all", "--json"]).run().ok();
    let mut found: Vec<_> = listed
        .lines()
        .map(|line| line.split("\"sessionId\":\"").nth(1).unwrap()[7..8].to_owned())
        .collect();
    found.sort();
    assert_eq!(found, ["1", "2", "4"]);
}
