//! `doctor` knows the client's own rules about hooks: managed settings, what switches hooks off,
//! and folders that are not trusted. The rules themselves are a table in
//! `src/client_settings/rules.rs`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Machine, json_lines, with_slashes};

/// Writes a file below the home folder.
fn put(machine: &Machine, path: &str, text: &impl ToString) {
    machine.write(path, &text.to_string(), 0o644);
}

/// A machine with the hooks in the user's settings.
fn installed() -> Machine {
    let machine = Machine::new().linked();
    machine.sidecar(&["install"]).run().ok();
    machine
}

/// Adds members to the user's settings.
fn change(machine: &Machine, members: &Value) {
    let path = machine.home().join(".claude/settings.json");
    let mut settings: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let members = members.as_object().unwrap().clone();
    settings.as_object_mut().unwrap().extend(members);
    std::fs::write(path, settings.to_string()).unwrap();
}

/// The settings that `install` writes.
fn hooks(machine: &Machine) -> Value {
    let text = std::fs::read_to_string(machine.home().join(".claude/settings.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The hook checks of `doctor --json`.
fn checks(machine: &Machine) -> Vec<Value> {
    of_hooks(&machine.sidecar(&["doctor", "--json"]).run().stdout)
}

fn of_hooks(stdout: &str) -> Vec<Value> {
    let mut checks = json_lines(stdout);
    checks.retain(|check| check["name"] == "hooks");
    checks
}

/// Asserts that there is one check, with this mark, finding and remedy.
#[track_caller]
fn assert_only(checks: &[Value], mark: &str, finding: &str, remedy: &str) {
    let [check] = checks else {
        panic!("{checks:?}");
    };
    let contains = |name: &str, part: &str| {
        with_slashes(check[name].as_str().unwrap_or_default()).contains(&with_slashes(part))
    };
    assert!(
        check["mark"] == mark && contains("says", finding) && contains("remedy", remedy),
        "{finding} → {remedy}: {check}"
    );
}

/// The hook checks of `doctor` on a machine whose administrator has put these files into
/// `/etc/claude-code`. Only this process sees them, by a mount of its own.
#[cfg(target_os = "linux")]
fn checks_managed(machine: &Machine, files: &[(&str, Value)], arguments: &str) -> Vec<Value> {
    for (path, text) in files {
        let text = text.as_str().map_or(text.to_string(), ToOwned::to_owned);
        put(machine, &format!("etc/claude-code/{path}"), &text);
    }
    // Root may mount. Other users may do so in a user namespace, if the system allows that.
    let mount = "export PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
        id -u | grep -qx 0 && user= || user=-r
        program=$0 exec unshare $user -m sh -c 'mount --bind \"$HOME/etc\" /etc && cd \"$HOME\" && exec \"$program\" doctor --json ";
    let output = machine.shell(&format!("{mount}{arguments}'")).run();
    std::fs::remove_dir_all(machine.home().join("etc")).unwrap();
    let is_checked = output.stdout.contains("\"hooks\"");
    assert!(
        is_checked,
        "this test needs root or a namespace of users, to put a folder of its own in the place of /etc; \
         without them, leave it out with `--skip managed`: {}",
        output.stderr
    );
    of_hooks(&output.stdout)
}

#[cfg(target_os = "linux")]
#[test]
fn managed_settings_that_switch_hooks_off_are_named() {
    const BASE: &str = "managed-settings.json";
    const DROP_IN: &str = "managed-settings.d/10-hooks.json";
    let machine = installed();
    let only = || json!({"allowManagedHooksOnly": true});
    let switched_off = [
        (
            vec![(BASE, only())],
            "allowManagedHooksOnly is true in /etc/claude-code/managed-settings.json",
        ),
        (
            vec![(DROP_IN, only())],
            "allowManagedHooksOnly is true in /etc/claude-code/managed-settings.d/10-hooks.json",
        ),
        (
            vec![
                (BASE, json!({"allowManagedHooksOnly": false})),
                (DROP_IN, only()),
            ],
            "allowManagedHooksOnly is true in /etc/claude-code/managed-settings.d/10-hooks.json",
        ),
        (
            vec![(BASE, json!({"disableAllHooks": true}))],
            "disableAllHooks is true in /etc/claude-code/managed-settings.json",
        ),
        (
            vec![(BASE, json!({"strictPluginOnlyCustomization": ["hooks"]}))],
            "strictPluginOnlyCustomization is [\"hooks\"] in /etc",
        ),
    ];
    for (files, finding) in switched_off {
        let checks = checks_managed(&machine, &files, "");
        assert_only(
            &checks,
            "failed",
            finding,
            "only an administrator can change /etc/claude-code/",
        );
    }
    let allowed = [
        vec![(BASE, json!({}))],
        vec![(BASE, json!(""))],
        vec![
            (BASE, only()),
            (DROP_IN, json!({"allowManagedHooksOnly": false})),
        ],
        vec![("managed-settings.d/.hidden.json", only())],
        vec![("managed-settings.d/hooks.jsonc", only())],
    ];
    for files in allowed {
        let checks = checks_managed(&machine, &files, "");
        assert_only(&checks, "ok", ".claude/settings.json", "");
    }
    // An administrator can also allow what the user has switched off.
    change(&machine, &json!({"disableAllHooks": true}));
    let files = [(BASE, json!({"disableAllHooks": false}))];
    assert_only(
        &checks_managed(&machine, &files, ""),
        "ok",
        ".claude/settings.json",
        "",
    );
}

#[cfg(target_os = "linux")]
#[test]
fn managed_settings_that_are_not_json_are_reported() {
    let machine = installed();
    for text in ["// hooks\n{}", "{\"a\": 1,}", "[]"] {
        let files = [("managed-settings.json", json!(text))];
        let checks = checks_managed(&machine, &files, "");
        assert_only(
            &checks,
            "failed",
            "/etc/claude-code/managed-settings.json",
            "only an administrator can fix it",
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn managed_hooks_count_as_installed() {
    let machine = installed();
    let mut managed = hooks(&machine);
    let path = "managed-settings.json";
    // Both run until the administrator allows only one of them.
    let checks = checks_managed(&machine, &[(path, managed.clone())], "");
    assert_only(
        &checks,
        "warning",
        "hooks run more than once",
        "`convex-sidecar uninstall`",
    );
    managed["allowManagedHooksOnly"] = json!(true);
    let checks = checks_managed(&machine, &[(path, managed.clone())], "");
    assert_only(&checks, "ok", "/etc/claude-code/managed-settings.json", "");
    machine.sidecar(&["uninstall"]).run().ok();
    let checks = checks_managed(&machine, &[(path, managed.clone())], "");
    assert_only(&checks, "ok", "/etc/claude-code/managed-settings.json", "");
    // `install` cannot fix managed settings.
    managed["hooks"]["Stop"][0]["hooks"][0]["timeout"] = json!(10_000);
    let checks = checks_managed(&machine, &[(path, managed.clone())], "");
    assert_only(
        &checks,
        "warning",
        "is 10000 seconds",
        "only an administrator can change",
    );
    // If an event is missing there, sessions are not recorded completely.
    managed["hooks"]["Stop"] = json!([]);
    machine.sidecar(&["install"]).run().ok();
    let checks = checks_managed(&machine, &[(path, managed)], "");
    assert_only(
        &checks,
        "failed",
        "switched off: allowManagedHooksOnly",
        "only an administrator",
    );
}

#[cfg(target_os = "linux")]
#[test]
fn managed_settings_apply_to_every_client() {
    let machine = Machine::new().linked();
    let folders = "--claude-config-dir one --claude-config-dir two";
    let install = [&["install"][..], &folders.split(' ').collect::<Vec<_>>()].concat();
    machine.sidecar(&install).run().ok();
    let only = json!({"allowManagedHooksOnly": true});
    let checks = checks_managed(&machine, &[("managed-settings.json", only)], folders);
    assert_only(
        &checks,
        "failed",
        "allowManagedHooksOnly",
        "only an administrator",
    );
}

#[test]
fn switch_of_a_file_with_lower_precedence_is_overridden() {
    let machine = installed();
    let project = machine.home().join("project");
    let in_project = |name: &str, value: bool| {
        let text = json!({"disableAllHooks": value});
        put(&machine, &format!("project/.claude/{name}"), &text);
        let doctor = machine.sidecar(&["doctor", "--json"]).folder(&project);
        of_hooks(&doctor.run().stdout)
    };
    let off = in_project("settings.json", true);
    assert_only(
        &off,
        "failed",
        "project/.claude/settings.json",
        "remove disableAllHooks from",
    );
    let on = in_project("settings.local.json", false);
    assert_only(&on, "ok", ".claude/settings.json", "");
    change(&machine, &json!({"disableAllHooks": true}));
    let on = in_project("settings.json", true);
    assert_only(&on, "ok", ".claude/settings.json", "");
    let off = in_project("settings.local.json", true);
    assert_only(
        &off,
        "failed",
        "settings.local.json",
        "remove disableAllHooks from",
    );
}

const PLUGIN: &str = "convex-sidecar@convex-sidecar";

#[test]
fn plugin_runs_if_the_last_file_that_names_it_enables_it() {
    let machine = Machine::new().linked();
    let project = machine.home().join("project");
    let places = [
        ".claude/settings.json",
        "project/.claude/settings.json",
        "project/.claude/settings.local.json",
    ];
    // What the user's, the project's and the local file say, and which of them decides.
    for (values, decisive) in [
        ([Some(true), None, None], 0),
        ([Some(true), Some(false), None], 1),
        ([Some(true), None, Some(false)], 2),
        ([Some(true), Some(false), Some(true)], 2),
        ([Some(false), Some(true), None], 1),
        ([Some(false), None, Some(true)], 2),
        ([Some(false), Some(true), Some(false)], 2),
        ([Some(true), Some(true), None], 1),
        ([Some(false), None, None], 0),
    ] {
        for (place, value) in places.into_iter().zip(values) {
            let plugins = value.map_or(json!({}), |value| json!({PLUGIN: value}));
            put(&machine, place, &json!({"enabledPlugins": plugins}));
        }
        let doctor = machine.sidecar(&["doctor", "--json"]).folder(&project);
        let found = of_hooks(&doctor.run().stdout);
        let file = format!("{}/{}", machine.home().display(), places[decisive]);
        if values[decisive] == Some(true) {
            let finding = format!("the plugin {PLUGIN} in {file}");
            assert_only(&found, "ok", &finding, "");
        } else {
            let finding = format!(
                "no hooks apply in this folder; the plugin {PLUGIN} is switched off in {file}"
            );
            let remedy = "set it to true there, or run `convex-sidecar install`";
            assert_only(&found, "warning", &finding, remedy);
        }
    }
    // The hooks of a settings file run without the plugin.
    put(&machine, places[0], &json!({}));
    machine.sidecar(&["install"]).run().ok();
    put(
        &machine,
        places[2],
        &json!({"enabledPlugins": {PLUGIN: false}}),
    );
    let doctor = machine.sidecar(&["doctor", "--json"]).folder(&project);
    let found = of_hooks(&doctor.run().stdout);
    assert_only(&found, "ok", ".claude/settings.json", "");
}

#[cfg(target_os = "linux")]
#[test]
fn managed_settings_decide_about_the_plugin() {
    let machine = Machine::new().linked();
    let check = |own: bool, managed: bool| {
        let settings = |value: bool| json!({"enabledPlugins": {PLUGIN: value}});
        put(&machine, ".claude/settings.json", &settings(own));
        checks_managed(
            &machine,
            &[("managed-settings.json", settings(managed))],
            "",
        )
    };
    let managed = "/etc/claude-code/managed-settings.json";
    let on = format!("the plugin {PLUGIN} in {managed}");
    assert_only(&check(false, true), "ok", &on, "");
    let off = format!("the plugin {PLUGIN} is switched off in {managed}");
    let remedy = "`convex-sidecar install`";
    assert_only(&check(true, false), "warning", &off, remedy);
}

#[test]
fn setting_that_only_managed_files_may_have_is_ignored_elsewhere() {
    let machine = installed();
    change(
        &machine,
        &json!({"allowManagedHooksOnly": true, "strictPluginOnlyCustomization": true}),
    );
    assert_only(&checks(&machine), "ok", ".claude/settings.json", "");
}

#[test]
fn file_that_the_client_ignores_is_reported() {
    for (members, fault) in [
        (
            json!({"disableAllHooks": "true"}),
            "disableAllHooks is \"true\", not true or false",
        ),
        (
            json!({"disableAllHooks": null}),
            "disableAllHooks is null, not true or false",
        ),
        (
            json!({"allowManagedHooksOnly": 1}),
            "allowManagedHooksOnly is 1, not true or false",
        ),
    ] {
        let machine = installed();
        change(&machine, &members);
        let finding = format!(
            "the client ignores {}/.claude/settings.json: {fault}",
            machine.home().display()
        );
        assert_only(&checks(&machine), "failed", &finding, "correct it");
    }
}

#[test]
fn mode_without_hooks_is_reported() {
    let machine = installed();
    let doctor = machine
        .sidecar(&["doctor", "--json"])
        .env("CLAUDE_CODE_SIMPLE", "1");
    let checks_here = of_hooks(&doctor.run().stdout);
    assert_only(
        &checks_here,
        "warning",
        "CLAUDE_CODE_SIMPLE=1 is set here",
        "`convex-sidecar import` records such sessions",
    );
    change(&machine, &json!({"env": {"CLAUDE_CODE_SAFE_MODE": "1"}}));
    assert_only(
        &checks(&machine),
        "failed",
        "switched off: CLAUDE_CODE_SAFE_MODE is \"1\" in",
        "remove CLAUDE_CODE_SAFE_MODE from",
    );
}

#[test]
fn folder_that_is_not_trusted_is_reported_if_only_it_has_hooks() {
    let machine = Machine::new().linked();
    let project = machine.home().join("project");
    std::fs::create_dir(&project).unwrap();
    let sidecar = |args: &[&str]| machine.sidecar(args).folder(&project).run().stdout;
    sidecar(&["install", "--scope", "project"]);
    let checks = || of_hooks(&sidecar(&["doctor", "--json"]));
    let trust = |folder: &Path, is_trusted: bool| {
        let trust = json!({"hasTrustDialogAccepted": is_trusted});
        let state = json!({"projects": {with_slashes(folder.to_str().unwrap()): trust}});
        put(&machine, ".claude.json", &state);
    };
    let finding = format!("{} is not trusted", project.display());
    let remedy = "start `claude` in the folder and accept the trust dialog";
    assert_only(&checks(), "warning", &finding, remedy);
    trust(&project, false);
    assert_only(&checks(), "warning", &finding, remedy);
    trust(&project, true);
    assert_only(&checks(), "ok", "project/.claude/settings.json", "");
    // A trusted folder includes the folders in it.
    trust(machine.home(), true);
    assert_only(&checks(), "ok", "project/.claude/settings.json", "");
    // The user's own hooks run everywhere.
    trust(&project, false);
    sidecar(&["uninstall", "--scope", "project"]);
    sidecar(&["install"]);
    assert_only(&checks(), "ok", ".claude/settings.json", "");
}
