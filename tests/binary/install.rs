//! `install` and `uninstall` on a file that belongs to the user: together they restore every byte,
//! and a file that they do not understand is not touched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Capture, Machine, Output, fifo, place_executable, root};

const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "Stop", "SessionEnd"];

fn machine() -> Machine {
    Machine::new().linked()
}

fn settings(machine: &Machine) -> PathBuf {
    machine.home().join(".claude/settings.json")
}

fn put(machine: &Machine, text: impl AsRef<[u8]>) -> PathBuf {
    let path = settings(machine);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn install(machine: &Machine) -> Output {
    machine.sidecar(&["install"]).run()
}

fn uninstall(machine: &Machine) -> Output {
    machine.sidecar(&["uninstall"]).run()
}

/// Everything in a folder: files with their content, symbolic links with their target.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let content = if kind.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else if kind.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if kind.is_file() {
                fs::read(&path).unwrap()
            } else {
                b"special".to_vec()
            };
            found.insert(path, content);
        }
    }
    found
}

/// Our commands, by event.
fn commands(path: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    // JavaScript accepts these, serde_json does not.
    let text = text
        .trim_start_matches('\u{feff}')
        .replace("\\ud800", "x")
        .replace("\\udfff", "y")
        .replace("1e400", "1");
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut commands = BTreeMap::new();
    for (event, groups) in value["hooks"].as_object().unwrap() {
        for group in groups.as_array().unwrap() {
            for hook in group["hooks"].as_array().into_iter().flatten() {
                let command = hook["command"].as_str().unwrap_or_default();
                if command.ends_with("/convex-sidecar hook") {
                    assert_eq!(
                        (hook["type"].as_str(), hook["timeout"].as_u64()),
                        (Some("command"), Some(10))
                    );
                    commands
                        .entry(event.clone())
                        .or_insert_with(Vec::new)
                        .push(command.to_owned());
                }
            }
        }
    }
    commands
}

/// Settings files as users have them. The flag says that only the backup can restore every byte.
fn files() -> Vec<(&'static str, String, bool)> {
    let other = r#"{"type": "command", "command": "notify-send done"}"#;
    let full = r#"{
  "$schema": "https://json.schemastore.org/claude-code-settings.json",
  "env": {
    "GREETING": "hé, \"you\" \\ there"
  },
  "permissions": {
    "allow": ["Bash(ls:*)", "Read"],
    "deny": []
  },
  "hooks": {
    "PreToolUse": [
      {
        "matcher": "Bash",
        "hooks": [
          {
            "type": "command",
            "command": "echo '{\"hooks\": {\"Stop\": []}}'"
          }
        ]
      }
    ],
    "Stop": [
      {
        "hooks": [
          {
            "type": "command",
            "command": "notify-send done"
          }
        ]
      }
    ]
  },
  "model": "opus"
}
"#;
    let big: String = (0..20_000)
        .map(|number| format!("    \"Bash(command {number}:*)\",\n"))
        .collect();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let table: Vec<(&str, String, bool)> = vec![
        ("an empty file", String::new(), true),
        ("only a line feed", "\n".into(), true),
        ("only space", " \t\r\n ".into(), true),
        ("only a byte order mark", "\u{feff}".into(), true),
        ("an empty object", "{}".into(), false),
        ("an empty object and a line feed", "{}\n".into(), false),
        ("an empty object with a space", "{ }".into(), true),
        ("an empty object on two lines", "{\n}\n".into(), true),
        ("space around", " \n\n {\"a\": 1} \n\n\t".into(), false),
        ("full", full.into(), false),
        ("full without the last line feed", full.trim_end().into(), false),
        ("full with tabs", full.replace("  ", "\t"), false),
        ("full with four spaces", full.replace("  ", "    "), false),
        ("full with three spaces", full.replace("  ", "   "), false),
        ("full without indentation", full.lines().map(|line| format!("{}\n", line.trim())).collect(), false),
        ("full with CRLF", full.replace('\n', "\r\n"), false),
        ("full with CRLF but for the last line", full.trim_end().replace('\n', "\r\n") + "\n", false),
        ("full with a byte order mark", format!("\u{feff}{full}"), false),
        ("full with trailing spaces", full.replace(",\n", ", \t \n"), false),
        ("full with empty lines", full.replace(",\n", ",\n\n\n"), false),
        ("full with commas in front", full.replace(",\n    \"", "\n  , \"").replace(",\n  \"", "\n, \""), false),
        ("full with braces on lines of their own", full.replace(": {\n", ":\n{\n").replace(": [\n", ":\n  [\n"), false),
        ("minified", full.lines().map(|line| line.trim().replace("\": ", "\":")).collect::<String>(), false),
        ("minified with a line feed", full.lines().map(|line| line.trim().replace("\": ", "\":")).collect::<String>() + "\n", false),
        ("on one line", "{\"a\": 1, \"b\": [1, 2]}\n".into(), false),
        ("on one line with space inside", "{ \"a\" : 1 , \"b\" : [ 1 ] }".into(), false),
        ("hooks are empty", "{\n  \"hooks\": {}\n}\n".into(), true),
        ("hooks are empty and minified", "{\"hooks\":{},\"a\":1}".into(), true),
        ("hooks are empty over two lines", "{\n  \"hooks\": {\n  },\n  \"a\": 1\n}\n".into(), true),
        ("events are empty", "{\"hooks\": {\"Stop\": [], \"SessionEnd\": [ ]}}".into(), true),
        ("groups are empty", "{\"hooks\": {\"Stop\": [{}], \"SessionEnd\": [{\"hooks\": []}, {\"matcher\": \"\"}]}}".into(), false),
        (
            "others on all events, in another order",
            format!(
                "{{\n  \"hooks\": {{{}\n  }}\n}}\n",
                ["SessionEnd", "Stop", "StopFailure", "SessionStart"].map(|event| format!("\n    \"{event}\": [{{\"hooks\": [{other}]}}]")).join(",")
            ),
            false,
        ),
        ("a group begins on the line of its array", full.replace("[\n      {", "[{").replace("}\n    ]", "}]"), false),
        ("several groups on one line", format!("{{\"hooks\":{{\"Stop\":[{{\"hooks\":[{other}]}},{{\"hooks\":[{other}, {other}]}}]}}}}"), false),
        ("text in many scripts", "{\n  \"ключ\": \"日本語 🦀 \u{202e}\",\n  \"hooks\": {\n    \"Événement\": []\n  }\n}\n".into(), false),
        ("escaped text", "{\"\\u0068ooks\": {\"St\\u006fp\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"\\u00e9\\ud83e\\udd80\\/\"}]}]}}".into(), false),
        ("half a surrogate pair", "{\"a\": \"\\ud800\", \"\\udfff\": 1}".into(), false),
        (
            "our names and entries as text",
            "{\n  \"note\": \"{\\\"hooks\\\": {\\\"Stop\\\": [}]\",\n  \"x\": {\"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"convex-sidecar hook\"}]}]}},\n  \"convex-sidecar hook\": [\"SessionStart\"]\n}\n".into(),
            false,
        ),
        ("numbers of all kinds", "{\"a\": -0.0, \"b\": 1e400, \"c\": 123456789012345678901234567890, \"d\": 1E-7}".into(), false),
        ("deeply nested", format!("{{\"deep\": {deep}}}"), false),
        ("duplicates that are not ours", "{\"env\": {\"A\": \"1\", \"A\": \"2\"}}".into(), false),
        ("a megabyte", format!("{{\n  \"allow\": [\n{big}    \"last\"\n  ]\n}}\n"), false),
        ("the plugin's hook by hand", "{\"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"exec /p/hooks/convex-sidecar.sh Stop\"}]}]}}".into(), false),
        ("another program with a similar name", "{\"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"/x/my-convex-sidecar hook\"}]}]}}".into(), false),
    ];
    table
}

#[test]
fn uninstall_restores_every_byte() {
    let files = files();
    assert!(files.len() >= 30);
    for (name, text, needs_backup) in files {
        let machine = machine();
        let path = put(&machine, &text);
        let before = tree(machine.home());

        let printed = install(&machine).ok();
        assert!(
            printed.contains(&format!(
                "{}: SessionStart, UserPromptSubmit, Stop and SessionEnd run ",
                path.display()
            )),
            "{name}: {printed}"
        );
        let command = format!("exec {}/bin/convex-sidecar hook", machine.home().display());
        let expected: BTreeMap<_, _> = EVENTS
            .map(|event| (event.to_owned(), vec![command.clone()]))
            .into();
        assert_eq!(commands(&path), expected, "{name}");
        let backup = path.with_file_name("settings.json.convex-sidecar.bak");
        assert_eq!(fs::read(&backup).unwrap(), text.as_bytes(), "{name}");
        assert!(
            printed.contains(backup.to_str().unwrap()),
            "{name}: {printed}"
        );

        let installed = tree(machine.home());
        let again = install(&machine).ok();
        assert!(again.contains("nothing to change"), "{name}: {again}");
        assert_eq!(tree(machine.home()), installed, "{name}");

        uninstall(&machine).ok();
        assert_eq!(tree(machine.home()), before, "{name}");

        if !needs_backup {
            install(&machine).ok();
            let with = fs::read_to_string(&path).unwrap();
            // A change that the user makes in between is kept, and the rest is restored.
            fs::write(&path, with.replacen('{', "{\"new\": [1 ,2], ", 1)).unwrap();
            let printed = uninstall(&machine).ok();
            if text.trim_matches(['{', '}', '\n']).is_empty() {
                continue;
            }
            assert!(printed.contains("is kept: "), "{name}: {printed}");
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                text.replacen('{', "{\"new\": [1 ,2], ", 1),
                "{name}"
            );
        }
    }
}

#[test]
fn install_creates_a_missing_file_and_uninstall_removes_it() {
    let machine = machine();
    let before = tree(machine.home());
    let printed = install(&machine).ok();
    assert!(
        !printed.contains(".bak") && printed.contains("next: start a session"),
        "{printed}"
    );
    let snippet = fs::read_to_string(root().join("hooks/settings.json")).unwrap();
    let command = format!("exec {}/bin/convex-sidecar hook", machine.home().display());
    assert_eq!(
        fs::read_to_string(settings(&machine)).unwrap(),
        snippet.replace("exec convex-sidecar hook", &command)
    );
    assert!(uninstall(&machine).ok().contains("removed, because"));
    assert_eq!(tree(machine.home()), before);
    assert!(uninstall(&machine).ok().contains("nothing to remove"));
    assert_eq!(tree(machine.home()), before);

    // Other files in the folder are kept, and so are other settings in the file.
    fs::create_dir(machine.home().join(".claude")).unwrap();
    fs::write(machine.home().join(".claude/CLAUDE.md"), "x").unwrap();
    let before = tree(machine.home());
    install(&machine).ok();
    uninstall(&machine).ok();
    assert_eq!(tree(machine.home()), before);
    install(&machine).ok();
    let text = fs::read_to_string(settings(&machine)).unwrap();
    fs::write(
        settings(&machine),
        text.replacen('{', "{\n  \"model\": \"opus\",", 1),
    )
    .unwrap();
    uninstall(&machine).ok();
    assert_eq!(
        fs::read_to_string(settings(&machine)).unwrap(),
        "{\n  \"model\": \"opus\"\n}\n"
    );
}

#[test]
fn symbolic_links_modes_and_owners_are_kept() {
    for mode in [0o600, 0o640, 0o444, 0o400] {
        let machine = machine();
        let real = machine.home().join("dotfiles/claude.json");
        fs::create_dir(machine.home().join("dotfiles")).unwrap();
        fs::write(&real, "{\"a\": 1}").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(machine.home().join(".claude")).unwrap();
        symlink("settings-link.json", settings(&machine)).unwrap();
        symlink(
            "../dotfiles/claude.json",
            machine.home().join(".claude/settings-link.json"),
        )
        .unwrap();
        let (before, owner) = (tree(machine.home()), fs::metadata(&real).unwrap().uid());
        let check = |path: &Path| {
            assert_eq!(
                fs::metadata(path)
                    .map(|file| (file.mode() & 0o777, file.uid()))
                    .unwrap(),
                (mode, owner)
            );
        };
        install(&machine).ok();
        assert_eq!(commands(&real).len(), 4);
        assert!(
            fs::symlink_metadata(settings(&machine))
                .unwrap()
                .is_symlink()
        );
        check(&real);
        check(
            &machine
                .home()
                .join(".claude/settings.json.convex-sidecar.bak"),
        );
        uninstall(&machine).ok();
        assert_eq!(tree(machine.home()), before);
        check(&real);
    }

    // With a dangling link, its target is created and removed, and the link is kept.
    let machine = machine();
    fs::create_dir(machine.home().join(".claude")).unwrap();
    symlink("../claude.json", settings(&machine)).unwrap();
    let before = tree(machine.home());
    install(&machine).ok();
    assert_eq!(commands(&machine.home().join("claude.json")).len(), 4);
    uninstall(&machine).ok();
    assert_eq!(tree(machine.home()), before);
}

#[test]
fn malformed_file_is_refused_and_not_touched() {
    let cases: [(&str, &[u8], &str); 14] = [
        (
            "a comment",
            b"{\n  \"a\": 1, // why\n}",
            "line 2, column 11: comments are not allowed in JSON; remove the comment",
        ),
        (
            "a comment in front",
            b"/* why */ {}",
            "line 1, column 1: comments are not allowed",
        ),
        (
            "a trailing comma",
            b"{\n  \"a\": 1,\n}",
            "line 2, column 9: trailing comma; remove it",
        ),
        (
            "half a file",
            b"{\"hooks\": {",
            "line 1, column 11: EOF while parsing an object",
        ),
        (
            "two values",
            b"{}{}",
            "line 1, column 3: trailing characters",
        ),
        (
            "an array",
            b"[]",
            "line 1, column 1: the file must be an object",
        ),
        (
            "hooks as text",
            b"{\"hooks\": \"convex-sidecar hook\"}",
            "line 1, column 11: `hooks` must be an object",
        ),
        (
            "hooks as array",
            b"{\n\"hooks\": []}",
            "line 2, column 10: `hooks` must be an object",
        ),
        (
            "an event as object",
            b"{\"hooks\": {\"Stop\": {\"hooks\": []}}}",
            "line 1, column 20: `hooks.Stop` must be an array",
        ),
        (
            "a hook as text",
            b"{\"hooks\": {\"Stop\": [{\"hooks\": [\"x\"]}]}}",
            "line 1, column 32: a hook of `hooks.Stop` must be an object",
        ),
        (
            "hooks twice",
            b"{\"hooks\": {}, \"hooks\": {}}",
            "line 1, column 15: duplicate key \"hooks\"; remove one of the two",
        ),
        (
            "an event twice",
            b"{\"hooks\": {\"Stop\": [], \"Stop\": []}}",
            "line 1, column 24: duplicate key \"Stop\"",
        ),
        (
            "no UTF-8",
            b"{\"a\": \"\xff\"}",
            "it is not UTF-8 text; save it as UTF-8",
        ),
        (
            "UTF-16",
            b"\xff\xfe{\0}\0",
            "it is not UTF-8 text; save it as UTF-8",
        ),
    ];
    for (name, text, expected) in cases {
        let machine = machine();
        let path = put(&machine, text);
        let before = tree(machine.home());
        for verb in [
            &["install"][..],
            &["uninstall"],
            &["install", "--dry-run"],
            &["uninstall", "--dry-run"],
        ] {
            let output = machine.sidecar(verb).run();
            assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{name}");
            assert!(
                output.stderr.starts_with("convex-sidecar: could not "),
                "{name}: {}",
                output.stderr
            );
            assert!(
                output
                    .stderr
                    .contains(&format!("{}: {expected}", path.display())),
                "{name}: {}",
                output.stderr
            );
            assert_eq!(tree(machine.home()), before, "{name}");
        }
    }
}

/// Whoever made the repository could otherwise have any file of this user changed.
#[test]
fn link_that_leads_out_of_the_project_is_refused_and_named() {
    let machine = machine();
    let (project, elsewhere) = (machine.home().join("project"), machine.home().join("else"));
    fs::create_dir_all(&project).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    symlink(&elsewhere, project.join(".claude")).unwrap();
    let output = machine
        .sidecar(&["install", "--scope", "project"])
        .folder(&project)
        .run();
    let leads_to = format!(
        "because it leads to {}, which is not in {}; replace the link with a file",
        elsewhere
            .canonicalize()
            .unwrap()
            .join("settings.json")
            .display(),
        project.display()
    );
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains(&leads_to), "{}", output.stderr);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn path_that_is_not_a_readable_file_is_refused_and_not_touched() {
    type Make = fn(&Path);
    let cases: [(Make, &str); 5] = [
        (
            |path| fs::create_dir(path).unwrap(),
            "it is a folder; move it",
        ),
        (fifo, "it is not a regular file; move it"),
        (
            |path| symlink("settings.json", path).unwrap(),
            "its symbolic links form a loop",
        ),
        (
            |path| {
                fs::remove_dir(path.parent().unwrap()).unwrap();
                fs::write(path.parent().unwrap(), "x").unwrap();
            },
            "Not a directory",
        ),
        (
            |path| {
                fs::write(path, "{}").unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
            },
            "Permission denied",
        ),
    ];
    for (make, expected) in cases {
        let machine = machine();
        fs::create_dir(machine.home().join(".claude")).unwrap();
        make(&settings(&machine));
        if expected == "Permission denied" && fs::read(settings(&machine)).is_ok() {
            continue; // Root reads everything.
        }
        let kind = fs::symlink_metadata(settings(&machine))
            .map(|metadata| metadata.mode())
            .ok();
        for verb in ["install", "uninstall"] {
            let output = machine.sidecar(&[verb]).run();
            assert_eq!(
                (output.status, output.stdout.as_str()),
                (1, ""),
                "{expected}"
            );
            assert!(
                output.stderr.starts_with("convex-sidecar: could not read "),
                "{}",
                output.stderr
            );
            assert!(
                output.stderr.contains(expected),
                "{expected}: {}",
                output.stderr
            );
            assert_eq!(
                fs::symlink_metadata(settings(&machine))
                    .map(|metadata| metadata.mode())
                    .ok(),
                kind,
                "{expected}"
            );
            assert!(
                !settings(&machine)
                    .with_file_name("settings.json.convex-sidecar.bak")
                    .exists()
            );
        }
    }
}

#[test]
fn entries_of_an_old_path_are_replaced_in_place() {
    let machine = machine();
    let old = r#"{
  "hooks": {
    "Stop": [
      {"hooks": [{"type": "command", "command": "'/old place/convex-sidecar' hook", "timeout": 10}, {"type": "command", "command": "mine"}]},
      {"hooks": [{"type": "command", "command": "convex-sidecar hook", "timeout": 10}]}
    ],
    "UserPromptSubmit": [{"hooks": [{"command": "\"C:\\x\\convex-sidecar.exe\" hook", "type": "command", "timeout": 10}]}]
  }
}
"#;
    let path = put(&machine, old);
    install(&machine).ok();
    let command = format!("exec {}/bin/convex-sidecar hook", machine.home().display());
    let text = fs::read_to_string(&path).unwrap();
    let one = old
        .replace("'/old place/convex-sidecar' hook", &command)
        .replace("\\\"C:\\x\\convex-sidecar.exe\\\" hook", &command);
    let duplicate = one.lines().nth(4).unwrap();
    let (kept, _) = one.split_once("\n    ],").unwrap();
    assert!(
        text.starts_with(&kept.replace(&format!(",\n{duplicate}"), "")),
        "{text}"
    );
    assert_eq!(
        commands(&path).values().map(Vec::len).collect::<Vec<_>>(),
        [1; 4],
        "{text}"
    );
    assert!(install(&machine).ok().contains("nothing to change"));
    uninstall(&machine).ok();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "{\n  \"hooks\": {\n    \"Stop\": [\n      {\"hooks\": [{\"type\": \"command\", \"command\": \"mine\"}]}\n    ]\n  }\n}\n"
    );
}

#[test]
fn file_created_under_another_path_is_removed_too() {
    let machine = machine();
    let before = tree(machine.home());
    install(&machine).ok();
    let text = fs::read_to_string(settings(&machine)).unwrap();
    put(&machine, text.replace("/bin/", "/bin-that-is-gone/"));
    install(&machine).ok();
    assert_eq!(
        fs::read_to_string(settings(&machine)).unwrap(),
        text.clone()
    );
    uninstall(&machine).ok();
    assert_eq!(tree(machine.home()), before);
}

#[test]
fn each_scope_changes_its_own_file() {
    let machine = machine();
    let project = machine.home().join("project");
    fs::create_dir(&project).unwrap();
    let before = tree(machine.home());
    let (user, shared, local) = (
        settings(&machine),
        project.join(".claude/settings.json"),
        project.join(".claude/settings.local.json"),
    );
    for (args, path) in [
        (&["--scope", "user"][..], &user),
        (&["--scope", "project"], &shared),
        (&["--scope", "local"], &local),
        (&[], &user),
    ] {
        let run = |verb: &str| {
            machine
                .sidecar(&[&[verb], args].concat())
                .folder(&project)
                .run()
                .ok()
        };
        assert!(run("install").contains(path.to_str().unwrap()));
        assert_eq!(commands(path).len(), 4);
        assert_eq!(
            [&user, &shared, &local]
                .into_iter()
                .filter(|path| path.exists())
                .collect::<Vec<_>>(),
            [path]
        );
        assert!(run("uninstall").contains(path.to_str().unwrap()));
        assert_eq!(tree(machine.home()), before);
    }
    let elsewhere = machine.home().join("elsewhere/claude");
    machine
        .sidecar(&["install"])
        .env("CLAUDE_CONFIG_DIR", elsewhere.to_str().unwrap())
        .run()
        .ok();
    assert_eq!(commands(&elsewhere.join("settings.json")).len(), 4);
    assert!(!user.exists());

    let homeless = Machine::new().sidecar(&["install"]).run();
    assert_eq!(homeless.status, 1);
    assert!(
        homeless
            .stderr
            .contains("could not find the client's folder; set HOME"),
        "{}",
        homeless.stderr
    );
}

/// The options that name these folders of clients, relative to the home folder.
const CLIENTS: [&str; 6] = [
    "--claude-config-dir",
    ".claude",
    "--claude-config-dir",
    "work client",
    "--claude-config-dir",
    "linked",
];

#[test]
fn hooks_are_added_to_and_removed_from_every_named_client() {
    let machine = machine();
    let run = |verb: &str, options: &[&str]| {
        let args = [&[verb][..], &CLIENTS, options].concat();
        machine.sidecar(&args).run().ok()
    };
    let own = put(&machine, "{\"model\": \"opus\"}");
    let work = machine.home().join("work client/settings.json");
    // Two clients can share a file.
    let linked = machine.home().join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(&own, linked.join("settings.json")).unwrap();
    let before = tree(machine.home());

    let shown = run("install", &["--dry-run"]);
    assert!(
        shown.contains(&format!("+++ {}\n", work.display())),
        "{shown}"
    );
    assert_eq!(tree(machine.home()), before);
    let printed = run("install", &[]);
    assert_eq!(
        printed.matches(": SessionStart, UserPromptSubmit,").count(),
        2,
        "{printed}"
    );
    assert_eq!(printed.matches("already run").count(), 1, "{printed}");
    assert_eq!(printed.matches("next: ").count(), 1, "{printed}");
    for path in [&own, &work] {
        assert_eq!(commands(path).len(), 4);
    }
    let installed = tree(machine.home());
    assert_eq!(run("install", &[]).matches("already run").count(), 3);
    assert_eq!(tree(machine.home()), installed);

    let printed = run("uninstall", &[]);
    assert_eq!(printed.matches("nothing to remove").count(), 1, "{printed}");
    assert_eq!(
        printed.matches("recorded sessions are kept").count(),
        1,
        "{printed}"
    );
    assert_eq!(tree(machine.home()), before);
}

#[test]
fn no_client_gets_the_hooks_if_one_of_the_files_cannot_be_changed() {
    let machine = machine();
    let broken = machine.home().join("work client/settings.json");
    fs::create_dir(broken.parent().unwrap()).unwrap();
    fs::write(&broken, "{").unwrap();
    let before = tree(machine.home());
    let output = machine
        .sidecar(&[&["install"][..], &CLIENTS].concat())
        .run();
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains(broken.to_str().unwrap()),
        "{}",
        output.stderr
    );
    assert_eq!(tree(machine.home()), before);
    // The other scopes belong to a project, not to a client.
    let args = [&["install", "--scope", "local"][..], &CLIENTS].concat();
    assert_eq!(machine.sidecar(&args).run().status, 64);
    let empty = ["install", "--claude-config-dir", ""];
    assert_eq!(machine.sidecar(&empty).run().status, 64);
}

#[test]
fn dry_run_prints_a_diff_and_changes_nothing() {
    let machine = machine();
    let path = put(
        &machine,
        "{\r\n  \"a\": \"\\u001b[31m\u{202e}\",\r\n  \"model\": \"opus\"\r\n}",
    );
    let before = tree(machine.home());
    let shown = machine.sidecar(&["install", "--dry-run"]).run().ok();
    let name = path.display();
    assert!(
        shown.starts_with(&format!("--- {name}\n+++ {name}\n@@ -1,4 +1,")),
        "{shown}"
    );
    assert!(
        shown.contains("\n   \"a\": \"\\u001b[31m\\u{202e}\",\n-  \"model\": \"opus\"\n+  \"model\": \"opus\",\n+  \"hooks\": {\n"),
        "{shown}"
    );
    assert!(
        shown.ends_with(" }\n\\ No newline at end of file\n"),
        "{shown}"
    );
    assert_eq!(tree(machine.home()), before);
    assert!(
        machine
            .sidecar(&["uninstall", "--dry-run"])
            .run()
            .ok()
            .contains("nothing to remove")
    );

    install(&machine).ok();
    let installed = tree(machine.home());
    assert!(
        machine
            .sidecar(&["install", "--dry-run"])
            .run()
            .ok()
            .contains("nothing to change")
    );
    let shown = machine.sidecar(&["uninstall", "--dry-run"]).run().ok();
    assert!(
        shown.contains("-  \"hooks\": {\n") && !shown.contains("+  \"hooks\""),
        "{shown}"
    );
    assert_eq!(tree(machine.home()), installed);

    let alone = self::machine();
    let before = tree(alone.home());
    let shown = alone.sidecar(&["install", "--dry-run"]).run().ok();
    assert!(
        shown.starts_with("--- /dev/null\n+++ ") && shown.contains("\n@@ -0,0 +1,"),
        "{shown}"
    );
    assert_eq!(tree(alone.home()), before);
    install(&alone).ok();
    let shown = alone.sidecar(&["uninstall", "--dry-run"]).run().ok();
    assert!(shown.contains("\n+++ /dev/null\n"), "{shown}");
}

#[test]
fn installed_command_runs_from_a_folder_of_any_name() {
    for name in [
        "plain",
        "two words",
        "it's",
        "\"quoted\"",
        "$HOME and `id` $(id)",
        "back\\slash",
        "日本 é",
        "a;b&c|d",
        "star*?[x]",
        "~",
        "#hash",
        "line\nfeed",
    ] {
        let machine = Machine::new();
        let home = machine.home().to_str().unwrap().to_owned();
        let machine = machine.env("HOME", &home);
        let program = machine.home().join(name).join("convex-sidecar");
        fs::create_dir(program.parent().unwrap()).unwrap();
        place_executable(&program);
        let by_itself = |verb: &str| {
            let mut command = Command::new(&program);
            let output = command
                .arg(verb)
                .env_clear()
                .env("HOME", &home)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{name}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        by_itself("install");
        assert!(by_itself("install").contains("nothing to change"), "{name}");
        let commands = commands_of(&settings(&machine));
        assert_eq!(commands.len(), 4, "{name}");
        let hooks = Capture::new("print-mode").hooks(&machine);
        let input = &hooks[0].json;
        let mut child = Command::new("sh")
            .args(["-c", &commands[0]])
            .env_clear()
            .env("CONVEX_SIDECAR_HOME", machine.sidecar_home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), &output.stdout[..], &output.stderr[..]),
            (Some(0), &b""[..], &b""[..]),
            "{name}: {}",
            commands[0]
        );
        assert_eq!(machine.documents().len(), 1, "{name}: {}", commands[0]);
        by_itself("uninstall");
        assert!(!settings(&machine).exists(), "{name}");
    }
}

/// All commands in the file.
fn commands_of(path: &Path) -> Vec<String> {
    let value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let groups = value["hooks"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|groups| groups.as_array().unwrap());
    groups
        .flat_map(|group| group["hooks"].as_array().unwrap())
        .map(|hook| hook["command"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn install_warns_if_hooks_are_off_and_does_not_change_mixed_commands() {
    let machine = machine();
    for (setting, why, remedy) in [
        (
            "\"disableAllHooks\": true",
            "disableAllHooks is true in ",
            "remove disableAllHooks from ",
        ),
        (
            "\"env\": {\"CLAUDE_CODE_SIMPLE\": \"1\"}",
            "CLAUDE_CODE_SIMPLE is \"1\" in ",
            "remove CLAUDE_CODE_SIMPLE from ",
        ),
        (
            "\"disableAllHooks\": null",
            "it ignores ",
            "where disableAllHooks is null, not true or false; correct that",
        ),
    ] {
        put(&machine, format!("{{{setting}}}"));
        let output = install(&machine);
        let stderr = &output.stderr;
        let start =
            format!("convex-sidecar: warning: the client does not run these hooks, because {why}");
        assert!(
            output.status == 0 && stderr.starts_with(&start) && stderr.contains(remedy),
            "{stderr}"
        );
    }
    // The second one has an effect only in managed settings.
    for setting in ["disableAllHooks\": false", "allowManagedHooksOnly\": true"] {
        put(&machine, format!("{{\"{setting}}}"));
        install(&machine).ok();
    }
    let mixed = r#"{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "tee log | convex-sidecar hook"}]}]}}"#;
    let path = put(&machine, mixed);
    for verb in ["install", "uninstall"] {
        let output = machine.sidecar(&[verb]).run();
        assert!(
            output.stderr.contains("not changed, because it also runs other commands: \"tee log | convex-sidecar hook\" for Stop"),
            "{}",
            output.stderr
        );
    }
    assert_eq!(fs::read_to_string(path).unwrap(), mixed);
}

#[test]
fn completions_of_every_shell_contain_every_command() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = machine.sidecar(&["completions", shell]).run().ok();
        for verb in [
            "hook",
            "sync",
            "import",
            "sessions",
            "show",
            "install",
            "uninstall",
            "completions",
        ] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
    assert_eq!(machine.sidecar(&["completions", "cmd"]).run().status, 64);
    let script = machine.sidecar(&["completions", "bash"]).run().ok();
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(bash.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}
