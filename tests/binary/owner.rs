//! Which process owns a run, however the hooks are run: each variation gives one run, open until
//! its SessionEnd, or swept if its client was killed.

use serde_json::{Value, json};

use crate::client_process::{Hook, Launch, RunningClient};
use crate::support::{Machine, Output};

const SESSION: &str = "000000c7-0000-4000-8000-0000000000c7";

/// A way to run a hook.
type Way = fn(Hook<'_>) -> Hook<'_>;
/// A way to start a client.
type Start = fn(Launch<'_>) -> Launch<'_>;

/// One way of running hooks.
struct Variation {
    name: &'static str,
    client: Start,
    /// Whether the client keeps an entry for itself.
    is_registered: bool,
    hook: Way,
}

const PLAIN: Variation = Variation {
    name: "directly",
    client: |client| client,
    is_registered: false,
    hook: |hook| hook,
};

const VARIATIONS: [Variation; 25] = [
    PLAIN,
    Variation {
        name: "with CLAUDE_PID",
        hook: |hook| hook.current(SESSION),
        ..PLAIN
    },
    Variation {
        name: "by a shell",
        hook: |hook| hook.shell("\"$@\"; exit $?"),
        ..PLAIN
    },
    Variation {
        name: "by a shell that replaces itself",
        hook: |hook| hook.shell("exec \"$@\""),
        ..PLAIN
    },
    Variation {
        name: "by a dispatcher in Python",
        hook: |hook| hook.dispatcher("python3.13"),
        ..PLAIN
    },
    Variation {
        name: "by a dispatcher in Node",
        hook: |hook| hook.dispatcher("node"),
        ..PLAIN
    },
    Variation {
        name: "by uv, which runs Python",
        hook: |hook| hook.dispatcher("python").dispatcher("uv"),
        ..PLAIN
    },
    Variation {
        name: "by a hook of another tool in a shell",
        hook: |hook| hook.dispatcher("lefthook").shell("\"$@\"; exit $?"),
        ..PLAIN
    },
    Variation {
        name: "by a dispatcher whose name contains that of the client",
        hook: |hook| hook.dispatcher("claude-hooks"),
        ..PLAIN
    },
    Variation {
        name: "by twelve programs in a row",
        hook: |hook| (0..12).fold(hook, |hook, _| hook.dispatcher("make")),
        ..PLAIN
    },
    Variation {
        name: "by a dispatcher with the client's own name, with CLAUDE_PID",
        hook: |hook| hook.current(SESSION).dispatcher("claude"),
        ..PLAIN
    },
    Variation {
        name: "in the background of a shell that waits",
        hook: |hook| hook.shell("exec 3<&0; \"$@\" <&3 & wait"),
        ..PLAIN
    },
    Variation {
        name: "with nohup",
        hook: |hook| hook.shell("exec nohup \"$@\""),
        ..PLAIN
    },
    Variation {
        name: "with setsid",
        hook: |hook| hook.shell("exec setsid --wait \"$@\""),
        ..PLAIN
    },
    Variation {
        name: "by a client that is named by its version",
        client: |client| client.named("share/claude/versions/2.1.199"),
        ..PLAIN
    },
    Variation {
        name: "by a client named claude.exe",
        client: |client| client.named("claude.exe"),
        ..PLAIN
    },
    Variation {
        name: "by a client with another name, with CLAUDE_PID",
        client: |client| client.named("agent"),
        hook: |hook| hook.current(SESSION).dispatcher("python3"),
        ..PLAIN
    },
    Variation {
        name: "by a client with another name that keeps an entry of itself",
        client: |client| client.named("agent"),
        is_registered: true,
        hook: |hook| hook.dispatcher("python3"),
    },
    Variation {
        name: "with the folder of the client elsewhere",
        client: |client| {
            client
                .named("agent")
                .started_with("CLAUDE_CONFIG_DIR", "elsewhere")
        },
        hook: |hook| hook.current(SESSION),
        ..PLAIN
    },
    Variation {
        name: "detached, with CLAUDE_PID and an entry",
        is_registered: true,
        hook: |hook| hook.current(SESSION).detached(),
        ..PLAIN
    },
    Variation {
        name: "detached, by a client with another name",
        client: |client| client.named("agent"),
        is_registered: true,
        hook: |hook| hook.current(SESSION).detached(),
    },
    Variation {
        name: "with the CLAUDE_PID of another namespace",
        hook: |hook| {
            hook.env("CLAUDE_PID", "4194304")
                .env("CLAUDE_CODE_SESSION_ID", SESSION)
        },
        ..PLAIN
    },
    Variation {
        name: "with another CLAUDE_PID, from a repository's settings",
        hook: |hook| {
            hook.env("CLAUDE_PID", "1")
                .env("CLAUDE_CODE_SESSION_ID", SESSION)
        },
        ..PLAIN
    },
    Variation {
        name: "by a client before 2.1.145, which sets CLAUDE_CODE_ENTRYPOINT alone",
        hook: |hook| {
            hook.env("CLAUDECODE", "")
                .env("CLAUDE_CODE_ENTRYPOINT", "sdk-cli")
        },
        ..PLAIN
    },
    Variation {
        name: "by a client before 2.1.145, which sets CLAUDE_PROJECT_DIR",
        hook: |hook| {
            hook.env("CLAUDECODE", "")
                .env("CLAUDE_PROJECT_DIR", "/home/dev/shop")
        },
        ..PLAIN
    },
];

fn event(name: &str) -> Value {
    json!({"session_id": SESSION, "cwd": "/home/dev/shop", "hook_event_name": name,
        "source": "startup", "last_assistant_message": "One.", "reason": "other"})
}

impl Variation {
    fn start(&self, machine: &Machine) -> RunningClient {
        let client = (self.client)(machine.client()).start();
        if self.is_registered {
            client.register(SESSION);
        }
        client
    }

    fn run(&self, client: &mut RunningClient, event_name: &str) {
        if event_name == "SessionEnd" {
            client.deregister();
        }
        let Output { status, stderr, .. } = (self.hook)(client.hook(&event(event_name))).run();
        assert_eq!((status, stderr.as_str()), (0, ""), "{}", self.name);
    }
}

/// Status, number of runs, and the last run's owner and end.
fn state(machine: &Machine) -> (String, usize, Value, Value) {
    // It ends the sessions of killed clients before it fails for lack of a deployment.
    assert_eq!(machine.sidecar(&["sync"]).run().status, 1);
    let document = machine.stored_document(SESSION);
    let runs = document["metadata"]["runs"].as_array().unwrap();
    let last = runs.last().unwrap();
    (
        document["status"].as_str().unwrap().to_owned(),
        runs.len(),
        last["owner"]["pid"].clone(),
        last["endedBy"].clone(),
    )
}

#[test]
fn session_is_one_run_that_is_open_until_its_end() {
    for variation in VARIATIONS {
        let machine = Machine::at_home();
        let mut client = variation.start(&machine);
        let owner = json!(client.pid());
        for name in ["SessionStart", "UserPromptSubmit", "Stop"] {
            variation.run(&mut client, name);
            let expected = ("running".to_owned(), 1, owner.clone(), Value::Null);
            assert_eq!(
                state(&machine),
                expected,
                "{}, after {name}",
                variation.name
            );
        }
        variation.run(&mut client, "SessionEnd");
        let expected = ("completed".to_owned(), 1, owner, json!("hook"));
        assert_eq!(state(&machine), expected, "{}, at the end", variation.name);
    }
}

#[test]
fn session_whose_client_is_killed_is_swept() {
    for variation in VARIATIONS {
        let machine = Machine::at_home();
        let mut client = variation.start(&machine);
        variation.run(&mut client, "SessionStart");
        assert_eq!(state(&machine).0, "running", "{}", variation.name);
        client.kill();
        let expected = (
            "abandoned".to_owned(),
            1,
            json!(client.pid()),
            json!("swept"),
        );
        assert_eq!(state(&machine), expected, "{}", variation.name);
    }
}

/// Ways of running hooks in which the client cannot be found.
const UNKNOWN: [Variation; 5] = [
    Variation {
        name: "a client with another name",
        client: |client| client.named("agent"),
        ..PLAIN
    },
    Variation {
        name: "detached",
        hook: |hook| hook.detached(),
        ..PLAIN
    },
    Variation {
        name: "detached, with CLAUDE_PID, which can be of another namespace",
        hook: |hook| hook.current(SESSION).detached(),
        ..PLAIN
    },
    Variation {
        name: "detached, with the CLAUDE_PID of another client",
        is_registered: true,
        hook: |hook| hook.current("another").detached(),
        ..PLAIN
    },
    Variation {
        name: "a hook that the agent itself runs by hand",
        hook: |hook| {
            hook.current("the-agents-own")
                .env("AI_AGENT", "claude-code_2-1-332_agent")
        },
        ..PLAIN
    },
];

#[test]
fn session_of_an_unknown_client_stays_running_until_its_end() {
    for variation in UNKNOWN {
        let machine = Machine::at_home();
        let mut client = variation.start(&machine);
        variation.run(&mut client, "SessionStart");
        variation.run(&mut client, "Stop");
        let mut other = variation.start(&machine);
        client.kill();
        let expected = ("running".to_owned(), 1, Value::Null, Value::Null);
        assert_eq!(state(&machine), expected, "{}", variation.name);
        variation.run(&mut other, "SessionEnd");
        let expected = ("completed".to_owned(), 1, Value::Null, json!("hook"));
        assert_eq!(state(&machine), expected, "{}", variation.name);
    }
}

#[test]
fn entry_of_another_process_with_the_same_id_does_not_count() {
    let machine = Machine::at_home();
    let mut client = machine.client().named("agent").start();
    client.register_as(SESSION, "1");
    client.hook(&event("SessionStart")).run().silent();
    assert_eq!(state(&machine).2, Value::Null);
    client.register(SESSION);
    client.hook(&event("Stop")).run().silent();
    assert_eq!(state(&machine).1, 1);
    assert_eq!(state(&machine).2, json!(client.pid()));
}

#[test]
fn run_of_a_process_whose_id_was_reused_is_swept() {
    let machine = Machine::at_home();
    let mut client = machine.client().start();
    client.hook(&event("SessionStart")).run().silent();
    let journal = rusqlite::Connection::open(
        machine
            .home()
            .join(".local/state/convex-sidecar/journal.db"),
    )
    .unwrap();
    let started_earlier = "UPDATE sessions SET session =
        json_set(session, '$.runs[0].owner.start_time', 1)";
    assert_eq!(journal.execute(started_earlier, []).unwrap(), 1);
    assert_eq!(state(&machine).3, "swept");
}

/// An event finds the run of its session, even if the client is known for only one of them.
#[test]
fn client_that_only_some_hooks_can_find_has_one_run() {
    for known in ["SessionStart", "Stop", "SessionEnd"] {
        let machine = Machine::at_home();
        let mut client = machine.client().start();
        for name in ["SessionStart", "Stop", "SessionEnd"] {
            let hook = client.hook(&event(name));
            let hook = if name == known { hook } else { hook.detached() };
            hook.run().silent();
            let status = state(&machine).0;
            assert_eq!(status == "running", name != "SessionEnd", "{known}, {name}");
        }
        let (_, runs, owner, _) = state(&machine);
        assert_eq!((runs, owner), (1, json!(client.pid())), "{known}");
    }
}

/// A client in a tool call of another one, which passes on the variables that it does not set
/// itself.
#[test]
fn client_inside_another_one_owns_its_own_run() {
    const INNER: &str = "000000c8-0000-4000-8000-0000000000c8";
    let start =
        json!({"session_id": INNER, "hook_event_name": "SessionStart", "source": "startup"});
    for variables in [
        &["CLAUDE_PID"][..],
        &["CLAUDE_PID", "CLAUDE_CODE_SESSION_ID"],
    ] {
        let machine = Machine::at_home();
        let mut outer = machine.client().start();
        outer
            .hook(&event("SessionStart"))
            .current(SESSION)
            .run()
            .silent();
        let pid = outer.pid().to_string();
        let inherited: Vec<_> = [
            ("CLAUDE_PID", pid.as_str()),
            ("CLAUDE_CODE_SESSION_ID", SESSION),
        ]
        .into_iter()
        .filter(|(name, _)| variables.contains(name))
        .collect();
        let hook = outer.hook(&start).dispatcher("python3");
        hook.nested("claude", &inherited).run().silent();
        // The outer session continues, and the inner one is swept, because its client has ended.
        let expected = ("running".to_owned(), 1, json!(outer.pid()), Value::Null);
        assert_eq!(state(&machine), expected);
        let run = machine.document(INNER)["metadata"]["runs"][0].clone();
        assert!(run["owner"]["pid"].is_u64(), "{run}");
        assert_ne!(run["owner"]["pid"], json!(outer.pid()));
        assert_eq!(run["endedBy"], "swept");
    }
}

#[test]
fn json_that_is_piped_by_hand_has_no_owner() {
    let machine = Machine::at_home();
    let mut client = machine.client().start();
    let hook = client.hook(&event("SessionStart")).env("CLAUDECODE", "");
    hook.run().silent();
    assert_eq!(state(&machine).2, Value::Null);
}
