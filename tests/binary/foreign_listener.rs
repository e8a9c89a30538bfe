//! While the backend is down, anyone can start a program on its port. Nothing is sent to a port of
//! this machine on which another user's program listens.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::fchown;

use serde_json::json;

use crate::gate::{Fault, Gate};
use crate::site::{KEY, Site};
use crate::support::{Backend, Machine, json_lines};

const OTHER: u32 = 12_345;

/// A gate whose socket belongs to this user, as if that user had opened it; `None` if only root can
/// create one.
fn gate_of(user: u32, address: &str, backend: Option<&str>) -> Option<Gate> {
    let listener = TcpListener::bind(address).unwrap();
    let is_own = user == rustix::process::geteuid().as_raw();
    if !is_own && fchown(&listener, Some(user), None).is_err() {
        eprintln!("not tested: only root can open a port for another user");
        return None;
    }
    Some(Gate::of(listener, backend))
}

fn event(session: &str) -> String {
    json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": "private words"})
        .to_string()
}

#[test]
fn program_of_another_user_gets_nothing() {
    for (address, host) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.1"),
        ("127.0.0.1:0", "localhost"),
        ("[::1]:0", "localhost"),
        ("[::1]:0", "[::1]"),
        ("127.0.0.9:0", "127.0.0.9"),
    ] {
        let case = format!("{address} for {host}");
        let Some(gate) = gate_of(OTHER, address, None) else {
            return;
        };
        let success = json!({"status": "success", "value": null}).to_string();
        gate.set(Fault::status(200, &success));
        let port = gate.url.rsplit(':').next().unwrap();
        let url = format!("http://{host}:{port}");
        let machine = Machine::new()
            .deployment(&url, KEY)
            .env("HTTP_PROXY", &gate.url);
        machine.hook(event("s"));
        for args in [
            &["sync"][..],
            &["sessions", "--remote"],
            &["show", "s", "--remote"],
            &["workflow", "set", "w", "--task", "x"],
            &["forget", "nobody", "--yes"],
            &["setup", "--skip-docker"],
            &["doctor"],
        ] {
            machine.sidecar(args).run();
        }
        let sync = machine.sidecar(&["sync"]).run();
        let why = format!(
            "sent nothing to {url}, because a program of another user (ID {OTHER}) listens there"
        );
        assert!(
            sync.status == 1 && sync.stderr.contains(&why),
            "{case}: {sync:?}"
        );
        let listed = machine.sidecar(&["sessions"]).run().ok();
        assert!(listed.contains("stranger"), "{case}: {listed}");
        let checks = json_lines(&machine.sidecar(&["doctor", "--json"]).run().stdout);
        let server = checks
            .iter()
            .find(|check| check["name"] == "server")
            .unwrap();
        assert_eq!(server["says"], why, "{case}");
        assert!(
            server["remedy"].as_str().unwrap().contains("as root"),
            "{case}: {server}"
        );
        let site = Site::new();
        let setup = site.command(&["--url", &url, "--admin-key-stdin"]);
        let output = setup.stdin(KEY).run();
        assert!(output.stderr.contains(&why), "{case}: {output:?}");
        assert_eq!(gate.connections(), 0, "{case}");
    }
}

/// Such as a program that escaped from a service, or from a container without its own user.
#[test]
fn program_of_the_user_nobody_gets_nothing() {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let Some(gate) = gate_of(65_534, "127.0.0.1:0", None).filter(|_| map.contains("4294967295"))
    else {
        return;
    };
    let machine = Machine::new().deployment(&gate.url, KEY);
    machine.hook(event("s"));
    assert_eq!(gate.connections(), 0);
}

#[test]
fn own_program_and_those_of_root_and_trusted_users_get_everything() {
    let backend = Backend::start();
    let own = rustix::process::geteuid().as_raw();
    for (user, config) in [
        (own, ""),
        (0, ""),
        (101, ""),
        (OTHER, "allow_insecure_http = true\n"),
    ] {
        let Some(gate) = gate_of(user, "127.0.0.1:0", Some(&backend.url)) else {
            continue;
        };
        let session = format!("session-{user}");
        let machine = Machine::new().deployment(&gate.url, &backend.key);
        machine.write_config(config);
        machine.hook(event(&session));
        let rows = machine.remote_sessions();
        assert!(
            rows.iter().any(|row| row["sessionId"] == session),
            "{user}: {rows:?}"
        );
        assert!(gate.connections() > 0);
    }
}

/// The port is the backend's again; no manual repair is needed.
#[test]
fn sessions_are_delivered_once_the_foreign_listener_is_gone() {
    let backend = Backend::start();
    let Some(gate) = gate_of(OTHER, "127.0.0.1:0", None) else {
        return;
    };
    let url = gate.url.clone();
    let machine = Machine::new().deployment(&url, &backend.key);
    machine.hook(event("waits"));
    drop(gate);
    assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).is_err());
    let gate = Gate::at(
        url.strip_prefix("http://").unwrap().parse().unwrap(),
        Some(&backend.url),
    );
    machine.sidecar(&["sync"]).run().ok();
    let listed = machine.sidecar(&["sessions", "--remote"]).run().ok();
    assert!(listed.contains("waits"), "{listed}");
    assert!(gate.connections() > 0);
}
