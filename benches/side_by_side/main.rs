//! Compares the cost of convex-sidecar with that of its rivals. Everything runs in turn, because
//! machines are noisy.
//!
//! `make bench` installs the rivals, runs all sections, and writes docs/benchmarks.md and
//! docs/cost.md. With the names of sections as arguments, only those run and nothing is written:
//! `make bench ONLY="hooks crowd"`. The section `cost` then fails if a figure exceeds the one in
//! docs/cost.md (`make cost`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking, and uses clocks and files"
)]
#![allow(missing_docs, reason = "a bench is a program")]

mod backend;
mod cost;
mod crowd;
mod figures;
mod hook;
mod import;
mod load;
mod loopback;
mod machine;
mod reading;
mod rivals;
mod sidecar;
mod table;
mod timing;
mod transcripts;
mod usage;

use std::path::Path;

use tempfile::TempDir;

use sidecar::root;

/// A section of the report.
struct Section {
    name: &'static str,
    title: &'static str,
    /// What is compared, and how. In Markdown.
    about: &'static str,
    run: fn(&Path) -> String,
}

const SECTIONS: [Section; 8] = [
    Section {
        name: "hooks",
        title: "A hook that delivers",
        about: include_str!("about/hooks.md"),
        run: hook::delivered,
    },
    Section {
        name: "down",
        title: "A hook whose server is down",
        about: include_str!("about/down.md"),
        run: hook::server_down,
    },
    Section {
        name: "transcripts",
        title: "Reading transcripts",
        about: include_str!("about/transcripts.md"),
        run: reading::transcripts,
    },
    Section {
        name: "figures",
        title: "Token counts",
        about: include_str!("about/figures.md"),
        run: figures::agreement,
    },
    Section {
        name: "import",
        title: "Importing past sessions",
        about: include_str!("about/import.md"),
        run: import::import,
    },
    Section {
        name: "usage",
        title: "Usage by day and model",
        about: include_str!("about/usage.md"),
        run: usage::by_day,
    },
    Section {
        name: "crowd",
        title: "Concurrent hooks",
        about: include_str!("about/crowd.md"),
        run: crowd::at_once,
    },
    Section {
        name: "load",
        title: "Load of a session on the server",
        about: include_str!("about/load.md"),
        run: load::of_one_session,
    },
];
const COST: &str = "cost";
/// Set this variable to update the counted figures.
const UPDATE_COST: &str = "UPDATE_COST";

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if let [command, journal] = &arguments[..]
        && command == hook::COMMIT
    {
        return hook::commit_once(Path::new(journal));
    }
    let is_wanted =
        |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let load = machine::load();
    let parts: Vec<_> = SECTIONS
        .iter()
        .filter(|section| is_wanted(section.name))
        .map(report)
        .collect();
    let cost = is_wanted(COST).then(|| cost::counted(scratch().path()));
    if arguments.is_empty() {
        write(
            "benchmarks.md",
            &format!(
                "{}\n{}\n\n{}",
                include_str!("about/report.md"),
                machine::description(load),
                parts.join("\n")
            ),
        );
    }
    match cost {
        Some(Ok((table, skipping))) => {
            if !skipping.is_empty() {
                let hooks = skipping.join("; ");
                println!(
                    "The figures of these hooks are too low, because they skipped work on a busy machine: {hooks}."
                );
            }
            let is_update = arguments.is_empty() || std::env::var_os(UPDATE_COST).is_some();
            check_or_update(&table, is_update, skipping.is_empty());
        }
        Some(Err(missing)) => {
            println!("The cost of a hook was not counted: {missing}.");
            // A check that could not run must not look like one that passed.
            std::process::exit(i32::from(!arguments.is_empty()));
        }
        None => {}
    }
}

/// Writes docs/cost.md, or checks the table against it. Figures that are too low are not written.
fn check_or_update(table: &str, is_update: bool, is_complete: bool) {
    println!("{table}");
    if is_update && !is_complete {
        eprintln!("docs/cost.md was not written");
        std::process::exit(1);
    }
    if is_update {
        return write(
            "cost.md",
            &format!("{}\n\n{table}", include_str!("about/cost.md").trim_end()),
        );
    }
    let exceeded = cost::exceeded(
        &std::fs::read_to_string(root().join("docs/cost.md")).unwrap(),
        table,
    );
    if !exceeded.is_empty() {
        let remedy =
            format!("if the change is worth it, `{UPDATE_COST}=1 make cost` updates the figures");
        eprintln!(
            "the cost of a hook differs from docs/cost.md; {remedy}:\n{}",
            exceeded.join("\n")
        );
        std::process::exit(1);
    }
}

/// A temporary folder on the disk. The system's own may be in memory, where `fsync` costs nothing.
fn scratch() -> TempDir {
    let executable = sidecar::executable();
    TempDir::new_in(executable.parent().unwrap()).unwrap()
}

fn report(section: &Section) -> String {
    println!("## {}\n", section.title);
    let table = (section.run)(scratch().path());
    println!("{table}");
    format!(
        "## {}\n\n{}\n\n{table}",
        section.title,
        section.about.trim_end()
    )
}

fn write(name: &str, text: &str) {
    std::fs::write(root().join("docs").join(name), text).unwrap();
}
