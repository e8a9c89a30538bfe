//! Hostile input and files: a hook records what it can, never blocks, prints nothing, uses little
//! memory, and writes nothing outside its home.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::Machine;
#[cfg(unix)]
use crate::support::fifo;

const SESSION: &str = "5e55104a-0000-4000-8000-00000000000a";
/// The promised limit of memory, in KiB.
const MEMORY_LIMIT: u64 = 32 * 1024;

fn event(path: &Path) -> String {
    json!({"session_id": SESSION, "transcript_path": path, "hook_event_name": "Stop"}).to_string()
}

fn transcript_path(machine: &Machine) -> PathBuf {
    std::fs::create_dir_all(machine.projects()).unwrap();
    machine.projects().join(format!("{SESSION}.jsonl"))
}

fn answer(id: &str, text: &str) -> String {
    let content = json!([{"type": "text", "text": text}, {"type": "tool_use", "id": format!("toolu_{id}"), "name": "Bash", "input": {}}]);
    let message = json!({"id": id, "model": "claude-opus-4-8", "usage": {"input_tokens": 1, "output_tokens": 2}, "content": content});
    json!({"type": "assistant", "uuid": format!("u-{id}"), "message": message}).to_string()
}

/// Runs the hook for a transcript of these bytes, then `sync` until everything is read. Returns the
/// document.
fn read(bytes: &[u8]) -> Value {
    let machine = Machine::new();
    let path = transcript_path(&machine);
    std::fs::write(&path, bytes).unwrap();
    machine.hook(event(&path));
    read_to_the_end(&machine)
}

/// A hook has little time for reading, and debug builds are slow.
fn read_to_the_end(machine: &Machine) -> Value {
    while machine.document(SESSION)["metadata"]["transcript"]["state"] != "complete" {
        // It fails because no deployment is configured.
        machine.sidecar(&["sync"]).run();
    }
    machine.document(SESSION)
}

/// The files below `folder` that are not in the sidecar's own home.
fn strays(machine: &Machine) -> Vec<PathBuf> {
    let mut strays = Vec::new();
    let mut folders = vec![machine.home().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.path() == machine.sidecar_home() {
                let names = std::fs::read_dir(entry.path())
                    .unwrap()
                    .map(|entry| entry.unwrap().path());
                strays.extend(names.filter(|path| {
                    !path
                        .file_name()
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .starts_with("journal.db")
                }));
            } else if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                strays.push(entry.path());
            }
        }
    }
    strays
}

#[test]
fn line_of_60_megabytes_counts_without_its_long_string() {
    let long = answer("m2", &"x".repeat(60_000_000));
    let document = read(
        format!(
            "{}\n{long}\n{}\n",
            answer("m1", "one"),
            answer("m3", "three")
        )
        .as_bytes(),
    );
    let metadata = &document["metadata"];
    assert_eq!(
        (&document["output"], &metadata["apiMessages"]),
        (&json!("three"), &json!(3))
    );
    assert_eq!(metadata["transcript"]["skippedLines"], Value::Null);
}

#[test]
fn deeply_nested_json_is_skipped() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let mut lines = vec![
        answer("m1", "one"),
        nested(5_000_000),
        nested(1_000_000),
        "[".repeat(1_000_000),
        r#"{"a":"#.repeat(500_000),
    ];
    for value in [nested(1_000_000), objects(400_000)] {
        lines.push(format!(r#"{{"type":"user","message":{value}}}"#));
        lines.push(format!(
            r#"{{"type":"user","message":{{"content":{value}}}}}"#
        ));
        lines.push(format!(
            r#"{{"type":"user","message":{{"content":[{value}]}}}}"#
        ));
        lines.push(format!(r#"{{"type":{value},"uuid":{value}}}"#));
        lines.push(format!(
            r#"{{"type":"assistant","uuid":"d{}","message":{{"id":"m{}","model":"m","content":[{{"type":"tool_use","id":"t{}","name":"Bash","input":{value}}}]}}}}"#,
            lines.len(),
            lines.len(),
            lines.len()
        ));
    }
    lines.push(answer("last", "the end"));
    let document = read(lines.join("\n").as_bytes());
    assert_eq!(
        (&document["output"], &document["metadata"]["apiMessages"]),
        (&json!("the end"), &json!(4))
    );
    assert_eq!(document["metadata"]["toolCalls"], 4);
}

#[test]
fn bytes_that_are_not_text_are_skipped_or_replaced() {
    let mut bytes = answer("m1", "one").into_bytes();
    bytes.extend_from_slice(
        b"\n\0\0\0\0\n\xff\xfe\xfd\n{\"type\":\"user\"\0}\n\r\n\r\r\n\xef\xbb\xbf{}\n",
    );
    bytes.extend_from_slice(&vec![0; 1_000_000]);
    bytes.extend_from_slice(b"\n");
    bytes.extend_from_slice(
        &[
            answer("m2", "t")
                .replace("\"t\"", "\"t\\u0000")
                .into_bytes(),
            vec![0xff, 0xc3],
            b"\"".to_vec(),
        ]
        .concat(),
    );
    let mut whole = answer("m3", "CUT").into_bytes();
    let at = whole
        .windows(3)
        .position(|window| window == b"CUT")
        .unwrap();
    whole.splice(at..at + 3, b"x \xff \\ud800 y".iter().copied());
    bytes.extend_from_slice(b"\n");
    bytes.extend_from_slice(&whole);
    let document = read(&bytes);
    assert_eq!(
        (&document["output"], &document["metadata"]["apiMessages"]),
        (&json!("x \u{fffd} \u{fffd} y"), &json!(2))
    );
}

#[cfg(unix)]
#[test]
fn transcript_that_is_not_a_regular_file_is_not_opened() {
    let machine = Machine::new();
    let pipe = machine.home().join("fifo");
    fifo(&pipe);
    let link = machine.home().join("link");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    let folder = machine.home().join("folder.jsonl");
    std::fs::create_dir(&folder).unwrap();
    let around = machine.home().join("around");
    std::os::unix::fs::symlink(&around, &around).unwrap();
    for path in [
        pipe.as_path(),
        &link,
        &folder,
        &around,
        Path::new("/dev/zero"),
        Path::new("/dev/stdin"),
        Path::new(""),
        Path::new("/\0"),
    ] {
        // This would block forever if one of them were opened.
        machine.hook(event(path));
        assert_eq!(
            machine.document(SESSION)["metadata"]["transcript"]["state"],
            "missing",
            "{}",
            path.display()
        );
        machine.sidecar(&["sync"]).run();
    }
    // The same in place of a subagent's file.
    let main = machine.home().join("s.jsonl");
    let subagents = machine.home().join("s/subagents");
    std::fs::create_dir_all(subagents.join("agent-c.jsonl")).unwrap();
    fifo(&subagents.join("agent-a.jsonl"));
    std::os::unix::fs::symlink("/dev/zero", subagents.join("agent-b.jsonl")).unwrap();
    std::os::unix::fs::symlink(&subagents, subagents.join("around")).unwrap();
    std::fs::write(&main, answer("m1", "one")).unwrap();
    machine.hook(event(&main));
    let document = machine.document(SESSION);
    assert_eq!(
        (&document["output"], &document["metadata"]["subagents"]),
        (&json!("one"), &json!(0))
    );
}

/// SQLite opens the rollback journal before it opens the database.
#[cfg(unix)]
#[test]
fn rollback_journal_that_is_a_pipe_is_not_opened() {
    let machine = Machine::new();
    machine.sidecar(&["sessions"]).run();
    let pipe = machine.sidecar_home().join("journal.db-journal");
    fifo(&pipe);
    let input = json!({"session_id": SESSION, "hook_event_name": "Stop"}).to_string();
    machine.hook(&*input);
    let doctor = machine.sidecar(&["doctor"]).run();
    assert!(
        doctor.stdout.contains("is not a regular file"),
        "{}",
        doctor.stdout
    );
    std::fs::remove_file(pipe).unwrap();
    machine.hook(input);
    assert_eq!(machine.document(SESSION)["sessionId"], SESSION);
}

#[test]
fn bad_input_writes_nothing_outside_the_home_and_the_next_hook_works() {
    let long = "x".repeat(10_000);
    let ids = [
        "",
        "../x",
        "..",
        "/etc/passwd",
        "a/../../b",
        "a'b",
        "a\"b",
        "a\nb",
        "a\0b",
        "a b",
        "\u{e4}",
        "%2e%2e",
        long.as_str(),
    ];
    let mut inputs: Vec<Vec<u8>> = ids
        .iter()
        .map(|id| {
            json!({"session_id": id, "hook_event_name": "Stop", "cwd": "/"})
                .to_string()
                .into_bytes()
        })
        .collect();
    let good = r#""session_id":"good","hook_event_name":"Stop""#;
    for text in [
        String::new(),
        "\n \t\r\n".to_owned(),
        "{".to_owned(),
        r#"{"session_id":"a","hook_event_name":"St"#.to_owned(),
        "[]".to_owned(),
        format!("[{{{good}}}]"),
        "null".to_owned(),
        "\"text\"".to_owned(),
        "42".to_owned(),
        "}{".to_owned(),
        "{}".to_owned(),
        r#"{"session_id":"a","session_id":"b","hook_event_name":"Stop"}"#.to_owned(),
        r#"{"session_id":7,"hook_event_name":"Stop"}"#.to_owned(),
        r#"{"session_id":["a"],"hook_event_name":"Stop"}"#.to_owned(),
        r#"{"session_id":"a","hook_event_name":{"a":1}}"#.to_owned(),
        r#"{"session_id":"a"}"#.to_owned(),
        r#"{"hook_event_name":"Stop"}"#.to_owned(),
        format!("{{{good}"),
        format!("{{{good},\"x\":{}", "[".repeat(1_000_000)),
        format!("{{\"prompt\":\"{}\",{good}}}", "x".repeat(17 * 1024 * 1024)),
        "x".repeat(17 * 1024 * 1024),
        " ".repeat(17 * 1024 * 1024),
    ] {
        inputs.push(text.into_bytes());
    }
    inputs.push(b"\0\0\0".to_vec());
    inputs.push(b"{\"session_id\":\"a\0b\",\"hook_event_name\":\"Stop\"}".to_vec());
    inputs.push(b"\xff\xfe{\0\"\0".to_vec());
    let machine = Machine::new();
    for input in &inputs {
        machine.hook(input);
        assert_eq!(strays(&machine), Vec::<PathBuf>::new());
    }
    assert_eq!(machine.documents(), Vec::<Value>::new());
    machine.hook(format!("{{{good}}}"));
    assert_eq!(machine.documents().len(), 1);
}

#[test]
fn odd_input_with_a_session_and_an_event_is_recorded() {
    let good = r#""session_id":"good","hook_event_name":"Stop""#;
    let nested = format!("{}{}", "[".repeat(5_000_000), "]".repeat(5_000_000));
    for input in [
        format!("{{\"x\":{nested},{good}}}"),
        format!("{{{good},\"cwd\":{nested}}}"),
        format!(
            "{{{good},\"transcript_path\":7,\"cwd\":{{}},\"permission_mode\":[null],\"last_assistant_message\":false}}"
        ),
        format!("{{{good},\"stop_hook_active\":1e999,\"background_tasks\":\"x\"}}")
            .replace("1e999", "1e99"),
        good.replace("Stop", "SomethingNew")
            .replace("\"session_id\"", "{\"session_id\"")
            + "}",
        format!("{{{good},\"last_assistant_message\":\"nul \\u0000 and half a pair \\ud83d\"}}"),
        format!(
            "{{{good},\"transcript_path\":\"/nowhere/../\\u0000/x\",\"cwd\":\"{}\"}}",
            "y".repeat(100_000)
        ),
        format!("{{{good}}} and more"),
        format!("\n\n  {{{good}}}\n{{{good}}}"),
    ] {
        let machine = Machine::new();
        machine.hook(&input);
        assert_eq!(
            machine.documents().len(),
            1,
            "{}",
            &input[..input.len().min(200)]
        );
        assert_eq!(strays(&machine), Vec::<PathBuf>::new());
    }
}

/// Writes a transcript of realistic lines: answers, calls, results of several kilobytes that the
/// client writes twice, and some prompts of `prompt` bytes. Returns the number of messages.
#[cfg(target_os = "linux")]
fn write_long(path: &Path, bytes: u64, prompt: usize) -> u64 {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let result = r#"    let entry = entry?;\n    println!(\"{entry:?}\");\n"#.repeat(90);
    let prompt = "look at this. ".repeat(prompt / 14);
    let (mut written, mut messages) = (0, 0_u64);
    while written < bytes {
        let end = |kind: char| {
            format!(
                r#""uuid":"{kind}{messages:032x}","timestamp":"2026-11-22T23:00:00.000Z","userType":"external","entrypoint":"cli","cwd":"/home/dev/proj","sessionId":"{SESSION}","version":"2.1.197","gitBranch":"main"}}"#
            )
        };
        let call = format!("toolu_{messages:020x}");
        let mut lines = format!(
            r#"{{"parentUuid":"p","isSidechain":false,"message":{{"id":"msg_{messages:024x}","type":"message","role":"assistant","model":"claude-opus-4-8","content":[{{"type":"text","text":"Now number {messages}."}},{{"type":"tool_use","id":"{call}","name":"Bash","input":{{"command":"cat src/main.rs"}}}}],"stop_reason":"tool_use","usage":{{"input_tokens":3,"cache_creation_input_tokens":45,"cache_read_input_tokens":67,"output_tokens":{messages}}}}},"requestId":"req_1","type":"assistant",{}
{{"parentUuid":"q","isSidechain":false,"promptId":"p","type":"user","message":{{"role":"user","content":[{{"tool_use_id":"{call}","type":"tool_result","content":"{result}","is_error":false}}]}},"toolUseResult":{{"stdout":"{result}","stderr":"","interrupted":false}},{}
"#,
            end('a'),
            end('b')
        );
        if messages.is_multiple_of(4) {
            lines += r#"{"parentUuid":null,"isSidechain":false,"promptId":"p","type":"user","message":{"role":"user","content":""#;
            lines += &prompt;
            lines += r#""},"permissionMode":"default","#;
            lines += &end('c');
            lines += "\n";
        }
        file.write_all(lines.as_bytes()).unwrap();
        written += lines.len() as u64;
        messages += 1;
    }
    file.flush().unwrap();
    messages
}

/// Runs it and returns its peak memory, in KiB. It is sampled while the process runs, because it is
/// gone once the process has ended.
#[cfg(target_os = "linux")]
fn peak_memory(sidecar: crate::support::Sidecar, min_samples: u32) -> u64 {
    let mut child = sidecar.spawn();
    drop(child.stdin.take());
    let status = format!("/proc/{}/status", child.id());
    let (mut peak, mut samples) = (0, 0);
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let figure = text.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        });
        samples += u32::from(figure.is_some());
        peak = peak.max(figure.unwrap_or_default());
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    assert!(
        samples >= min_samples,
        "the memory was read only {samples} times"
    );
    peak
}

/// Asserts the promised memory of a hook and of `sync` for a transcript with prompts of this
/// length.
#[cfg(target_os = "linux")]
fn assert_memory_limit(prompt: usize) {
    let machine = Machine::new();
    let path = transcript_path(&machine);
    let messages = write_long(&path, 300_000_000, prompt);
    let hook = peak_memory(machine.sidecar(&["hook"]).stdin(event(&path)), 21);
    // Nothing is left for `sync` if the hook had time to read everything.
    let sync = peak_memory(machine.sidecar(&["sync"]), 0);
    assert_eq!(
        read_to_the_end(&machine)["metadata"]["apiMessages"],
        messages
    );
    println!("peak memory with prompts of {prompt} bytes: hook {hook} KiB, sync {sync} KiB");
    assert!(
        hook <= MEMORY_LIMIT && sync <= MEMORY_LIMIT,
        "hook {hook} KiB, sync {sync} KiB"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_transcript() {
    assert_memory_limit(200);
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_long_prompts() {
    assert_memory_limit(60_000);
}
