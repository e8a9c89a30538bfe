//! A full disk, a home that cannot be written to, a damaged or newer journal, or a configuration
//! that cannot be read: the hook is silent and keeps what it can; every other command prints what
//! is wrong and what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use crate::crowd::run_at_once;
use crate::support::{Machine, by_system};

fn stop(session: &str) -> String {
    json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": "said", "cwd": "/home/dev/proj"}).to_string()
}

fn record(machine: &Machine, session: &str) {
    machine.hook(stop(session));
}

fn is_recorded(machine: &Machine, session: &str) -> bool {
    machine
        .documents()
        .iter()
        .any(|document| document["sessionId"] == session)
}

fn journal(machine: &Machine) -> PathBuf {
    machine.sidecar_home().join("journal.db")
}

/// The bytes of the journal, after a checkpoint.
fn journal_bytes(machine: &Machine) -> Vec<u8> {
    let connection = Connection::open(journal(machine)).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(connection);
    std::fs::read(journal(machine)).unwrap()
}

fn put_journal(machine: &Machine, bytes: &[u8]) {
    std::fs::create_dir_all(machine.sidecar_home()).unwrap();
    std::fs::write(journal(machine), bytes).unwrap();
}

/// The journals that were set aside.
fn aside(machine: &Machine) -> Vec<PathBuf> {
    let files = std::fs::read_dir(machine.sidecar_home())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| {
            path.to_str().unwrap().contains(".damaged-")
                && !path.to_str().unwrap().ends_with("-wal")
        })
        .collect()
}

/// A machine whose journal has several pages.
fn machine_with_sessions() -> Machine {
    let machine = Machine::new();
    for index in 0..30 {
        record(&machine, &format!("old-{index}"));
    }
    machine
}

#[cfg(unix)]
#[test]
fn full_disk_is_not_damage() {
    // Writes beyond this many blocks fail, as they do on a full disk, and send SIGXFSZ.
    let limited = |machine: &Machine, blocks: usize, session: &str| {
        let script = format!("ulimit -f {blocks}; exec \"$0\" hook");
        machine.shell(&script).stdin(stop(session)).run().silent();
    };
    let mut failed = 0;
    for blocks in (0..64).chain((64..400).step_by(12)) {
        let fresh = Machine::new();
        limited(&fresh, blocks, "new");
        failed += u32::from(!is_recorded(&fresh, "new"));
        record(&fresh, "next");
        assert!(is_recorded(&fresh, "next"), "{blocks} blocks");
    }
    assert!(failed > 20, "the disk was rarely full: {failed}");
    let machine = machine_with_sessions();
    for blocks in (0..64).chain((64..400).step_by(12)) {
        limited(&machine, blocks, &format!("full-{blocks}"));
        assert!(is_recorded(&machine, "old-29"), "{blocks} blocks");
    }
    record(&machine, "next");
    assert!(is_recorded(&machine, "next"));
    assert_eq!(
        aside(&machine),
        Vec::<PathBuf>::new(),
        "a full disk is not damage"
    );
}

/// A journal on a file system that is as small as this test needs. Only root can mount one.
#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_reported() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let machine = Machine::new().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    machine.write("event", &stop("s"), 0o600);
    std::fs::create_dir(machine.sidecar_home()).unwrap();
    let script = "exec unshare --mount sh -c '
        mount -t tmpfs -o size=400k,mode=700 none sidecar || exit 9
        $0 hook <event
        head -c 900000 /dev/zero >sidecar/fill
        $0 doctor
        rm sidecar/fill
        $0 doctor' \"$0\"";
    let run = machine.shell(script).run();
    if run.stdout.is_empty() {
        return; // A container may mount nothing.
    }
    let folder = machine.sidecar_home();
    let finding = format!(
        "✗ journal        the disk is full, so hooks record nothing: {}",
        folder.display()
    );
    assert!(run.stdout.contains(&finding), "{}", run.stdout);
    assert_eq!(run.stdout.matches("✓ journal").count(), 1, "{}", run.stdout);
}

#[test]
fn home_that_cannot_be_created_is_named() {
    let machine = Machine::new();
    let file = machine.home().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let mut homes = vec![file.join("sidecar")];
    if cfg!(target_os = "linux") {
        homes.push(PathBuf::from("/proc/no-such-folder"));
    }
    for home in homes {
        let home = home.to_str().unwrap();
        machine
            .sidecar(&["hook"])
            .env("CONVEX_SIDECAR_HOME", home)
            .stdin(stop("s"))
            .run()
            .silent();
        let past = machine.home().to_str().unwrap();
        for command in [
            &["sessions"][..],
            &["sync"],
            &["show", "s"],
            &["import", past],
        ] {
            let printed = machine
                .sidecar(command)
                .env("CONVEX_SIDECAR_HOME", home)
                .run();
            assert_eq!(printed.status, 1, "{command:?}");
            assert!(
                printed.stderr.contains(home) && printed.stderr.contains("could not "),
                "{command:?}: {}",
                printed.stderr
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn read_only_home_is_reported_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new().linked().with_executable();
    let home = machine.sidecar_home();
    std::fs::create_dir_all(&home).unwrap();
    let set_mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(machine.home(), 0o755);
    set_mode(&home, 0o555);
    machine
        .shell("bin/convex-sidecar hook")
        .nobody()
        .stdin(stop("s"))
        .run()
        .silent();
    for command in ["sessions", "sync", "hook --strict --verbose"] {
        let printed = machine
            .shell(&format!("bin/convex-sidecar {command}"))
            .nobody()
            .stdin(stop("s"))
            .run();
        assert!(
            printed
                .stderr
                .contains("set CONVEX_SIDECAR_HOME to a writable folder"),
            "{command}: {}",
            printed.stderr
        );
        assert_eq!(printed.status, 1, "{command}");
    }
    set_mode(&home, 0o700);
    record(&machine, "later");
    assert!(is_recorded(&machine, "later"));
}

/// Runs the hook on a journal with these bytes. Whatever they are, the event must be recorded and
/// the bytes must be kept. Returns whether the journal was set aside.
fn assert_survives(bytes: &[u8], what: &str) -> bool {
    let machine = Machine::new();
    put_journal(&machine, bytes);
    for command in [&["sessions"][..], &["show", "old-1"], &["sync"]] {
        let printed = machine.sidecar(command).run();
        if printed.status != 0 {
            // Either the journal cannot be read and the remedy is named, or only the deployment or
            // the ID is missing.
            let known = [
                "sets the damaged journal aside",
                "no Convex deployment is configured",
                "no session",
            ];
            assert!(
                known.iter().any(|known| printed.stderr.contains(known)),
                "{what}: {command:?}: {}",
                printed.stderr
            );
        }
        put_journal(&machine, bytes);
    }
    machine.hook(stop("new"));
    let set_aside = aside(&machine);
    assert!(set_aside.len() <= 1, "{what}");
    for path in &set_aside {
        assert!(
            std::fs::read(path).unwrap() == bytes,
            "{what}: changed before it was set aside"
        );
        let notes: String = Connection::open(journal(&machine))
            .unwrap()
            .query_row("SELECT note FROM notes", [], |row| row.get(0))
            .unwrap();
        assert!(
            notes.contains(path.to_str().unwrap()) && notes.contains("convex-sidecar import"),
            "{notes}"
        );
    }
    record(&machine, "another");
    assert!(
        machine
            .sidecar(&["show", "new", "--json"])
            .run()
            .ok()
            .contains("\"output\":\"said\""),
        "{what}"
    );
    !set_aside.is_empty()
}

#[test]
fn truncated_journal_is_set_aside_and_the_event_recorded() {
    let bytes = journal_bytes(&machine_with_sessions());
    let pages = bytes.len() / 4096;
    assert!(pages >= 10, "{pages}");
    let mut damaged = 0;
    for page in (0..pages).step_by(by_system(1, 4)) {
        damaged += usize::from(assert_survives(
            &bytes[..page * 4096],
            &format!("{page} of {pages} pages"),
        ));
        assert_survives(
            &bytes[..page * 4096 + 100 * page],
            &format!("{page} pages and a part"),
        );
    }
    assert!(damaged > pages / by_system(2, 8), "{damaged} of {pages}");
}

#[test]
fn journal_with_random_bytes_does_not_stop_recording() {
    let bytes = journal_bytes(&machine_with_sessions());
    let mut state = 7_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    assert!(assert_survives(
        &std::iter::repeat_with(|| random().to_le_bytes()[0])
            .take(50_000)
            .collect::<Vec<_>>(),
        "noise"
    ));
    assert!(assert_survives(
        "this is not a database\n".repeat(1_000).as_bytes(),
        "text"
    ));
    assert_survives(&[0; 16_384], "zeros");
    for round in 0..by_system(60, 8) {
        let mut damaged = bytes.clone();
        let length = [1, 16, 200, 4096][round % 4];
        // Not in the header, whose version numbers would mean that a newer program wrote it.
        let start = 100 + random() % (damaged.len() - 100 - length);
        for byte in &mut damaged[start..start + length] {
            *byte = random().to_le_bytes()[0];
        }
        let machine = Machine::new();
        put_journal(&machine, &damaged);
        machine.hook(stop("new"));
        assert!(
            aside(&machine)
                .iter()
                .all(|path| std::fs::read(path).unwrap() == damaged)
        );
        // Other commands may find damage that the hook did not notice; then they name the remedy.
        let printed = machine.sidecar(&["show", "new", "--json"]).run();
        let is_kept = printed.stdout.contains("\"output\":\"said\"")
            || printed.stderr.contains("sets the damaged journal aside");
        assert!(
            is_kept,
            "{length} bytes at {start}: {} {}",
            printed.stdout, printed.stderr
        );
    }
}

#[test]
fn many_hooks_set_the_same_damage_aside_once() {
    let damaged = "this is not a database\n".repeat(1_000);
    let hooks = by_system(16, 40);
    let mut longest = Duration::ZERO;
    for _ in 0..by_system(20, 2) {
        let machine = Machine::new();
        put_journal(&machine, damaged.as_bytes());
        longest = longest.max(run_at_once(hooks, |index| {
            record(&machine, &format!("s{index}"));
        }));
        let aside = aside(&machine);
        assert_eq!((aside.len(), machine.documents().len()), (1, hooks));
        assert!(std::fs::read(&aside[0]).unwrap() == damaged.as_bytes());
    }
    println!("{hooks} hooks at once on a damaged journal: {longest:?} at most");
}

/// Waits until a process waits for its turn to write.
fn wait_for_a_writer(machine: &Machine) {
    let queue = private_file(machine, "journal.db-queue");
    while queue.try_lock().is_ok() {
        queue.unlock().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn private_file(machine: &Machine, name: &str) -> std::fs::File {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(machine.sidecar_home().join(name))
        .unwrap()
}

#[cfg(unix)]
#[test]
fn hook_that_waits_while_the_journal_is_set_aside_records_in_the_new_one() {
    for is_new_there in [false, true] {
        let machine = Machine::new();
        record(&machine, "old");
        let lock = private_file(&machine, "journal.db-lock");
        lock.lock().unwrap();
        let mut hook = machine.sidecar(&["hook"]).stdin(stop("waits")).spawn();
        wait_for_a_writer(&machine);
        let name = |suffix: &str| machine.sidecar_home().join(suffix);
        for suffix in ["-wal", "-shm", ""] {
            let aside = name(&format!("journal.db.damaged-1{suffix}"));
            std::fs::rename(name(&format!("journal.db{suffix}")), aside).unwrap();
        }
        if is_new_there {
            std::fs::rename(name("journal.db-lock"), name("held")).unwrap();
            record(&machine, "new");
        }
        lock.unlock().unwrap();
        assert!(hook.wait().unwrap().success());
        assert!(is_recorded(&machine, "waits"), "{is_new_there}");
        assert_eq!(machine.documents().len(), 1 + usize::from(is_new_there));
    }
}

#[test]
fn journal_of_a_newer_version_is_not_changed() {
    let machine = machine_with_sessions();
    Connection::open(journal(&machine))
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let before = journal_bytes(&machine);
    record(&machine, "new");
    let past = machine.home().to_str().unwrap();
    for command in [
        &["sessions"][..],
        &["show", "old-1"],
        &["sync"],
        &["import", past],
    ] {
        let printed = machine.sidecar(command).run();
        assert_eq!(printed.status, 1);
        assert!(
            printed
                .stderr
                .contains("it was written by a newer convex-sidecar (schema 99"),
            "{}",
            printed.stderr
        );
        assert!(
            printed.stderr.contains("update convex-sidecar"),
            "{}",
            printed.stderr
        );
    }
    assert!(journal_bytes(&machine) == before);
    assert_eq!(aside(&machine), Vec::<PathBuf>::new());
}

/// Neither settings files nor systemd expand `~` and `$HOME`. A path that is not absolute would lead
/// into the working tree, where a repository may have put a `config.toml`.
#[cfg(unix)]
#[test]
fn home_that_is_not_absolute_is_not_used() {
    for value in ["rel/dir", ".", "$HOME/x", "~other"] {
        let machine = Machine::new().linked();
        let tree = machine.home().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let theirs = tree.join(value);
        std::fs::create_dir_all(theirs.components().collect::<PathBuf>()).unwrap();
        std::fs::write(theirs.join("config.toml"), "capture = 'full'\n").unwrap();
        let run = |args: &[&str]| {
            let run = machine.sidecar(args).folder(&tree);
            run.env("CONVEX_SIDECAR_HOME", value)
        };
        run(&["hook"]).stdin(stop("s")).run().silent();
        assert_eq!(std::fs::read_dir(&theirs).unwrap().count(), 1, "{value}");
        let finding = format!("could not use CONVEX_SIDECAR_HOME={value:?}");
        for command in [&["sessions"][..], &["sync"], &["install"], &["setup"]] {
            let printed = run(command).run();
            assert_eq!(printed.status, 1, "{value}: {command:?}");
            assert!(printed.stderr.contains(&finding), "{}", printed.stderr);
        }
        let doctor = run(&["doctor"]).run().stdout;
        assert!(
            doctor.contains(&format!("✗ configuration  {finding}")),
            "{doctor}"
        );
        // Nothing is lost: the default folder has the session, without text.
        let shown = run(&["show", "s", "--json"]).env("CONVEX_SIDECAR_HOME", " ");
        let document: serde_json::Value = serde_json::from_str(&shown.run().ok()).unwrap();
        assert_eq!(document["sessionId"], "s", "{value}");
        assert_eq!(document.get("output"), None, "{value}");
        assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 1, "{value}");
    }
}

#[test]
fn home_below_a_tilde_is_in_the_home_folder() {
    let machine = Machine::new().linked();
    let tree = machine.home().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let hook = machine.sidecar(&["hook"]).folder(&tree);
    let hook = hook.env("CONVEX_SIDECAR_HOME", "~/sidecar");
    hook.stdin(stop("s")).run().silent();
    assert!(is_recorded(&machine, "s"));
    assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 0);
}

#[test]
fn unreadable_configuration_keeps_figures_and_sends_nothing() {
    // `None` means a folder in place of the file.
    for (what, text) in [
        ("a folder", None),
        #[cfg(unix)]
        ("a link to a file on a disk that is gone", Some("link")),
        ("not TOML", Some("url = \n")),
        ("not text", Some("\0")),
        ("an unknown name", Some("adminkey = 'x'")),
    ] {
        let machine = Machine::new();
        std::fs::create_dir_all(machine.sidecar_home()).unwrap();
        let path = machine.sidecar_home().join("config.toml");
        match text {
            #[cfg(unix)]
            Some("link") => std::os::unix::fs::symlink("/gone/config.toml", &path).unwrap(),
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::create_dir(&path).unwrap(),
        }
        record(&machine, "s");
        let printed = machine.sidecar(&["sessions"]).run();
        assert_eq!(printed.status, 1, "{what}");
        assert!(
            printed.stderr.contains(path.to_str().unwrap()),
            "{what}: {}",
            printed.stderr
        );
        if path.is_dir() {
            std::fs::remove_dir(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        let document = machine.document("s");
        assert_eq!(
            (document["sessionId"].as_str(), document.get("output")),
            (Some("s"), None),
            "{what}"
        );
    }
}

#[cfg(unix)]
#[test]
fn doctor_finds_a_journal_behind_a_link_to_nothing() {
    for link in ["journal.db", "."] {
        let machine = Machine::new();
        let link = machine.sidecar_home().join(link);
        let link = link.components().as_path();
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/gone/away", link).unwrap();
        let doctor = machine.sidecar(&["doctor"]).run();
        assert_eq!(doctor.status, 1);
        let finding = format!(
            "{} is a link to something that does not exist",
            link.display()
        );
        assert!(doctor.stdout.contains(&finding), "{}", doctor.stdout);
    }
}

#[test]
fn revisions_grow_although_the_clock_was_set_back() {
    let machine = machine_with_sessions();
    let connection = Connection::open(journal(&machine)).unwrap();
    // As if everything had been recorded a year from now.
    connection
        .execute("UPDATE sessions SET revision = revision + 31536000000", [])
        .unwrap();
    let revision = |session: &str| -> i64 {
        connection
            .query_row(
                "SELECT revision FROM sessions WHERE session_id = ?",
                [session],
                |row| row.get(0),
            )
            .unwrap()
    };
    let before = revision("old-3");
    let end = json!({"session_id": "old-3", "hook_event_name": "SessionEnd", "reason": "other"})
        .to_string();
    machine.hook(end);
    assert_eq!(revision("old-3"), before + 1);
    assert_eq!(machine.document("old-3")["status"], "completed");
}
