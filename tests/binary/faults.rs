//! Whatever the server does: the hook is silent, nothing is lost, the user is told why, and all
//! arrives once when the server is back.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gate::{Fault, Gate};
use crate::support::{Backend, Machine, json_lines, root};

const HOOKS: usize = 50;

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

/// Runs the first so many hooks of a day, each of which must be silent; returns how long each took.
fn run_hooks(machine: &Machine, day: &str) -> Vec<Duration> {
    run_some(machine, day, HOOKS)
}

fn run_some(machine: &Machine, day: &str, hooks: usize) -> Vec<Duration> {
    let run = |index| {
        let start = Instant::now();
        machine
            .sidecar(&["hook"])
            .stdin(hook(day, index))
            .run()
            .silent();
        start.elapsed()
    };
    (0..hooks).map(run).collect()
}

/// Demands that Convex holds what the journal holds, each session once, and nothing is left to
/// send.
fn assert_all_arrived(machine: &Machine, day: &str) {
    assert_arrived(machine, day, HOOKS);
}

fn assert_arrived(machine: &Machine, day: &str, hooks: usize) {
    machine.sidecar(&["sync"]).run().ok();
    let mut rows = json_lines(
        &machine
            .sidecar(&["sessions", "--remote", "--json", "--limit", "1000"])
            .run()
            .ok(),
    );
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

/// How long hooks took, in milliseconds: the first one, that in the middle of the others, and the
/// longest.
fn say(day: &str, times: &[Duration]) {
    let mut others = times[1..].to_vec();
    others.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{day:28} first {:7.1} ms, then {:5.1} ms in the middle, {:7.1} ms at most",
        millis(times[0]),
        millis(others[others.len() / 2]),
        millis(times.iter().copied().max().unwrap())
    );
}

/// Fifty hooks at each of these faults; `sessions` says why they are pending; then the server is
/// back.
fn at_each(faults: Vec<(&str, Fault, &str)>) {
    let backend = Backend::start();
    let gate = Gate::open(Some(&backend.url));
    let machine = Machine::new().deployment(&gate.url, &backend.key);
    say("a healthy server", &run_hooks(&machine, "healthy"));
    for (index, (name, fault, why)) in faults.into_iter().enumerate() {
        let (day, machine) = (
            format!("day{index}"),
            Machine::new().deployment(&gate.url, &backend.key),
        );
        gate.set(fault.clone());
        say(name, &run_hooks(&machine, &day));
        let told = machine.sidecar(&["sessions"]).run().ok()
            + &machine.sidecar(&["show", &format!("{day}-0")]).run().ok();
        let is_told = |text: &str| why.split('|').any(|why| text.contains(why));
        assert!(is_told(&told), "{name}: {told}");
        let doctor = machine.sidecar(&["doctor"]).run();
        let pending = doctor
            .stdout
            .lines()
            .any(|line| line.starts_with("! ") && is_told(line));
        assert!(pending && doctor.status == 1, "{name}: {}", doctor.stdout);
        let sync = machine.sidecar(&["sync"]).run();
        assert_eq!(sync.status, 1, "{name}: {}", sync.stdout);
        assert!(is_told(&sync.stderr), "{name}: {}", sync.stderr);
        gate.set(Fault::None);
        assert_all_arrived(&machine, &day);
    }
}

#[test]
fn connections_that_lead_nowhere() {
    at_each(vec![
        (
            "closes at once",
            Fault::Slam,
            "could not reach http://127.0.0.1:",
        ),
        (
            "closes mid-answer",
            Fault::CutOff(200),
            "the answer broke off",
        ),
        (
            "garbage with 200",
            Fault::status(200, "<html>welcome</html>"),
            "the answer is not Convex's",
        ),
        (
            "no HTTP at all",
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
            "no answer in time|the answer is not Convex's",
        ),
    ]);
}

#[test]
fn http_errors() {
    let convex = |code: &str| format!(r#"{{"code":"{code}","message":"as told"}}"#);
    at_each(vec![
        (
            "400 of Convex",
            Fault::status(400, &convex("BadJsonBody")),
            "HTTP 400 BadJsonBody: as told",
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
            "404",
            Fault::status(404, "not here"),
            "is this URL a Convex deployment's?",
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

/// Every answer of a real backend by which a function did not do what it was asked for, as it was
/// recorded, whole and redacted.
#[test]
fn errors_that_convex_gives_with_status_200() {
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
        run_some(&machine, &day, 10);
        let told = machine.sidecar(&["sessions"]).run().ok();
        // The reason stands below the table.
        let reason = told.split_once("\n\n").map_or("", |(_, below)| below);
        assert!(
            reason.contains(&format!("{day}-0")) || reason.contains("1 session"),
            "{body}: {told}"
        );
        assert_eq!(machine.sidecar(&["sync"]).run().status, 1, "{body}");
        gate.set(Fault::None);
        assert_arrived(&machine, &day, 10);
    }
    println!("{} recorded errors", bodies.len());
}

#[test]
fn servers_that_take_their_time() {
    at_each(vec![
        ("never answers", Fault::Silence, "no answer in time"),
        ("one byte a second", Fault::Drip, "no answer in time"),
    ]);
}

#[test]
fn nobody_listens() {
    let backend = Backend::start();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let machine = Machine::new().deployment(&format!("http://{address}"), &backend.key);
    say("refused", &run_hooks(&machine, "day0"));
    let told = machine.sidecar(&["sessions"]).run().ok();
    assert!(told.contains("Connection refused"), "{told}");
    let _gate = Gate::at(address, Some(&backend.url));
    assert_all_arrived(&machine, "day0");
}

/// A process that is killed with the test: one that is stopped would never end by itself.
#[cfg(target_os = "linux")]
struct Stopped(std::process::Child);

#[cfg(target_os = "linux")]
impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that is stopped while its queue of new connections is full: they are neither taken nor
/// refused.
#[cfg(target_os = "linux")]
#[test]
fn connections_that_are_never_made() {
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
        assert!(queue.len() < 100, "the queue is never full");
    }
    let backend = Backend::start();
    let machine = Machine::new().deployment(&format!("http://{address}"), &backend.key);
    say("connections hang", &run_hooks(&machine, "day0"));
    let told = machine.sidecar(&["sessions"]).run().ok();
    assert!(told.contains("could not reach http://127.0.0.1:"), "{told}");
    drop(stopped);
    drop(queue);
    let _gate = Gate::at(address, Some(&backend.url));
    assert_all_arrived(&machine, "day0");
}

#[test]
fn a_redirect_is_not_followed() {
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
        run_hooks(&machine, "day0");
        let sync = machine.sidecar(&["sync"]).run();
        assert!(
            sync.stderr
                .contains("a redirect is not followed, set the final URL"),
            "{}",
            sync.stderr
        );
    }
    assert_eq!(elsewhere.connections(), 0);
    gate.set(Fault::None);
    assert_all_arrived(&machine, "day0");
}

#[test]
fn tls_to_a_plain_port_sends_no_key_in_the_clear() {
    let gate = Gate::open(None);
    let url = gate.url.replace("http://", "https://");
    let machine = Machine::new().deployment(
        &url,
        "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7",
    );
    gate.set(Fault::status(200, r#"{"status":"success","value":{}}"#));
    say("TLS to a plain port", &run_hooks(&machine, "day0"));
    assert_eq!(gate.connections(), 1, "then the backoff");
    let told = machine.sidecar(&["sessions"]).run().ok();
    assert!(told.contains(&format!("could not reach {url}")), "{told}");
}

/// The mutation ran, but its answer was lost: the repetition changes nothing.
#[test]
fn lost_answers() {
    let backend = Backend::start();
    let machine = backend.machine();
    for index in 0..HOOKS {
        if index % 3 == 0 {
            backend.fault(&json!({"dropReply": true}));
        }
        machine
            .sidecar(&["hook"])
            .stdin(hook("day0", index))
            .run()
            .silent();
        backend.fault(&json!({"times": 0}));
        // Time heals the backoff; a test has none.
        machine.sidecar(&["sync"]).run();
    }
    assert_all_arrived(&machine, "day0");
}

#[test]
fn a_session_that_is_refused_delays_no_other() {
    let backend = Backend::start();
    let machine = backend.machine();
    machine
        .sidecar(&["hook"])
        .stdin(hook("bad", 0))
        .run()
        .silent();
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let spoil = "UPDATE sessions SET revision = revision + 1, retry_at = 0,
                   document = json_set(document, '$.revision', revision + 1, '$.metadata.future', 7) WHERE session_id = 'bad-0'";
    assert_eq!(journal.execute(spoil, []).unwrap(), 1);
    let before = backend.calls().len();
    say("beside a refused session", &run_hooks(&machine, "day0"));
    // Tried once, with the first of the others; then by itself; then not before its own backoff is
    // over.
    let calls = backend.calls();
    let others = HOOKS + 2;
    assert!(
        calls.len() - before <= others,
        "{}: {:?}",
        calls.len() - before,
        &calls[before..]
    );
    let rows = json_lines(
        &machine
            .sidecar(&["sessions", "--remote", "--json"])
            .run()
            .ok(),
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row["status"] == "completed")
            .count(),
        HOOKS / 10
    );
    let told = machine.sidecar(&["show", "bad-0"]).run().ok();
    assert!(
        told.contains("refused: ") && told.contains("future"),
        "{told}"
    );
}
