//! The machine on which the benches ran, without its name.

use std::process::Command;

use crate::{rivals, sidecar};

/// The load of the last minute. If it is more than a fraction of one, other processes disturbed the
/// benchmark.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ')
        .next()
        .map(|load| format!("load average {load} before the start"))
        .unwrap_or_default()
}

/// `load` is what [`load`] returned before the run.
pub fn description(load: String) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |path: &str, name: &str| {
        let text = file(path);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let facts = [
        format!("{cores} cores"),
        field("/proc/cpuinfo", "model name"),
        gib(&field("/proc/meminfo", "MemTotal")),
        format!(
            "{}-{} {}",
            std::env::consts::OS,
            std::env::consts::ARCH,
            file("/proc/sys/kernel/osrelease").trim()
        ),
        load,
    ];
    let facts = facts
        .into_iter()
        .filter(|fact| !fact.is_empty())
        .collect::<Vec<_>>()
        .join(", ");
    let version = |program: &mut Command| {
        let output = program.arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let ours = version(&mut Command::new(sidecar::executable()));
    let rust = version(&mut Command::new("rustc"));
    let versions = ours.into_iter().chain(rust).chain(rivals::versions());
    format!(
        "Measured on {date}: {facts}.\n\nVersions: {}.",
        versions.collect::<Vec<_>>().join(", ")
    )
}

/// The kernel's `24684092 kB` in GiB.
fn gib(kib: &str) -> String {
    let kib = kib
        .strip_suffix(" kB")
        .and_then(|kib| kib.parse::<f64>().ok());
    kib.map(|kib| format!("{:.0} GiB of memory", kib / (1_024.0 * 1_024.0)))
        .unwrap_or_default()
}
