//! The admin key goes to the deployment that the user named, and nowhere else. That it stands in no
//! output and in no file but `config.toml` is demanded of every run of every test (`support.rs`).

use serde_json::json;

use crate::gate::{Fault, Gate};
use crate::support::{Backend, Machine};

const SECRET: &str = "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7";

fn stop() -> String {
    json!({"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": "said"})
        .to_string()
}

#[test]
fn a_server_that_repeats_the_key_gets_it_into_no_message() {
    let gate = Gate::open(None);
    let machine = Machine::new().deployment(&gate.url, SECRET);
    for body in [
        format!(r#"{{"code":"BadAdminKey","message":"{SECRET} is not the key"}}"#),
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
                machine.sidecar(args).stdin(stop()).run();
            }
        }
    }
    assert!(gate.connections() > 0);
}

#[test]
fn plain_http_beyond_this_machine_is_refused_before_a_connection_is_made() {
    // A name that only a proxy could resolve: the proxy would see the request.
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
        machine.sidecar(&["hook"]).stdin(stop()).run().silent();
        let said = machine.sidecar(&["sync"]).run();
        assert!(
            said.stderr
                .contains("the admin key is not sent over plain http"),
            "{}",
            said.stderr
        );
    }
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn proxies_are_not_asked_for_this_machine() {
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
fn url_and_key_of_different_sources_are_refused() {
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
        let said = machine.sidecar(&["sync"]).env(name, value).run();
        assert!(
            said.stderr
                .contains("URL and key must come from one source, so set both or neither"),
            "{}",
            said.stderr
        );
    }
    assert_eq!(evil.connections(), 0);
}

#[test]
fn a_repository_redirects_neither_record_nor_key() {
    let (backend, evil) = (Backend::start(), Gate::open(None));
    let machine = Machine::new();
    machine.write_config(&format!(
        "url = '{}'\nadmin_key = '{}'\n",
        backend.url, backend.key
    ));
    let repository = machine.home().join("repository");
    std::fs::create_dir_all(repository.join(".claude")).unwrap();
    let lead = format!(
        "CONVEX_SELF_HOSTED_URL={}\nCONVEX_SELF_HOSTED_ADMIN_KEY=evil|key\n",
        evil.url
    );
    std::fs::write(repository.join(".env.local"), &lead).unwrap();
    std::fs::write(repository.join(".env"), &lead).unwrap();
    let hook = || {
        machine
            .sidecar(&["hook", "--strict"])
            .folder(&repository)
            .env("CLAUDECODE", "1")
            .stdin(stop())
    };
    hook().run().silent();
    assert_eq!(backend.calls().len(), 1);
    // The client gives the `env` of a repository's settings to its hooks.
    let settings = json!({"env": {"CONVEX_SELF_HOSTED_URL": evil.url, "CONVEX_SELF_HOSTED_ADMIN_KEY": "evil|key"}});
    for name in ["settings.json", "settings.local.json"] {
        std::fs::write(repository.join(".claude").join(name), settings.to_string()).unwrap();
        let end = json!({"session_id": name.replace('.', "-"), "hook_event_name": "SessionEnd"})
            .to_string();
        hook()
            .env("CONVEX_SELF_HOSTED_URL", &evil.url)
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", "evil|key")
            .stdin(end)
            .run()
            .silent();
        std::fs::remove_file(repository.join(".claude").join(name)).unwrap();
    }
    // The first of them superseded `s`, which was sent along.
    let calls = backend.calls().len();
    assert_eq!((evil.connections(), calls), (0, 4));
    // Certificates and proxies cannot be left out of account, so nothing is sent, and no text is
    // kept.
    std::fs::write(
        repository.join(".claude/settings.json"),
        json!({"env": {"SSL_CERT_FILE": "evil.pem"}}).to_string(),
    )
    .unwrap();
    let told = hook().env("SSL_CERT_FILE", "evil.pem").run();
    assert_eq!((told.status, backend.calls().len()), (1, calls));
}
