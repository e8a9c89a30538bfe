//! How the client's own rules affect the hooks: which files it ignores, and what switches hooks
//! off.

use std::path::Path;

use crate::client_settings::entries::Plugin;
use crate::client_settings::scopes::{Scope, Settings};
use crate::client_settings::{EVENTS, rules, trust};
use crate::config::Environment;
use crate::ui::Check;

/// The files whose hooks the client runs.
pub fn running(files: &[Settings]) -> impl DoubleEndedIterator<Item = &Settings> {
    let obstacle = rules::obstacle(files);
    files.iter().filter(move |file| {
        let is_spared = |obstacle: &rules::Obstacle| obstacle.spares_hooks_of(file);
        rules::fault(file).is_none() && obstacle.as_ref().is_none_or(is_spared)
    })
}

/// The plugins that the client runs, each with the file that enables it.
pub fn running_plugins(files: &[Settings]) -> impl Iterator<Item = (&Settings, &Plugin)> {
    let obstacle = rules::obstacle(files);
    let read = files.iter().filter(|file| rules::fault(file).is_none());
    let plugins = rules::plugins(read).into_iter();
    plugins.filter(move |(file, plugin)| {
        let is_spared = |obstacle: &rules::Obstacle| obstacle.spares_plugins_of(file);
        plugin.is_enabled && obstacle.as_ref().is_none_or(is_spared)
    })
}

/// What keeps the client from running hooks.
pub fn checks(environment: &Environment, files: &[Settings]) -> Vec<Check> {
    let mut checks: Vec<_> = files.iter().filter_map(ignored).collect();
    checks.extend(switched_off(files));
    let modes = rules::MODES.into_iter();
    checks.extend(modes.filter_map(|name| mode(environment, name)));
    checks
}

fn ignored(file: &Settings) -> Option<Check> {
    let path = file.path.display();
    Some(Check::failed(
        "hooks",
        format!("the client ignores {path}: {}", rules::fault(file)?),
        "correct it; until then nothing in this file has an effect, and the client does not say so",
    ))
}

/// What switches hooks off, unless managed files have all hooks that a record needs.
fn switched_off(files: &[Settings]) -> Option<Check> {
    let obstacle = rules::obstacle(files)?;
    let has_hook = |event: &&str| {
        let mut entries = running(files).flat_map(|file| file.found.own());
        entries.any(|entry| entry.event == **event)
    };
    let is_recorded = EVENTS.iter().all(has_hook) || running_plugins(files).next().is_some();
    (!is_recorded).then(|| {
        let finding = format!("switched off: {}", obstacle.finding());
        Check::failed("hooks", finding, obstacle.remedy())
    })
}

fn mode(environment: &Environment, name: &str) -> Option<Check> {
    let value = environment.get(name).filter(|value| rules::is_set(value))?;
    Some(Check::warning(
        "hooks",
        format!("{name}={value} is set here: sessions that are started with it run no hooks"),
        format!("unset {name}; `convex-sidecar import` records such sessions"),
    ))
}

/// Hooks in a folder that is not trusted, where some clients do not run them.
pub fn untrusted(environment: &Environment, files: &[Settings]) -> Option<Check> {
    let mut with_hooks = running(files).filter(|file| file.found.own().next().is_some());
    let has_plugin = running_plugins(files).next().is_some();
    let first = with_hooks.next().filter(|_| !has_plugin)?;
    let is_of_folder = |file: &Settings| matches!(file.scope, Scope::Project | Scope::Local);
    let folder = first.path.parent().and_then(Path::parent)?;
    if !is_of_folder(first)
        || !with_hooks.all(is_of_folder)
        || trust::is_trusted(environment, folder)
    {
        return None;
    }
    Some(Check::warning(
        "hooks",
        format!(
            "only {} has hooks, and {} is not trusted: editors do not run the hooks of such a folder",
            first.path.display(),
            folder.display()
        ),
        "start `claude` in the folder and accept the trust dialog, or run `convex-sidecar install`",
    ))
}
