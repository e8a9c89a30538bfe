//! The hooks of the plugin, with and without an installed program.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Capture, Machine, Output, root};

const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "Stop", "SessionEnd"];

/// Runs the command of a hook in `hooks.json` as the client does.
fn run(machine: &Machine, event: &str, variables: &[(&str, &str)], input: &str) -> Output {
    let hooks: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("hooks/hooks.json")).unwrap())
            .unwrap();
    let command = hooks["hooks"][event][0]["hooks"][0]["command"]
        .as_str()
        .unwrap();
    let mut shell = Command::new("/bin/sh");
    let plugin = plugin_folder(machine, "plugin");
    shell
        .args(["-c", command])
        .env_clear()
        .env("CLAUDE_PLUGIN_ROOT", plugin)
        .env("CONVEX_SIDECAR_HOME", machine.sidecar_home());
    shell
        .current_dir(machine.home())
        .envs(variables.iter().copied());
    let mut child = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A script that does not read its input may exit before everything is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Output {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn missing_program_prints_one_line_for_the_user_and_none_for_the_model() {
    let machine = Machine::new();
    let path = machine.home().join("plugin").display().to_string();
    for variables in [
        &[("PATH", "/nowhere")][..],
        &[
            ("PATH", "/nowhere"),
            ("HOME", "/nowhere"),
            ("CONVEX_SIDECAR_BIN", "/nowhere/convex-sidecar"),
        ],
    ] {
        let output = run(&machine, "SessionStart", variables, "{}");
        assert_eq!(
            (
                output.status,
                output.stderr.as_str(),
                output.stdout.lines().count()
            ),
            (0, "", 1)
        );
        // The client would pass anything else on stdout to the model.
        let printed: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(printed.as_object().unwrap().len(), 1);
        let line = printed["systemMessage"].as_str().unwrap();
        assert_eq!(
            line,
            format!(
                "convex-sidecar is not installed, so this session is not recorded; install it: npm install --global convex-sidecar, \
                 or with Homebrew, or cargo install --locked --path '{path}'"
            )
        );
        for event in ["UserPromptSubmit", "Stop", "SessionEnd"] {
            run(&machine, event, variables, "{}").silent();
        }
    }
    assert!(!machine.sidecar_home().exists());
}

const FOLDERS: [&str; 6] = ["a b", "it's", "\"x\"", "back\\slash", "tab\there", "日本"];

/// Where Homebrew links executables.
const HOMEBREW: [&str; 3] = ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"];

/// The plugin's script in a folder of this name. The folders of Homebrew are below the home folder,
/// because this machine may have an executable in its own.
fn plugin_folder(machine: &Machine, name: &str) -> PathBuf {
    let plugin = machine.home().join(name);
    let mut script = std::fs::read_to_string(root().join("hooks/convex-sidecar.sh")).unwrap();
    for folder in HOMEBREW {
        let here = format!("  '{}{folder}'/bin/", machine.home().display());
        script = script.replace(&format!("  {folder}/bin/"), &here);
    }
    machine.write(&format!("{name}/hooks/convex-sidecar.sh"), &script, 0o755);
    plugin
}

#[test]
fn hooks_run_in_a_plugin_folder_of_any_name() {
    for name in FOLDERS {
        let machine = Machine::new().linked();
        let plugin = plugin_folder(&machine, name);
        let variables = [
            ("PATH", machine.home().join("bin")),
            ("CLAUDE_PLUGIN_ROOT", plugin),
        ];
        let variables = variables
            .each_ref()
            .map(|(name, path)| (*name, path.to_str().unwrap()));
        for hook in Capture::new("print-mode").hooks(&machine) {
            if EVENTS.contains(&hook.event.as_str()) {
                run(&machine, &hook.event, &variables, &hook.json).silent();
            }
        }
        let [document] = &machine.documents()[..] else {
            panic!("{name}")
        };
        assert_eq!(document["status"], "completed", "{name}");
    }
}

/// The events of the plugin are those that `install` writes, and no interpreter is among the
/// commands: clients before 2.1.140 would run it without its arguments.
#[test]
fn hooks_of_the_plugin_are_those_of_the_settings() {
    let read = |file: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(root().join(file)).unwrap()).unwrap()
    };
    let (plugin, settings) = (read("hooks/hooks.json"), read("hooks/settings.json"));
    let events = |file: &serde_json::Value| -> Vec<String> {
        file["hooks"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(events(&plugin), events(&settings));
    assert_eq!(events(&plugin).len(), EVENTS.len());
    for event in EVENTS {
        let hook = &plugin["hooks"][event][0]["hooks"][0];
        assert_eq!(
            hook["command"],
            format!("exec \"${{CLAUDE_PLUGIN_ROOT}}/hooks/convex-sidecar.sh\" {event}")
        );
        assert!(hook.get("args").is_none());
    }
}

/// The commands of the skill are real ones, and answer in a session.
#[cfg(target_os = "linux")]
#[test]
fn commands_of_the_skill_run() {
    let machine = Machine::new().linked();
    let machine = machine.env("CONVEX_SIDECAR_WORKFLOW", "release-1.0");
    let hooks = Capture::new("print-mode").hooks(&machine);
    for hook in &hooks {
        machine.hook(&hook.json);
    }
    let input: serde_json::Value = serde_json::from_str(&hooks[0].json).unwrap();
    let session = input["session_id"].as_str().unwrap().to_owned();
    let skill = std::fs::read_to_string(root().join("skills/sessions/SKILL.md")).unwrap();
    // The client reads the name and the description from these lines, one field a line.
    assert!(
        skill.starts_with("---\nname: sessions\ndescription: "),
        "{skill}"
    );
    assert_eq!(skill.lines().nth(3), Some("---"), "{skill}");
    let (_, script) = skill.split_once("```sh\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let mut client = machine.client().start();
    let shell = client.command(&[], "").shell(&format!("set -eu\n{script}"));
    let printed = shell.current(&session).run().ok();
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    let documents: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(documents[0]["sessionId"], session.as_str());
    assert_eq!(documents[1]["sessionId"], session.as_str());
    assert!(printed.contains("\"dist/shop.tar.gz\""), "{printed}");
}

#[test]
fn line_is_json_for_any_name_of_the_plugin_folder() {
    for name in FOLDERS {
        let machine = Machine::new();
        let plugin = plugin_folder(&machine, name);
        let variables = [
            ("PATH", "/nowhere"),
            ("CLAUDE_PLUGIN_ROOT", plugin.to_str().unwrap()),
        ];
        let output = run(&machine, "SessionStart", &variables, "{}");
        let printed: serde_json::Value = serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", output.stdout));
        assert!(
            printed["systemMessage"]
                .as_str()
                .unwrap()
                .contains("cargo install"),
            "{name}"
        );
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{name}");
    }
}

#[test]
fn program_is_found_on_the_path_in_cargo_home_or_by_variable() {
    let cargo = |machine: &Machine| {
        let bin = machine.home().join(".cargo/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink(
            env!("CARGO_BIN_EXE_convex-sidecar"),
            bin.join("convex-sidecar"),
        )
        .unwrap();
        bin.to_str().unwrap().to_owned()
    };
    for way in ["PATH", "HOME", "CARGO_HOME", "CONVEX_SIDECAR_BIN"] {
        let machine = Machine::new();
        let bin = cargo(&machine);
        let home = machine.home().to_str().unwrap();
        let value = match way {
            "PATH" => bin,
            "HOME" => home.to_owned(),
            "CARGO_HOME" => format!("{home}/.cargo"),
            _ => format!("{bin}/convex-sidecar"),
        };
        let input = Capture::new("print-mode").hooks(&machine)[0].json.clone();
        run(
            &machine,
            "SessionStart",
            &[("PATH", "/nowhere"), (way, &value)],
            &input,
        )
        .silent();
        assert_eq!(machine.documents().len(), 1, "{way}");
    }
}

/// Clients that the desktop, launchd or cron starts have a short PATH.
#[test]
fn program_is_found_without_the_path() {
    let home_folders = [
        "Library/Application Support/convex-sidecar",
        ".local/share/convex-sidecar",
    ];
    let homebrew = HOMEBREW.map(|folder| folder.trim_start_matches('/'));
    for folder in homebrew.into_iter().chain(home_folders) {
        let machine = Machine::new();
        let bin = machine.home().join(folder).join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let executable = env!("CARGO_BIN_EXE_convex-sidecar");
        std::os::unix::fs::symlink(executable, bin.join("convex-sidecar")).unwrap();
        let home = machine.home().to_str().unwrap();
        let variables = [("PATH", "/usr/bin:/bin"), ("HOME", home)];
        let input = Capture::new("print-mode").hooks(&machine)[0].json.clone();
        run(&machine, "SessionStart", &variables, &input).silent();
        assert_eq!(machine.documents().len(), 1, "{folder}");
    }
}

/// A session works in a folder whose files others can write.
#[test]
fn program_of_the_project_is_not_run() {
    for way in ["PATH", "HOME", "CARGO_HOME", "CONVEX_SIDECAR_BIN"] {
        let machine = Machine::new();
        for path in [
            "convex-sidecar",
            "bin/convex-sidecar",
            ".cargo/bin/convex-sidecar",
        ] {
            machine.write(path, "#!/bin/sh\n: > ran\n", 0o700);
        }
        let value = if way == "CONVEX_SIDECAR_BIN" {
            "./convex-sidecar"
        } else {
            "."
        };
        let variables = [("PATH", "/nowhere"), (way, value)];
        assert_eq!(run(&machine, "Stop", &variables, "{}").status, 0);
        assert!(!machine.home().join("ran").exists(), "{way}");
    }
}
