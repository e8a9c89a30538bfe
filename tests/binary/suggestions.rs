//! What users type before they know the commands.

use crate::support::Machine;

#[test]
fn help_and_version_are_also_commands() {
    let machine = Machine::new();
    let stdout = |args: &[&str]| machine.sidecar(args).run().ok();
    assert_eq!(stdout(&["help"]), stdout(&["--help"]));
    assert_eq!(
        stdout(&["help", "sessions"]),
        stdout(&["sessions", "--help"])
    );
    assert_eq!(
        stdout(&["help", "workflow", "set"]),
        stdout(&["workflow", "set", "--help"])
    );
    assert_eq!(stdout(&["version"]), stdout(&["--version"]));
    assert_eq!(machine.sidecar(&["help", "nothing"]).run().status, 64);
}

#[test]
fn commands_of_other_programs_lead_to_ours() {
    let machine = Machine::new();
    for (name, command) in [
        ("list", "sessions"),
        ("status", "sessions"),
        ("cost", "usage"),
    ] {
        let output = machine.sidecar(&[name]).run();
        assert_eq!((output.status, output.stdout.as_str()), (64, ""), "{name}");
        let tip = format!("'{command}'");
        assert!(output.stderr.contains(&tip), "{name}: {}", output.stderr);
    }
}

#[test]
fn bare_command_without_input_says_what_it_is() {
    let machine = Machine::new();
    for input in ["", " \n"] {
        let output = machine.sidecar(&[]).stdin(input).run();
        assert_eq!((output.status, output.stdout.as_str()), (0, ""));
        assert!(
            output
                .stderr
                .contains("`convex-sidecar --help` lists the commands"),
            "{}",
            output.stderr
        );
        machine.hook(input);
    }
    machine.sidecar(&[]).stdin("{").run().silent();
    machine
        .sidecar(&[])
        .stdin(r#"{"session_id": "s", "hook_event_name": "Stop"}"#)
        .run()
        .silent();
    assert_eq!(machine.document("s")["sessionId"], "s");
}

#[test]
fn workflow_is_not_set_to_nothing() {
    let machine = Machine::new();
    let output = machine.sidecar(&["workflow", "set", "nightly"]).run();
    assert_eq!(output.status, 64);
    for field in ["--task", "--status", "--step", "--artifact"] {
        assert!(output.stderr.contains(field), "{field}: {}", output.stderr);
    }
    let list = machine.sidecar(&["workflow", "list", "--json"]).run();
    assert!(!list.stdout.contains("nightly"), "{}", list.stdout);
    let args = [
        "workflow",
        "set",
        "nightly",
        "--artifact",
        "",
        "--step",
        "build",
    ];
    assert_eq!(machine.sidecar(&args).run().status, 0);
}

/// The completions that bash offers for the last of these words.
fn completed(machine: &Machine, line: &[&str]) -> Vec<String> {
    let script = r#"
        # The bash of macOS cannot read it with `source <(…)`.
        eval "$(convex-sidecar completions bash)"
        COMP_WORDS=(convex-sidecar "$@") COMP_CWORD=$#
        function=$(complete -p convex-sidecar)
        function=${function##*-F }
        "${function%% *}" convex-sidecar "${!#}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = std::process::Command::new("/bin/bash");
    bash.args(["-c", script, "bash"]).args(line);
    let words = machine.prepare(bash).run().ok();
    words
        .lines()
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
#[cfg(unix)]
fn completions_offer_the_ids_of_sessions() {
    let machine = Machine::new().linked();
    for id in ["6ecd139f", "6f000000", "a0000000"] {
        let hook = machine.sidecar(&["hook"]);
        let event = format!(
            r#"{{"session_id": "{id}", "hook_event_name": "UserPromptSubmit", "prompt": "-n $(touch evil) \u001b[2J"}}"#
        );
        hook.stdin(event).run().silent();
    }
    for command in ["show", "forget"] {
        let mut offered = completed(&machine, &[command, "6"]);
        offered.sort();
        assert_eq!(offered, ["6ecd139f", "6f000000"], "{command}");
        assert_eq!(completed(&machine, &[command, ""]).len(), 3, "{command}");
        assert!(
            completed(&machine, &[command, "--"]).contains(&"--help".to_owned()),
            "{command}"
        );
    }
    assert!(completed(&machine, &["ses"]).contains(&"sessions".to_owned()));
    assert!(!machine.home().join("evil").exists());
    for shell in ["zsh", "fish"] {
        let script = machine.sidecar(&["completions", shell]).run().ok();
        assert_eq!(
            script
                .matches("convex-sidecar sessions --ids --limit 100")
                .count(),
            1,
            "{shell}"
        );
    }
    let zsh = machine.sidecar(&["completions", "zsh"]).run().ok();
    assert_eq!(
        zsh.matches("prefix of it:_convex-sidecar_sessions'")
            .count(),
        2,
        "{zsh}"
    );
}

#[test]
fn usage_and_show_name_what_was_probably_meant() {
    let machine = Machine::new();
    for (args, tip) in [
        (&["show"][..], "<SESSION|--last>"),
        (&["usage", "session"], "`convex-sidecar sessions`"),
        (&["usage", "--by", "sessions"], "`convex-sidecar sessions`"),
    ] {
        let output = machine.sidecar(args).run();
        assert_eq!(output.status, 64, "{args:?}");
        assert!(output.stderr.contains(tip), "{args:?}: {}", output.stderr);
    }
    let args = ["usage", "--project", "sessions", "--status", "bogus"];
    let stderr = machine.sidecar(&args).run().stderr;
    assert!(
        stderr.contains("'bogus'") && !stderr.contains("convex-sidecar sessions"),
        "{stderr}"
    );
    machine.sidecar(&["usage", "agent_type"]).run().ok();
}

#[test]
fn command_that_creates_a_workflow_works_as_it_is_shown() {
    let machine = Machine::new();
    let hint = machine.sidecar(&["workflow", "list"]).run().ok();
    let command = hint.split('`').nth(1).unwrap();
    let args: Vec<_> = command.split(' ').skip(1).collect();
    machine.sidecar(&args).run().ok();
    let list = machine.sidecar(&["workflow", "list"]).run().ok();
    assert!(list.contains("KEY"), "{list}");
}
