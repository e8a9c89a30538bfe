//! Every form of our hook in a settings file: earlier versions wrote some, users write others.
//! `doctor` runs each as the client does, and `install` replaces what earlier versions wrote.

use serde_json::{Value, json};

use crate::doctor::EVENTS;
use crate::support::{Backend, Machine, json_lines};

/// A program that records how it is called.
const NOTING: &str = "#!/bin/sh\necho \"$# $*\" >> \"${0%/*}/calls\"\nexec 'BINARY' \"$@\"\n";

/// The forms for a program in a folder with a space, and the arguments that the program gets.
fn forms(program: &str) -> Vec<(Value, &'static str)> {
    let shell = |command: String| json!({"type": "command", "command": command, "timeout": 10});
    let exec =
        |args: Value| json!({"type": "command", "command": program, "args": args, "timeout": 10});
    vec![
        (shell(format!("exec '{program}' hook")), "1 hook"),
        (shell(format!("'{program}' hook")), "1 hook"),
        (shell(format!("'{program}'")), "0 "),
        (shell(format!("A=1 '{program}' hook || true")), "1 hook"),
        (exec(json!(["hook"])), "1 hook"),
        (exec(json!([])), "0 "),
    ]
}

fn put(machine: &Machine, path: &str, hook: &Value) {
    let hooks: serde_json::Map<_, _> = EVENTS
        .map(|event| (event.to_owned(), json!([{"hooks": [hook]}])))
        .into_iter()
        .collect();
    machine.write(path, &json!({"hooks": hooks}).to_string(), 0o644);
}

fn proof(machine: &Machine) -> Value {
    let output = machine.sidecar(&["doctor", "--json"]).run();
    let checks = json_lines(&output.stdout);
    let proof = checks.iter().find(|check| check["name"] == "proof");
    proof.unwrap_or_else(|| panic!("{}", output.stdout)).clone()
}

#[cfg(unix)] // A shell runs the commands.
#[test]
fn doctor_runs_the_command_of_each_form() {
    let backend = Backend::start();
    let machine = backend.machine().linked();
    let script = NOTING.replace("BINARY", env!("CARGO_BIN_EXE_convex-sidecar"));
    machine.write("a b/convex-sidecar", &script, 0o755);
    let (program, calls) = (
        machine.home().join("a b/convex-sidecar"),
        machine.home().join("a b/calls"),
    );
    for (hook, expected) in forms(program.to_str().unwrap()) {
        put(&machine, ".claude/settings.json", &hook);
        let proof = proof(&machine);
        assert_eq!(proof["mark"], "ok", "{hook}: {proof}");
        assert!(
            proof["says"]
                .as_str()
                .unwrap()
                .contains("the installed hooks"),
            "{hook}: {proof}"
        );
        // `doctor` also asks for the version.
        let calls = std::fs::read_to_string(&calls).unwrap();
        let calls: Vec<_> = calls
            .lines()
            .filter(|call| *call != "1 --version")
            .collect();
        assert_eq!(calls, [expected; EVENTS.len()], "{hook}");
        std::fs::remove_file(machine.home().join("a b/calls")).unwrap();
    }
}

/// A repository's settings can name any program, and additions to the command can run anything.
#[cfg(unix)] // A shell runs the commands.
#[test]
fn doctor_runs_a_command_of_a_repository_only_if_install_writes_it() {
    let backend = Backend::start();
    let machine = backend.machine().linked();
    let program = machine.home().join("bin/convex-sidecar");
    for (index, (hook, _)) in forms(program.to_str().unwrap()).iter().enumerate() {
        put(&machine, "repository/.claude/settings.json", hook);
        let output = machine
            .sidecar(&["doctor", "--json"])
            .folder(&machine.home().join("repository"))
            .run();
        let checks = json_lines(&output.stdout);
        let proof = checks
            .iter()
            .find(|check| check["name"] == "proof")
            .unwrap();
        let says = proof["says"].as_str().unwrap();
        // The temporary folder needs no quotes, so the quoted form is not what `install` writes.
        let is_installed = index == 4;
        assert_eq!(
            says.contains("the installed hooks"),
            is_installed,
            "{hook}: {says}"
        );
    }
    for form in [
        format!("exec {} hook", program.display()),
        format!("{} hook", program.display()),
    ] {
        put(
            &machine,
            "repository/.claude/settings.json",
            &json!({"type": "command", "command": form}),
        );
        let output = machine
            .sidecar(&["doctor", "--json"])
            .folder(&machine.home().join("repository"))
            .run();
        assert!(
            output.stdout.contains("the installed hooks"),
            "{form}: {}",
            output.stdout
        );
    }
}

#[test]
fn stop_failure_of_an_earlier_version_is_reported_and_removed() {
    let machine = Machine::new().linked();
    machine.sidecar(&["install", "--stop-failure"]).run().ok();
    let path = machine.home().join(".claude/settings.json");
    let with = std::fs::read_to_string(&path).unwrap();
    assert!(
        machine
            .sidecar(&["install", "--stop-failure"])
            .run()
            .ok()
            .contains("nothing to change")
    );
    let reported = |machine: &Machine| {
        let output = machine.sidecar(&["doctor", "--json"]).run();
        let checks = json_lines(&output.stdout);
        checks.into_iter().find(|check| {
            check["says"]
                .as_str()
                .unwrap()
                .contains("names StopFailure")
        })
    };
    // As earlier versions wrote it: without `exec` and UserPromptSubmit.
    let earlier = with
        .replace("exec ", "")
        .replace("UserPromptSubmit", "Mine");
    std::fs::write(&path, &earlier).unwrap();
    let found = reported(&machine).unwrap();
    assert_eq!(found["mark"], "warning");
    assert!(
        found["remedy"]
            .as_str()
            .unwrap()
            .contains("`convex-sidecar install` removes it")
    );

    let printed = machine.sidecar(&["install"]).run().ok();
    assert!(
        printed.contains("; StopFailure is removed, because clients before 2.1.78 ignore"),
        "{printed}"
    );
    assert_eq!(reported(&machine), None);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("StopFailure"), "{text}");
    let ours = if cfg!(windows) {
        "\"args\""
    } else {
        "\"exec /"
    };
    assert_eq!(text.matches(ours).count(), 5, "{text}");
    let printed = machine.sidecar(&["install"]).run().ok();
    assert!(
        printed.contains("nothing to change") && !printed.contains("StopFailure"),
        "{printed}"
    );
    std::fs::write(&path, &earlier).unwrap();
    machine.sidecar(&["uninstall"]).run().ok();
    assert!(!path.exists());
}
