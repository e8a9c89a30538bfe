//! Files that are opened by a path from outside the program: a link, a pipe, a device, a huge file,
//! a file of another user.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Machine, fifo};

const SECRET: &str = r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#;

fn event() -> String {
    json!({"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": "x"}).to_string()
}

/// All files below a folder, with their content; links are not followed.
fn content(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            found.push((path.display().to_string(), text));
        }
    }
    found.sort();
    found
}

#[test]
fn install_does_not_follow_a_link_out_of_the_project() {
    // The link's place below the project, and where it leads, seen from the home folder.
    let links = [
        (".claude/settings.json", "private/config.json"),
        (".claude/settings.json", "private/new/file.json"),
        (".claude/settings.json", "repo-other/settings.json"),
        (".claude", "private"),
        (".claude", "private/new"),
        (".claude/settings.json", "repo/none/../../private/new.json"),
        (".claude/settings.json", "repo/../private/config.json"),
    ];
    for is_absolute in [true, false] {
        for (scope, name) in [
            ("project", "settings.json"),
            ("local", "settings.local.json"),
        ] {
            for (link, target) in links {
                let machine = Machine::new().linked();
                machine.write("private/config.json", SECRET, 0o600);
                machine.write("private/settings.json", SECRET, 0o600);
                machine.write("private/settings.local.json", SECRET, 0o600);
                let repo = machine.home().join("repo");
                let link = repo.join(link.replace("settings.json", name));
                std::fs::create_dir_all(link.parent().unwrap()).unwrap();
                let target = if is_absolute {
                    machine.home().join(target)
                } else {
                    let depth = link.parent().unwrap().strip_prefix(machine.home()).unwrap();
                    Path::new(&"../".repeat(depth.components().count())).join(target)
                };
                symlink(&target, &link).unwrap();
                let before = content(machine.home());
                for command in ["install", "uninstall"] {
                    let run = machine
                        .sidecar(&[command, "--scope", scope])
                        .folder(&repo)
                        .run();
                    let name = format!("{command} {scope} {}", target.display());
                    assert!(command == "uninstall" || run.status == 1, "{name}: {run:?}");
                    assert_eq!(content(machine.home()), before, "{name}");
                }
            }
        }
    }
}

#[test]
fn install_follows_a_link_within_the_project_and_one_of_the_user() {
    let machine = Machine::new().linked();
    machine.write("repo/config/settings.json", "{}", 0o644);
    machine.write("dotfiles/settings.json", "{}", 0o644);
    let repo = machine.home().join("repo");
    for folder in [&repo, machine.home()] {
        std::fs::create_dir_all(folder.join(".claude")).unwrap();
    }
    symlink(
        "../config/settings.json",
        repo.join(".claude/settings.json"),
    )
    .unwrap();
    symlink(
        "../dotfiles/settings.json",
        machine.home().join(".claude/settings.json"),
    )
    .unwrap();
    for (scope, file) in [("project", "repo/config"), ("user", "dotfiles")] {
        let run = machine
            .sidecar(&["install", "--scope", scope])
            .folder(&repo)
            .run();
        assert_eq!(run.status, 0, "{run:?}");
        let text = std::fs::read_to_string(machine.home().join(file).join("settings.json"));
        assert!(text.unwrap().contains("convex-sidecar"), "{scope}");
    }
}

/// A file that Git ignores, or that nobody else may read, gets no copy that Git does not ignore.
#[test]
fn private_file_of_a_project_has_no_backup_in_the_working_tree() {
    for (scope, name, mode) in [
        ("local", "settings.local.json", 0o644),
        ("local", "settings.local.json", 0o600),
        ("project", "settings.json", 0o600),
    ] {
        let machine = Machine::new().linked();
        let text = r#"{"env":{"X":"c2VjcmV0"}}"#;
        machine.write(&format!("repo/.claude/{name}"), text, mode);
        let repo = machine.home().join("repo");
        machine
            .sidecar(&["install", "--scope", scope])
            .folder(&repo)
            .run()
            .ok();
        let files = content(&repo);
        assert_eq!(files.len(), 1, "{files:?}");
        machine
            .sidecar(&["uninstall", "--scope", scope])
            .folder(&repo)
            .run()
            .ok();
        let path = repo.join(".claude").join(name);
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }
}

/// Each reads different files; the last one takes a while.
const COMMANDS: [&[&str]; 3] = [
    &["sessions"],
    &["install", "--dry-run"],
    &["doctor", "--json"],
];

/// Removes what replaced a file, because the harness reads everything that is left in the home.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
}

/// What replaces a file.
fn replace(path: &Path, kind: &str) {
    let _ = std::fs::remove_file(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    match kind {
        "pipe" => fifo(path),
        "folder" => std::fs::create_dir_all(path).unwrap(),
        "huge" => {
            let file = std::fs::File::create(path).unwrap();
            file.set_len(20 * 1024 * 1024 * 1024).unwrap();
        }
        device => symlink(device, path).unwrap(),
    }
}

#[test]
fn nothing_waits_for_a_path_that_is_not_a_regular_file() {
    for kind in [
        "pipe",
        "folder",
        "huge",
        "/dev/zero",
        "/dev/null",
        "/dev/tty",
    ] {
        for file in [
            "sidecar/config.toml",
            "sidecar/journal.db-lock",
            "sidecar/journal.db-queue",
            ".claude/settings.json",
            ".claude.json",
            "repo/.claude/settings.json",
            "repo/.claude/settings.local.json",
            ".claude/projects/-p/s.jsonl",
            ".claude/projects/-p/s/subagents/agent-a.jsonl",
        ] {
            let machine = Machine::new().linked();
            let repo = machine.home().join("repo");
            std::fs::create_dir_all(&repo).unwrap();
            replace(&machine.home().join(file), kind);
            let start = Instant::now();
            let transcript = machine.home().join(".claude/projects/-p/s.jsonl");
            let event = json!({"session_id": "s", "hook_event_name": "Stop", "transcript_path": transcript});
            let hook = machine
                .sidecar(&["hook"])
                .folder(&repo)
                .env("CLAUDE_PROJECT_DIR", repo.to_str().unwrap());
            hook.stdin(event.to_string()).run().silent();
            let took = start.elapsed();
            assert!(took < Duration::from_secs(5), "{file} is {kind}: {took:?}");
            for command in COMMANDS.iter().take(if kind == "pipe" { 3 } else { 2 }) {
                let start = Instant::now();
                machine.sidecar(command).folder(&repo).run();
                let took = start.elapsed();
                assert!(
                    took < Duration::from_secs(20),
                    "{command:?}, {file} is {kind}: {took:?}"
                );
            }
            remove(&machine.home().join(file));
        }
    }
}

#[test]
fn file_that_is_too_large_is_named() {
    let machine = Machine::new();
    replace(&machine.sidecar_home().join("config.toml"), "huge");
    let run = machine.sidecar(&["sessions"]).run();
    assert!(
        run.stderr.contains("larger than 67108864 bytes"),
        "{}",
        run.stderr
    );
    remove(&machine.sidecar_home().join("config.toml"));
}

/// A folder that others may write to can have their `config.toml`, which would redirect the record.
#[test]
fn configuration_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for case in ["file", "link"] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let machine = Machine::new();
        let url = format!("http://{}", server.local_addr().unwrap());
        machine.write_config(&format!("url = '{url}'\nadmin_key = 'instance|key'\n"));
        let file = machine.sidecar_home().join("config.toml");
        if case == "file" {
            std::os::unix::fs::chown(&file, Some(1_234), None).unwrap();
        } else {
            let elsewhere = machine.home().join("config.toml");
            std::fs::rename(&file, &elsewhere).unwrap();
            symlink(&elsewhere, &file).unwrap();
            std::os::unix::fs::lchown(&file, Some(1_234), None).unwrap();
        }
        machine.hook(event());
        assert!(server.accept().is_err(), "{case}: something was sent");
        let doctor = machine.sidecar(&["doctor"]).run().stdout;
        let finding = "config.toml: it belongs to another user (ID 1234)";
        assert!(doctor.contains(finding), "{case}: {doctor}");
        std::os::unix::fs::lchown(&file, Some(0), None).unwrap();
        assert_eq!(machine.document("s").get("output"), None, "{case}");
    }
}

#[test]
fn journal_that_is_not_a_file_or_belongs_to_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let chown = |path: &Path| std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
    for case in [
        "file",
        "folder",
        "both",
        "pipe",
        "/dev/zero",
        "linked folder",
    ] {
        let machine = Machine::new();
        machine.hook(event());
        let (folder, file) = (
            machine.sidecar_home(),
            machine.sidecar_home().join("journal.db"),
        );
        match case {
            "file" => chown(&file),
            "folder" => chown(&folder),
            "linked folder" => {
                let elsewhere = machine.home().join("elsewhere");
                std::fs::rename(&folder, &elsewhere).unwrap();
                chown(&elsewhere);
                symlink(&elsewhere, &folder).unwrap();
            }
            "both" => {
                chown(&file);
                chown(&folder);
            }
            kind => replace(&file, kind),
        }
        machine.hook(event().replace("\"s\"", "\"t\""));
        let run = machine.sidecar(&["sessions"]).run();
        assert!(
            run.stderr.contains("could not use the journal"),
            "{case}: {run:?}"
        );
        let doctor = machine.sidecar(&["doctor"]).run();
        assert!(
            !doctor.stdout.contains("✓ journal"),
            "{case}: {}",
            doctor.stdout
        );
        remove(&file);
    }
    // Folders of root are allowed, such as a mounted folder in a container, with the user's own
    // journal.
    let machine = Machine::new();
    machine.write("sidecar/x", "", 0o600);
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(machine.sidecar_home(), everybody).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(machine.home(), open).unwrap();
    machine
        .sidecar(&["hook"])
        .nobody()
        .stdin(event())
        .run()
        .silent();
    let listed = machine.sidecar(&["sessions", "--json"]).nobody().run().ok();
    assert!(listed.contains("\"s\""), "{listed}");
}

/// `doctor` reports a journal that hooks cannot write, whoever runs it.
#[test]
fn doctor_says_that_the_journal_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    for (files, folder) in [(0o400, 0o500), (0o600, 0o500), (0o400, 0o700)] {
        let machine = Machine::new();
        machine.hook(event());
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
        };
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for file in std::fs::read_dir(machine.sidecar_home()).unwrap() {
            mode(&file.unwrap().path(), files);
        }
        mode(&machine.sidecar_home(), folder);
        mode(machine.home(), 0o755);
        let run = machine.sidecar(&["doctor"]).nobody().run();
        assert!(
            !run.stdout.contains("✓ journal"),
            "{files:o} {folder:o}: {}",
            run.stdout
        );
    }
}

/// A restored journal has the mode that the copying program gave it.
#[test]
fn journal_that_others_may_read_becomes_private() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let files = [
        "journal.db",
        "journal.db-wal",
        "journal.db-shm",
        "journal.db-lock",
    ];
    let mode = |name: &str| {
        let path = machine.sidecar_home().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    let hook = || machine.hook(event());
    hook();
    let reader = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    reader
        .query_row("SELECT count(*) FROM sessions", [], |_| Ok(()))
        .unwrap();
    for name in files {
        let path = machine.sidecar_home().join(name);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
    }
    hook();
    for name in files {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}
