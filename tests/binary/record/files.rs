//! Which files belong to a session: wherever the client has put them, whatever is beside them, and
//! whatever happens to them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Transcript, differences, hook, import, path, place};
use crate::support::Machine;

const WORKTREE: &str = "-home-dev-proj--claude-worktrees-w1";

/// The client's folder of a project.
fn project(machine: &Machine, name: &str) -> PathBuf {
    let folder = machine.projects().with_file_name(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The file of a session in a folder.
fn write(folder: &Path, transcript: &Transcript) -> PathBuf {
    let path = folder.join(format!("{}.jsonl", transcript.session));
    fs::write(&path, &transcript.bytes).unwrap();
    path
}

/// The file of a subagent in a folder.
fn write_agent(folder: &Path, session: &str, name: &str, bytes: &[u8]) {
    let folder = folder.join(session).join("subagents");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

/// What a subagent of a session writes.
fn of_agent(mut transcript: Transcript, session: &Transcript, id: &str) -> Transcript {
    transcript.session.clone_from(&session.session);
    transcript.with(&json!({"isSidechain": true, "agentId": id}))
}

#[track_caller]
fn assert_record(machine: &Machine, how: &str, transcript: &Transcript, record: Value) {
    let wrong = differences(
        machine,
        "the record",
        how,
        &vec![(transcript.clone(), record)],
    );
    assert!(wrong.is_empty(), "{wrong}");
}

fn sessions(machine: &Machine) -> Vec<Value> {
    let documents = machine.documents();
    documents
        .iter()
        .map(|document| document["sessionId"].clone())
        .collect()
}

fn done() -> Transcript {
    Transcript::new(1)
        .prompt("Begin here.")
        .answer("m1", "Begun.", 1)
}

/// The two parts of a session that has entered a worktree.
fn parts() -> (Transcript, Transcript) {
    let before = done();
    let mut after = before.clone();
    after.bytes.clear();
    (before, after.prompt("Go on.").answer("m2", "Gone on.", 10))
}

#[test]
fn session_in_two_project_folders_is_one_session() {
    let (before, after) = parts();
    let record = json!({"usage": 11, "prompts": 2, "turns": 2, "input": "Begin here.", "output": "Gone on."});
    for is_first_in_worktree in [false, true] {
        let machine = Machine::new();
        let folders = [
            project(&machine, "-home-dev-proj"),
            project(&machine, WORKTREE),
        ];
        write(&folders[usize::from(is_first_in_worktree)], &before);
        write(&folders[usize::from(!is_first_in_worktree)], &after);
        import(&machine);
        assert_record(&machine, "imported", &before, record.clone());
    }
    // The hooks name the folder that the session is in now.
    for events in [&["SessionStart", "Stop", "SessionEnd"][..], &["Stop"]] {
        let machine = Machine::new();
        write(&project(&machine, WORKTREE), &before);
        write(&project(&machine, "-home-dev-proj"), &after);
        for event in events {
            hook(&machine, &before.session, event, &json!({}));
        }
        assert_record(&machine, "with hooks", &before, record.clone());
    }
}

/// The call that enters a worktree is in the old folder, and its result in the new one.
#[test]
fn turn_that_changes_the_folder_is_one_turn() {
    let session = Transcript::new(1)
        .prompt("Begin here.")
        .answer("m1", "I enter.", 1)
        .call("m1", "a", 1)
        .result("a", true)
        .answer("m2", "Done.", 10);
    let record = json!({"usage": 11, "apiMessages": 2, "turns": 1, "tools": {"Bash": [1, 1]}, "output": "Done."});
    for end in session.line_ends() {
        let (mut before, mut after) = (session.clone(), session.clone());
        after.bytes = before.bytes.split_off(end);
        let (imported, hooked) = (Machine::new(), Machine::new());
        write(&project(&hooked, "-home-dev-proj"), &before);
        hook(&hooked, &session.session, "SessionStart", &json!({}));
        write(&project(&hooked, WORKTREE), &after);
        hook(&hooked, &session.session, "Stop", &json!({}));
        write(&project(&imported, "-home-dev-proj"), &before);
        write(&project(&imported, WORKTREE), &after);
        import(&imported);
        assert_record(&imported, "imported", &session, record.clone());
        assert_record(&hooked, "with hooks", &session, record.clone());
    }
}

#[test]
fn session_that_moves_to_another_folder_continues() {
    let machine = Machine::new();
    let session = done();
    let old = write(&project(&machine, "-home-dev-proj"), &session);
    hook(&machine, &session.session, "Stop", &json!({}));
    // The client moves the file, and the hooks name its old place.
    fs::remove_file(old).unwrap();
    let session = session.prompt("Go on.").answer("m2", "Gone on.", 10);
    write(&project(&machine, WORKTREE), &session);
    hook(&machine, &session.session, "Stop", &json!({}));
    let record = json!({"usage": 11, "prompts": 2, "turns": 2, "output": "Gone on."});
    assert_record(&machine, "moved", &session, record);
}

/// Clients leave a file with only internal records in another project folder.
#[test]
fn fragment_without_a_conversation_changes_nothing() {
    let session = done();
    let fragment = Transcript::new(1).state(&json!({
        "type": "bridge-session", "sessionId": session.session, "bridgeSessionId": "b1", "lastSequenceNum": 0
    }));
    let record = json!({"usage": 1, "prompts": 1, "input": "Begin here.", "output": "Begun.", "damagedLines": null});
    for round in 0..8 {
        let machine = Machine::new();
        let mut files = [
            write(&project(&machine, "-home-dev-proj"), &session),
            write(&project(&machine, WORKTREE), &fragment),
        ];
        if round % 2 == 0 {
            files.reverse();
        }
        for (hour, file) in files.iter().enumerate() {
            let time = std::time::UNIX_EPOCH
                + std::time::Duration::from_secs(1_780_000_000 + 3_600 * hour as u64);
            fs::File::options()
                .append(true)
                .open(file)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        import(&machine);
        assert_record(&machine, "imported", &session, record.clone());
        assert_eq!(sessions(&machine).len(), 1);
    }
}

#[cfg(unix)]
#[test]
fn linked_folders_and_files_are_read_once() {
    use std::os::unix::fs::symlink;
    let record = json!({"usage": 1, "prompts": 1, "output": "Begun."});
    let session = done();
    let import_linked = |link: &dyn Fn(&Machine)| {
        let machine = Machine::new();
        project(&machine, "-home-dev-other");
        link(&machine);
        import(&machine);
        assert_record(&machine, "imported", &session, record.clone());
        assert_eq!(sessions(&machine).len(), 1);
    };
    import_linked(&|machine| {
        let elsewhere = machine.home().join("elsewhere/-home-dev-proj");
        fs::create_dir_all(&elsewhere).unwrap();
        write(&elsewhere, &session);
        symlink(elsewhere, machine.projects()).unwrap();
    });
    import_linked(&|machine| {
        let folder = project(machine, "-home-dev-proj");
        write(&folder, &session);
        symlink(&folder, machine.projects().with_file_name("linked")).unwrap();
        symlink("..", folder.join("loop")).unwrap();
        symlink("nowhere", folder.join("dangling")).unwrap();
    });
    import_linked(&|machine| {
        let elsewhere = machine.home().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        let file = write(&elsewhere, &session);
        symlink(
            &file,
            project(machine, "-home-dev-proj").join(file.file_name().unwrap()),
        )
        .unwrap();
    });
    import_linked(&|machine| {
        let elsewhere = machine.home().join("elsewhere/projects");
        fs::create_dir_all(elsewhere.join("-home-dev-proj")).unwrap();
        write(&elsewhere.join("-home-dev-proj"), &session);
        fs::remove_dir_all(machine.home().join(".claude")).unwrap();
        fs::create_dir(machine.home().join(".claude")).unwrap();
        symlink(elsewhere, machine.home().join(".claude/projects")).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn folder_that_cannot_be_read_is_named_and_the_others_are_read() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let session = done();
    write(&project(&machine, "-home-dev-proj"), &session);
    let locked = project(&machine, "-home-dev-locked");
    write(&locked, &Transcript::new(2).prompt("locked"));
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(machine.sidecar_home()).unwrap();
    for folder in [
        machine.home(),
        &machine.home().join(".claude"),
        &machine.projects().with_file_name(""),
        &machine.projects(),
    ] {
        mode(folder, 0o755);
    }
    mode(&path(&machine, &session.session), 0o644);
    mode(&locked, 0o000);
    let home = machine.home().join("home-of-nobody");
    fs::create_dir(&home).unwrap();
    mode(&home, 0o777);
    let home = home.to_str().unwrap();
    let output = machine
        .sidecar(&["import", ".claude/projects"])
        .env("CONVEX_SIDECAR_HOME", home)
        .nobody()
        .run();
    mode(&locked, 0o755);
    let printed = output.stdout + &output.stderr;
    assert!(printed.contains("-home-dev-locked"), "{printed}");
    let listed = machine
        .sidecar(&["sessions", "--json"])
        .env("CONVEX_SIDECAR_HOME", home)
        .nobody()
        .run()
        .ok();
    assert_eq!(listed.lines().count(), 1, "{listed}");
}

/// Clients before 2.1.2 kept the files of subagents beside that of the session.
#[test]
fn subagent_files_beside_the_sessions_count_for_the_session_that_they_name() {
    let old = |number| Transcript::new(number).with(&json!({"version": "2.0.50"}));
    let session = old(1).prompt("Look.").answer("m1", "Seen.", 1);
    let other = old(2).prompt("Look.").answer("m2", "Seen too.", 10);
    let agent = |parent: &Transcript, n: u64| {
        let agent = old(u32::try_from(n).unwrap());
        of_agent(agent, parent, &format!("0fb22c1{n}"))
            .prompt("SUBTASK")
            .call("s1", "a", n)
            .result("a", true)
            .bytes
    };
    let records = [
        (
            &session,
            json!({"usage": 101, "subagents": 1, "output": "Seen.", "prompts": 1, "tools": {"Bash": [1, 1]}}),
        ),
        (
            &other,
            json!({"usage": 1_010, "subagents": 1, "output": "Seen too.", "prompts": 1, "tools": {"Bash": [1, 1]}}),
        ),
    ];
    let place_all = |machine: &Machine| {
        let folder = project(machine, "-home-dev-proj");
        write(&folder, &session);
        write(&folder, &other);
        fs::write(folder.join("agent-0fb22c1a.jsonl"), agent(&session, 100)).unwrap();
        fs::write(folder.join("agent-0fb22c1b.jsonl"), agent(&other, 1_000)).unwrap();
    };
    let (imported, hooked) = (Machine::new(), Machine::new());
    place_all(&imported);
    import(&imported);
    place_all(&hooked);
    for (transcript, _) in &records {
        hook(&hooked, &transcript.session, "Stop", &json!({}));
    }
    for (transcript, record) in records {
        assert_record(&imported, "imported", transcript, record.clone());
        assert_record(&hooked, "with hooks", transcript, record);
    }
    assert_eq!(sessions(&imported).len(), 2);
}

/// The client can start a subagent in a worktree whose folder has no file of the session, leave
/// files without an answer, and copy a session's subagent files for its fork.
#[test]
fn subagent_files_count_in_any_folder_if_they_have_a_record_of_their_own() {
    let session = done();
    let agent = |n: u64| {
        let agent = Transcript::new(u32::try_from(n).unwrap());
        let agent = of_agent(agent, &session, &format!("a{n}"));
        agent.prompt("SUBTASK").answer("s1", "Done.", n).bytes
    };
    let summary = r#"{"type":"summary","summary":"Plain.","leafUuid":"u"}"#;
    let files = [
        (WORKTREE, "agent-a10.jsonl", agent(10)),
        ("-home-dev-proj", "agent-a100.jsonl", agent(100)),
        ("-home-dev-proj", "agent-a1.jsonl", Vec::new()),
        ("-home-dev-proj", "agent-a2.jsonl", summary.into()),
    ];
    let place_agent = |machine: &Machine, folder: &str, session: &str, name: &str, bytes: &[u8]| {
        write_agent(&project(machine, folder), session, name, bytes);
    };
    let place_all = |machine: &Machine| {
        for (folder, name, bytes) in &files {
            place_agent(machine, folder, &session.session, name, bytes);
        }
        write(&project(machine, "-home-dev-proj"), &session);
    };
    let record = json!({"usage": 111, "subagents": 2, "output": "Begun.", "prompts": 1});
    let (imported, hooked) = (Machine::new(), Machine::new());
    place_all(&imported);
    import(&imported);
    assert_record(&imported, "imported", &session, record.clone());
    let fork = session
        .fork(2, super::Fork::Session)
        .prompt("Fork.")
        .answer("f1", "Forked.", 1_000);
    write(&project(&imported, "-home-dev-proj"), &fork);
    let (folder, name, bytes) = &files[1];
    place_agent(&imported, folder, &fork.session, name, bytes);
    import(&imported);
    let forked =
        json!({"usage": 1_000, "inheritedUsage": 101, "subagents": 0, "output": "Forked."});
    assert_record(&imported, "imported", &fork, forked);
    place_all(&hooked);
    for event in ["Stop", "SessionEnd"] {
        hook(&hooked, &session.session, event, &json!({}));
    }
    assert_record(&hooked, "with hooks", &session, record.clone());

    // The file of a subagent is not the transcript of the session.
    let late = Machine::new();
    place_agent(&late, folder, &session.session, name, bytes);
    import(&late);
    let path = late.document(&session.session)["metadata"]["transcript"]["path"].take();
    let main = project(&late, folder).join(format!("{}.jsonl", session.session));
    assert_eq!(path, main.to_str().unwrap());
    place_all(&late);
    import(&late);
    assert_record(&late, "with the main file later", &session, record);
}

/// The client forks itself to suggest a prompt, to compact the conversation and more.
#[test]
fn agents_that_the_client_runs_for_itself_are_not_subagents() {
    let session = done();
    let machine = Machine::new();
    let folder = project(&machine, "-home-dev-proj");
    write(&folder, &session);
    for (id, n) in [
        ("aprompt_suggestion-4e4eb6", 10_u32),
        ("acompact-83efcb", 100),
        ("a33289383a0fb5aea", 1_000),
    ] {
        let agent = of_agent(Transcript::new(n), &session, id)
            .prompt("SUBTASK")
            .record(&json!({"type": "system", "subtype": "compact_boundary"}))
            .answer("s1", "First I look.", n.into())
            .with(&json!({"parentUuid": "of a record between the two"}))
            .answer("s1", "Done.", n.into());
        let name = format!("agent-{id}.jsonl");
        write_agent(&folder, &session.session, &name, &agent.bytes);
    }
    import(&machine);
    // A subagent's compaction does not count either.
    let record =
        json!({"usage": 1_111, "subagents": 1, "compactions": 0, "prompts": 1, "output": "Begun."});
    assert_record(&machine, "imported", &session, record);
}

#[test]
fn type_of_a_subagent_that_is_written_late_has_all_that_the_subagent_used() {
    let session = done();
    let machine = Machine::new();
    let folder = project(&machine, "-home-dev-proj");
    write(&folder, &session);
    let agent = of_agent(Transcript::new(2), &session, "a1")
        .prompt("SUBTASK")
        .answer("s1", "First.", 10);
    let later = agent.clone().answer("s2", "Second.", 100);
    write_agent(&folder, &session.session, "agent-a1.jsonl", &agent.bytes);
    hook(&machine, &session.session, "Stop", &json!({}));
    let meta = br#"{"agentType":"Explore"}"#;
    write_agent(&folder, &session.session, "agent-a1.meta.json", meta);
    write_agent(&folder, &session.session, "agent-a1.jsonl", &later.bytes);
    hook(&machine, &session.session, "Stop", &json!({}));
    let types = machine.document(&session.session)["metadata"]["subagentTypes"].take();
    assert_eq!(
        types,
        json!([{
            "name": "Explore", "calls": 1, "inputTokens": 110, "outputTokens": 220,
            "cacheReadInputTokens": 330, "cacheCreationInputTokens": 440
        }])
    );
}

#[test]
fn imported_session_belongs_to_the_folder_that_it_started_in() {
    let machine = Machine::new();
    let transcript = Transcript::new(1)
        .prompt("go")
        .with(&json!({"cwd": "/home/dev/proj/web"}))
        .answer("m1", "Done.", 1);
    write(&project(&machine, "-home-dev-proj"), &transcript);
    import(&machine);
    let cwd = machine.document(&transcript.session)["metadata"]["cwd"].take();
    assert_eq!(cwd, "/home/dev/proj");
}

/// Whether a file is a transcript depends on its content.
#[test]
fn files_that_are_not_transcripts_are_not_imported() {
    let machine = Machine::new();
    let folder = project(&machine, "-home-dev-proj");
    write(&folder, &done());
    let id = |number| Transcript::new(number).session;
    let summary = r#"{"type":"summary","summary":"Plain answer.","leafUuid":"a6667b2c-045e-4f23-9008-c7a11384f041"}"#;
    let state = json!({"type": "custom-title", "customTitle": "x", "sessionId": id(5)}).to_string();
    let files = [
        (
            format!("{}/subagents/workflows/wf_1/journal.jsonl", id(1)),
            r#"{"type":"launched"}"#,
        ),
        (format!("{}/custom-title.json", id(1)), "{}"),
        (
            "vercel-plugin/skill-injections.jsonl".to_owned(),
            r#"{"event":"skill-injection","skill":"x"}"#,
        ),
        (format!("{}.jsonl", id(2)), ""),
        (format!("{}.jsonl", id(3)), summary),
        (
            format!("{}.jsonl", id(4)),
            r#"{"event":"skill-injection","skill":"x"}"#,
        ),
        (format!("{}.jsonl", id(5)), &state),
        (format!("{}.jsonl", id(6)), "not JSON at all\n\0\0\0"),
        (
            "memory/notes.jsonl".to_owned(),
            r#"{"type":"note","message":"hi"}"#,
        ),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{content}\n")).unwrap();
    }
    import(&machine);
    assert_eq!(sessions(&machine), [json!(id(1))]);
}

#[test]
fn rewritten_transcript_adds_and_never_removes() {
    let built = Transcript::new(1)
        .prompt("Build it.")
        .answer("m1", "Part one.", 1);
    let kept = built.bytes.len();
    let before = built
        .call("m2", "a", 10)
        .result("a", true)
        .answer("m3", "Built.", 100);
    let after = before
        .clone()
        .prompt("Go on.")
        .answer("m4", "Gone on.", 1_000);
    let added = after.bytes[before.bytes.len()..].to_vec();
    let spent = json!({"usage": 111, "prompts": 1, "turns": 1, "tools": {"Bash": [1, 1]}});
    let gone_on = json!({"usage": 1_111, "prompts": 2, "turns": 2, "tools": {"Bash": [1, 1]}, "output": "Gone on."});
    let shortened = [&before.bytes[..kept], &added].concat();
    let restored = [&before.bytes[..], &added].concat();
    let damaged = [&before.bytes[..kept + 50], b"\n", &added].concat();
    // The contents of the file, one after another; `None` if the file is gone.
    let histories: [(&str, Vec<Option<&[u8]>>, &Value); 9] = [
        ("without some messages", vec![Some(&shortened)], &gone_on),
        ("with other messages only", vec![Some(&added)], &gone_on),
        ("truncated", vec![Some(&before.bytes[..kept])], &spent),
        ("emptied", vec![Some(b"")], &spent),
        ("deleted", vec![None], &spent),
        (
            "truncated and restored",
            vec![Some(&before.bytes[..kept]), Some(&restored)],
            &gone_on,
        ),
        (
            "deleted and restored",
            vec![None, Some(&restored)],
            &gone_on,
        ),
        ("damaged", vec![Some(&damaged)], &gone_on),
        (
            "rewritten again and again",
            vec![
                Some(&shortened),
                Some(&restored),
                Some(&shortened),
                Some(&added),
            ],
            &gone_on,
        ),
    ];
    for (how, files, record) in histories {
        let machine = Machine::new();
        place(&machine, &before, &before.bytes);
        hook(&machine, &before.session, "Stop", &json!({}));
        for file in files {
            // Another file replaces the first, as with an editor or a restore.
            let path = path(&machine, &before.session);
            fs::remove_file(&path).unwrap_or_default();
            if let Some(bytes) = file {
                fs::write(&path, bytes).unwrap();
            }
            hook(&machine, &before.session, "Stop", &json!({}));
        }
        hook(
            &machine,
            &before.session,
            "SessionEnd",
            &json!({"reason": "other"}),
        );
        assert_record(&machine, how, &before, record.clone());
    }
    // In place: it is still the same file.
    for (how, bytes, record) in [
        ("shortened in place", &shortened, &gone_on),
        ("restored in place", &restored, &gone_on),
    ] {
        let machine = Machine::new();
        place(&machine, &before, &before.bytes);
        hook(&machine, &before.session, "Stop", &json!({}));
        place(&machine, &before, bytes);
        hook(&machine, &before.session, "Stop", &json!({}));
        assert_record(&machine, how, &before, record.clone());
    }
}

#[test]
fn transcript_that_was_cut_off_and_grew_beyond_what_was_read_is_read_again() {
    let long = |text: &str| text.repeat(200);
    let built = Transcript::new(1)
        .prompt(&long("Build it. "))
        .answer("m1", "Part one.", 1);
    let kept = built.bytes.len();
    let before = built.answer("m2", "Built.", 10);
    let after = before
        .clone()
        .prompt(&long("Go on. "))
        .answer("m3", &long("Gone on. "), 100);
    let added = &after.bytes[before.bytes.len()..];
    for (how, cut, damaged) in [
        ("between records", kept, None),
        ("within a record", kept + 100, Some(1)),
    ] {
        let machine = Machine::new();
        place(&machine, &before, &before.bytes);
        hook(&machine, &before.session, "Stop", &json!({}));
        let grown = [&before.bytes[..cut], added].concat();
        // A file that is restored is read once more, and what is damaged counts once.
        for bytes in [&grown, &before.bytes, &grown] {
            place(&machine, &before, bytes);
            hook(&machine, &before.session, "Stop", &json!({}));
        }
        let record = json!({"usage": 111, "apiMessages": 3, "prompts": 2, "turns": 2, "damagedLines": damaged});
        assert_record(&machine, how, &before, record);
    }
}

#[test]
fn twenty_imports_give_the_same_documents() {
    let captures = crate::support::Capture::all();
    let machine = Machine::new();
    for (number, capture) in captures.iter().enumerate() {
        capture.copy_transcripts(&project(&machine, &format!("p{number}")));
    }
    let (before, after) = parts();
    write(&project(&machine, "-home-dev-proj"), &before);
    write(&project(&machine, WORKTREE), &after);
    let documents = |machine: &Machine| {
        let mut documents = machine.documents();
        for document in &mut documents {
            document["revision"] = Value::Null;
            document["metadata"]["updatedAt"] = Value::Null;
        }
        documents.sort_by_key(|document| document["sessionId"].to_string());
        documents
    };
    import(&machine);
    let first = documents(&machine);
    assert!(first.len() > 40, "{}", first.len());
    for _ in 0..20 {
        import(&machine);
        assert_eq!(documents(&machine), first, "on the same journal");
    }
    for _ in 0..5 {
        fs::remove_dir_all(machine.sidecar_home()).unwrap();
        import(&machine);
        assert_eq!(documents(&machine), first, "on a new journal");
    }
}
