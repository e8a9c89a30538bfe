//! What README.md shows is what happens.

use crate::support::{Backend, CAPTURES, Capture, root};

/// The lines of all fenced blocks of this language.
fn commands(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut commands = Vec::new();
    let mut is_inside = false;
    for line in readme.lines().map(str::trim) {
        if line.starts_with("```") {
            is_inside = line == format!("```{language}");
        } else if is_inside {
            commands.push(line.to_owned());
        }
    }
    commands
}

#[test]
fn every_command_of_the_sidecar_works_as_it_stands_there() {
    let backend = Backend::start();
    let machine = backend.machine().linked();
    for name in CAPTURES {
        let capture = Capture::new(name);
        capture.place_transcripts(&machine);
        for hook in capture.hooks(&machine) {
            machine.sidecar(&["hook"]).stdin(hook.json).run().silent();
        }
    }
    let mut count = 0;
    for command in commands("sh").iter().filter(|command| command.contains("convex-sidecar ")) {
        let (input, command) = match command.split_once(" | ") {
            Some((echo, command)) => (echo.strip_prefix("echo '").unwrap().strip_suffix('\'').unwrap(), command),
            None => ("", command.as_str()),
        };
        let args: Vec<_> = command.strip_prefix("convex-sidecar ").unwrap().split(' ').collect();
        assert_ne!(machine.sidecar(&args).stdin(input).run().ok(), "", "{command}");
        count += 1;
    }
    assert!(count >= 5, "{count}");
}

/// The screens that are shown are those which the screens' own tests hold.
#[test]
fn every_screen_is_what_is_shown() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for (command, name) in [("sessions", "sessions"), ("workflow show release-1.0", "workflow-show")] {
        let screen = std::fs::read_to_string(crate::screens::file(name, 80)).unwrap();
        assert!(readme.contains(&format!("```\n$ convex-sidecar {command}\n{screen}```\n")), "{name}");
    }
}

#[test]
fn every_make_target_is_there() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    for command in commands("sh") {
        if let Some(target) = command.strip_prefix("make ") {
            assert!(makefile.contains(&format!("\n{target}:")), "{command}");
        }
    }
}

/// Each message of the table of troubles is one that the program or the backend really gives.
#[test]
fn every_message_exists() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split_once("| message | do |").unwrap().1.split_once("\n\n").unwrap().0;
    let mut sources = std::fs::read_to_string(root().join("tests/fixtures/convex-backend-2026-06-30/responses.json")).unwrap();
    for room in ["config", "convex", "journal", "settings/mod"] {
        sources.push_str(&std::fs::read_to_string(root().join(format!("src/{room}.rs"))).unwrap());
    }
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let message = row.split('`').nth(1).unwrap();
        let words = message.split(['\'', ':']).map(str::trim).filter(|part| part.contains(' ') && !part.starts_with("HTTP"));
        for part in words {
            let part =
                part.replace("CONVEX_SELF_HOSTED_URL", "{URL}").replace("CONVEX_SELF_HOSTED_ADMIN_KEY", "{KEY}").replace(" http", "");
            assert!(sources.contains(&part), "{part}");
        }
    }
}
