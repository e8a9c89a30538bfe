//! The manual page, `docs/convex-sidecar.1`, is generated from the command line.
//!
//! This test generates it, so that the binary does not have to contain a generator.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use convex_sidecar::cli::Cli;

use crate::support::root;

/// Set this variable to update the page: `UPDATE_MANUAL=1 cargo test --test binary manual`.
const UPDATE: &str = "UPDATE_MANUAL";

#[test]
fn manual_page_is_current() {
    let (page, path) = (page(), root().join("docs/convex-sidecar.1"));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        page,
        "update it: {UPDATE}=1 cargo test --test binary manual"
    );
}

/// A single page: the program, then each command as a subsection.
fn page() -> String {
    // Every command has `--help`, so the page does not repeat it.
    let mut command = Cli::command().mut_subcommands(|verb| verb.disable_help_flag(true));
    command.build();
    let man = Man::new(command.clone())
        .date("")
        .manual("Agent sessions in Convex");
    let mut page = rendered(|text| {
        man.render_title(text)?;
        man.render_name_section(text)?;
        man.render_synopsis_section(text)?;
        man.render_description_section(text)
    });
    page.push_str(".SH COMMANDS\n");
    for verb in command.get_subcommands() {
        page += &section(verb);
    }
    page.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn section(verb: &Command) -> String {
    let man = Man::new(verb.clone());
    let synopsis = rendered(|text| man.render_synopsis_section(text));
    let description = rendered(|text| man.render_description_section(text));
    let options = rendered(|text| man.render_options_section(text));
    let examples = rendered(|text| man.render_extra_section(text));
    let name = verb.get_name();
    format!(".SS {name}\n{synopsis}.PP\n{description}{options}.PP\n.nf\n{examples}.fi\n")
}

/// The rendered text, without section headings and the definitions that are part of every
/// rendering.
fn rendered(render: impl Fn(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    render(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let is_title = text.contains(".TH ");
    let is_kept = |line: &&str| {
        is_title
            || !line.starts_with(".SH ") && !line.starts_with(".ie ") && !line.starts_with(".el ")
    };
    text.lines()
        .filter(is_kept)
        .map(|line| format!("{line}\n"))
        .collect()
}
