//! `view`: links to the page, each with a token that the deployment knows by its hash.

use serde_json::json;

use crate::support::{Backend, Machine};

/// The answer of a query of the page to this token.
fn sessions(backend: &Backend, token: &str) -> String {
    backend.query("view:running", &json!({"token": token, "since": 0}))
}

fn link(machine: &Machine, options: &[&str]) -> String {
    machine.sidecar(&["view"]).args(options).run().ok()
}

fn token(link: &str) -> &str {
    link.trim().split_once("/#token=").unwrap().1
}

#[test]
fn link_opens_the_page_until_it_is_revoked() {
    let backend = Backend::start();
    let machine = backend.machine();
    let event =
        json!({"session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "Mend it"});
    machine.hook(event.to_string());
    machine.sidecar(&["sync"]).run().ok();
    assert!(sessions(&backend, "").contains("NO_ACCESS"));

    let full = link(&machine, &[]);
    // Only its hash is sent.
    assert!(!backend.all_requests().contains(token(&full)));
    let figures = link(&machine, &["--figures-only"]);
    let week = link(&machine, &["--expires", "7d"]);
    assert!(
        full.starts_with("http://127.0.0.1:") && token(&full).len() == 48,
        "{full}"
    );
    for link in [&full, &week] {
        assert!(
            sessions(&backend, token(link)).contains("Mend it"),
            "{link}"
        );
    }
    let answer = sessions(&backend, token(&figures));
    assert!(
        answer.contains("\"success\"") && !answer.contains("Mend it"),
        "{answer}"
    );
    let doctor = machine.sidecar(&["doctor"]).run().stdout;
    assert!(
        doctor.contains("3 links to the page, 1 of them for figures only"),
        "{doctor}"
    );

    let off = machine.sidecar(&["view", "--off"]).run().ok();
    assert_eq!(off, "all links are revoked; open pages stop showing data\n");
    for link in [&full, &figures, &week] {
        assert!(
            sessions(&backend, token(link)).contains("NO_ACCESS"),
            "{link}"
        );
    }
    let doctor = machine.sidecar(&["doctor"]).run().stdout;
    assert!(!doctor.contains("to the page"), "{doctor}");
}

#[test]
fn deployment_without_the_page_asks_for_setup() {
    let backend = Backend::start_with(&["--older"]);
    let run = backend.machine().sidecar(&["view"]).run();
    assert_eq!(run.status, 1);
    let expected = "the deployment has no page yet; run `convex-sidecar setup`";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
}

#[test]
fn link_that_is_never_valid_is_refused() {
    for time in ["0d", "d", "7", "-1d", "7y", "é"] {
        let run = Machine::new().sidecar(&["view", "--expires", time]).run();
        assert_eq!(run.status, 64, "{time}: {}", run.stderr);
    }
    let both = Machine::new()
        .sidecar(&["view", "--off", "--expires", "7d"])
        .run();
    assert_eq!(both.status, 64);
    let nowhere = Machine::new().sidecar(&["view"]).run();
    assert!(
        nowhere
            .stderr
            .contains("no Convex deployment is configured"),
        "{}",
        nowhere.stderr
    );
}

#[test]
fn links_that_are_made_at_the_same_time_are_all_valid() {
    let backend = Backend::start();
    let machine = backend.machine();
    let links: Vec<_> = std::thread::scope(|scope| {
        let make = || link(&machine, &[]);
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(make)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for link in &links {
        let answer = sessions(&backend, token(link));
        assert!(answer.contains("\"success\""), "{link}: {answer}");
    }
}

#[test]
fn new_link_never_revokes_another_one() {
    let backend = Backend::start();
    let machine = backend.machine();
    let entries = |count: usize, expires_at: i64| {
        let entry = |index| format!("{index:064x}:full:{expires_at}");
        (0..count).map(entry).collect::<Vec<_>>().join(" ")
    };
    let name = "CONVEX_SIDECAR_VIEW_TOKENS";
    backend.set_variable(name, &entries(50, 0));
    let run = machine.sidecar(&["view", "--expires", "1h"]).run();
    assert_eq!((run.status, run.stdout.as_str()), (1, ""));
    for part in ["has 50 valid ones", "`convex-sidecar view --off`"] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    // Those that have expired make room.
    backend.set_variable(name, &format!("{} {}", entries(49, 0), entries(9, 1)));
    let answer = sessions(&backend, token(&link(&machine, &[])));
    assert!(answer.contains("\"success\""), "{answer}");
    let doctor = machine.sidecar(&["doctor"]).run().stdout;
    assert!(doctor.contains("50 links to the page,"), "{doctor}");
}

/// In a terminal, which `script` of util-linux provides.
#[cfg(target_os = "linux")]
#[test]
fn link_is_opened_in_the_browser_of_the_system_if_there_is_one() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    let backend = Backend::start();
    let machine = backend.machine();
    let programs = machine.home().join("programs");
    fs::create_dir(&programs).unwrap();
    let log_file = machine.home().join("opened");
    for name in ["xdg-open", "wslview", "rundll32.exe"] {
        let path = programs.join(name);
        let log = log_file.display();
        fs::write(
            &path,
            format!("#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >{log}\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The link that is printed, and the command that opened it.
    let view = |variables: &[(&str, &str)], is_opened: bool| {
        let _ = fs::remove_file(&log_file);
        let program = env!("CARGO_BIN_EXE_convex-sidecar");
        let output = Command::new("/usr/bin/script")
            .args(["--quiet", "--return", "--command"])
            .args([&format!("{program} view"), "/dev/null"])
            .env_clear()
            .envs(machine.environment())
            .env("PATH", &programs)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("this needs script, of util-linux");
        assert!(output.status.success());
        let printed = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert!(printed.contains("/#token="), "{printed}");
        let start = Instant::now();
        let patience = Duration::from_millis(if is_opened { 20_000 } else { 300 });
        let mut command = String::new();
        while !command.ends_with('\n') && start.elapsed() < patience {
            sleep(Duration::from_millis(20));
            command = fs::read_to_string(&log_file).unwrap_or_default();
        }
        (printed, command)
    };

    // The token is in a file that only this user can read, and in no argument.
    let file = machine.sidecar_home().join("view.html");
    let path = file.display();
    let assert_leads_to = |link: &str| {
        let page = fs::read_to_string(&file).unwrap();
        assert!(
            page.contains(&format!("content=\"0; url={link}\"")),
            "{page}"
        );
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    };
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"] {
        let (link, command) = view(&[(name, ":0")], true);
        assert_eq!(command, format!("xdg-open {path}\n"), "{name}");
        assert_leads_to(&link);
    }
    let wsl = [("WSL_DISTRO_NAME", "Debian"), ("DISPLAY", ":0")];
    let (link, command) = view(&wsl, true);
    assert_eq!(command, format!("wslview {path}\n"));
    assert_leads_to(&link);
    fs::remove_file(programs.join("wslview")).unwrap();
    let (link, command) = view(&wsl, true);
    let in_windows = path.to_string().replace('/', "\\");
    assert_eq!(
        command,
        format!("rundll32.exe url.dll,FileProtocolHandler \\\\wsl$\\Debian{in_windows}\n")
    );
    assert_leads_to(&link);
    for _ in 0..2 {
        machine.sidecar(&["view", "--off"]).run().ok();
        assert!(!file.exists());
    }
    fs::create_dir(&file).unwrap();
    let (printed, command) = view(&[("DISPLAY", ":0")], false);
    assert!(printed.contains("could not write"), "{printed}");
    assert_eq!(command, "", "without a file for the browser");
    fs::remove_dir(&file).unwrap();
    let (_, command) = view(&[], false);
    assert_eq!(command, "", "without a screen");
    fs::remove_file(programs.join("xdg-open")).unwrap();
    let (_, command) = view(&[("DISPLAY", ":0")], false);
    assert_eq!(command, "", "without xdg-open");
    assert!(!file.exists());
}
