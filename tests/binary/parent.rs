//! The session that a session was started from, and labels that a daemon passes on.

use serde_json::{Value, json};

use crate::client_process::{Hook, RunningClient};
use crate::support::Machine;

const PARENT: &str = "000000a0-0000-4000-8000-0000000000a0";
const CHILD: &str = "000000c0-0000-4000-8000-0000000000c0";
const ID: &str = "CLAUDE_CODE_SESSION_ID";
const DAEMON: (&str, &str) = ("CLAUDE_BG_BACKEND", "daemon");

fn start(source: &str) -> Value {
    json!({"session_id": CHILD, "hook_event_name": "SessionStart", "source": source})
}

fn parent(machine: &Machine) -> Value {
    machine.document(CHILD)["metadata"]["parentSessionId"].clone()
}

/// A client that is started with these variables.
fn start_client(machine: &Machine, started_with: &[(&str, &str)]) -> RunningClient {
    let mut client = machine.client();
    for (name, value) in started_with {
        client = client.started_with(name, value);
    }
    client.start()
}

/// The parent of a session whose client was started with these variables, detached from all other
/// clients.
fn parent_of(source: &str, started_with: &[(&str, &str)]) -> Value {
    let machine = Machine::at_home();
    let mut client = start_client(&machine, started_with);
    let hook = client.hook(&start(source));
    hook.current(CHILD).run().silent();
    parent(&machine)
}

/// The parent of a session whose hook runs in this way below another client.
fn nested(outer: fn(&RunningClient), way: fn(Hook<'_>) -> Hook<'_>) -> Value {
    let machine = Machine::at_home();
    let mut client = machine.client().start();
    outer(&client);
    let hook = client.hook(&start("startup")).env(ID, CHILD);
    way(hook).run().silent();
    parent(&machine)
}

#[test]
fn session_names_the_one_that_its_client_was_started_from() {
    for source in ["startup", "clear", "fork"] {
        assert_eq!(parent_of(source, &[(ID, PARENT)]), PARENT, "{source}");
    }
    let names_it: [fn(Hook<'_>) -> Hook<'_>; 3] = [
        |hook| hook.nested("claude", &[("CLAUDECODE", "1"), (ID, PARENT)]),
        // The SDK in a program that a tool runs.
        |hook| {
            let inner = hook.nested("claude", &[("CLAUDE_CODE_ENTRYPOINT", "sdk-ts")]);
            inner.nested("node", &[("CLAUDECODE", "1"), (ID, PARENT)])
        },
        // A client in a session of a daemon.
        |hook| {
            let inner = hook.nested("claude", &[(DAEMON.0, ""), (ID, PARENT)]);
            inner.nested("claude", &[DAEMON])
        },
    ];
    for way in names_it {
        assert_eq!(nested(|_| (), way), PARENT);
    }
}

#[test]
fn session_whose_parent_is_not_known_names_none() {
    for (source, started_with) in [
        ("startup", &[][..]),
        ("startup", &[("CLAUDECODE", "1")]),
        ("startup", &[(ID, CHILD)]),
        ("startup", &[(ID, "../../etc")]),
        ("startup", &[(ID, PARENT), DAEMON]),
        ("resume", &[(ID, PARENT)]),
        ("compact", &[(ID, PARENT)]),
    ] {
        assert_eq!(
            parent_of(source, started_with),
            Value::Null,
            "{source}, {started_with:?}"
        );
    }
}

/// Clients before 2.1.145 pass on the session of an outer client. Some of them keep an entry that
/// names their own session.
#[test]
fn session_in_an_older_client_does_not_name_a_session_further_out() {
    let in_old: fn(Hook<'_>) -> Hook<'_> = |hook| hook.nested("claude", &[("CLAUDECODE", "1")]);
    assert_eq!(nested(|_| (), in_old), Value::Null);
    assert_eq!(nested(|outer| outer.register(PARENT), in_old), PARENT);
    assert_eq!(
        nested(|outer| outer.register_as(PARENT, "1"), in_old),
        Value::Null
    );
    let in_old_in_new: fn(Hook<'_>) -> Hook<'_> = |hook| {
        let inner = hook.nested("claude", &[("CLAUDECODE", "1")]);
        inner.nested("claude", &[("CLAUDECODE", "1"), (ID, PARENT)])
    };
    assert_eq!(nested(|_| (), in_old_in_new), Value::Null);
}

#[test]
fn parent_is_kept_when_the_session_continues() {
    let machine = Machine::at_home();
    let hook = |started_with: &str, input: &Value| {
        let mut client = machine.client().started_with(ID, started_with).start();
        client.hook(input).run().silent();
    };
    hook(PARENT, &start("startup"));
    hook("another", &start("resume"));
    hook(
        "another",
        &json!({"session_id": CHILD, "hook_event_name": "SessionEnd"}),
    );
    assert_eq!(parent(&machine), PARENT);
    let page = machine.sidecar(&["show", CHILD]).run().ok();
    assert!(page.contains(&format!("child of    {PARENT}")), "{page}");
}

/// The workflow and the kind of agent of a session with this client and hook.
fn labels(started_with: &[(&str, &str)], way: fn(Hook<'_>) -> Hook<'_>) -> (Value, Value) {
    let machine = Machine::at_home();
    let mut client = start_client(&machine, started_with);
    way(client.hook(&start("startup"))).run().silent();
    let document = machine.document(CHILD);
    (
        document["workflowKey"].clone(),
        document["agentType"].clone(),
    )
}

#[test]
fn session_has_the_labels_that_its_outermost_client_was_started_with() {
    const WORKFLOW: (&str, &str) = ("CONVEX_SIDECAR_WORKFLOW", "terminal");
    const AGENT: (&str, &str) = ("CONVEX_SIDECAR_AGENT_TYPE", "terminal");
    let own = |workflow: &str, agent: &str| (json!(workflow), json!(agent));
    let none = (Value::Null, json!("claude-code"));
    let plain: fn(Hook<'_>) -> Hook<'_> = |hook| hook;
    let settings: fn(Hook<'_>) -> Hook<'_> = |hook| hook.env(WORKFLOW.0, "settings");
    let nested: fn(Hook<'_>) -> Hook<'_> =
        |hook| hook.nested("claude", &[(ID, PARENT), (WORKFLOW.0, "inner")]);
    for way in [plain, settings, nested] {
        assert_eq!(labels(&[WORKFLOW, AGENT], way), own("terminal", "terminal"));
        assert_eq!(labels(&[AGENT], way), (Value::Null, json!("terminal")));
        // A daemon has the environment of whichever terminal used it first.
        assert_eq!(labels(&[DAEMON, WORKFLOW, AGENT], way), none);
    }
}
