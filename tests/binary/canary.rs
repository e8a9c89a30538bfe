//! Secrets of every kind that is masked, in every place where text comes in: none of them is kept,
//! sent or printed. Text that is not a secret stays: the captured transcripts and this repository's
//! own sources.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use convex_sidecar::record::redact::Redactor;
use serde_json::{Value, json};

use crate::support::{Backend, Machine, root};

const SESSION: &str = "5e55104a-0000-4000-8000-0000000000ca";

/// A text that looks like a secret, and the part of it that is searched for.
struct Canary {
    text: String,
    needle: String,
}

/// One canary of each kind, assembled here so that no scanner mistakes this file for a leak. They
/// contain `place`, so that a failure shows where it came in.
fn canaries(place: usize) -> Vec<Canary> {
    let shapes: [(&str, &str); 27] = [
        ("sk-ant-{}", "api03-"),
        ("sk-{}", "proj-"),
        ("sk-{}", "svcacct-"),
        ("sk-{}", ""),
        ("gh{}", "p_"),
        ("gh{}", "s_"),
        ("github_{}", "pat_"),
        ("AK{}", "IA"),
        ("AS{}", "IA"),
        ("xo{}", "xb-1234567890-"),
        ("xapp-{}", "1-"),
        ("https://hooks.slack.com/{}", "services/T0/B0/"),
        ("sk_{}", "live_"),
        ("rk_{}", "test_"),
        ("wh{}", "sec_"),
        ("AI{}", "za"),
        ("ya{}", "29."),
        ("GOC{}", "SPX-"),
        ("ey{}", "J"),
        ("convex-self-hosted{}", "|"),
        ("postgres://me:{}", ""),
        ("password={}", ""),
        ("\"db_password\": \"{}", ""),
        ("API_KEY={}", ""),
        ("client_secret: '{}", ""),
        ("Authorization: Bearer {}", ""),
        ("-----BEGIN {}", "RSA PRIVATE KEY-----\n"),
    ];
    let canary = |(number, (before, after)): (usize, (&str, &str))| {
        // Letters and digits that every format allows; hexadecimal for a Convex key, capitals for
        // AWS.
        let id = format!("{place:02}{number:02}");
        let (core, rest) = match before {
            "AK{}" | "AS{}" => (format!("CANARY{id}"), "QWERTY".to_owned()),
            "convex-self-hosted{}" => (format!("ca9a27{id}"), "0123456789abcdef".repeat(2)),
            "AI{}" => (
                format!("cAnArY{id}"),
                "Ab3dEf6hIj9kLm2nOp5qRs8tU".to_owned(),
            ),
            "ey{}" => (
                format!("cAnArY{id}"),
                "Ab3d.eyJhbGciOiJub25l.Zm9vYmFyYmF6".to_owned(),
            ),
            "postgres://me:{}" => (format!("cAnArY{id}"), "@db/x".to_owned()),
            "\"db_password\": \"{}" => (format!("cAnArY{id}"), "\"".to_owned()),
            "client_secret: '{}" => (format!("cAnArY{id}"), "'".to_owned()),
            "-----BEGIN {}" => (
                format!("cAnArY{id}"),
                "Ab3dEf6h\n-----END RSA PRIVATE KEY-----".to_owned(),
            ),
            _ => (
                format!("cAnArY{id}"),
                "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z".to_owned(),
            ),
        };
        Canary {
            text: before.replace("{}", after) + &core + &rest,
            needle: core,
        }
    };
    shapes.into_iter().enumerate().map(canary).collect()
}

/// The number of places where text comes in.
const PLACES: usize = 12;

/// All canaries of a place, as one text.
fn text(place: usize) -> String {
    let texts: Vec<_> = canaries(place)
        .into_iter()
        .map(|canary| format!("before {} after", canary.text))
        .collect();
    format!("place {place}\n{}", texts.join("\n"))
}

/// Asserts that no canary is in `bytes`.
#[track_caller]
fn assert_no_canary(bytes: &[u8], what: &str) {
    let found: Vec<_> = (0..PLACES)
        .flat_map(canaries)
        .filter(|canary| contains_bytes(bytes, canary.needle.as_bytes()))
        .map(|canary| canary.text.escape_debug().to_string())
        .collect();
    assert!(
        found.is_empty(),
        "in {what}: {}\n{}",
        found.join("\n"),
        String::from_utf8_lossy(&bytes[..bytes.len().min(4_000)])
    );
}

fn contains_bytes(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// A transcript with canaries in all text.
fn transcript() -> String {
    let at = |second: u32| format!("2026-11-22T23:00:{second:02}.000Z");
    let assistant = |uuid: &str, message: Value| json!({"type": "assistant", "uuid": uuid, "timestamp": at(9), "message": message});
    let mut error = assistant(
        "e1",
        json!({"id": "x", "model": "<synthetic>", "content": [{"type": "text", "text": text(5)}]}),
    );
    error["isApiErrorMessage"] = json!(true);
    error["timestamp"] = json!(at(10));
    let usage = json!({"input_tokens": 1, "output_tokens": 2});
    let lines = [
        json!({"type": "user", "uuid": "u1", "timestamp": at(1), "message": {"role": "user", "content": text(0)}}),
        assistant(
            "a1",
            json!({"id": "m1", "model": "m", "usage": usage, "content": [
                {"type": "thinking", "thinking": text(11)},
                {"type": "text", "text": text(1)},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": text(11)}}
            ]}),
        ),
        json!({"type": "user", "uuid": "u2", "timestamp": at(3), "toolUseResult": text(4), "message": {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": text(4)}
        ]}}),
        json!({"type": "custom-title", "customTitle": text(2)}),
        json!({"type": "ai-title", "aiTitle": text(3)}),
        json!({"type": "queue-operation", "operation": "enqueue", "content": text(11)}),
        error,
        json!({"type": "last-prompt", "lastPrompt": text(11)}),
    ];
    lines
        .iter()
        .map(|line| line.to_string() + "\n")
        .collect::<Vec<_>>()
        .concat()
}

fn transcript_path(machine: &Machine) -> PathBuf {
    std::fs::create_dir_all(machine.projects()).unwrap();
    machine.projects().join(format!("{SESSION}.jsonl"))
}

/// The hooks of a session whose texts contain canaries.
fn hooks(path: &Path) -> Vec<Value> {
    let hook = |event: &str, fields: Value| {
        let mut hook = json!({"session_id": SESSION, "transcript_path": path, "cwd": "/home/dev", "hook_event_name": event});
        hook.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        hook
    };
    vec![
        hook(
            "SessionStart",
            json!({"source": "startup", "session_title": text(6)}),
        ),
        hook("UserPromptSubmit", json!({"prompt": text(7)})),
        hook(
            "SomethingNew",
            json!({"tool_input": {"command": text(11)}, "tool_response": text(11)}),
        ),
        hook("Stop", json!({"last_assistant_message": text(8)})),
        hook(
            "StopFailure",
            json!({"error": "unknown", "error_details": text(9), "last_assistant_message": text(10)}),
        ),
        hook("SessionEnd", json!({"reason": "other"})),
    ]
}

/// All requests to the backend.
fn requests(backend: &Backend) -> Vec<u8> {
    let mut stream =
        std::net::TcpStream::connect(backend.url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET /_test/requests HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn no_secret_is_kept_sent_or_shown() {
    let backend = Backend::start();
    let machine = backend.machine();
    let path = transcript_path(&machine);
    let hooks = hooks(&path);
    for (number, hook) in hooks.iter().enumerate() {
        if number == 3 {
            std::fs::write(&path, transcript()).unwrap();
        }
        machine.hook(hook.to_string());
        // After each hook, because a later one replaces what was kept.
        assert_no_secret_on(&machine, &backend);
    }
    machine.sidecar(&["sync"]).run().ok();
    for args in [
        &["sync"][..],
        &["sessions"],
        &["sessions", "--json"],
        &["sessions", "--remote", "--json"],
        &["show", SESSION],
        &["show", SESSION, "--json"],
        &["show", SESSION, "--remote"],
        &["show", SESSION, "--remote", "--json"],
    ] {
        assert_no_canary(machine.sidecar(args).run().ok().as_bytes(), &args.join(" "));
    }
    assert_no_secret_on(&machine, &backend);
    let document = machine.document(SESSION);
    for (field, text) in [
        ("input", &document["input"]),
        ("output", &document["output"]),
        ("error", &document["error"]),
        ("title", &document["metadata"]["title"]),
    ] {
        // The text was masked, not left out.
        assert!(
            text.as_str().unwrap().starts_with("place "),
            "{field}: {document:#}"
        );
        assert!(
            text.as_str().unwrap().matches("[redacted ").count() >= 27,
            "{field}: {text:#}"
        );
    }
}

/// Asserts that no canary is in the files of the journal or in a request.
#[track_caller]
fn assert_no_secret_on(machine: &Machine, backend: &Backend) {
    let files: Vec<PathBuf> = std::fs::read_dir(machine.sidecar_home())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.iter().any(|path| path.ends_with("journal.db")));
    for file in files {
        // SQLite removes its own files when the last process closes the journal.
        assert_no_canary(
            &std::fs::read(&file).unwrap_or_default(),
            &file.to_string_lossy(),
        );
    }
    let requests = requests(backend);
    assert!(contains_bytes(&requests, SESSION.as_bytes()));
    assert_no_canary(&requests, "requests");
}

#[test]
fn dry_run_and_verbose_print_no_secret() {
    let machine = Machine::new();
    let path = transcript_path(&machine);
    std::fs::write(&path, transcript()).unwrap();
    for event in hooks(&path) {
        let run = |option: &str| {
            let hook = machine.sidecar(&["hook", option]);
            hook.stdin(event.to_string()).run()
        };
        let shown = run("--dry-run").stdout;
        assert_no_canary(shown.as_bytes(), "hook --dry-run");
        assert!(shown.lines().any(|line| line.starts_with("document: ")));
        assert_no_canary(run("--verbose").stderr.as_bytes(), "hook --verbose");
    }
}

/// Masking shortens a text, so that text from beyond the stored length moves into it, up to where
/// the text was truncated before masking.
#[test]
fn no_part_of_a_secret_beyond_the_stored_length_is_stored() {
    let token = format!("gh{}{}", "p_", "cAnArY9999Ab3dEf6hIj9kLm2nOp5qRs8tUv");
    let key = |body: usize| {
        format!(
            "-----BEGIN {}\n{}\n-----END PRIVATE KEY-----\n",
            "PRIVATE KEY-----",
            "k".repeat(body)
        )
    };
    let redactor = Redactor::new(true, &[], 1_000).unwrap();
    for filler in 17_270..17_350 {
        let kept = redactor
            .keep(&format!(
                "{} {token} {}",
                key(filler),
                "tail ".repeat(10_000)
            ))
            .unwrap();
        assert!(
            !kept.text.contains("cAnArY"),
            "with {filler} bytes before it: {}",
            &kept.text[..kept.text.len().min(200)]
        );
    }
}

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            files.push(path);
        }
    }
    files
}

/// The texts that masking changes, as they are stored.
fn masked(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let redactor = Redactor::new(true, &[], 10_000_000).unwrap();
    let kept = |text: String| Some((redactor.keep(&text)?.text, text));
    let changed = texts.into_iter().filter_map(kept);
    let changed = changed.filter(|(kept, text)| kept != text.trim());
    changed.map(|(kept, _)| kept).collect()
}

#[test]
fn captured_sessions_are_not_masked() {
    let mut texts = Vec::new();
    let fixtures = root().join("tests/fixtures");
    let paths = ["jsonl", "json"]
        .map(|kind| files(&fixtures, kind))
        .concat();
    let is_capture = |path: &&PathBuf| {
        let mut parts = path.iter().map(|part| part.to_string_lossy());
        parts.any(|part| part.starts_with("claude-code-"))
    };
    for path in paths.iter().filter(is_capture) {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            texts.push(line.to_owned());
            strings(&serde_json::from_str(line).unwrap_or_default(), &mut texts);
        }
    }
    assert!(texts.len() > 10_000, "{}", texts.len());
    assert_eq!(masked(texts), Vec::<String>::new());
}

/// Sources, docs and tests often mention keys and passwords. Only the keys and passwords that the
/// tests make up may be masked.
#[test]
fn only_made_up_secrets_are_masked_in_the_sources() {
    let folders = [
        "src",
        "convex",
        "docs",
        "tests/binary",
        "tests/client",
        "tests/backend",
    ];
    let mut paths: Vec<_> = ["rs", "ts", "mjs", "md"]
        .into_iter()
        .flat_map(|kind| {
            folders
                .map(|folder| files(&root().join(folder), kind))
                .concat()
        })
        .filter(|path| {
            !path
                .components()
                .any(|part| part.as_os_str() == "node_modules")
        })
        .filter(|path| !path.starts_with(root().join("src/record/redact")))
        // It is generated, and most of it is minified third-party code.
        .filter(|path| !path.ends_with("convex/model/page.ts"))
        .collect();
    paths.extend(["README.md", "CHANGELOG.md", "ARCHITECTURE.md"].map(|name| root().join(name)));
    let lines = paths.iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let lines: Vec<_> = lines.collect();
    assert!(lines.len() > 30_000, "{}", lines.len());
    let made_up = [
        "[redacted convex key]",
        "POSTGRES_PASSWORD=[redacted secret]",
        "PASSWORD='[redacted secret]",
        "[redacted password]@other.example",
        "[redacted password]@postgres",
        "[redacted password]@db",
        "use [redacted anthropic]",
    ];
    let mut masked = masked(lines);
    masked.retain(|kept| !made_up.iter().any(|part| kept.contains(part)));
    assert_eq!(masked, Vec::<String>::new());
}

/// The configured key and headers are masked in any form, and however a text encodes the bar of the
/// key.
#[test]
fn own_key_and_headers_are_masked_in_any_form() {
    const KEY: &str = "my-instance|short-key-99";
    const HEADER: &str = "e21c6f0a77b94d9c";
    let machine = Machine::new();
    machine.write_config(&format!(
        "url = 'http://127.0.0.1:9'\nadmin_key = '{KEY}'\nredact = false\n[headers]\nX-Access = '{HEADER}'\n"
    ));
    let texts = [
        KEY.to_owned(),
        KEY.replace('|', "\\u007c"),
        format!("the value is {HEADER}."),
        format!("a{HEADER}b"),
    ];
    let stop = serde_json::json!({"session_id": "s", "hook_event_name": "Stop",
        "last_assistant_message": texts.join("\n"), "cwd": format!("/home/{HEADER}")});
    machine.hook(stop.to_string());
    let document = machine.document("s").to_string();
    assert!(document.contains("the value is"), "{document}");
    for secret in ["short-key-99", HEADER] {
        assert!(!document.contains(secret), "{document}");
    }
}
