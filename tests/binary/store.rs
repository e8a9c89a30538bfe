//! Settings that another program manages, usually a link into a store that nobody may write to. If
//! any file cannot be changed, all changes are refused, and nothing is left behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use serde_json::Value;

use crate::install::tree;
use crate::support::{Machine, Output, place_executable, root};

const OWN: &str = "{\n  \"model\": \"opus\"\n}\n";

/// Files, links with `@` for the home folder, and modes. Folders end in `/`.
type Layout<'a> = (
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, u32)],
);

/// A home folder that belongs to the user who runs the commands.
fn machine((files, links, modes): Layout) -> Machine {
    let machine = Machine::new();
    let home = machine.home().to_str().unwrap().to_owned();
    let place = |name: &str| {
        let path = machine.home().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for (name, text) in files {
        match name.strip_suffix('/') {
            Some(folder) => fs::create_dir(place(folder)).unwrap(),
            None => fs::write(place(name), text).unwrap(),
        }
    }
    for (name, target) in links {
        symlink(target.replace('@', &home), place(name)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        let paths = tree(machine.home()).into_keys();
        for path in paths
            .filter(|path| path.exists())
            .chain([home.clone().into()])
        {
            chown(path, Some(65_534), None).unwrap();
        }
    }
    for (name, mode) in modes {
        fs::set_permissions(place(name), Permissions::from_mode(*mode)).unwrap();
    }
    machine.env("HOME", &home)
}

/// Runs the binary as that user, from a folder that this user can open.
fn run(machine: &Machine, args: &[&str]) -> Output {
    let folder = tempfile::TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("convex-sidecar");
    // The binary is linked instead of copied: a copy could not be run while another test, which is
    // starting a process, has it open.
    place_executable(&program);
    let script = format!("exec '{}' {}", program.display(), args.join(" "));
    machine.shell(&script).nobody().run()
}

/// Lets the temporary folder be removed.
fn open(machine: &Machine) {
    for path in tree(machine.home()).into_keys() {
        if path.is_dir() {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
    }
    fs::set_permissions(machine.home(), Permissions::from_mode(0o755)).unwrap();
}

/// The text of a settings file as `install` writes it.
fn with_hooks() -> String {
    fs::read_to_string(root().join("hooks/settings.json")).unwrap()
}

/// The ways in which a settings file with this text can be read-only for its user.
fn closed(text: &str) -> Vec<(&'static str, Machine)> {
    const LINK: &[(&str, &str)] = &[(".claude/settings.json", "../store/settings.json")];
    let stored: &[_] = &[("store/settings.json", text)];
    let own: &[_] = &[(".claude/settings.json", text)];
    let layouts: [(_, Layout); 7] = [
        (
            "a read-only file in a read-only store",
            (
                stored,
                LINK,
                &[("store/settings.json", 0o444), ("store", 0o555)],
            ),
        ),
        (
            "a file in a read-only store",
            (stored, LINK, &[("store", 0o555)]),
        ),
        (
            "a link to a link",
            (
                &[("store/2/settings.json", text)],
                &[
                    (".claude/settings.json", "../store/1/settings.json"),
                    ("store/1/settings.json", "../2/settings.json"),
                ],
                &[("store/2", 0o555)],
            ),
        ),
        (
            "an absolute link",
            (
                stored,
                &[(".claude/settings.json", "@/store/settings.json")],
                &[("store", 0o555)],
            ),
        ),
        (
            "a file in a read-only store, with a backup",
            (
                &[
                    ("store/settings.json", text),
                    (".claude/settings.json.convex-sidecar.bak", "{}"),
                ],
                LINK,
                &[("store", 0o555)],
            ),
        ),
        ("a read-only folder", (own, &[], &[(".claude", 0o555)])),
        (
            "a read-only file in a read-only folder",
            (
                own,
                &[],
                &[(".claude/settings.json", 0o444), (".claude", 0o555)],
            ),
        ),
    ];
    layouts.map(|(name, layout)| (name, machine(layout))).into()
}

#[test]
fn file_that_cannot_be_replaced_is_refused_and_nothing_is_left_behind() {
    let partial = with_hooks().replace("\"Stop\"", "\"Notification\"");
    for (text, verbs) in [
        (OWN, &["install"][..]),
        (&partial, &["install", "uninstall"]),
    ] {
        for (name, machine) in closed(text) {
            let before = tree(machine.home());
            for verb in verbs {
                let output = run(&machine, &[verb]);
                let printed = output.stderr;
                assert_eq!(
                    (output.status, &*output.stdout),
                    (1, ""),
                    "{verb} {name}: {printed}"
                );
                assert!(
                    printed.contains(".claude/settings.json")
                        && printed.contains("this user cannot write to")
                        && printed
                            .contains("home-manager in `programs.claude-code.settings.hooks`"),
                    "{verb} {name}: {printed}"
                );
                assert_eq!(
                    printed.contains("a link to"),
                    name.contains("store") || name.contains("link"),
                    "{printed}"
                );
                assert_eq!(tree(machine.home()), before, "{verb} {name}");
                // The difference shows what has to be added or removed.
                let output = run(&machine, &[verb, "--dry-run"]);
                assert_eq!(
                    (output.status, output.stderr),
                    (1, printed),
                    "{verb} {name}"
                );
                assert!(
                    output.stdout.contains("convex-sidecar hook"),
                    "{name}: {}",
                    output.stdout
                );
                assert_eq!(tree(machine.home()), before, "{verb} {name}");
            }
            open(&machine);
        }
    }
}

/// The file itself could be written, through a link.
#[test]
fn file_whose_backup_cannot_be_written_stays() {
    let machine = machine((
        &[("dotfiles/settings.json", OWN)],
        &[(".claude/settings.json", "../dotfiles/settings.json")],
        &[(".claude", 0o555)],
    ));
    let before = tree(machine.home());
    let output = run(&machine, &["install"]);
    assert_eq!(output.status, 1);
    assert!(
        output.stderr.contains("could not write the backup"),
        "{}",
        output.stderr
    );
    assert_eq!(tree(machine.home()), before);
    open(&machine);
}

#[test]
fn file_that_cannot_be_created_is_refused_and_nothing_is_left_behind() {
    let layouts: [(_, Layout); 5] = [
        (
            "a dangling link into a read-only store",
            (
                &[("store/", "")],
                &[(".claude/settings.json", "../store/settings.json")],
                &[("store", 0o555)],
            ),
        ),
        (
            "a dangling link into a folder that is missing",
            (
                &[("store/", "")],
                &[(".claude/settings.json", "../store/a/b/settings.json")],
                &[("store", 0o555)],
            ),
        ),
        (
            "a read-only folder",
            (&[(".claude/", "")], &[], &[(".claude", 0o555)]),
        ),
        ("a read-only home", (&[], &[], &[("", 0o555)])),
        (
            "a folder that is a dangling link",
            (&[], &[(".claude", "nowhere/at/all")], &[]),
        ),
    ];
    for (name, layout) in layouts {
        let machine = machine(layout);
        let before = tree(machine.home());
        let output = run(&machine, &["install"]);
        assert_eq!(
            (output.status, &*output.stdout),
            (1, ""),
            "{name}: {}",
            output.stderr
        );
        let reason = if name.ends_with("dangling link") {
            "is a link to something that does not exist"
        } else {
            "this user cannot write to"
        };
        assert!(output.stderr.contains(reason), "{name}: {}", output.stderr);
        assert_eq!(tree(machine.home()), before, "{name}");
        let printed = run(&machine, &["uninstall"]).ok();
        assert!(printed.contains("nothing to remove"), "{name}: {printed}");
        assert_eq!(tree(machine.home()), before, "{name}");
        open(&machine);
    }
}

/// The user has added the hooks to the source of the file, so there is nothing to do.
#[test]
fn hooks_in_a_file_that_cannot_be_replaced_are_left_as_they_are() {
    for (name, machine) in closed(&with_hooks()) {
        let before = tree(machine.home());
        for args in [&["install"][..], &["install", "--dry-run"]] {
            let printed = run(&machine, args).ok();
            assert!(
                printed.contains(
                    "nothing to change; the hooks are there, and the file is managed elsewhere"
                ),
                "{name}: {printed}"
            );
            assert_eq!(tree(machine.home()), before, "{name}");
        }
        open(&machine);
        // Where the file can be written, the full path of the program is.
        let printed = run(&machine, &["install"]).ok();
        assert!(printed.contains("SessionEnd run /"), "{name}: {printed}");
    }
}

/// The section of docs/setup.md that shows the entries to users who do not run `install`.
fn declarative_section() -> String {
    let text = fs::read_to_string(root().join("docs/setup.md")).unwrap();
    let (_, section) = text.split_once("\n## Declarative settings\n").unwrap();
    section.split("\n## ").next().unwrap().to_owned()
}

fn blocks(text: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let blocks = text.split(&start).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn declarative_settings_are_what_install_writes() {
    let written: Value = serde_json::from_str(&with_hooks()).unwrap();
    let section = declarative_section();
    let json = blocks(&section, "json");
    assert_eq!(json.len(), 2);
    for block in json {
        let block = block.replace("/usr/local/bin/convex-sidecar", "convex-sidecar");
        assert_eq!(serde_json::from_str::<Value>(&block).unwrap(), written);
    }
    let [nix] = &blocks(&section, "nix")[..] else {
        panic!("{section}")
    };
    // `genAttrs [ names ] (_: value)` gives each name the value.
    let (_, call) = nix.split_once("lib.genAttrs [").unwrap();
    let (names, value) = call.split_once("] (_: ").unwrap();
    let value = value.rsplit_once(");").unwrap().0;
    let words = value.split_whitespace().map(|word| match word {
        "=" => ":".to_owned(),
        "type" | "command" | "timeout" | "hooks" => format!("\"{word}\""),
        word => word.replace(';', ","),
    });
    let json = words.collect::<Vec<_>>().join(" ").replace(", }", " }");
    let value: Value =
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let events: serde_json::Map<_, _> = names
        .split_whitespace()
        .map(|name| (name.trim_matches('"').to_owned(), value.clone()))
        .collect();
    assert_eq!(Value::Object(events), written["hooks"]);
}
