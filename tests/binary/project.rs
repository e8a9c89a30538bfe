//! The user and the project of a session: user, tags, the repository with its commits, and pull
//! requests.

use serde_json::{Value, json};

use crate::support::{Backend, Machine};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

fn machine() -> Machine {
    let machine = Machine::new();
    let home = machine.home().to_str().unwrap().to_owned();
    let home_folder = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    machine.env(home_folder, &home)
}

/// Makes a repository in the home folder.
fn repository(machine: &Machine, folder: &str, remote: &str) {
    machine.write(
        &format!("{folder}/.git/HEAD"),
        "ref: refs/heads/main\n",
        0o644,
    );
    let config = format!("[core]\n\tbare = false\n[remote \"origin\"]\n\turl = {remote}\n");
    machine.write(&format!("{folder}/.git/config"), &config, 0o644);
    commit(machine, folder, FIRST);
}

fn commit(machine: &Machine, folder: &str, id: &str) {
    machine.write(
        &format!("{folder}/.git/refs/heads/main"),
        &format!("{id}\n"),
        0o644,
    );
}

fn event(machine: &Machine, name: &str, folder: &str) -> String {
    let cwd = machine.home().join(folder);
    json!({"session_id": "s", "hook_event_name": name, "cwd": cwd, "last_assistant_message": "x"})
        .to_string()
}

fn hook(machine: &Machine, name: &str, folder: &str) {
    let event = event(machine, name, folder);
    machine.hook(event);
}

fn metadata(machine: &Machine) -> Value {
    machine.document("s")["metadata"].clone()
}

#[test]
fn session_names_its_repository_with_the_first_and_the_last_commit() {
    let backend = Backend::start();
    let machine = backend.machine();
    repository(
        &machine,
        "shop",
        "https://x:hunter2@other.example/acme/shop.git",
    );
    repository(&machine, "other", "git@github.com:acme/other.git");
    std::fs::create_dir_all(machine.home().join("shop/src")).unwrap();
    hook(&machine, "SessionStart", "shop/src");
    commit(&machine, "shop", SECOND);
    hook(&machine, "Stop", "shop");
    // The agent has changed its folder.
    hook(&machine, "SessionEnd", "other");
    let metadata = metadata(&machine);
    assert_eq!(
        metadata["repository"],
        "https://other.example/acme/shop.git"
    );
    assert_eq!(metadata["commitStart"], FIRST);
    assert_eq!(metadata["commitEnd"], SECOND);
    assert_eq!(metadata["worktree"], Value::Null);
    let rows = machine.remote_sessions();
    assert_eq!(rows[0]["metadata"]["repository"], metadata["repository"]);
}

#[test]
fn session_in_a_worktree_belongs_to_the_repository() {
    for has_remote in [true, false] {
        let machine = machine();
        repository(&machine, "shop", "git@github.com:acme/shop.git");
        if !has_remote {
            machine.write("shop/.git/config", "", 0o644);
        }
        let home = machine.home().to_str().unwrap();
        let own = "shop/.git/worktrees/fix";
        machine.write("trees/fix/.git", &format!("gitdir: {home}/{own}\n"), 0o644);
        machine.write(&format!("{own}/HEAD"), SECOND, 0o644);
        machine.write(&format!("{own}/commondir"), "../..\n", 0o644);
        hook(&machine, "SessionStart", "trees/fix");
        let metadata = metadata(&machine);
        assert_eq!(metadata["worktree"], "fix");
        assert_eq!(metadata["commitStart"], SECOND);
        let repository = metadata["repository"].as_str().unwrap();
        if has_remote {
            assert_eq!(repository, "git@github.com:acme/shop.git");
        } else {
            let shop = machine.home().join("shop").canonicalize().unwrap();
            // On Windows, this path has a prefix, which the record must not have.
            let shop = shop.to_str().unwrap().trim_start_matches(r"\\?\");
            assert_eq!(repository, shop);
        }
    }
}

#[test]
fn user_is_the_named_one_or_that_of_git_or_of_the_system() {
    // The variable, Git's configuration, `config.toml`, and the user.
    let system = "the system's";
    let cases = [
        ("me", "git@x", "", Some("me")),
        ("", "git@x", "", Some("git@x")),
        ("", "", "", Some(system)),
        ("me", "git@x", "user = false\n", None),
        ("me", "git@x", "capture = 'metadata'\n", None),
        (
            "",
            "git@x",
            "capture = 'metadata'\nuser = true\n",
            Some("git@x"),
        ),
        ("", "git@x", "user = true\n", Some("git@x")),
        (" me\t", "git@x", "", Some("me")),
        (" ", "git@x", "", Some("git@x")),
        // The unreadable part of the file may have been meant to leave the user out.
        ("me", "git@x", "user = 'false'\n", None),
    ];
    for (variable, email, config, expected) in cases {
        let machine = machine().env("CONVEX_SIDECAR_USER", variable);
        if !email.is_empty() {
            machine.write(".gitconfig", &format!("[user]\n\temail = {email}\n"), 0o644);
        }
        machine.write_config(config);
        hook(&machine, "SessionStart", "nowhere");
        machine.write_config("");
        let user = metadata(&machine)["user"].as_str().map(str::to_owned);
        if expected == Some(system) {
            let name = user.as_deref().unwrap_or_default();
            assert!(!name.is_empty() && name != "git@x", "{name}");
        } else {
            assert_eq!(user.as_deref(), expected, "{variable} {email} {config}");
        }
    }
}

#[test]
fn tags_are_kept_and_later_ones_replace_them() {
    let machine = machine();
    let tagged = |tags: &str, name: &str| {
        let hook = machine.sidecar(&["hook"]).env("CONVEX_SIDECAR_TAGS", tags);
        hook.stdin(event(&machine, name, "x")).run().silent();
        metadata(&machine)["tags"].clone()
    };
    assert_eq!(tagged("", "SessionStart"), Value::Null);
    assert_eq!(
        tagged(" team=web, lane=review ,,team=web", "UserPromptSubmit"),
        json!(["team=web", "lane=review"])
    );
    assert_eq!(tagged("", "Stop"), json!(["team=web", "lane=review"]));
    assert_eq!(tagged("team=api", "SessionEnd"), json!(["team=api"]));
}

#[test]
fn secrets_in_what_git_says_are_masked() {
    let key = format!("gh{}0123456789abcdefghijklmnopqrstuvwxyz", "p_");
    let machine = machine()
        .env("CONVEX_SIDECAR_TAGS", &format!("a={key}"))
        .env("CONVEX_SIDECAR_USER", &key);
    repository(&machine, "shop", &format!("https://h/{key}/shop.git"));
    hook(&machine, "SessionStart", "shop");
    let metadata = metadata(&machine).to_string();
    assert!(!metadata.contains("0123456789abcdef"), "{metadata}");
    assert!(metadata.contains("https://h/"), "{metadata}");
}

/// No content of a folder can keep a hook from recording.
#[cfg(unix)]
#[test]
fn broken_repositories_are_ignored() {
    let long = "x".repeat(100_000);
    let cases: [(&str, &str, &str); 6] = [
        (".git", "", ""),
        (".git", "gitdir: .", ""),
        (".git/HEAD", "ref: refs/heads/main", ".git/HEAD.lock"),
        (".git/config", "[remote \"origin", ".git/HEAD"),
        (".git/HEAD", &long, ".git/config"),
        (".git/commondir", "/dev/zero", ".git/HEAD"),
    ];
    for (path, text, other) in cases {
        let machine = machine();
        machine.write(&format!("shop/{path}"), text, 0o644);
        if !other.is_empty() {
            machine.write(&format!("shop/{other}"), "", 0o644);
        }
        hook(&machine, "SessionStart", "shop");
        let metadata = metadata(&machine);
        assert_eq!(metadata["commitStart"], Value::Null, "{path}: {text:.20}");
    }
}

#[cfg(unix)]
#[test]
fn pipe_in_place_of_a_repository_file_is_not_waited_for() {
    let machine = machine();
    machine.write("shop/.git/config", "", 0o644);
    let fifo = machine.home().join("shop/.git/HEAD");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    hook(&machine, "SessionStart", "shop");
}

#[test]
fn import_names_user_and_repository_but_no_commits() {
    let machine = machine().env("CONVEX_SIDECAR_USER", "me");
    repository(&machine, "shop", "git@github.com:acme/shop.git");
    let id = "5e55104a-0000-4000-8000-0000000000ab";
    let cwd = machine.home().join("shop");
    let lines = [
        json!({"type": "user", "uuid": "u", "sessionId": id, "cwd": cwd,
            "timestamp": "2026-07-01T10:00:00.000Z", "message": {"role": "user", "content": "hi"}}),
        json!({"type": "pr-link", "sessionId": id, "prNumber": 7, "prRepository": "acme/shop",
            "prUrl": "https://github.com/acme/shop/pull/7", "timestamp": "2026-07-01T10:00:01.000Z"}),
        json!({"type": "pr-link", "sessionId": id, "prNumber": 7, "prRepository": "acme/shop",
            "prUrl": "https://github.com/acme/shop/pull/7", "timestamp": "2026-07-01T10:00:02.000Z"}),
        json!({"type": "pr-link", "sessionId": id, "prNumber": 8, "prUrl": "javascript:alert(1)"}),
        // Without a number, that in the address counts.
        json!({"type": "pr-link", "sessionId": id, "prUrl": "https://github.com/acme/shop/pull/9"}),
        json!({"type": "pr-link", "sessionId": id, "prUrl": "https://github.com/acme/shop"}),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    machine.write(&format!(".claude/projects/shop/{id}.jsonl"), &text, 0o600);
    machine.sidecar(&["import"]).run().ok();
    let metadata = machine.document(id)["metadata"].clone();
    assert_eq!(metadata["user"], "me");
    assert_eq!(metadata["repository"], "git@github.com:acme/shop.git");
    assert_eq!(metadata["commitStart"], Value::Null);
    assert_eq!(
        metadata["pullRequests"],
        json!([
            {"number": 7, "url": "https://github.com/acme/shop/pull/7"},
            {"number": 9, "url": "https://github.com/acme/shop/pull/9"}
        ])
    );
}
