//! A repository cannot redirect the record or the key. The client gives its hooks the `env` of a
//! repository's settings, so each attack is a hook with variables that its client was not started
//! with.

use serde_json::{Value, json};

use crate::client_process::{Hook, Launch, RunningClient};
use crate::gate::Gate;
use crate::support::{Backend, Machine};

const URL: &str = "CONVEX_SELF_HOSTED_URL";
const KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";
const TEXT: &str = "private words";

/// A way to run a hook.
type Way = fn(Hook<'_>) -> Hook<'_>;
/// A way to start a client.
type Start = fn(Launch<'_>) -> Launch<'_>;

/// Variables of a hook. `{evil}` is the repository's server, `{repository}` its folder.
type Variables = &'static [(&'static str, &'static str)];

const REDIRECT: Variables = &[(URL, "{evil}"), (KEY, "evil|key")];

fn event(session: &str) -> Value {
    json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": TEXT})
}

/// A machine whose user delivers to one server, with a repository that has another.
struct Scene {
    machine: Machine,
    /// The server of the user; it ends with the scene.
    _backend: Backend,
    evil: Gate,
}

impl Scene {
    fn new(machine: Machine) -> Self {
        let (backend, evil) = (Backend::start(), Gate::open(None));
        machine.write_config(&format!(
            "url = '{}'\nadmin_key = '{}'\n",
            backend.url, backend.key
        ));
        let scene = Self {
            machine,
            _backend: backend,
            evil,
        };
        // What the repository contains: a configuration and a place for a journal.
        let config = scene.fill("url = '{evil}'\nadmin_key = 'evil|key'\n");
        for folder in ["", ".config/convex-sidecar", "convex-sidecar"] {
            let folder = scene.machine.home().join("repository").join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("config.toml"), &config).unwrap();
        }
        scene
    }

    fn fill(&self, text: &str) -> String {
        let repository = self.machine.home().join("repository");
        text.replace("{evil}", &self.evil.url)
            .replace("{repository}", repository.to_str().unwrap())
    }

    /// Sets what the repository's settings set.
    fn set<'a>(&self, hook: Hook<'a>, variables: Variables) -> Hook<'a> {
        variables.iter().fold(hook, |hook, (name, value)| {
            hook.env(name, &self.fill(value))
        })
    }

    /// The session as the user's server has it.
    fn row(&self, session: &str) -> Value {
        let remote = ["show", session, "--remote", "--json"];
        let output = self.machine.sidecar(&remote).run();
        serde_json::from_str(&output.stdout).unwrap_or_default()
    }

    #[track_caller]
    fn assert_nothing_went_to_the_repository(&self, name: &str) {
        assert_eq!(self.evil.connections(), 0, "{name}");
        let mut folders = vec![self.machine.home().join("repository")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    assert_eq!(path.file_name().unwrap(), "config.toml", "{name}");
                }
            }
        }
    }
}

fn plain(hook: Hook<'_>) -> Hook<'_> {
    hook
}

/// The environment of a hook of clients before 2.1.145.
fn older(hook: Hook<'_>) -> Hook<'_> {
    hook.env("CLAUDECODE", "")
        .env("CLAUDE_CODE_ENTRYPOINT", "cli")
}

/// The environment if settings empty the variables that identify a client.
fn with_empty_marks(hook: Hook<'_>) -> Hook<'_> {
    hook.env("CLAUDECODE", "")
        .env("CLAUDE_CODE_ENTRYPOINT", "")
        .env("CLAUDE_PROJECT_DIR", "")
}

fn dispatched(hook: Hook<'_>) -> Hook<'_> {
    hook.dispatcher("python3").shell("\"$@\"; exit $?")
}

const WAYS: [(&str, Way); 4] = [
    ("directly", plain),
    ("by a client before 2.1.145", older),
    ("without a mark of the client", with_empty_marks),
    ("by a dispatcher", dispatched),
];

/// The variables that a repository sets, and the one that the journal's note names.
const ATTACKS: [(&str, Variables); 25] = [
    ("LOCALDOMAIN", &[("LOCALDOMAIN", "evil.test")]),
    ("HOSTALIASES", &[("HOSTALIASES", "aliases")]),
    ("RES_OPTIONS", &[("RES_OPTIONS", "use-vc")]),
    ("REQUEST_METHOD", &[("REQUEST_METHOD", "GET")]),
    ("RUST_MIN_STACK", &[("RUST_MIN_STACK", "1")]),
    (URL, REDIRECT),
    (KEY, &[(KEY, "evil|key")]),
    (
        "CONVEX_DEPLOY_KEY",
        &[("CONVEX_DEPLOY_KEY", "prod:evil|key")],
    ),
    (
        "CONVEX_SIDECAR_HOME",
        &[("CONVEX_SIDECAR_HOME", "{repository}")],
    ),
    ("CONVEX_SIDECAR_HOME", &[("CONVEX_SIDECAR_HOME", "")]),
    ("HOME", &[("HOME", "{repository}")]),
    ("HOME", &[("HOME", ".")]),
    ("HOME", &[("HOME", "")]),
    (
        "USERPROFILE",
        &[
            ("USERPROFILE", "{repository}"),
            (URL, "{evil}"),
            (KEY, "evil|key"),
        ],
    ),
    ("XDG_CONFIG_HOME", &[("XDG_CONFIG_HOME", "{repository}")]),
    ("XDG_STATE_HOME", &[("XDG_STATE_HOME", "{repository}")]),
    (
        "CLAUDE_CONFIG_DIR",
        &[
            ("CLAUDE_CONFIG_DIR", "{repository}"),
            ("HOME", "{repository}"),
        ],
    ),
    ("HTTP_PROXY", &[("HTTP_PROXY", "{evil}")]),
    ("http_proxy", &[("http_proxy", "{evil}"), ("no_proxy", "")]),
    ("ALL_PROXY", &[("ALL_PROXY", "{evil}")]),
    ("all_proxy", &[("all_proxy", "{evil}"), ("NO_PROXY", "")]),
    (
        "SSL_CERT_FILE",
        &[("SSL_CERT_FILE", "ca.pem"), ("HTTPS_PROXY", "{evil}")],
    ),
    (
        "CONVEX_SIDECAR_DISABLED",
        &[("CONVEX_SIDECAR_DISABLED", "1")],
    ),
    (
        "CONVEX_SIDECAR_OWNER_PID",
        &[("CONVEX_SIDECAR_OWNER_PID", "1")],
    ),
    (
        "CONVEX_SIDECAR_WORKFLOW",
        &[
            ("CONVEX_SIDECAR_WORKFLOW", "evil"),
            ("CONVEX_SIDECAR_AGENT_TYPE", "evil"),
        ],
    ),
];

#[test]
fn variables_that_the_client_was_not_started_with_do_not_count() {
    let scene = Scene::new(Machine::at_home());
    let mut client = scene.machine.client().start();
    for (index, (name, variables)) in ATTACKS.into_iter().enumerate() {
        for (number, (way, run)) in WAYS.into_iter().enumerate() {
            let name = format!("{name}, {way}");
            let session = format!("{index}-{number}");
            let hook = run(scene.set(client.hook(&event(&session)), variables));
            hook.run().silent();
            scene.assert_nothing_went_to_the_repository(&name);
            let row = scene.row(&session);
            assert_eq!(row["output"], TEXT, "{name}: {row}");
            assert_eq!(row["agentType"], "claude-code", "{name}");
            assert_eq!(row["workflowKey"], Value::Null, "{name}");
        }
        let printed = doctor(&scene, &mut client, variables);
        assert!(printed.contains(name), "{name}: {printed}");
    }
}

/// The output of `doctor` if the agent runs it in the repository.
fn doctor(scene: &Scene, client: &mut RunningClient, variables: Variables) -> String {
    let command = client.command(&["doctor", "--json"], "");
    let output = scene.set(command, variables).run().stdout;
    let ignored = output.lines().filter(|line| line.contains("ignored"));
    ignored.collect()
}

/// Their names do not fit into an argument.
#[test]
fn many_variables_do_not_switch_recording_off() {
    let scene = Scene::new(Machine::at_home());
    let mut client = scene.machine.client().start();
    for (session, count, length) in [("long", 5, 30_000), ("many", 3_000, 20)] {
        let names = (0..count).map(|index| format!("CONVEX_{}{index}", "A".repeat(length)));
        let hook = names.fold(client.hook(&event(session)), |hook, name| {
            hook.env(&name, "1")
        });
        scene.set(hook, REDIRECT).run().silent();
        assert_eq!(scene.row(session)["output"], TEXT, "{session}");
        // The variables that matter are named, however many others there are.
        let doctor = scene.machine.sidecar(&["doctor", "--json"]).run().stdout;
        assert!(doctor.contains(URL) && doctor.contains(KEY), "{doctor}");
    }
}

#[test]
fn ignored_variable_is_noted_for_the_user() {
    let scene = Scene::new(Machine::at_home());
    let mut client = scene.machine.client().start();
    scene.set(client.hook(&event("s")), REDIRECT).run().silent();
    let doctor = scene.machine.sidecar(&["doctor", "--json"]).run().stdout;
    for name in [URL, KEY] {
        assert!(doctor.contains(name), "{doctor}");
    }
    assert!(
        !doctor.contains(&scene.evil.url) && !doctor.contains("evil|key"),
        "{doctor}"
    );
}

/// A proxy is used for other machines only.
#[test]
fn key_of_another_machine_does_not_go_to_a_proxy_of_the_repository() {
    let (machine, evil) = (Machine::at_home(), Gate::open(None));
    machine.write_config(
        "url = 'http://convex.invalid:3210'\nadmin_key = 'own|key'\nallow_insecure_http = true\n",
    );
    let mut client = machine.client().start();
    for (index, name) in [
        "HTTP_PROXY",
        "http_proxy",
        "Http_Proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ]
    .into_iter()
    .enumerate()
    {
        let hook = client.hook(&event(&format!("s{index}")));
        hook.env(name, &evil.url).run().silent();
    }
    assert_eq!(evil.connections(), 0);
    // The user's own proxy is used.
    let mut client = machine
        .client()
        .started_with("http_proxy", &evil.url)
        .start();
    machine
        .sidecar(&["sync"])
        .env("http_proxy", &evil.url)
        .run();
    assert_eq!(evil.connections(), 1);
    client.command(&["sync"], "").run();
    assert_eq!(evil.connections(), 2);
}

/// A client inside another one inherits what the outer one's settings set.
#[test]
fn client_inside_another_one_passes_on_nothing_that_settings_set() {
    const INNER: &[(&str, &str)] = &[("CLAUDECODE", "1"), ("CLAUDE_CODE_SESSION_ID", "outer")];
    let scene = Scene::new(Machine::at_home());
    let mut client = scene.machine.client().start();
    for (index, (name, variables)) in ATTACKS.into_iter().enumerate() {
        let inherited: Vec<_> = variables
            .iter()
            .map(|(name, value)| (*name, scene.fill(value)))
            .collect();
        let inherited: Vec<_> = inherited
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(INNER.iter().copied())
            .collect();
        let session = format!("s{index}");
        let hook = client.hook(&event(&session));
        hook.nested("claude", &inherited).run().silent();
        scene.assert_nothing_went_to_the_repository(name);
        assert_eq!(scene.row(&session)["output"], TEXT, "{name}");
    }
}

/// It is not known which environment the client was started with.
#[test]
fn without_knowing_the_client_no_text_is_kept_and_nothing_is_sent() {
    let unknown: [(&str, Start, Way); 4] = [
        ("detached", |client| client, |hook| hook.detached()),
        ("another name", |client| client.named("agent"), plain),
        (
            "a daemon",
            |client| client.started_with("CLAUDE_BG_BACKEND", "daemon"),
            plain,
        ),
        (
            "started by a client that is gone",
            |client| client.started_with("CLAUDE_CODE_SESSION_ID", "gone"),
            plain,
        ),
    ];
    let decisive = [
        URL,
        KEY,
        "CONVEX_SIDECAR_HOME",
        "CONVEX_SIDECAR_DISABLED",
        "HOME",
        "USERPROFILE",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
    ];
    let scene = Scene::new(Machine::at_home());
    for (index, (way, client, run)) in unknown.into_iter().enumerate() {
        let mut client = client(scene.machine.client()).start();
        for (attack, (name, variables)) in ATTACKS.into_iter().enumerate() {
            let session = format!("{index}-{attack}");
            let hook = run(scene.set(client.hook(&event(&session)), variables));
            hook.run().silent();
            scene.assert_nothing_went_to_the_repository(name);
            // Settings can also empty a variable that the user has set.
            let is_decisive = variables.iter().any(|(name, _)| decisive.contains(name));
            let document = scene.machine.document(&session);
            let text = if is_decisive {
                Value::Null
            } else {
                json!(TEXT)
            };
            assert_eq!(document["output"], text, "{way}, {name}");
            let was_sent = scene.row(&session)["output"] == TEXT;
            assert_eq!(was_sent, !is_decisive, "{way}, {name}");
        }
        let last = client.hook(&event("last"));
        run(scene.set(last, REDIRECT)).run().silent();
        let doctor = scene.machine.sidecar(&["doctor", "--json"]).run().stdout;
        assert!(
            doctor.contains("a repository's settings may have set it"),
            "{way}: {doctor}"
        );
    }
}

/// The ways of configuring a deployment by environment. In each, the client is started with it.
#[test]
fn variables_that_the_client_was_started_with_count() {
    let setups: [(&str, Start); 5] = [
        ("exported in the shell", |client| client),
        ("by direnv", |client| {
            client
                .started_with("DIRENV_DIR", "-/home/dev/shop")
                .started_with("DIRENV_FILE", "/home/dev/shop/.envrc")
        }),
        ("in a devcontainer", |client| {
            client
                .started_with("REMOTE_CONTAINERS", "true")
                .started_with("HOME", "/home/vscode")
        }),
        ("in CI", |client| {
            client
                .started_with("CI", "true")
                .started_with("HOME", "/github/home")
        }),
        ("in a systemd unit", |client| {
            client
                .started_with("INVOCATION_ID", "0")
                .started_without("HOME")
        }),
    ];
    for (index, (name, setup)) in setups.into_iter().enumerate() {
        let scene = Scene::new(Machine::new());
        let (own, machine) = (Backend::start(), &scene.machine);
        let client = machine
            .client()
            .started_with(URL, &own.url)
            .started_with(KEY, &own.key);
        let mut client = setup(client).start();
        for (session, variables) in [("plain", &[][..]), ("attacked", REDIRECT)] {
            let session = format!("{session}-{index}");
            let hook = scene.set(client.hook(&event(&session)), variables);
            hook.run().silent();
            let row = machine
                .sidecar(&["show", &session, "--remote", "--json"])
                .env(URL, &own.url)
                .env(KEY, &own.key)
                .run()
                .ok();
            assert!(row.contains(TEXT), "{name}: {row}");
        }
        scene.assert_nothing_went_to_the_repository(name);
    }
}

/// The client also passes the `env` of the user's settings to hooks, and no repository can write
/// those.
#[test]
fn variables_of_the_users_own_settings_count() {
    for folder in [".claude", "elsewhere"] {
        let scene = Scene::new(Machine::at_home());
        let (own, machine) = (Backend::start(), &scene.machine);
        let settings = json!({"env": {URL: own.url, KEY: own.key, "CONVEX_SIDECAR_WORKFLOW": 7}});
        let folder = machine.home().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        // The client reads more than strict JSON.
        let settings = settings
            .to_string()
            .replacen('{', r#"{"x":["\ud83d",1e999],"#, 1);
        std::fs::write(folder.join("settings.json"), format!("\u{feff}{settings}")).unwrap();
        let client = machine.client();
        let mut client = if folder.ends_with(".claude") {
            client
        } else {
            client.started_with("CLAUDE_CONFIG_DIR", folder.to_str().unwrap())
        }
        .start();
        // A repository's settings override them.
        for (session, attack) in [("plain", &[][..]), ("attacked", REDIRECT)] {
            let hook = client.hook(&event(session));
            let hook = hook
                .env(URL, &own.url)
                .env(KEY, &own.key)
                .env("CONVEX_SIDECAR_WORKFLOW", "7");
            scene.set(hook, attack).run().silent();
            let row = machine
                .sidecar(&["show", session, "--remote", "--json"])
                .env(URL, &own.url)
                .env(KEY, &own.key)
                .run()
                .ok();
            let row: Value = serde_json::from_str(&row).unwrap();
            assert_eq!(
                (&row["output"], &row["workflowKey"]),
                (&json!(TEXT), &json!("7"))
            );
        }
        scene.assert_nothing_went_to_the_repository("settings");
    }
}

/// Sessions without a deployment go to the one in `config.toml`, or to the one that a user names.
#[test]
fn deployment_of_the_environment_gets_only_the_sessions_that_it_has_seen() {
    let backend = Backend::start();
    let machine = Machine::at_home();
    for session in ["other1", "other2", "seen"] {
        let hook = machine.sidecar(&["hook"]);
        hook.stdin(event(session).to_string()).run().silent();
    }
    machine
        .sidecar(&["workflow", "set", "other", "--status", "running"])
        .run()
        .ok();
    let mut client = machine
        .client()
        .started_with(URL, &backend.url)
        .started_with(KEY, &backend.key)
        .start();
    for _ in 0..2 {
        client.hook(&event("seen")).run().silent();
        client.hook(&event("new")).run().silent();
    }
    let with_backend = |args: &[&str]| {
        machine
            .sidecar(args)
            .env(URL, &backend.url)
            .env(KEY, &backend.key)
            .run()
            .ok()
    };
    let sessions = || {
        with_backend(&["sessions", "--remote", "--json"])
            .lines()
            .count()
    };
    let workflows = || {
        with_backend(&["workflow", "list", "--remote", "--json"])
            .lines()
            .count()
    };
    assert_eq!((sessions(), workflows()), (2, 0));
    with_backend(&["sync"]);
    assert_eq!((sessions(), workflows()), (4, 1));
}

#[test]
fn project_that_the_configuration_excludes_is_not_recorded() {
    let machine = Machine::at_home();
    machine.write_config("exclude = ['~/private/**', '/srv/customer']\n");
    let mut client = machine.client().start();
    let project = |folder: &str| folder.replace('~', machine.home().to_str().unwrap());
    for (index, (folder, cwd, is_recorded)) in [
        ("~/private", "~/private", false),
        ("~/private/a", "/tmp", false),
        ("/srv/customer/app", "/srv/customer/app", false),
        ("", "~/private/a", false),
        ("~/work", "~/private/a", true),
        ("~/private-not", "~/private-not", true),
        ("", "/srv", true),
    ]
    .into_iter()
    .enumerate()
    {
        let session = format!("s{index}");
        let mut input = event(&session);
        input["cwd"] = json!(project(cwd));
        let hook = client.hook(&input);
        hook.env("CLAUDE_PROJECT_DIR", &project(folder))
            .run()
            .silent();
        let is_there = machine.sidecar(&["show", &session]).run().status == 0;
        assert_eq!(is_there, is_recorded, "{folder}, {cwd}");
    }
    // Past sessions are also excluded.
    let transcript = |session: &str, cwd: &str| {
        let line = json!({"type": "user", "sessionId": session, "uuid": session, "cwd": project(cwd),
            "version": "2.1.332", "timestamp": "2026-11-01T10:00:00.000Z",
            "message": {"role": "user", "content": TEXT}});
        let path = machine.projects().join(format!("{session}.jsonl"));
        std::fs::create_dir_all(machine.projects()).unwrap();
        std::fs::write(path, format!("{line}\n")).unwrap();
    };
    transcript("00000000-0000-4000-8000-000000000001", "~/private/a");
    transcript("00000000-0000-4000-8000-000000000002", "~/work");
    let imported = machine.sidecar(&["import"]).run().ok();
    assert!(imported.starts_with("1 session read"), "{imported}");
}
