//! `completions`: completions for our command line, generated from the definition that also parses
//! it. Session IDs are completed in the shells where that takes only a few lines.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::print;
use crate::cli::{Cli, Completions};

/// Lists the IDs to offer, each with a tab and the prompt.
macro_rules! ids {
    () => {
        "convex-sidecar sessions --ids --limit 100 2>/dev/null"
    };
}

/// Because of the hyphen, `clap_complete` 4.6.11 spells our name in two ways in its bash script, so
/// nothing after a command is completed. The first spelling is replaced with the second.
const BASH_NAMES: [&str; 2] = ["convex__subcmd__sidecar", "convex__sidecar"];
const BASH: &str = concat!(
    r#"
_convex__sidecar_or_session() {
    local word="${COMP_WORDS[COMP_CWORD]}" id prompt
    case "${COMP_WORDS[1]}:$word" in
        show:-*|forget:-*) _convex__sidecar "$@" ;;
        show:*|forget:*)
            COMPREPLY=()
            while IFS=$'\t' read -r id prompt; do
                [[ "$id" != "$word"* ]] || COMPREPLY+=("$id")
            done < <("#,
    ids!(),
    r#")
            ;;
        *) _convex__sidecar "$@" ;;
    esac
}
complete -F _convex__sidecar_or_session -o bashdefault -o default convex-sidecar
"#
);

/// How clap completes the argument, and the replacement.
const ZSH_ARGUMENT: [&str; 2] = [
    "Session ID, or a unique prefix of it:_default",
    "Session ID, or a unique prefix of it:_convex-sidecar_sessions",
];
const ZSH_END: &str = "if [ \"$funcstack[1]\" = ";
const ZSH: &str = concat!(
    r#"_convex-sidecar_sessions() {
    local -a ids
    ids=(${(f)"$("#,
    ids!(),
    r#")"})
    ids=("${(@)ids/$'\t'/:}")
    _describe session ids
}

"#
);

const FISH: &str = concat!(
    "complete -c convex-sidecar -n '__fish_seen_subcommand_from show forget' -f -a '(",
    ids!(),
    ")'\n"
);

/// Runs `completions`.
pub fn run(options: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        options.shell,
        &mut Cli::command(),
        "convex-sidecar",
        &mut script,
    );
    let script = String::from_utf8_lossy(&script).into_owned();
    print(&match options.shell {
        Shell::Bash => script.replace(BASH_NAMES[0], BASH_NAMES[1]) + BASH,
        Shell::Fish => script + FISH,
        Shell::Zsh => script
            .replace(ZSH_ARGUMENT[0], ZSH_ARGUMENT[1])
            .replace(ZSH_END, &format!("{ZSH}{ZSH_END}")),
        _ => script,
    })
}
