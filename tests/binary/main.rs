//! Tests that run the real binary with an empty environment and a temporary home.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a test fails by panicking, and is an edge"
)]
#![cfg_attr(
    not(unix),
    allow(
        unused_imports,
        dead_code,
        reason = "tests that need a Unix shell, links, modes or Docker are left out"
    )
)]
#![allow(missing_docs, reason = "the names of tests say what they check")]

mod adds_up;
#[cfg(unix)] // Stand-ins for Docker, which are shell scripts (`site`).
mod answers;
mod backend;
mod canary;
mod capture;
#[cfg(target_os = "linux")]
mod client_process;
#[cfg(unix)] // Links and shell scripts.
mod clients;
#[cfg(target_os = "linux")]
mod clock;
mod cost;
mod crowd;
mod disk;
mod doctor;
mod doctor_rules;
mod doctor_sessions;
mod faults;
#[cfg(target_os = "linux")]
mod file_system;
#[cfg(target_os = "linux")]
mod foreign_listener;
mod forget;
mod forms;
mod gate;
mod hook;
mod hostile;
mod import;
#[cfg(unix)] // Links, modes and a shell.
mod install;
mod key;
mod killed;
mod labels;
mod listing;
mod manual;
mod migration;
#[cfg(target_os = "linux")]
mod npm;
mod older_functions;
#[cfg(target_os = "linux")]
mod outside;
#[cfg(target_os = "linux")]
mod owner;
#[cfg(target_os = "linux")]
mod parent;
#[cfg(unix)] // The plugin's hooks run a shell script.
mod plugin;
mod project;
mod prompts_submitted;
#[cfg(unix)] // Its commands need a Unix shell.
mod readme;
mod receipts;
mod record;
#[cfg(unix)] // The scripts of a release need a Unix shell.
mod release;
mod replay;
#[cfg(target_os = "linux")]
mod repository;
#[cfg(unix)] // Docker.
mod retention;
#[cfg(unix)] // Snapshots with Unix paths.
mod screens;
#[cfg(unix)] // Docker.
mod setup;
#[cfg(unix)] // Docker.
mod setup_environment;
#[cfg(unix)] // Docker.
mod setup_failures;
#[cfg(target_os = "linux")]
mod shim;
#[cfg(unix)] // Windows has no signals.
mod signals;
#[cfg(unix)] // Docker.
mod site;
#[cfg(unix)] // Links and modes.
mod store;
mod stories;
mod suggestions;
mod summary;
mod support;
#[cfg(unix)] // Names that are not Unicode, and Docker.
mod terminal;
mod transcript;
#[cfg(unix)] // Docker.
mod upgrade;
#[cfg(unix)] // Snapshots with Unix paths.
mod usage;
mod view;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(windows)]
mod windows;
mod workflow;

use support::root;
