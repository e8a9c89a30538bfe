//! The admin key goes to the deployment that the user configured, and nowhere else. `support.rs`
//! asserts after every run of every test that it is in no output and in no file but `config.toml`.

use serde_json::json;

#[cfg(target_os = "linux")]
use crate::gate::TlsServer;
use crate::gate::{Fault, Gate};
use crate::support::{Backend, Machine};

const SECRET: &str = "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7";

fn stop() -> String {
    json!({"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": "an answer"})
        .to_string()
}

#[test]
fn key_that_a_server_echoes_is_in_no_message() {
    let gate = Gate::open(None);
    let machine = Machine::new().deployment(&gate.url, SECRET);
    let (name, part) = SECRET.split_once('|').unwrap();
    for body in [
        format!(r#"{{"code":"BadAdminKey","message":"{SECRET} is not the key"}}"#),
        format!(r#"{{"code":"BadAdminKey","message":"{part} is not the key"}}"#),
        format!(r#"{{"status":"error","errorMessage":"{name}%7C{part}"}}"#),
        format!(r#"{{"status":"error","errorMessage":"Convex {SECRET} {SECRET}"}}"#),
    ] {
        for status in [200, 400, 401, 500] {
            gate.set(Fault::status(status, &body));
            for args in [
                &["hook", "--verbose", "--strict"][..],
                &["hook", "--dry-run"],
                &["sync"],
                &["sessions"],
                &["show", "s"],
            ] {
                let run = machine.sidecar(args).stdin(stop()).run();
                for output in [&run.stdout, &run.stderr] {
                    assert!(!output.contains(part), "{args:?}: {output}");
                }
            }
        }
    }
    assert!(gate.connections() > 0);
}

#[test]
fn plain_http_to_other_machines_is_refused_before_connecting() {
    // Only a proxy could resolve some of these names, so it would see the request.
    let proxy = Gate::open(None);
    for url in [
        "http://convex.example:3210",
        "http://10.0.0.1:3210",
        "http://127.0.0.1.example",
    ] {
        let machine = Machine::new()
            .deployment(url, SECRET)
            .env("http_proxy", &proxy.url)
            .env("HTTP_PROXY", &proxy.url);
        machine.hook(stop());
        let sync = machine.sidecar(&["sync"]).run();
        assert!(
            sync.stderr
                .contains("the admin key is not sent over plain http"),
            "{}",
            sync.stderr
        );
    }
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn loopback_deployment_is_reached_without_a_proxy() {
    let (backend, proxy) = (Backend::start(), Gate::open(None));
    let mut machine = backend.machine();
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        machine = machine.env(name, &proxy.url);
    }
    machine
        .sidecar(&["hook", "--strict"])
        .stdin(stop())
        .run()
        .silent();
    assert_eq!((proxy.connections(), backend.calls().len()), (0, 1));
}

#[test]
fn url_and_key_from_different_sources_are_refused() {
    let evil = Gate::open(None);
    let machine = Machine::new();
    machine.write_config(&format!(
        "url = 'http://127.0.0.1:9'\nadmin_key = '{SECRET}'\n"
    ));
    for (name, value) in [
        ("CONVEX_SELF_HOSTED_URL", evil.url.as_str()),
        ("CONVEX_SELF_HOSTED_ADMIN_KEY", "another|key"),
    ] {
        machine
            .sidecar(&["hook"])
            .env(name, value)
            .stdin(stop())
            .run()
            .silent();
        let sync = machine.sidecar(&["sync"]).env(name, value).run();
        assert!(
            sync.stderr
                .contains("URL and key must come from one source, so set both or neither"),
            "{}",
            sync.stderr
        );
    }
    assert_eq!(evil.connections(), 0);
}

/// On other systems the certificates are not in a file.
#[cfg(target_os = "linux")]
#[test]
fn key_is_sent_only_to_a_server_whose_certificate_the_system_trusts() {
    let (server, other) = (TlsServer::start(), TlsServer::start());
    for (trusted, requests) in [(&other, 0), (&server, 1)] {
        let machine = Machine::new().deployment(&server.url, SECRET);
        let certificates = machine.home().join("certificates.pem");
        std::fs::write(&certificates, &trusted.certificate).unwrap();
        machine
            .sidecar(&["hook"])
            .env("SSL_CERT_FILE", certificates.to_str().unwrap())
            .stdin(stop())
            .run()
            .silent();
        let shown = machine.sidecar(&["show", "s"]).run().ok();
        let is_refused =
            shown.contains("its certificate is from an authority that this machine does not trust");
        assert_eq!(is_refused, requests == 0, "{shown}");
        assert_eq!(server.requests(), requests);
    }
}
