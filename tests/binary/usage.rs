//! `usage`: what sessions did and cost.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers of these sessions are small"
)]

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::screens::assert_screen;
use crate::support::{Backend, Capture, Machine, json_lines};

/// All groupings, with the names of their fields.
const GROUPINGS: [(&str, &str); 11] = [
    ("day", "day"),
    ("week", "week"),
    ("month", "month"),
    ("project", "project"),
    ("model", "model"),
    ("agent-type", "agentType"),
    ("workflow", "workflowKey"),
    ("user", "user"),
    ("host", "host"),
    ("tag", "tag"),
    ("status", "status"),
];
const COUNTS: [&str; 8] = [
    "sessions",
    "turns",
    "toolCalls",
    "toolErrors",
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
];
const TOKENS: [&str; 4] = [COUNTS[4], COUNTS[5], COUNTS[6], COUNTS[7]];
/// 2025-03-10 09:00 UTC, a Monday.
const MONDAY: i64 = 1_741_597_200_000;
const DAY: i64 = 86_400_000;
const OPUS: &str = "claude-opus-4-8";
const HAIKU: &str = "claude-haiku-4-5-20251001";

/// Records sessions with these documents.
fn record(machine: &Machine, documents: &[Value]) {
    let folder = machine.home().join("past");
    std::fs::create_dir_all(&folder).unwrap();
    for document in documents {
        let id = document["sessionId"].as_str().unwrap();
        let line = json!({
            "type": "user", "uuid": id, "sessionId": id, "timestamp": "2025-03-10T09:00:00.000Z", "message": { "role": "user", "content": id },
        });
        std::fs::write(folder.join(format!("{id}.jsonl")), format!("{line}\n")).unwrap();
    }
    machine.sidecar(&["import", "past"]).run().ok();
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    for document in documents {
        let sql = "UPDATE sessions SET revision = revision + 1, document = json_set(?, '$.revision', revision + 1), status = ?, workflow_key = ?, updated_at = ?
             WHERE session_id = ?";
        let changed = journal.execute(
            sql,
            rusqlite::params![
                document.to_string(),
                document["status"].as_str(),
                document["workflowKey"].as_str(),
                document["metadata"]["updatedAt"].as_i64(),
                document["sessionId"].as_str(),
            ],
        );
        assert_eq!(changed.unwrap(), 1);
    }
}

/// What one model used on one day: the day after that of the start, the model, tokens in thousands,
/// dollars if they are known.
type Part = (i64, &'static str, u64, Option<f64>);

/// A session that started this many days after [`MONDAY`].
fn session(id: &str, project: &str, day: i64, parts: &[Part]) -> Value {
    let start = MONDAY + day * DAY;
    let date = |at: i64| {
        jiff::Timestamp::from_millisecond(at)
            .unwrap()
            .strftime("%F")
            .to_string()
    };
    let usage = |thousands: u64| {
        json!({
            "inputTokens": thousands * 20, "outputTokens": thousands * 60, "cacheReadInputTokens": thousands * 800,
            "cacheCreationInputTokens": thousands * 120,
        })
    };
    let entry = |(offset, model, thousands, usd): &Part| {
        let mut entry = usage(*thousands);
        entry["day"] = json!(date(start + offset * DAY));
        entry["model"] = json!(model);
        if let Some(usd) = usd {
            entry["costUsd"] = json!(usd);
        }
        entry
    };
    let thousands: u64 = parts.iter().map(|(_, _, thousands, _)| thousands).sum();
    let last = parts.iter().map(|(offset, ..)| offset).max().unwrap_or(&0);
    let mut document = json!({
        "sessionId": id, "agentType": "claude-code", "status": "completed", "input": format!("Prompt of {id}"), "revision": 1,
        "metadata": {
            "startedAt": start, "completedAt": start + last * DAY + 1, "updatedAt": start + last * DAY + 1, "host": "laptop",
            "cwd": format!("/home/dev/{project}"), "model": parts[0].1, "models": [parts[0].1], "prompts": 1, "turns": 2 + thousands % 7,
            "apiMessages": 1, "toolCalls": thousands % 90, "toolErrors": thousands % 4, "usage": usage(thousands),
            "usageByDay": parts.iter().map(entry).collect::<Vec<_>>(), "runs": [], "tools": [], "usageByModel": [], "compactions": 0,
            "subagents": 0, "transcript": { "path": "", "state": "complete", "bytes": 1 },
        }
    });
    let known: Vec<_> = parts.iter().filter_map(|(.., usd)| *usd).collect();
    if !known.is_empty() {
        document["metadata"]["costUsd"] = json!(known.iter().sum::<f64>());
        document["metadata"]["costSource"] = json!("client");
    }
    document
}

/// Two weeks of work in three projects, with every kind of cost.
fn machine() -> Machine {
    let machine = Machine::new();
    let mut documents = vec![
        session(
            "a",
            "shop",
            0,
            &[(0, OPUS, 640, Some(2.314)), (0, HAIKU, 90, Some(0.061))],
        ),
        // Over three days.
        session(
            "b",
            "shop",
            1,
            &[
                (0, OPUS, 1_840, Some(6.42)),
                (1, OPUS, 5_210, Some(17.9)),
                (2, HAIKU, 377, Some(0.25)),
            ],
        ),
        session("c", "docs", 2, &[(0, HAIKU, 120, Some(0.083))]),
        session("d", "docs", 4, &[(0, HAIKU, 41, None)]),
        session("e", "infra", 7, &[(0, OPUS, 9_400, Some(31.2))]),
        session("f", "shop", 8, &[(0, OPUS, 88, Some(0.31))]),
        session("g", "shop", 9, &[(0, OPUS, 2_210, Some(7.77))]),
    ];
    documents[4]["metadata"]["costIsPartial"] = json!(true);
    documents[5]["metadata"]["costSource"] = json!("estimate");
    documents[6]["status"] = json!("failed");
    for (index, tags) in [(0, json!(["web"])), (1, json!(["web", "review"]))] {
        documents[index]["metadata"]["tags"] = tags;
    }
    documents[2]["workflowKey"] = json!("nightly");
    documents[2]["metadata"]["user"] = json!("dev@example.com");
    record(&machine, &documents);
    machine
}

fn lines(machine: &Machine, args: &[&str]) -> Vec<Value> {
    let command = [&["usage", "--json"], args].concat();
    json_lines(&machine.sidecar(&command).run().ok())
}

/// Asserts that the groups add up to the total, and the total to this.
#[track_caller]
fn assert_sums(lines: &[Value], expected: &Value, what: &str) {
    let (total, groups) = lines.split_last().unwrap();
    assert_eq!(total["total"], true, "{what}");
    assert!(
        groups.iter().all(|group| group.get("total").is_none()),
        "{what}"
    );
    for count in COUNTS {
        let sum: u64 = groups
            .iter()
            .map(|group| group[count].as_u64().unwrap())
            .sum();
        assert_eq!(
            (&json!(sum), &total[count]),
            (&total[count], &expected[count]),
            "{what}: {count}"
        );
    }
    let usd = |value: &Value| value["costUsd"].as_f64().unwrap_or_default();
    let sum: f64 = groups.iter().map(usd).sum();
    assert!((sum - usd(total)).abs() < 1e-9, "{what}: {sum}, {total}");
    assert!(
        (usd(expected) - usd(total)).abs() < 1e-9,
        "{what}: {expected}, {total}"
    );
}

/// The sum over the sessions.
fn sum_of(documents: &[Value]) -> Value {
    let mut sum = json!({ "sessions": documents.len() });
    for count in &COUNTS[1..] {
        let of = |document: &Value| {
            let metadata = &document["metadata"];
            let holder = if TOKENS.contains(count) {
                &metadata["usage"]
            } else {
                metadata
            };
            holder[*count].as_u64().unwrap()
        };
        sum[*count] = json!(documents.iter().map(of).sum::<u64>());
    }
    let usd = |document: &Value| document["metadata"]["costUsd"].as_f64();
    sum["costUsd"] = json!(documents.iter().filter_map(usd).sum::<f64>());
    sum
}

#[test]
fn screens_match_snapshots() {
    let machine = machine();
    for (name, args) in [
        ("usage", &["usage", "--until", "2025-03-31"][..]),
        (
            "usage-project",
            &["usage", "project", "--breakdown", "--until", "2025-03-31"],
        ),
        (
            "usage-tag",
            &[
                "usage",
                "tag",
                "--since",
                "2025-03-11",
                "--until",
                "2025-03-31",
            ],
        ),
    ] {
        for columns in [80, 140] {
            let command = machine.sidecar(args).env("COLUMNS", &columns.to_string());
            assert_screen(name, columns, &command.run().ok());
        }
    }
}

#[test]
fn groups_of_all_captures_add_up_to_the_sum_over_sessions() {
    let machine = Machine::new();
    for capture in Capture::all() {
        let project = format!("{}-{}", capture.client, capture.name);
        capture.copy_transcripts(&machine.home().join("projects").join(project));
    }
    machine.sidecar(&["import", "projects"]).run().ok();
    let expected = sum_of(&machine.documents());
    assert!(expected["toolErrors"].as_u64() > Some(0) && expected["costUsd"].as_f64() > Some(0.0));
    for (grouping, field) in GROUPINGS {
        for options in [&[grouping][..], &[grouping, "--breakdown"]] {
            let lines = lines(&machine, options);
            assert_sums(&lines, &expected, grouping);
            assert!(lines[0].get(field).is_some(), "{grouping}: {}", lines[0]);
        }
    }
}

/// Documents of many kinds: with and without days, models, costs, estimates, users and tags, some
/// of them without any use.
fn many() -> Vec<Value> {
    let mut documents = Vec::new();
    for index in 0..60_i64 {
        let thousands = u64::try_from(index * index % 977).unwrap();
        let usd = (index % 4 > 0).then_some(0.1 + index as f64 / 7.0);
        let parts = [
            (0, OPUS, thousands, usd),
            (index % 3, HAIKU, thousands % 31, usd.map(|usd| usd / 3.0)),
        ];
        let mut document = session(
            &format!("m{index}"),
            ["shop", "docs"][index as usize % 2],
            index % 20,
            &parts,
        );
        let metadata = &mut document["metadata"];
        match index % 5 {
            0 => metadata["usageByDay"] = json!([]),
            1 => metadata["costUsd"] = json!(usd.unwrap_or_default() + 1.0),
            2 => metadata["costIsPartial"] = json!(true),
            _ => {}
        }
        if index % 7 < 3 && usd.is_some() {
            metadata["costSource"] = json!("estimate");
        }
        if index % 10 == 0 {
            metadata["usageByModel"] = json!([{
                "model": HAIKU, "inputTokens": metadata["usage"]["inputTokens"], "outputTokens": metadata["usage"]["outputTokens"],
                "cacheReadInputTokens": metadata["usage"]["cacheReadInputTokens"],
                "cacheCreationInputTokens": metadata["usage"]["cacheCreationInputTokens"],
            }]);
        }
        if index % 3 == 0 {
            metadata["user"] = json!("dev@example.com");
            metadata["repository"] = json!("https://example.com/acme/shop");
            metadata["tags"] = json!(["lane=review"]);
        }
        if index % 6 == 0 {
            document["workflowKey"] = json!("nightly");
        }
        documents.push(document);
    }
    documents
}

#[test]
fn journal_and_convex_agree() {
    let backend = Backend::start();
    let machine = backend.machine();
    let documents = many();
    record(&machine, &documents);
    machine.sidecar(&["sync"]).run().ok();
    let journal = |args: &[&str]| lines(&machine, args);
    let convex = |args: &[&str]| lines(&machine, &[args, &["--remote"]].concat());
    assert_sums(&convex(&[]), &sum_of(&documents), "remote");
    for (grouping, _) in GROUPINGS {
        for options in [
            &["--since", "2025-01-01"][..],
            &[
                "--since",
                "2025-03-15",
                "--until",
                "2025-03-20",
                "--breakdown",
            ],
            &["--since", "2025-03-12", "--project", "acme/shop"],
            &["--since", "2025-03-12", "--workflow", "nightly"],
        ] {
            let args = [&[grouping][..], options].concat();
            let (ours, theirs) = (journal(&args), convex(&args));
            assert_eq!(ours.len(), theirs.len(), "{args:?}");
            for (mut one, mut other) in ours.into_iter().zip(theirs) {
                let usd = [&one, &other].map(|line| line["costUsd"].as_f64());
                let difference = usd[0].unwrap_or_default() - usd[1].unwrap_or_default();
                assert!(difference.abs() < 1e-9, "{args:?}: {one} {other}");
                assert_eq!(
                    usd[0].is_some(),
                    usd[1].is_some(),
                    "{args:?}: {one} {other}"
                );
                one["costUsd"] = Value::Null;
                other["costUsd"] = Value::Null;
                assert_eq!(one, other, "{args:?}");
            }
        }
    }
    let screen = machine.sidecar(&["usage", "--remote"]).run().ok();
    assert!(
        screen.starts_with("Usage by day on all machines, 2025-03-10 to "),
        "{screen}"
    );
}

#[test]
fn sums_of_an_empty_deployment_are_complete() {
    let backend = Backend::start();
    let output = backend.machine().sidecar(&["usage", "--remote"]).run();
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert!(output.stdout.starts_with("no sessions in Convex yet"));
}

#[test]
fn no_match_in_convex_suggests_all_usage_there() {
    let backend = Backend::start();
    let args = ["usage", "--remote", "--project", "none"];
    let stdout = backend.machine().sidecar(&args).run().ok();
    let expected = "no matching usage; `convex-sidecar usage --remote` shows all of it\n";
    assert_eq!(stdout, expected);
}

/// The names are as long as a screen allows, so that there is no place for bars.
#[test]
fn narrow_screen_has_a_table_without_bars() {
    let machine = Machine::new();
    let name = "a-folder-with-a-long-name-2026";
    record(
        &machine,
        &[session("a", name, 0, &[(0, OPUS, 900, Some(0.5))])],
    );
    let screen = |columns| {
        let usage = machine.sidecar(&["usage", "project"]);
        usage.env("COLUMNS", columns).run().ok()
    };
    let wide = screen("80");
    assert!(wide.contains("██"), "{wide}");
    for columns in ["20", "30", "40", "43", "44"] {
        let screen = screen(columns);
        assert!(
            screen.contains("a-folder-with-a-long-na…") && screen.contains("$0.500"),
            "{screen}"
        );
        assert!(!screen.contains('█'), "{columns}: {screen}");
    }
}

#[test]
fn different_groups_have_different_names_on_a_screen() {
    let machine = Machine::new();
    let documents: Vec<_> = (0..3)
        .map(|run| {
            let mut document = session(&format!("s{run}"), "shop", 0, &[(0, OPUS, 1, None)]);
            document["workflowKey"] = json!(format!("Nightly dependency upgrade-1234567{run}"));
            document
        })
        .collect();
    record(&machine, &documents);
    for args in [&["usage", "workflow"], &["workflow", "list"]] {
        let screen = machine.sidecar(args).env("COLUMNS", "80").run().ok();
        for run in 0..3 {
            let name = format!("Nightly depe…de-1234567{run}");
            assert!(screen.contains(&name), "{name}: {screen}");
        }
    }
}

/// Sessions that only hooks reported, or whose backend sends no token counts.
#[test]
fn unknown_counts_are_not_shown_as_0() {
    let machine = Machine::new();
    let mut hooks = session("hooks", "hooks", 0, &[(0, OPUS, 0, None)]);
    hooks["metadata"]["transcript"] = json!({ "path": "", "state": "missing", "bytes": 0 });
    hooks["metadata"]["toolCalls"] = json!(0);
    hooks["metadata"]["toolErrors"] = json!(0);
    let mut gateway = session("gateway", "gateway", 0, &[(0, OPUS, 0, None)]);
    gateway["metadata"]["toolCalls"] = json!(3);
    let known = session("known", "known", 0, &[(0, OPUS, 9, Some(0.5))]);
    record(&machine, &[hooks, gateway, known]);
    let screen = machine
        .sidecar(&["usage", "project", "--since", "2025-01-01"])
        .run()
        .ok();
    let cells = |project: &str| {
        let line = screen.lines().find(|line| line.contains(project)).unwrap();
        line.matches('–').count()
    };
    // TOOLS, IN, OUT, READ, WRITE and COST.
    assert_eq!(
        ["hooks", "gateway", "known"].map(cells),
        [6, 5, 0],
        "{screen}"
    );
    let sessions = machine.sidecar(&["sessions"]).run().ok();
    let gateway = sessions.lines().find(|line| line.contains("gateway"));
    assert!(gateway.unwrap().contains('–'), "{sessions}");
}

/// A session that only hooks reported, because the client kept no transcript.
#[test]
fn sum_is_partial_if_nothing_is_known_about_a_session() {
    let backend = Backend::start();
    let machine = backend.machine();
    let mut unknown = session("unknown", "shop", 0, &[(0, OPUS, 0, None)]);
    let mut unused = session("unused", "docs", 0, &[(0, OPUS, 0, None)]);
    for document in [&mut unknown, &mut unused] {
        document["metadata"]["transcript"] = json!({ "path": "", "state": "missing", "bytes": 0 });
        document["metadata"]["usageByDay"] = json!([]);
    }
    unused["metadata"]["prompts"] = json!(0);
    unused["metadata"]["turns"] = json!(0);
    let known = |id, project| session(id, project, 0, &[(0, OPUS, 9, Some(0.5))]);
    record(
        &machine,
        &[unknown, unused, known("a", "shop"), known("b", "docs")],
    );
    machine.sidecar(&["sync"]).run().ok();
    for args in [&[][..], &["--remote"]] {
        let lines = lines(&machine, &[&["project"], args].concat());
        let marks: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line["project"].as_str(),
                    line.get("costIsPartial").is_some(),
                )
            })
            .collect();
        for expected in [
            (Some("/home/dev/shop"), true),
            (Some("/home/dev/docs"), false),
            (None, true),
        ] {
            assert!(marks.contains(&expected), "{args:?}: {marks:?}");
        }
    }
}

/// The cost of the other model says nothing about that of this one, which is the session's.
#[test]
fn model_without_a_price_has_no_cost() {
    const UNPRICED: &str = "glm-5";
    let backend = Backend::start();
    let machine = backend.machine();
    let parts = [(0, OPUS, 9, Some(0.5)), (0, UNPRICED, 5, None)];
    let mut document = session("a", "shop", 0, &parts);
    document["metadata"]["model"] = json!(UNPRICED);
    document["metadata"]["costIsPartial"] = json!(true);
    record(&machine, &[document]);
    machine.sidecar(&["sync"]).run().ok();
    for args in [&["model"][..], &["model", "--remote"]] {
        let costs: Vec<_> = lines(&machine, args)
            .iter()
            .map(|line| [line["model"].clone(), line["costUsd"].clone()])
            .collect();
        let expected = [
            [json!(OPUS), json!(0.5)],
            [json!(UNPRICED), Value::Null],
            [Value::Null, json!(0.5)],
        ];
        assert_eq!(costs, expected, "{args:?}");
    }
}

#[test]
fn project_with_a_repository_is_also_found_by_its_folder() {
    let machine = Machine::new();
    let mut document = session("a", "shop-checkout", 0, &[(0, OPUS, 1, None)]);
    document["metadata"]["repository"] = json!("https://github.com/acme/shop");
    record(&machine, &[document]);
    for name in [
        "shop-checkout",
        "/home/dev/shop-checkout",
        "shop",
        "acme/shop",
    ] {
        let total = lines(&machine, &["--project", name]).pop().unwrap();
        assert_eq!(total["sessions"], 1, "usage {name}");
        let args = ["sessions", "--json", "--project", name];
        let sessions = json_lines(&machine.sidecar(&args).run().ok());
        assert_eq!(sessions.len(), 1, "sessions {name}");
    }
    let none = lines(&machine, &["--project", "hop"]).pop().unwrap();
    assert_eq!(none["sessions"], 0);
}

#[test]
fn sums_say_for_how_many_sessions_the_cost_is_known() {
    let machine = machine();
    let days = lines(&machine, &[]);
    let day = |day: &str| days.iter().find(|line| line["day"] == day).unwrap();
    let marks = |line: &Value| {
        ["costUsd", "costIsPartial", "costIsEstimate"].map(|field| line.get(field).is_some())
    };
    assert_eq!(marks(day("2025-03-10")), [true, false, false]);
    assert_eq!(marks(day("2025-03-14")), [false, false, false]);
    assert_eq!(marks(day("2025-03-17")), [true, true, false]);
    assert_eq!(marks(day("2025-03-18")), [true, false, true]);
    let total = days.last().unwrap();
    assert_eq!(marks(total), [true, true, true]);
    assert_eq!([&total["sessions"], &total["sessionsWithCost"]], [7, 6]);
    // The second day of a session has its tokens and its cost, but not the session.
    assert_eq!(
        [
            &day("2025-03-12")["sessions"],
            &day("2025-03-13")["sessions"]
        ],
        [1, 0]
    );
    assert_eq!(day("2025-03-13")["costUsd"], 0.25);
    assert_eq!(day("2025-03-12")["inputTokens"], (5_210 + 120) * 20);
}

#[test]
fn grouping_is_accepted_as_users_type_it() {
    let machine = machine();
    let first = |args: &[&str], field: &str| lines(&machine, args)[0][field].clone();
    for (args, field, key) in [
        (&["daily"][..], "day", "2025-03-10"),
        (&["weekly"], "week", "2025-03-10"),
        (&["monthly"], "month", "2025-03"),
        (&["--by", "month"], "month", "2025-03"),
        (&["models"], "model", OPUS),
        (&["agent"], "agentType", "claude-code"),
        (&["projects"], "project", "/home/dev/shop"),
    ] {
        assert_eq!(first(args, field), key, "{args:?}");
    }
}

#[test]
fn period_and_filters_select_the_sessions_that_count() {
    let machine = machine();
    let total = |args: &[&str]| lines(&machine, args).pop().unwrap();
    for (args, sessions, thousands) in [
        (&["--since", "2025-03-17"][..], 3, 9_400 + 88 + 2_210),
        (
            &["--since", "20250312", "--until", "2025-03-13"],
            1,
            5_210 + 377 + 120,
        ),
        (&["--project", "docs"], 2, 120 + 41),
        (
            &["--project", "/home/dev/docs", "--workflow", "nightly"],
            1,
            120,
        ),
        (&["--failed"], 1, 2_210),
        (
            &["--status", "completed"],
            6,
            640 + 90 + 1_840 + 5_210 + 377 + 120 + 41 + 9_400 + 88,
        ),
        (&["--search", "PROMPT of g"], 1, 2_210),
        (&["--since", "today"], 0, 0),
        (&["--until", "yesterday", "--since", "2025-03-19"], 1, 2_210),
    ] {
        let total = total(args);
        let found = [&total["sessions"], &total["inputTokens"]];
        assert_eq!(
            found,
            [&json!(sessions), &json!(thousands * 20)],
            "{args:?}"
        );
    }
}

#[test]
fn values_are_separated_by_commas_and_no_cell_is_a_formula() {
    let machine = Machine::new();
    let mut documents = [
        session("a", "shop", 0, &[(0, OPUS, 1, Some(0.5))]),
        session("b", "shop", 0, &[(0, OPUS, 2, None)]),
    ];
    documents[0]["metadata"]["tags"] = json!(["=1+1", "a,\"b\"\n"]);
    record(&machine, &documents);
    let csv = machine.sidecar(&["usage", "tag", "--csv"]).run().ok();
    let names = "tag,sessions,sessionsWithCost,turns,toolCalls,toolErrors,inputTokens,outputTokens,cacheReadInputTokens,cacheCreationInputTokens,costUsd,costIsPartial,costIsEstimate";
    let figures = "1,1,3,1,1,20,60,800,120,0.5,,";
    let expected = format!(
        "{names}\n'=1+1,{figures}\n\"a,\"\"b\"\"↵\",{figures}\n,1,0,4,2,2,40,120,1600,240,,,\n"
    );
    assert_eq!(csv, expected);
}

#[test]
fn wrong_options_are_a_wrong_command_line() {
    let machine = Machine::new();
    for (args, message) in [
        (
            &["--since", "2025-03-02", "--until", "2025-03-01"][..],
            "--since 2025-03-02 is after --until 2025-03-01",
        ),
        (&["--since", "soon"], "\"soon\" is not a day"),
        (
            &["--since", "2026-11-01T23:00:00+05:00"],
            "use only the date: 2026-11-01",
        ),
        (&["color"], "invalid value 'color'"),
        (&["day", "--by", "week"], "cannot be used with"),
        (&["--json", "--csv"], "cannot be used with"),
        (&["tag", "--remote"], "--since 30d"),
        (&["--remote", "--failed"], "--since 30d"),
    ] {
        let output = machine.sidecar(&[&["usage"], args].concat()).run();
        assert_eq!(
            (output.status, output.stdout.as_str()),
            (64, ""),
            "{args:?}"
        );
        assert!(
            output.stderr.contains(message),
            "{args:?}: {}",
            output.stderr
        );
    }
}

#[test]
fn nothing_to_show_says_what_to_do() {
    let machine = Machine::new();
    let screen = |args: &[&str]| machine.sidecar(args).run().ok();
    assert_eq!(
        screen(&["usage"]),
        "no sessions recorded yet; `convex-sidecar import` imports past sessions\n"
    );
    assert_eq!(
        screen(&["usage", "--since", "7d"]),
        "no matching usage; `convex-sidecar usage` shows all of it\n"
    );
}

#[test]
fn names_of_groups_cannot_control_a_terminal() {
    let machine = Machine::new();
    let mut document = session("a", "shop", 0, &[(0, "evil\u{1b}[2J", 1, None)]);
    document["metadata"]["host"] = json!("\u{1b}]0;title\u{7}");
    record(&machine, &[document]);
    for args in [
        &["usage", "host"][..],
        &["usage", "model"],
        &["usage", "host", "--csv"],
        &["usage", "host", "--json"],
    ] {
        let screen = machine.sidecar(args).env("CLICOLOR_FORCE", "1").run().ok();
        assert!(
            !screen.contains("\u{1b}]") && !screen.contains("\u{1b}[2J"),
            "{screen:?}"
        );
    }
}
