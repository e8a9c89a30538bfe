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
#![allow(missing_docs, reason = "tests say by their names what they hold")]

mod adds_up;
#[cfg(unix)]
mod answers;
mod backend;
mod canary;
mod capture;
#[cfg(target_os = "linux")]
mod client_process;
#[cfg(unix)]
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
#[cfg(unix)]
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
#[cfg(unix)]
mod plugin;
mod project;
mod prompts_submitted;
#[cfg(unix)]
mod readme;
mod receipts;
mod record;
#[cfg(unix)]
mod release;
mod replay;
#[cfg(target_os = "linux")]
mod repository;
mod retention;
#[cfg(unix)]
mod screens;
#[cfg(unix)]
mod setup;
#[cfg(unix)]
mod setup_environment;
#[cfg(unix)]
mod setup_failures;
#[cfg(target_os = "linux")]
mod shim;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod site;
#[cfg(unix)]
mod store;
mod stories;
#[cfg(target_os = "linux")]
mod stranger;
mod summary;
mod support;
#[cfg(unix)]
mod terminal;
mod transcript;
#[cfg(unix)]
mod upgrade;
mod usage;
#[cfg(target_os = "linux")]
mod watch;
mod workflow;
