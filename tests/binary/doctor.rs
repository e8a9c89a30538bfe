//! `doctor` passes on a healthy machine, and reports each fault that is created here with its
//! remedy.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

#[cfg(target_os = "linux")]
use crate::gate::TlsServer;
use crate::gate::{Fault, Gate};
use crate::support::{Backend, Machine, Output, json_lines, with_slashes};

const SECRET: &str = "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7";

fn stop(session: &str) -> String {
    json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": "said"})
        .to_string()
}

fn doctor(machine: &Machine) -> Output {
    machine.sidecar(&["doctor"]).run()
}

/// Asserts that a check has this mark, reports this finding and names this remedy.
#[track_caller]
fn assert_reports(machine: &Machine, mark: &str, finding: &str, remedy: &str) {
    let output = machine.sidecar(&["doctor", "--json"]).run();
    let checks = json_lines(&output.stdout);
    let contains = |check: &Value, name: &str, part: &str| {
        check[name]
            .as_str()
            .is_some_and(|text| with_slashes(text).contains(part))
    };
    let is_reported = checks.iter().any(|check| {
        check["mark"] == mark
            && contains(check, "says", finding)
            && contains(check, "remedy", remedy)
    });
    assert!(
        is_reported,
        "{finding} → {remedy}: {}{}",
        output.stdout, output.stderr
    );
    let failed = checks.iter().any(|check| check["mark"] == "failed");
    assert_eq!(output.status, i32::from(failed), "{}", output.stderr);
    // The table reports the same.
    let table = with_slashes(&doctor(machine).stdout);
    assert!(
        table.contains(finding) && table.contains(&format!("→ {remedy}")[.."→ ".len()]),
        "{table}"
    );
}

/// The checks that failed.
fn failed(machine: &Machine) -> Vec<Value> {
    let mut checks = json_lines(&machine.sidecar(&["doctor", "--json"]).run().stdout);
    checks.retain(|check| check["mark"] == "failed");
    checks
}

/// The events that `install` writes.
pub const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "Stop", "SessionEnd"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A machine whose user settings contain what `install` writes, with this change.
fn installed(machine: Machine, change: impl FnOnce(&mut Value)) -> Machine {
    installed_on(machine.linked(), change)
}

fn installed_on(machine: Machine, change: impl FnOnce(&mut Value)) -> Machine {
    machine.sidecar(&["install"]).run().ok();
    let path = machine.home().join(".claude/settings.json");
    let mut settings: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut settings);
    std::fs::write(path, settings.to_string()).unwrap();
    machine
}

/// The first hook of an event.
fn hook<'a>(settings: &'a mut Value, event: &str) -> &'a mut Value {
    &mut settings["hooks"][event][0]["hooks"][0]
}

#[test]
fn healthy_machine_passes_every_check() {
    let backend = Backend::start();
    let machine = installed(backend.machine(), |_| {});
    machine.hook(stop("s"));
    let output = doctor(&machine);
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (0, ""),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.lines().all(|line| line.starts_with('✓')),
        "{}",
        output.stdout
    );
    for part in [
        "executable",
        "configuration",
        "hooks",
        "journal",
        "pending",
        "server",
        "functions",
        "went through the installed hooks",
    ] {
        assert!(output.stdout.contains(part), "{part}: {}", output.stdout);
    }
    // The test session is deleted everywhere.
    let rows = machine.remote_sessions();
    assert_eq!((rows.len(), machine.documents().len()), (1, 1));
    let calls = backend.calls();
    assert!(
        calls.iter().any(|call| call == "agents:deleteAgentSession"),
        "{calls:?}"
    );
}

#[test]
fn hooks_of_every_named_client_are_checked() {
    let machine = Machine::new().linked();
    let clients = [
        "--claude-config-dir",
        "own",
        "--claude-config-dir",
        "my work",
    ];
    let checks = || {
        let args = [&["doctor", "--json"][..], &clients].concat();
        let mut checks = json_lines(&machine.sidecar(&args).run().stdout);
        checks.retain(|check| check["name"] == "hooks");
        checks
    };
    let settings = |client: &str| {
        let path = machine.home().join(client).join("settings.json");
        path.display().to_string()
    };
    let install = |options: &[&str]| {
        let args = [&["install"][..], options].concat();
        machine.sidecar(&args).run().ok();
    };
    let warning = |client: &str, folder: &str| {
        json!({
            "name": "hooks",
            "mark": "warning",
            "says": format!("no hooks apply in this folder with CLAUDE_CONFIG_DIR={client}"),
            "remedy": format!("`convex-sidecar install --claude-config-dir {folder}`"),
        })
    };
    let ok = |says: String| json!({"name": "hooks", "mark": "ok", "says": says});
    let (own, work) = if cfg!(windows) {
        ("\"own\"", "\"my work\"")
    } else {
        ("own", "'my work'")
    };
    assert_eq!(checks(), [warning("own", own), warning("my work", work)]);
    install(&clients[..2]);
    assert_eq!(checks(), [ok(settings("own")), warning("my work", work)]);
    // Each client runs only its own hooks, so two installations are not duplicates.
    install(&clients[2..]);
    assert_eq!(checks(), [ok(settings("own")), ok(settings("my work"))]);
}

#[test]
fn missing_hooks_are_reported() {
    assert_reports(
        &Machine::new().linked(),
        "warning",
        "no hooks apply in this folder",
        "`convex-sidecar install`",
    );
}

#[test]
fn event_without_hook_is_reported() {
    let machine = installed(Machine::new(), |settings| {
        drop(settings["hooks"].as_object_mut().unwrap().remove("Stop"));
    });
    assert_reports(
        &machine,
        "warning",
        "no hook for Stop",
        "`convex-sidecar install`",
    );
}

#[test]
fn duplicate_hook_is_reported() {
    let machine = installed(Machine::new(), |settings| {
        let groups = settings["hooks"]["Stop"].as_array_mut().unwrap();
        groups.push(groups[0].clone());
    });
    assert_reports(
        &machine,
        "warning",
        "Stop has two hooks in",
        "`convex-sidecar install` keeps one",
    );
    machine.sidecar(&["install"]).run().ok();
    assert!(!doctor(&machine).stdout.contains("two hooks"));
}

#[test]
fn condition_of_a_hook_is_reported() {
    let machine = installed(Machine::new(), |settings| {
        let groups = &mut settings["hooks"]["SessionStart"];
        groups[0]["matcher"] = json!("startup");
        groups[0]["hooks"][0]["async"] = json!(true);
    });
    assert_reports(
        &machine,
        "warning",
        r#"has "matcher": "startup", "async": true: the client may skip it, or may not let it finish"#,
        "`convex-sidecar install` corrects it",
    );
    machine.sidecar(&["install"]).run().ok();
    assert!(!doctor(&machine).stdout.contains("may skip it"));
}

#[test]
fn matcher_that_install_leaves_is_reported_with_another_remedy() {
    let machine = installed(Machine::new(), |settings| {
        let group = &mut settings["hooks"]["SessionStart"][0];
        group["matcher"] = json!("startup");
        let hooks = group["hooks"].as_array_mut().unwrap();
        hooks[0] = json!({
            "type": "command", "command": "A=1 convex-sidecar hook --verbose", "timeout": 5
        });
        hooks.push(json!({"type": "command", "command": "true"}));
    });
    for _ in 0..2 {
        assert_reports(
            &machine,
            "warning",
            r#"has "matcher": "startup": the client may skip it"#,
            "move it to a group without a matcher",
        );
        machine.sidecar(&["install"]).run().ok();
    }
}

#[test]
fn hooks_in_two_scopes_are_reported() {
    let machine = installed(Machine::new(), |_| {});
    let project = machine.home().join("project");
    std::fs::create_dir(&project).unwrap();
    machine
        .sidecar(&["install", "--scope", "local"])
        .folder(&project)
        .run()
        .ok();
    let table = machine.sidecar(&["doctor"]).folder(&project).run().stdout;
    assert!(
        table.contains("! hooks          hooks run more than once for each event: "),
        "{table}"
    );
    assert!(
        table.contains("→ `convex-sidecar uninstall --scope local`"),
        "{table}"
    );
    machine
        .sidecar(&["uninstall", "--scope", "local"])
        .folder(&project)
        .run()
        .ok();
    assert!(
        !machine
            .sidecar(&["doctor"])
            .folder(&project)
            .run()
            .stdout
            .contains("more than once")
    );
}

#[test]
fn hooks_in_plugin_and_settings_are_reported() {
    let machine = installed(Machine::new(), |settings| {
        settings["enabledPlugins"] = json!({"convex-sidecar@convex-sidecar": true});
    });
    assert_reports(
        &machine,
        "warning",
        "hooks run more than once",
        "`claude plugin uninstall convex-sidecar@convex-sidecar`",
    );
}

#[test]
fn plugin_without_executable_is_reported() {
    let machine = installed(Machine::new(), |settings| {
        *settings = json!({"enabledPlugins": {"convex-sidecar@convex-sidecar": true}});
    });
    assert!(
        doctor(&machine)
            .stdout
            .contains("✓ hooks          the plugin convex-sidecar@convex-sidecar in ")
    );
    let machine = machine.env("PATH", "");
    let mut homebrew = ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"].iter();
    if homebrew.any(|folder| Path::new(folder).join("bin/convex-sidecar").exists()) {
        return; // This machine has one that the plugin finds.
    }
    assert_reports(
        &machine,
        "failed",
        "cannot find the executable",
        "put its folder on the PATH",
    );
    // The plugin's script looks there, too.
    let name = format!("convex-sidecar{}", std::env::consts::EXE_SUFFIX);
    let copy = format!(".local/share/convex-sidecar/bin/{name}");
    machine.write(&copy, "", 0o755);
    let shown = doctor(&machine).stdout;
    assert!(!shown.contains("cannot find the executable"), "{shown}");
}

#[test]
fn timeout_in_milliseconds_is_reported() {
    let machine = installed(Machine::new(), |settings| {
        hook(settings, "SessionEnd")["timeout"] = json!(10_000);
    });
    assert_reports(
        &machine,
        "warning",
        "the timeout for SessionEnd in",
        "it looks like milliseconds; `convex-sidecar install` sets 10 seconds",
    );
}

#[test]
fn moved_executable_is_reported() {
    // The second one is how Windows abbreviates a long name.
    for folder in ["old", "RUNNER~1"] {
        let path = if cfg!(windows) {
            format!("C:/{folder}/convex-sidecar.exe")
        } else {
            format!("/{folder}/convex-sidecar")
        };
        let machine = installed(Machine::new(), |settings| {
            // With `args` on Windows.
            let verb = if cfg!(windows) { "" } else { " hook" };
            hook(settings, "Stop")["command"] = json!(format!("{path}{verb}"));
        });
        assert_reports(
            &machine,
            "failed",
            &format!("runs {path}, which does not exist"),
            "`convex-sidecar install`",
        );
    }
}

/// A machine whose hook for Stop runs another program, this one, with `prefix` before its path.
#[cfg(unix)]
fn running_other(machine: Machine, program: &str, prefix: &str) -> Machine {
    machine.write("other/convex-sidecar", program, 0o755);
    let other = machine.home().join("other/convex-sidecar");
    installed_on(machine, |settings| {
        hook(settings, "Stop")["command"] = json!(format!("{prefix}{} hook", other.display()));
    })
}

#[cfg(unix)] // The other program is a shell script.
#[test]
fn other_executable_is_reported() {
    let machine = Machine::new().linked();
    let machine = running_other(machine, "#!/bin/sh\necho convex-sidecar 0.0.9\n", "");
    assert_reports(
        &machine,
        "warning",
        "convex-sidecar (convex-sidecar 0.0.9), not this executable",
        "`convex-sidecar install` replaces it with this one",
    );
}

#[cfg(target_os = "linux")] // Other systems describe a file that is not a program differently.
#[test]
fn program_that_cannot_run_is_reported() {
    for (program, why) in [
        ("", "Exec format error"),
        ("\u{7f}ELF, and not a program", "Exec format error"),
        ("#!/not/there\n", "its interpreter or loader does not exist"),
        (
            "#!/bin/sh\necho missing library >&2\nexit 127\n",
            "exit status 127: missing library",
        ),
        ("#!/bin/sh\nexit 1\n", "exit status 1: no output"),
        ("#!/bin/sh\nkill -SEGV $$\n", "a signal ended it"),
        ("#!/bin/sh\n", "`--version` prints no version"),
        (
            "#!/bin/sh\necho another program\n",
            "`--version` prints no version",
        ),
    ] {
        let machine = Machine::new().linked();
        let machine = running_other(machine, program, "exec ");
        assert_reports(
            &machine,
            "failed",
            &format!("other/convex-sidecar, which cannot run: {why}"),
            "`convex-sidecar install` replaces it with this one",
        );
        machine.sidecar(&["install"]).run().ok();
        assert_eq!(failed(&machine), Vec::<Value>::new());
    }
}

#[cfg(unix)] // The program is a shell script.
#[test]
fn program_that_does_not_end_is_stopped_and_reported() {
    let machine = Machine::new().linked();
    let machine = running_other(machine, "#!/bin/sh\nexec /bin/sleep 60\n", "exec ");
    assert_reports(
        &machine,
        "failed",
        "which cannot run: it did not end within 12 s and was stopped",
        "`convex-sidecar install` replaces it with this one",
    );
}

#[cfg(unix)] // A shell runs the command.
#[test]
fn executable_without_path_is_reported() {
    let machine = installed(Machine::new(), |settings| {
        hook(settings, "Stop")["command"] = json!("convex-sidecar hook");
    });
    assert_reports(
        &machine,
        "warning",
        "which another PATH may not find",
        "`convex-sidecar install` writes its full path",
    );
}

#[cfg(unix)] // A shell runs the command.
#[test]
fn hook_with_other_commands_is_reported() {
    let command = "/opt/convex-sidecar hook; notify-send done";
    let machine = installed(Machine::new(), |settings| {
        hook(settings, "Stop")["command"] = json!(command);
    });
    assert_reports(
        &machine,
        "warning",
        "also runs other commands",
        "`install` and `uninstall` do not change it",
    );
}

#[test]
fn malformed_settings_are_reported() {
    let machine = Machine::new().linked();
    machine.write(".claude/settings.json", "{\n  \"hooks\": [\n", 0o644);
    assert_reports(
        &machine,
        "failed",
        ".claude/settings.json: line 3",
        "fix it",
    );
}

#[test]
fn disabled_hooks_are_reported() {
    let machine = installed(Machine::new(), |settings| {
        settings["disableAllHooks"] = json!(true);
    });
    assert_reports(
        &machine,
        "failed",
        "switched off: disableAllHooks is true in",
        "remove disableAllHooks from",
    );
}

#[cfg(unix)] // A shell sets the variable.
#[test]
fn hooks_that_record_nothing_fail_the_proof() {
    let backend = Backend::start();
    let machine = installed(backend.machine(), |settings| {
        for event in EVENTS {
            let command = hook(settings, event)["command"]
                .as_str()
                .unwrap()
                .to_owned();
            hook(settings, event)["command"] =
                json!(format!("CONVEX_SIDECAR_DISABLED=1 {command}"));
        }
    });
    assert_reports(
        &machine,
        "failed",
        "the session did not arrive: the hook recorded nothing",
        "run `convex-sidecar hook --verbose` by hand",
    );
}

#[cfg(unix)] // A shell runs the command.
#[test]
fn hooks_that_print_fail_the_proof() {
    let backend = Backend::start();
    let machine = installed(backend.machine(), |settings| {
        let command = hook(settings, "Stop")["command"]
            .as_str()
            .unwrap()
            .to_owned();
        hook(settings, "Stop")["command"] = json!(format!("{command} --dry-run"));
    });
    assert_reports(
        &machine,
        "failed",
        "the hook for Stop failed: it printed: event: ",
        "run `convex-sidecar hook --verbose` by hand",
    );
}

#[cfg(unix)] // The program is a shell script.
#[test]
fn hook_that_does_not_end_is_stopped_and_fails_the_proof() {
    let backend = Backend::start();
    let machine = backend.machine().linked();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo convex-sidecar {VERSION}; exit; }}\nexec /bin/sleep 60\n"
    );
    let machine = running_other(machine, &script, "exec ");
    assert_reports(
        &machine,
        "failed",
        "the hook for Stop failed: it did not end within 12 s and was stopped",
        "run `convex-sidecar hook --verbose` by hand",
    );
}

#[cfg(unix)] // A shell sets the variable.
#[test]
fn proof_does_not_run_hooks_that_have_their_own_journal() {
    let backend = Backend::start();
    let machine = backend.machine();
    let own = machine.home().join("own");
    let machine = installed(machine, |settings| {
        for event in EVENTS {
            let command = hook(settings, event)["command"]
                .as_str()
                .unwrap()
                .to_owned();
            hook(settings, event)["command"] =
                json!(format!("CONVEX_SIDECAR_HOME={} {command}", own.display()));
        }
    });
    let table = doctor(&machine).stdout;
    assert!(
        table.contains("a test session went through `convex-sidecar hook` to Convex"),
        "{table}"
    );
    assert!(!own.exists());
}

/// The settings of a repository can contain any command, and `doctor` has the admin key.
#[cfg(unix)] // The command is a shell script.
#[test]
fn proof_does_not_run_the_command_of_a_repository() {
    let backend = Backend::start();
    let machine = backend.machine().linked();
    let evil = machine.home().join("repository/convex-sidecar");
    machine.write(
        "repository/convex-sidecar",
        "#!/bin/sh\ntouch \"$0.ran\"\n",
        0o755,
    );
    let entry =
        json!([{"hooks": [{"type": "command", "command": format!("{} hook", evil.display())}]}]);
    let hooks: serde_json::Map<_, _> = EVENTS
        .map(|event| (event.to_owned(), entry.clone()))
        .into_iter()
        .collect();
    let settings = json!({"hooks": hooks});
    machine.write(
        "repository/.claude/settings.json",
        &settings.to_string(),
        0o644,
    );
    let output = machine
        .sidecar(&["doctor"])
        .folder(evil.parent().unwrap())
        .run();
    assert!(
        output
            .stdout
            .contains("repository/convex-sidecar, not this executable"),
        "{}",
        output.stdout
    );
    assert!(
        output
            .stdout
            .contains("a test session went through `convex-sidecar hook` to Convex"),
        "{}",
        output.stdout
    );
    assert!(!evil.with_extension("ran").exists());
}

#[test]
fn proof_runs_over_plain_http_if_that_is_allowed() {
    let backend = Backend::start();
    let machine =
        Machine::new().deployment(&backend.url.replace("127.0.0.1", "0.0.0.0"), &backend.key);
    machine.write_config("allow_insecure_http = true\n");
    let table = doctor(&machine).stdout;
    assert!(table.contains("✓ proof"), "{table}");
}

#[test]
fn proof_that_needs_more_time_than_hooks_have_is_a_warning() {
    let backend = Backend::start();
    let gate = Gate::open(Some(&backend.url));
    gate.set(Fault::LateMutations(Duration::from_millis(1_500)));
    let machine = Machine::new().deployment(&gate.url, &backend.key);
    let output = machine.sidecar(&["doctor"]).run();
    assert_eq!(output.status, 0, "{output:?}");
    let line = output.stdout.lines().find(|line| line.contains("proof"));
    let line = line.unwrap_or_default();
    assert!(
        line.starts_with("! ") && line.contains("but not in the time that hooks have: "),
        "{output:?}"
    );
    gate.set(Fault::None);
    assert_eq!(machine.remote_sessions(), [] as [Value; 0]);
}

#[test]
fn missing_deployment_is_reported() {
    assert_reports(
        &Machine::new(),
        "warning",
        "not configured",
        "run `convex-sidecar setup` to start one on this machine, or set CONVEX_SELF_HOSTED_URL",
    );
}

#[test]
fn sessions_without_deployment_are_reported() {
    let machine = Machine::new();
    machine.hook(stop("s"));
    assert_reports(
        &machine,
        "warning",
        "1 session is waiting for a deployment",
        "configure one",
    );
}

#[test]
fn server_that_is_down_and_pending_sessions_are_reported() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let machine = Machine::new().deployment(&format!("http://{address}"), SECRET);
    machine.hook(stop("s"));
    assert_reports(
        &machine,
        "failed",
        "could not reach http://127.0.0.1:",
        "start it (`convex-sidecar setup`",
    );
    assert_reports(
        &machine,
        "warning",
        "1 session is waiting: could not reach",
        "`convex-sidecar sync` retries now",
    );
}

/// On other systems the certificates are not in a file.
#[cfg(target_os = "linux")]
#[test]
fn certificate_that_is_not_accepted_is_reported() {
    let (server, other) = (TlsServer::start(), TlsServer::start());
    let by_name = server.url.replace("127.0.0.1", "localhost");
    for (url, certificate, finding, remedy) in [
        (
            &server.url,
            Some(&other.certificate),
            "its certificate is from an authority that this machine does not trust (SSL_CERT_FILE=",
            "add that authority to those that the system trusts",
        ),
        (
            &by_name,
            Some(&server.certificate),
            "its certificate is for another name",
            "correct the URL",
        ),
        (
            &server.url,
            None,
            "no certificate authorities could be read from SSL_CERT_FILE=",
            "install the system's certificates",
        ),
    ] {
        let machine = Machine::new().deployment(url, SECRET);
        let file = machine.home().join("certificates.pem");
        if let Some(certificate) = certificate {
            std::fs::write(&file, certificate).unwrap();
        }
        let machine = machine.env("SSL_CERT_FILE", file.to_str().unwrap());
        assert_reports(&machine, "failed", finding, remedy);
    }
}

#[test]
fn workflows_and_deletions_that_wait_are_reported() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    drop(server);
    let machine = Machine::new();
    let run = |args: &[&str]| {
        let run = machine.sidecar(args).env("CONVEX_SELF_HOSTED_URL", &url);
        run.env("CONVEX_SELF_HOSTED_ADMIN_KEY", SECRET)
    };
    run(&["hook"]).stdin(stop("s")).run().silent();
    run(&["forget", "s", "--yes"]).run();
    run(&["workflow", "set", "release", "--status", "running"]).run();
    let reported = run(&["doctor"]).run().stdout;
    for finding in [
        format!(
            "! pending        1 forgotten session is waiting to be deleted from {url}: could not reach"
        ),
        "! pending        1 workflow is waiting: could not reach".to_owned(),
    ] {
        assert!(reported.contains(&finding), "{reported}");
    }
    assert!(!reported.contains("are delivered"), "{reported}");
    assert_reports(
        &machine,
        "warning",
        "2 changes are waiting for another deployment (workflows and forgotten sessions)",
        "configure that deployment again",
    );
}

#[test]
fn key_of_another_instance_is_reported() {
    let backend = Backend::start();
    let machine = Machine::new().deployment(&backend.url, SECRET);
    machine.hook(stop("s"));
    assert_reports(
        &machine,
        "failed",
        "HTTP 401 BadAdminKey",
        "generate_admin_key.sh",
    );
    assert_reports(
        &machine,
        "warning",
        "the admin key is missing or belongs to another instance",
        "`convex-sidecar sync` retries now",
    );
}

#[test]
fn missing_functions_are_reported_once() {
    let backend = Backend::start();
    let missing = json!({"status": "error", "errorMessage": "Could not find public function for 'x'. Did you forget to run `npx convex dev` or `npx convex deploy`?"});
    backend.fault(&json!({"status": 200, "body": missing, "times": 1_000}));
    let machine = backend.machine();
    assert_reports(
        &machine,
        "failed",
        "agents:getAgentSession, agents:findAgentSessions, ",
        "deploy the functions: `convex-sidecar setup --skip-docker`, or `npx convex deploy`",
    );
    assert_eq!(failed(&machine).len(), 1);
}

#[test]
fn refused_session_is_reported() {
    let backend = Backend::start();
    let machine = backend.machine();
    machine.hook(stop("bad"));
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let spoil = "UPDATE sessions SET revision = revision + 1, document = json_set(document, '$.revision', revision + 1, '$.metadata.host', 7)";
    assert_eq!(journal.execute(spoil, []).unwrap(), 1);
    assert_eq!(machine.sidecar(&["sync"]).run().status, 1);
    assert_reports(
        &machine,
        "warning",
        "bad was refused: ",
        "deploy the functions again",
    );
    let too_large = "UPDATE sessions SET last_error = 'HTTP 413', last_error_kind = 'too_large'";
    assert_eq!(journal.execute(too_large, []).unwrap(), 1);
    assert_reports(
        &machine,
        "warning",
        "bad was refused: HTTP 413",
        "lower `max_output_bytes` in config.toml",
    );
}

#[test]
fn sessions_of_another_deployment_are_reported() {
    let (backend, address) = (
        Backend::start(),
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap(),
    );
    let machine = Machine::new();
    let other = |command: crate::support::Sidecar| {
        command
            .env("CONVEX_SELF_HOSTED_URL", &format!("http://{address}"))
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", SECRET)
    };
    other(machine.sidecar(&["hook"]))
        .stdin(stop("s"))
        .run()
        .silent();
    let machine = machine.deployment(&backend.url, &backend.key);
    assert_reports(
        &machine,
        "warning",
        "1 session is waiting for another deployment",
        "configure that deployment again",
    );
}

#[test]
fn bad_input_is_reported_as_a_note() {
    let machine = Machine::new();
    machine.hook("not json");
    assert_reports(
        &machine,
        "warning",
        "just now: hook: could not",
        "nothing to do; notes are shown for 24 hours",
    );
}

#[test]
fn damaged_journal_is_reported() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.sidecar_home()).unwrap();
    std::fs::write(
        machine.sidecar_home().join("journal.db"),
        "this is not a database\n".repeat(1_000),
    )
    .unwrap();
    assert_reports(
        &machine,
        "failed",
        "file is not a database",
        "the next hook sets it aside",
    );
    machine.hook(stop("s"));
    assert_reports(
        &machine,
        "warning",
        "the journal was damaged",
        "nothing to do; notes are shown for 24 hours",
    );
}

#[test]
fn two_versions_that_share_the_journal_are_named() {
    let machine = Machine::new();
    machine.hook(stop("s"));
    let only_one = machine.sidecar(&["doctor"]).run().stdout;
    assert!(!only_one.contains("versions"), "{only_one}");
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let add = "INSERT INTO writers SELECT ?, ?, seen_at - ? FROM writers WHERE version = ?";
    let hour = 3_600_000;
    for (version, age) in [("99.0.0", hour), ("0.0.1", 26 * hour)] {
        let values = rusqlite::params![version, "/old/convex-sidecar", age, VERSION];
        assert_eq!(journal.execute(add, values).unwrap(), 1);
    }
    assert_reports(
        &machine,
        "warning",
        &format!("hooks also ran version 99.0.0 (/old/convex-sidecar); this is {VERSION}"),
        "update every installation",
    );
}

#[test]
fn newer_journal_is_reported() {
    let machine = Machine::new();
    machine.hook(stop("s"));
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    journal.execute_batch("PRAGMA user_version = 99").unwrap();
    assert_reports(
        &machine,
        "failed",
        "it was written by a newer convex-sidecar",
        "fix this",
    );
}

#[cfg(unix)]
#[test]
fn files_that_other_users_may_read_are_reported() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    machine.write_config("capture = 'full'\n");
    machine.hook(stop("s"));
    let widen = |name: &str, mode: u32| {
        std::fs::set_permissions(
            machine.sidecar_home().join(name),
            std::fs::Permissions::from_mode(mode),
        )
        .unwrap();
    };
    widen("config.toml", 0o644);
    assert_reports(&machine, "failed", "config.toml has mode 0644", "chmod 600");
    widen("config.toml", 0o600);
    widen("", 0o755);
    assert_reports(&machine, "failed", "has mode 0755", "chmod 700");
}

#[test]
fn malformed_configuration_is_reported() {
    let machine = Machine::new();
    machine.write_config("url = \n");
    assert_reports(
        &machine,
        "failed",
        "could not parse",
        "until then no text is kept and nothing is sent",
    );
}

#[test]
fn url_without_key_is_reported() {
    let machine = Machine::new().env("CONVEX_SELF_HOSTED_URL", "http://127.0.0.1:9");
    assert_reports(
        &machine,
        "failed",
        "CONVEX_SELF_HOSTED_ADMIN_KEY is not",
        "until then nothing is sent",
    );
}

#[test]
fn plain_http_is_reported() {
    let machine = Machine::new().deployment("http://convex.example", SECRET);
    assert_reports(
        &machine,
        "failed",
        "the admin key is not sent over plain http",
        "until then nothing is sent",
    );
}

#[test]
fn disabled_recording_is_reported() {
    let machine = Machine::new().env("CONVEX_SIDECAR_DISABLED", "1");
    assert_reports(
        &machine,
        "warning",
        "disabled by CONVEX_SIDECAR_DISABLED",
        "unset CONVEX_SIDECAR_DISABLED",
    );
}

/// The files exist or cannot be created, and only another user may access them.
#[cfg(unix)]
#[test]
fn file_of_another_user_is_not_reported_as_missing() {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    let own_files = |machine: &Machine| {
        create_dir(machine.sidecar_home()).unwrap();
        machine.write_config("capture = 'full'\n");
        write(machine.sidecar_home().join("journal.db"), "").unwrap();
    };
    let close = |machine: &Machine, name: &str, mode: u32| {
        let path = machine.sidecar_home().join(name);
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    for (closed, mode, check, finding) in [
        (
            "",
            0o700,
            "journal",
            "journal.db cannot be used because of the permissions of",
        ),
        (
            "",
            0o700,
            "configuration",
            "config.toml cannot be used because of the permissions of",
        ),
        // Nothing can be created beside the journal.
        ("", 0o755, "journal", "journal.db"),
        ("journal.db", 0o600, "journal", "journal.db cannot be used"),
        // It can be read, but hooks cannot write it.
        ("journal.db", 0o644, "journal", "journal.db cannot be used"),
        (
            "journal.db-lock",
            0o644,
            "journal",
            "journal.db-lock cannot be used",
        ),
        (
            "config.toml",
            0o600,
            "configuration",
            "config.toml cannot be used",
        ),
    ] {
        let machine = Machine::new();
        set_permissions(machine.home(), Permissions::from_mode(0o755)).unwrap();
        own_files(&machine);
        write(machine.sidecar_home().join("journal.db-lock"), "").unwrap();
        for name in ["", "journal.db", "journal.db-lock", "config.toml"] {
            close(&machine, name, if name.is_empty() { 0o777 } else { 0o666 });
        }
        close(&machine, closed, mode);
        let output = machine.sidecar(&["doctor", "--json"]).nobody().run();
        let checks = json_lines(&output.stdout);
        let found = checks.iter().find(|found| {
            found["name"] == check
                && found["mark"] == "failed"
                && found["says"].as_str().unwrap().contains(finding)
        });
        let found = found.unwrap_or_else(|| panic!("{closed} {mode:o}: {}", output.stdout));
        let says = found["says"].as_str().unwrap();
        assert!(says.contains("Permission denied"), "{says}");
        if std::fs::metadata(machine.sidecar_home())
            .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
        {
            let remedy = found["remedy"].as_str().unwrap();
            assert!(says.contains("which belongs to root"), "{says}");
            assert!(
                remedy.contains("sudo chown -R \"$(id -u):$(id -g)\""),
                "{remedy}"
            );
        }
    }
}

/// The remedy for a folder that is not the program's own must not change its owner.
#[cfg(unix)]
#[test]
fn folder_in_which_nothing_may_be_created_is_reported_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    std::fs::set_permissions(machine.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = machine.home().join("not/there/yet");
    let output = machine
        .sidecar(&["doctor", "--json"])
        .env("CONVEX_SIDECAR_HOME", home.to_str().unwrap())
        .nobody()
        .run();
    let is_root = std::fs::metadata(machine.home())
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    let journal = json_lines(&output.stdout)
        .into_iter()
        .find(|check| check["name"] == "journal")
        .unwrap();
    assert_eq!(journal["mark"] == "failed", is_root, "{journal}");
    if is_root {
        let remedy = journal["remedy"].as_str().unwrap();
        assert!(
            remedy.starts_with("let this user use ") && !remedy.contains("chown"),
            "{remedy}"
        );
    }
}
