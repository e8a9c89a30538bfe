//! Whatever the server does, a hook is silent and ends in time, nothing is lost, the commands
//! report the reason, and everything arrives exactly once when the server is back.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[cfg(target_os = "linux")]
use crate::gate::TlsServer;
use crate::gate::{Fault, Gate};
#[cfg(target_os = "linux")]
use crate::support::fifo;
use crate::support::{Backend, Machine, Sidecar, by_system, root};

const HOOKS: usize = by_system(50, 10);
/// The promised maximum time of a hook, and additional time for a machine that runs many tests at
/// once. Servers that hang in these tests hang for longer.
pub const LONGEST_HOOK: Duration = Duration::from_millis(1_200 + 3_000);

/// The `index`th hook of a day: five sessions of ten events each.
fn hook(day: &str, index: usize) -> String {
    let session = format!("{day}-{}", index / 10);
    match index % 10 {
        0 => json!({"session_id": session, "hook_event_name": "SessionStart", "source": "startup", "cwd": "/home/dev/proj"}),
        9 => json!({"session_id": session, "hook_event_name": "SessionEnd", "reason": "prompt_input_exit"}),
        turn => json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": format!("answer {turn}")}),
    }
    .to_string()
}

/// Runs the hooks of a day, each of which must be silent and end in time. `name` is for the table
/// of their times.
fn run_hooks(machine: &Machine, day: &str, name: &str) {
    run_some_hooks(machine, day, HOOKS, name);
}

fn run_some_hooks(machine: &Machine, day: &str, hooks: usize, name: &str) {
    let times: Vec<_> = (0..hooks)
        .map(|index| run_hook(machine.sidecar(&["hook"]), &hook(day, index), name))
        .collect();
    let mut others = times[1..].to_vec();
    others.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{name:28} first {:7.1} ms, others: median {:5.1} ms, longest of all {:7.1} ms",
        millis(times[0]),
        millis(others[others.len() / 2]),
        millis(times.iter().copied().max().unwrap())
    );
}

/// Runs one hook, which must be silent and end in time.
fn run_hook(sidecar: Sidecar, input: &str, name: &str) -> Duration {
    let start = Instant::now();
    let mut hook = sidecar.stdin(input).spawn();
    drop(hook.stdin.take());
    while hook.try_wait().unwrap().is_none() {
        if start.elapsed() > LONGEST_HOOK {
            hook.kill().unwrap();
            panic!("{name}: the hook did not end in time");
        }
        thread::sleep(Duration::from_micros(200));
    }
    let time = start.elapsed();
    let output = hook.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    time
}

/// Asserts that Convex has the same sessions as the journal, each once, and that nothing is left to
/// send.
fn assert_all_arrived(machine: &Machine, day: &str) {
    assert_arrived(machine, day, HOOKS);
}

fn assert_arrived(machine: &Machine, day: &str, hooks: usize) {
    machine.sidecar(&["sync"]).run().ok();
    let mut rows = machine.remote_sessions();
    rows.retain(|row| {
        row["sessionId"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{day}-"))
    });
    for row in &mut rows {
        row.as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with('_'));
        assert_eq!(
            (row["status"].as_str(), row["output"].as_str()),
            (Some("completed"), Some("answer 8"))
        );
    }
    let by_id = |row: &Value| row["sessionId"].as_str().unwrap().to_owned();
    let mut documents = machine.documents();
    rows.sort_by_key(by_id);
    documents.sort_by_key(by_id);
    assert_eq!(rows.len(), hooks / 10, "{day}");
    assert_eq!(rows, documents, "{day}");
    assert!(
        machine
            .sidecar(&["sync"])
            .run()
            .ok()
            .starts_with("0 sessions delivered"),
        "{day}"
    );
}

/// Runs fifty hooks with each of these faults. One of the texts, separated by `|`, must be the
/// stated reason why their sessions wait. Then the server is back.
fn run_hooks_at_each(faults: Vec<(&str, Fault, &str)>) {
    let backend = Backend::start();
    let gate = Gate::open(Some(&backend.url));
    let machine = Machine::new().deployment(&gate.url, &backend.key);
    run_hooks(&machine, "healthy", "a healthy server");
    for (index, (name, fault, why)) in faults.into_iter().enumerate() {
        let (day, machine) = (
            format!("day{index}"),
            Machine::new().deployment(&gate.url, &backend.key),
        );
        gate.set(fault.clone());
        run_hooks(&machine, &day, name);
        // The first of these was a SessionStart, which has less time for the network.
        let fresh = Machine::new().deployment(&gate.url, &backend.key);
        run_hook(fresh.sidecar(&["hook"]), &hook("fresh", 1), name);
        let shown = machine.sidecar(&["sessions"]).run().ok()
            + &machine.sidecar(&["show", &format!("{day}-0")]).run().ok();
        let says_why = |text: &str| why.split('|').any(|why| text.contains(why));
        assert!(says_why(&shown), "{name}: {shown}");
        let doctor = machine.sidecar(&["doctor"]).run();
        let has_warning = doctor
            .stdout
            .lines()
            .any(|line| line.starts_with("! ") && says_why(line));
        assert!(
            has_warning && doctor.status == 1,
            "{name}: {}",
            doctor.stdout
        );
        let sync = machine.sidecar(&["sync"]).run();
        assert_eq!(sync.status, 1, "{name}: {}", sync.stdout);
        assert!(says_why(&sync.stderr), "{name}: {}", sync.stderr);
        gate.set(Fault::None);
        assert_all_arrived(&machine, &day);
    }
}

#[test]
fn broken_answers_delay_delivery() {
    run_hooks_at_each(vec![
        (
            "closes at once",
            Fault::Slam,
            "could not reach http://127.0.0.1:",
        ),
        (
            "closes mid-answer",
            Fault::CutOff(200),
            "the answer was cut off",
        ),
        (
            "garbage with 200",
            Fault::status(200, "<html>welcome</html>"),
            "the answer did not come from Convex",
        ),
        (
            "not HTTP",
            Fault::Answer {
                head: "SSH-2.0-OpenSSH_9.9".to_owned(),
                body: Vec::new(),
            },
            "could not reach",
        ),
        (
            "100 MB with 200",
            Fault::Answer {
                head: "HTTP/1.1 200 OK".to_owned(),
                body: vec![b'x'; 100_000_000],
            },
            "no answer in time|the answer did not come from Convex",
        ),
    ]);
}

#[test]
fn http_errors_delay_delivery() {
    let convex = |code: &str| format!(r#"{{"code":"{code}","message":"the reason"}}"#);
    run_hooks_at_each(vec![
        (
            "400 of Convex",
            Fault::status(400, &convex("BadJsonBody")),
            "HTTP 400 BadJsonBody: the reason",
        ),
        (
            "400 of something else",
            Fault::status(400, "no"),
            "HTTP 400",
        ),
        (
            "401",
            Fault::status(401, &convex("BadAdminKey")),
            "the admin key is missing or belongs to another instance",
        ),
        (
            "401, and closes mid-answer",
            Fault::CutOff(401),
            "the admin key is missing or belongs to another instance",
        ),
        (
            "403",
            Fault::status(403, &convex("Forbidden")),
            "the admin key is missing or belongs to another instance",
        ),
        (
            "403 of an access proxy",
            Fault::status(403, "<html>Forbidden</html>"),
            "for an access proxy in front of it, set `headers`",
        ),
        (
            "404",
            Fault::status(404, "not here"),
            "check that the URL is that of a Convex deployment",
        ),
        ("413", Fault::status(413, "too much"), "HTTP 413"),
        (
            "429",
            Fault::status(429, &convex("TooManyRequests")),
            "HTTP 429 TooManyRequests",
        ),
        ("500", Fault::status(500, ""), "HTTP 500"),
        (
            "503",
            Fault::status(503, &convex("Overloaded")),
            "HTTP 503 Overloaded",
        ),
    ]);
}

/// Each recorded answer of a real backend with a failed function, in full and redacted.
#[test]
fn function_errors_delay_only_their_session() {
    let recorded = std::fs::read_to_string(
        root().join("tests/fixtures/convex-backend-2026-06-30/responses.json"),
    )
    .unwrap();
    let recorded: Vec<Value> = serde_json::from_str(&recorded).unwrap();
    let mut bodies: Vec<&str> = recorded
        .iter()
        .filter(|call| call["path"] == "/api/mutation" && call["status"] == 200)
        .filter_map(|call| call["body"].as_str())
        .filter(|body| body.contains(r#""status":"error""#) && !body.contains("SESSION_NOT_FOUND"))
        .collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert!(bodies.len() >= 10, "{}", bodies.len());
    let backend = Backend::start();
    let gate = Gate::open(Some(&backend.url));
    for (index, body) in bodies.iter().enumerate() {
        let (day, machine) = (
            format!("day{index}"),
            Machine::new().deployment(&gate.url, &backend.key),
        );
        gate.set(Fault::status(200, body));
        run_some_hooks(&machine, &day, 10, "a recorded error");
        let shown = machine.sidecar(&["sessions"]).run().ok();
        // The reason is below the table.
        let reason = shown.split_once("\n\n").map_or("", |(_, below)| below);
        assert!(
            reason.contains(&format!("{day}-0")) || reason.contains("1 session"),
            "{body}: {shown}"
        );
        assert_eq!(machine.sidecar(&["sync"]).run().status, 1, "{body}");
        gate.set(Fault::None);
        assert_arrived(&machine, &day, 10);
    }
    println!("{} recorded errors", bodies.len());
}

#[test]
fn missing_answers_delay_delivery() {
    run_hooks_at_each(vec![("never answers", Fault::Silence, "no answer in time")]);
}

#[test]
fn dripping_answers_delay_delivery() {
    let delay = Duration::from_millis(100);
    run_hooks_at_each(vec![
        (
            "headers, a byte in 100 ms",
            Fault::Endless {
                first: "HTTP/1.1 200 OK\r\nX-Filler: ",
                rest: "x",
                delay,
            },
            "no answer in time",
        ),
        (
            "a body, a byte in 100 ms",
            Fault::Endless {
                first: "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n",
                rest: " ",
                delay,
            },
            "no answer in time",
        ),
    ]);
}

#[test]
fn endless_answers_delay_delivery() {
    let delay = Duration::ZERO;
    run_hooks_at_each(vec![
        (
            "endless headers",
            Fault::Endless {
                first: "HTTP/1.1 200 OK\r\n",
                rest: "X-Filler: 0123456789012345678901234567890123456789\r\n",
                delay,
            },
            "could not reach",
        ),
        (
            "an endless body",
            Fault::Endless {
                first: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                rest: "28\r\n0123456789012345678901234567890123456789\r\n",
                delay,
            },
            "no answer in time|the answer did not come from Convex",
        ),
    ]);
}

/// The buffers on both sides take much of what a server has not read yet, so the document is as
/// large as possible.
#[test]
fn server_that_reads_slowly_delays_delivery() {
    let backend = Backend::start();
    let gate = Gate::open(Some(&backend.url));
    let machine = Machine::new().deployment(&gate.url, &backend.key);
    machine.write_config("max_output_bytes = 400000\n");
    gate.set(Fault::SlowRead);
    let stop = json!({"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": "a".repeat(400_000)});
    run_hook(
        machine.sidecar(&["hook"]),
        &stop.to_string(),
        "slow reading",
    );
    let shown = machine.sidecar(&["sessions"]).run().ok();
    assert!(shown.contains("no answer in time"), "{shown}");
    gate.set(Fault::None);
    let synced = machine.sidecar(&["sync"]).run().ok();
    assert!(synced.starts_with("1 session delivered"), "{synced}");
}

#[test]
fn refused_connections_delay_delivery() {
    let backend = Backend::start();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let machine = Machine::new().deployment(&format!("http://{address}"), &backend.key);
    run_hooks(&machine, "day0", "refused");
    let shown = machine.sidecar(&["sessions"]).run().ok();
    assert!(shown.contains("Connection refused"), "{shown}");
    let _gate = Gate::at(address, Some(&backend.url));
    assert_all_arrived(&machine, "day0");
}

/// A process that is killed at the end of the test, because a stopped process never ends by itself.
#[cfg(target_os = "linux")]
struct Stopped(std::process::Child);

#[cfg(target_os = "linux")]
impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server is stopped and its queue of new connections is full, so they are neither accepted nor
/// refused.
#[cfg(target_os = "linux")]
#[test]
fn hanging_connections_delay_delivery() {
    use std::io::{BufRead, BufReader};
    use std::net::TcpStream;
    use std::process::{Command, Stdio};

    let listen = "const server = require('net').createServer().listen({port: 0, host: '127.0.0.1', backlog: 1}, () => {
        console.log(server.address().port); process.kill(process.pid, 'SIGSTOP'); })";
    let mut stopped = Stopped(
        Command::new("node")
            .args(["-e", listen])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut port = String::new();
    BufReader::new(stopped.0.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let address = format!("127.0.0.1:{}", port.trim()).parse().unwrap();
    let mut queue = Vec::new();
    while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(connection);
        assert!(queue.len() < 100, "the queue never fills up");
    }
    let backend = Backend::start();
    let machine = Machine::new().deployment(&format!("http://{address}"), &backend.key);
    let fresh = Machine::new().deployment(&format!("http://{address}"), &backend.key);
    run_hook(
        fresh.sidecar(&["hook"]),
        &hook("day0", 1),
        "a connection hangs",
    );
    // The limit of the connection, not that of the request.
    let shown = fresh.sidecar(&["sessions"]).run().ok();
    assert!(shown.contains("the connection timed out"), "{shown}");
    run_hooks(&machine, "day0", "connections hang");
    let shown = machine.sidecar(&["sessions"]).run().ok();
    assert!(
        shown.contains("could not reach http://127.0.0.1:"),
        "{shown}"
    );
    drop(stopped);
    drop(queue);
    let _gate = Gate::at(address, Some(&backend.url));
    assert_all_arrived(&machine, "day0");
}

/// The shim stands in for a resolver whose servers do not answer.
#[cfg(target_os = "linux")]
#[test]
fn hanging_resolver_delays_delivery() {
    let machine = Machine::new();
    let (source, shim, mark) = (
        machine.home().join("shim.c"),
        machine.home().join("shim.so"),
        machine.home().join("called"),
    );
    std::fs::write(
        &source,
        format!(
            "#include <fcntl.h>\n#include <unistd.h>\n\
             int getaddrinfo(void) {{ creat(\"{}\", 0600); sleep(60); return -3; }}\n",
            mark.display()
        ),
    )
    .unwrap();
    // The compiler that builds SQLite is available.
    let compiled = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-fno-builtin", "-o"])
        .args([&shim, &source])
        .status();
    assert!(compiled.unwrap().success());
    let gate = Gate::open(None);
    let url = gate.url.replace("127.0.0.1", "localhost");
    let machine = machine.deployment(&url, "convex-self-hosted|5ec4e7");
    let sidecar = machine
        .sidecar(&["hook"])
        .env("LD_PRELOAD", shim.to_str().unwrap());
    run_hook(sidecar, &hook("day0", 1), "the resolver hangs");
    assert!(mark.exists(), "the shim was not called");
    assert_eq!(gate.connections(), 0);
    let shown = machine.sidecar(&["sessions"]).run().ok();
    assert!(shown.contains("the connection timed out"), "{shown}");
}

#[test]
fn redirects_are_not_followed() {
    let (backend, elsewhere) = (Backend::start(), Gate::open(None));
    let gate = Gate::open(Some(&backend.url));
    let machine = Machine::new().deployment(&gate.url, &backend.key);
    for status in [301, 302, 303, 307, 308] {
        let head = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {}/api/mutation",
            elsewhere.url
        );
        gate.set(Fault::Answer {
            head,
            body: Vec::new(),
        });
        run_hooks(&machine, "day0", "a redirect");
        let sync = machine.sidecar(&["sync"]).run();
        assert!(
            sync.stderr
                .contains("redirects are not followed; configure the final URL"),
            "{}",
            sync.stderr
        );
    }
    assert_eq!(elsewhere.connections(), 0);
    gate.set(Fault::None);
    assert_all_arrived(&machine, "day0");
}

/// A machine that trusts a single certificate, because a debug build is slow at reading the
/// system's.
#[cfg(target_os = "linux")]
fn with_one_certificate(machine: Machine) -> Machine {
    let certificates = machine.home().join("certificates.pem");
    std::fs::write(&certificates, TlsServer::start().certificate).unwrap();
    machine.env("SSL_CERT_FILE", certificates.to_str().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn tls_to_a_plain_port_sends_no_key_in_plain_text() {
    let gate = Gate::open(None);
    let url = gate.url.replace("http://", "https://");
    let machine = with_one_certificate(Machine::new()).deployment(
        &url,
        "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7",
    );
    gate.set(Fault::status(200, r#"{"status":"success","value":{}}"#));
    run_hooks(&machine, "day0", "TLS to a plain port");
    assert_eq!(gate.connections(), 1, "then the backoff");
    let shown = machine.sidecar(&["sessions"]).run().ok();
    assert!(shown.contains(&format!("could not reach {url}")), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn unanswered_tls_handshakes_delay_delivery() {
    let gate = Gate::open(None);
    let url = gate.url.replace("http://", "https://");
    let machine =
        with_one_certificate(Machine::new()).deployment(&url, "convex-self-hosted|5ec4e7");
    gate.set(Fault::Silence);
    for turn in 1..4 {
        run_hook(
            machine.sidecar(&["hook"]),
            &hook("day0", turn),
            "no TLS handshake",
        );
    }
    assert_eq!(gate.connections(), 1, "then the backoff");
    let shown = machine.sidecar(&["sessions"]).run().ok();
    let why = format!("could not reach {url}: the connection timed out");
    assert!(shown.contains(&why), "{shown}");
}

/// A pipe that nobody writes to stands in for a folder of certificates on a disk that does not
/// answer.
#[cfg(target_os = "linux")]
#[test]
fn unreadable_certificates_delay_delivery() {
    let gate = Gate::open(None);
    let url = gate.url.replace("http://", "https://");
    let machine = Machine::new().deployment(&url, "convex-self-hosted|5ec4e7");
    let pipe = machine.home().join("certificates.pem");
    fifo(&pipe);
    let machine = machine.env("SSL_CERT_FILE", pipe.to_str().unwrap());
    run_hook(
        machine.sidecar(&["hook"]),
        &hook("day0", 1),
        "certificates hang",
    );
    let shown = machine.sidecar(&["sessions"]).run().ok();
    assert!(
        shown.contains("could not read the system's certificates in time"),
        "{shown}"
    );
}

/// The mutation ran, but its answer was lost.
#[test]
fn repeated_delivery_after_a_lost_answer_changes_nothing() {
    let backend = Backend::start();
    let machine = backend.machine();
    for index in 0..HOOKS {
        if index % 3 == 0 {
            backend.fault(&json!({"dropReply": true}));
        }
        machine.hook(hook("day0", index));
        backend.fault(&json!({"times": 0}));
        // `sync` does not wait for the backoff.
        machine.sidecar(&["sync"]).run();
    }
    assert_all_arrived(&machine, "day0");
}

#[test]
fn refused_session_delays_no_other() {
    let backend = Backend::start();
    let machine = backend.machine();
    machine.hook(hook("bad", 0));
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let corrupt = "UPDATE sessions SET revision = revision + 1, retry_at = 0,
                   document = json_set(document, '$.revision', revision + 1, '$.metadata.costSource', 'guess') WHERE session_id = 'bad-0'";
    assert_eq!(journal.execute(corrupt, []).unwrap(), 1);
    let before = backend.calls().len();
    run_hooks(&machine, "day0", "beside a refused session");
    // It is tried once with the first of the others, then by itself, then not before its own
    // backoff is over.
    let calls = backend.calls();
    let others = HOOKS + 2;
    assert!(
        calls.len() - before <= others,
        "{}: {:?}",
        calls.len() - before,
        &calls[before..]
    );
    let rows = machine.remote_sessions();
    assert_eq!(
        rows.iter()
            .filter(|row| row["status"] == "completed")
            .count(),
        HOOKS / 10
    );
    let shown = machine.sidecar(&["show", "bad-0"]).run().ok();
    assert!(
        shown.contains("refused: ") && shown.contains("costSource"),
        "{shown}"
    );
}

/// Three sessions of 60 KB each, on a connection that is too slow for more than two of them at once,
/// and one that is too large for it.
#[test]
fn slow_connection_delays_only_what_is_too_large_for_it() {
    let backend = Backend::start();
    let gate = Gate::open(Some(&backend.url));
    let machine = Machine::new().deployment(&gate.url, &backend.key);
    std::fs::create_dir_all(machine.sidecar_home()).unwrap();
    let config = machine.sidecar_home().join("config.toml");
    std::fs::write(config, "max_output_bytes = 200000\n").unwrap();
    let hook = |id: &str, bytes: usize| {
        let stop = json!({"session_id": id, "hook_event_name": "Stop", "last_assistant_message": "x ".repeat(bytes / 2)});
        let hook = machine.sidecar(&["hook"]).stdin(stop.to_string());
        hook.run().silent();
    };
    gate.set(Fault::Slam);
    hook("large-0", 180_000);
    for number in 1..=3 {
        hook(&format!("middle-{number}"), 60_000);
    }
    gate.set(Fault::TooSlow(150_000));
    machine.sidecar(&["sync"]).run();
    let left = || {
        let sql = "SELECT count(*) FROM sessions WHERE revision > delivered_revision";
        let journal = rusqlite::Connection::open(machine.journal()).unwrap();
        journal
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(left(), 1);
    let shown = machine.sidecar(&["show", "large-0"]).run().ok();
    assert!(
        shown.contains("`convex-sidecar sync` tries again"),
        "{shown}"
    );
    hook("small-4", 10);
    assert_eq!(left(), 1, "a hook still sends its own session");
    gate.set(Fault::None);
    machine.sidecar(&["sync"]).run().ok();
    assert_eq!(left(), 0);
}
