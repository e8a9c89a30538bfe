//! Tests that run the real binary with an empty environment and a temporary home.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a test fails by panicking, and is an edge"
)]
#![allow(missing_docs, reason = "tests say by their names what they hold")]

mod adds_up;
mod answers;
mod backend;
mod canary;
mod capture;
#[cfg(target_os = "linux")]
mod client_process;
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
mod forget;
mod forms;
mod gate;
mod hook;
mod hostile;
mod import;
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
mod plugin;
mod project;
mod prompts_submitted;
mod readme;
mod receipts;
mod record;
mod release;
mod replay;
#[cfg(target_os = "linux")]
mod repository;
mod retention;
mod screens;
mod setup;
mod setup_environment;
mod setup_failures;
#[cfg(target_os = "linux")]
mod shim;
#[cfg(unix)]
mod signals;
mod site;
mod store;
mod stories;
#[cfg(target_os = "linux")]
mod stranger;
mod summary;
mod support;
mod terminal;
mod transcript;
mod upgrade;
mod usage;
#[cfg(target_os = "linux")]
mod watch;
mod workflow;
