//! Who answers at the URL, and what was pasted in place of a key: `setup` and `doctor` name each
//! once, with its remedy, and nothing that depends on it is checked.

use std::fs;

use serde_json::{Value, json};

use crate::gate::{Fault, Gate};
use crate::site::{DEPLOYED, KEY, Site};
use crate::support::{Backend, Machine, json_lines};

/// The checks of the deployment in the output of `doctor`.
fn of_deployment(machine: &Machine) -> Vec<Value> {
    let output = machine.sidecar(&["doctor", "--json"]).run();
    assert_eq!(output.status, 1, "{}", output.stdout);
    let mut checks = json_lines(&output.stdout);
    checks.retain(|check| {
        let names = ["deployment", "server", "admin key", "functions", "proof"];
        names.contains(&check["name"].as_str().unwrap())
    });
    checks
}

fn answer(status: u16, headers: &str, body: &str) -> Fault {
    Fault::Answer {
        head: format!("HTTP/1.1 {status} Answer\r\n{headers}"),
        body: body.as_bytes().to_vec(),
    }
}

#[test]
fn server_that_is_not_a_deployment_is_named_once_with_its_remedy() {
    let html = "Content-Type: text/html; charset=utf-8";
    let text = "Content-Type: text/plain; charset=utf-8";
    let page =
        |title: &str| format!("<!DOCTYPE html><html><head><title>{title}</title></head></html>");
    let access = "set the headers that it requires (`headers` in config.toml)";
    for (fault, finding, remedy) in [
        (
            answer(200, html, &page("Sign in")),
            "a web page (\"Sign in\") answers at",
            access,
        ),
        (
            answer(404, html, &page("404 Not Found")),
            "a web page (\"404 Not Found\") answers at",
            access,
        ),
        (
            answer(404, html, &page("Convex Dashboard")),
            "is the Convex dashboard, not a deployment",
            "port 3210",
        ),
        (
            answer(403, html, &page("Forbidden")),
            "refuses requests: HTTP 403",
            access,
        ),
        (
            answer(
                302,
                "Location: https://login.example/start?state=5ec4e7",
                "",
            ),
            "redirects to \"https://login.example/start\"",
            "redirects are not followed",
        ),
        (
            answer(502, html, &page("502 Bad Gateway")),
            "the server behind it does not: HTTP 502",
            "start the backend",
        ),
        (
            answer(
                404,
                text,
                "This Convex deployment does not have HTTP actions enabled.",
            ),
            "is the address of a deployment's HTTP actions, not of its API",
            "port 3210 instead of 3211, `.convex.cloud` instead of `.convex.site`",
        ),
        (
            answer(404, text, "No matching routes found"),
            "is the address of a deployment's HTTP actions",
            "port 3210 instead of 3211",
        ),
        (
            answer(404, text, "not here"),
            "is not a Convex deployment: HTTP 404",
            "correct the URL",
        ),
        (
            answer(200, "Content-Type: application/json", "{}"),
            "is not a Convex deployment: HTTP 200",
            "correct the URL",
        ),
        (Fault::Slam, "could not reach", "or correct the URL"),
    ] {
        let gate = Gate::open(None);
        gate.set(fault);
        let machine = Machine::new().deployment(&gate.url, KEY);
        let checks = of_deployment(&machine);
        let [check] = &checks[..] else {
            panic!("{finding}: {checks:?}");
        };
        let (says, advises) = (
            check["says"].as_str().unwrap(),
            check["remedy"].as_str().unwrap(),
        );
        assert!(
            says.contains(finding) && says.contains(&gate.url),
            "{finding}: {says}"
        );
        assert!(advises.contains(remedy), "{remedy}: {advises}");
        assert!(!says.contains("5ec4e7"), "{says}");

        let site = Site::new();
        let command = site.command(&["--url", &gate.url, "--admin-key-stdin"]);
        let output = command.stdin(KEY).run();
        let printed =
            format!("convex-sidecar: could not set up this deployment: {says}; {advises}\n");
        assert_eq!((output.status, output.stderr), (1, printed));
        assert!(site.read_config().is_none() && !site.hooks().exists());
    }
}

#[test]
fn pasted_text_that_is_not_a_key_is_named_before_the_server_is_asked() {
    let gate = Gate::open(None);
    let secret = KEY.split_once('|').unwrap().1;
    for (pasted, problem) in [
        (
            format!("CONVEX_SELF_HOSTED_ADMIN_KEY={KEY}"),
            "begins with `CONVEX_SELF_HOSTED_ADMIN_KEY=`",
        ),
        (
            format!("CONVEX_DEPLOY_KEY='{KEY}'"),
            "begins with `CONVEX_DEPLOY_KEY=`",
        ),
        (format!("export KEY={KEY}\n"), "begins with `export KEY=`"),
        (format!("'{KEY}'"), "contains a quote"),
        (format!("\"{KEY}\"\n"), "contains a quote"),
        (
            format!("Convex {KEY}"),
            "the value of an Authorization header",
        ),
        (format!("Admin key:\n{KEY}\n"), "a space, a line break"),
        (secret.to_owned(), "no `|`, so its beginning is missing"),
        (KEY.replace(secret, ""), "ends at the `|`"),
    ] {
        let site = Site::new();
        let command = site.command(&["--url", &gate.url, "--admin-key-stdin"]);
        let output = command.stdin(&pasted).run();
        assert_eq!(output.status, 1, "{}", output.stdout);
        assert!(
            output.stderr.contains(problem) && !output.stderr.contains(&secret[..8]),
            "{problem}: {}",
            output.stderr
        );
        assert!(site.read_config().is_none() && !site.hooks().exists());
        if !problem.contains('|') {
            let machine = Machine::new().deployment(&gate.url, &pasted);
            let checks = of_deployment(&machine);
            assert_eq!(checks.len(), 1, "{checks:?}");
            assert!(
                checks[0]["says"].as_str().unwrap().contains(problem),
                "{checks:?}"
            );
        }
    }
    assert_eq!(gate.connections(), 0);
}

#[test]
fn refused_key_is_named_once_with_the_reason() {
    let backend = Backend::start();
    let secret = KEY.split_once('|').unwrap().1;
    for (key, finding) in [
        (
            KEY.to_owned(),
            "could not query Convex: HTTP 401 BadAdminKey",
        ),
        (
            format!("other-project|{secret}"),
            "the key belongs to the instance `other-project`, and the server is `convex-self-hosted`",
        ),
        (
            secret.to_owned(),
            "the admin key has no `|`, so its beginning is missing",
        ),
    ] {
        let checks = of_deployment(&Machine::new().deployment(&backend.url, &key));
        let names: Vec<_> = checks
            .iter()
            .map(|check| check["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["server", "admin key"]);
        assert!(
            checks[1]["says"].as_str().unwrap().starts_with(finding),
            "{checks:?}"
        );
    }
}

#[test]
fn server_that_fails_later_is_named_once() {
    let backend = Backend::start();
    backend.fault(
        &json!({"status": 503, "body": {"code": "Overloaded", "message": "busy"}, "times": 1_000}),
    );
    let checks = of_deployment(&backend.machine());
    assert_eq!(checks.len(), 2, "{checks:?}");
    assert!(
        checks[1]["says"]
            .as_str()
            .unwrap()
            .contains("HTTP 503 Overloaded: busy"),
        "{checks:?}"
    );
}

#[test]
fn backend_that_is_older_than_the_cli_needs_is_named_before_the_cli_is_started() {
    let site = Site::new();
    fs::write(site.state("options"), "--older").unwrap();
    let output = site.setup(&[]);
    assert_eq!(output.status, 1, "{}", output.stdout);
    for part in [
        "could not deploy the functions: the backend at http://127.0.0.1:",
        "(version unknown) is older than the Convex CLI needs and answers its push with HTTP 404",
        "its container runs the image ",
        "`convex-sidecar setup --upgrade`",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert!(
        !site.argv().contains(&DEPLOYED.to_owned()),
        "{:?}",
        site.argv()
    );

    let older = Backend::start_with(&["--older"]);
    let command = site.command(&["--url", &older.url, "--admin-key-stdin"]);
    let output = command.stdin(&older.key).run();
    assert!(
        output.stderr.contains("is older than the Convex CLI needs")
            && !output.stderr.contains("container runs"),
        "{}",
        output.stderr
    );
    let checks = of_deployment(&older.machine());
    assert_eq!((checks.len(), &checks[1]["name"]), (2, &json!("functions")));
    assert!(
        checks[1]["says"]
            .as_str()
            .unwrap()
            .contains("they are not deployed, and the backend at")
            && checks[1]["remedy"]
                .as_str()
                .unwrap()
                .contains("setup --upgrade"),
        "{checks:?}"
    );
}

/// The secret of an access proxy.
const SECRET: &str = "0ddba11c0ffee0ddba11c0ffee";

#[test]
fn headers_pass_an_access_proxy_with_every_request() {
    let option = format!("cf-access-client-secret: {SECRET}");
    let backend = Backend::start_with(&["--access", &option]);
    let headers = format!(
        "[headers]\nCF-Access-Client-Id = \"sidecar.access\"\nCF-Access-Client-Secret = \"{SECRET}\"\n"
    );
    let without = of_deployment(&backend.machine());
    assert!(
        without[0]["says"]
            .as_str()
            .unwrap()
            .contains("refuses requests: HTTP 403"),
        "{without:?}"
    );

    let site = Site::new().config(&headers);
    let command = site.command(&["--url", &backend.url, "--admin-key-stdin"]);
    let printed = command.stdin(&backend.key).run().ok();
    assert!(printed.contains("✓ proof"), "{printed}");
    let expected = format!(
        "url = '{}'\nadmin_key = '{}'\n{headers}",
        backend.url, backend.key
    );
    assert_eq!(site.read_config().unwrap(), expected);
    let stop =
        json!({"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": "said"})
            .to_string();
    let run = |args: &[&str]| site.machine.sidecar(args).stdin(&stop).run();
    run(&["hook", "--strict"]).silent();
    assert_eq!(
        run(&["sessions", "--remote", "--json"])
            .ok()
            .lines()
            .count(),
        1
    );
    let shown = run(&["hook", "--dry-run"]).ok();
    assert!(
        shown.contains("cf-access-client-secret: …") && !shown.contains(SECRET),
        "{shown}"
    );
}

#[test]
fn header_that_a_server_echoes_is_in_no_message() {
    let gate = Gate::open(None);
    let machine = Machine::new().deployment(&gate.url, KEY).secret(SECRET);
    machine.write_config(&format!("headers = {{ X-Access = 'Bearer {SECRET}' }}\n"));
    let page = format!("<title>no {SECRET}</title>");
    let failure = format!(r#"{{"code":"X","message":"no {SECRET}"}}"#);
    for fault in [
        answer(200, "Content-Type: text/html", &page),
        answer(302, &format!("Location: /{SECRET}"), ""),
        Fault::status(500, &failure),
        Fault::status(401, &failure),
    ] {
        gate.set(fault);
        for args in [
            &["doctor"][..],
            &["hook", "--verbose", "--strict"],
            &["sync"],
            &["sessions"],
        ] {
            // `run` asserts that no secret is printed.
            machine
                .sidecar(args)
                .stdin(r#"{"session_id":"s","hook_event_name":"Stop"}"#)
                .run();
        }
    }
}

#[test]
fn bad_header_is_named_without_its_value_and_nothing_is_sent() {
    let gate = Gate::open(None);
    for (line, problem) in [
        (
            format!("'X Access' = '{SECRET}'"),
            "\"X Access\" is not the name of a header",
        ),
        (
            format!("X-Access = \"{SECRET}\\n\""),
            "the value of X-Access is empty, or not one line of ASCII text",
        ),
        (
            format!("Authorization = '{SECRET}'"),
            "Authorization is a header that convex-sidecar sets itself",
        ),
    ] {
        let machine = Machine::new().deployment(&gate.url, KEY).secret(SECRET);
        machine.write_config(&format!("[headers]\n{line}\n"));
        let sync = machine.sidecar(&["sync"]).run();
        assert_eq!(sync.status, 1);
        for part in ["could not use a header of ", "config.toml", problem] {
            assert!(sync.stderr.contains(part), "{part}: {}", sync.stderr);
        }
        let checks = json_lines(&machine.sidecar(&["doctor", "--json"]).run().stdout);
        assert!(
            checks
                .iter()
                .any(|check| check["name"] == "configuration" && check["mark"] == "failed")
        );
    }
    assert_eq!(gate.connections(), 0);
}
