//! The shell commands of hooks: whether one runs our program, and how its path is quoted.
//!
//! Users add to a command (a variable before it, `|| true` after it), so it is read word by word,
//! and only the word that names the program is ever replaced.

use std::ops::Range;

use crate::system::paths::without_prefix;

/// Words that may precede the program.
const PREFIXES: [&str; 5] = ["exec", "env", "command", "nice", "nohup"];

/// Our program in the command of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The program's path without quotes. Variables in it are not expanded.
    pub program: String,
    /// Where the command names it, including quotes.
    pub span: Range<usize>,
    /// Whether the command does nothing else. A command that does more is never changed.
    pub is_alone: bool,
    /// Whether the command is only the call, so that it can be written in another form.
    pub is_plain: bool,
}

/// What a hook runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// A shell command, or the path of a program if there are arguments.
    pub command: String,
    /// The arguments of the exec form, which needs no shell.
    pub args: Option<Vec<String>>,
}

/// What `install` writes to run this program as a hook.
///
/// On Unix this is a shell command, because clients before 2.1.140 pass the command to a shell
/// without its `args`, which fails for a path with a space. With `exec` the program replaces that
/// shell. On Windows it is the exec form, because the shell can be PowerShell, which supports
/// neither `exec` nor a quoted path at the beginning. docs/hooks.md has the details.
#[must_use]
pub fn invocation(program: &str, is_windows: bool) -> Invocation {
    if is_windows {
        exec_form(program)
    } else {
        Invocation {
            command: format!("exec {} hook", quote(program, false)),
            args: None,
        }
    }
}

fn exec_form(program: &str) -> Invocation {
    Invocation {
        command: program.to_owned(),
        args: Some(vec!["hook".to_owned()]),
    }
}

/// The forms that run only this program: the result of [`invocation`], the exec form, and what
/// earlier versions wrote.
#[must_use]
pub fn installed(program: &str, is_windows: bool) -> [Invocation; 3] {
    let earlier = Invocation {
        command: format!("{} hook", quote(program, is_windows)),
        args: None,
    };
    [invocation(program, is_windows), exec_form(program), earlier]
}

/// The program's path in a form that every shell accepts: on Windows with forward slashes and
/// without the prefix of resolved paths.
#[must_use]
pub fn portable(program: &str, is_windows: bool) -> String {
    if is_windows {
        without_prefix(program).replace('\\', "/")
    } else {
        program.to_owned()
    }
}

/// A portable path, quoted as a word for the shell in which the client runs hooks. That is `sh`,
/// even on Windows (Git Bash), where double quotes also work in `cmd`.
#[must_use]
pub fn quote(program: &str, is_windows: bool) -> String {
    let is_plain = |char: char| {
        char.is_ascii_alphanumeric()
            || "/._-+,@%".contains(char)
            || (is_windows && " ():~".contains(char))
    };
    match program.chars().all(is_plain) {
        true if is_windows => format!("\"{program}\""),
        true if !program.is_empty() => program.to_owned(),
        _ => format!("'{}'", program.replace('\'', r"'\''")),
    }
}

/// Whether a path names our executable.
#[must_use]
pub fn is_sidecar(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    name == "convex-sidecar" || name.eq_ignore_ascii_case("convex-sidecar.exe")
}

/// Our program in a command, if the command runs it as a hook.
#[must_use]
pub fn find(command: &str) -> Option<Call> {
    let (commands, is_plain) = commands(command);
    let mut ours = commands.iter().map(|words| call(words, command));
    let index = ours.position(|call| call.is_some())?;
    let is_trivial = |words: &[Word]| {
        matches!(
            &words.iter().map(|word| &word.text[..]).collect::<Vec<_>>()[..],
            [] | ["true" | ":"] | ["exit", "0"]
        )
    };
    let is_alone = is_plain
        && commands
            .iter()
            .enumerate()
            .all(|(other, words)| other == index || is_trivial(words));
    let call = call(&commands[index], command)?;
    let around = (
        command[..call.span.start].trim(),
        command[call.span.end..].trim(),
    );
    Some(Call {
        is_alone,
        is_plain: matches!(around, ("" | "exec", "" | "hook")),
        ..call
    })
}

fn call(words: &[Word], command: &str) -> Option<Call> {
    let is_before = |word: &&Word| PREFIXES.contains(&&word.text[..]) || is_assignment(&word.text);
    let first = words.iter().take_while(is_before).count();
    let (program, arguments) = words[first..].split_first()?;
    // A Windows path without quotes loses its backslashes in the word, but not in the command.
    let raw = command[program.span.clone()].trim_matches(['"', '\'']);
    let program_text = [&program.text[..], raw]
        .into_iter()
        .find(|path| is_sidecar(path))?;
    // Without arguments, the program also runs as a hook.
    let is_hook = arguments.first().is_none_or(|verb| verb.text == "hook");
    is_hook.then(|| Call {
        program: program_text.to_owned(),
        span: program.span.clone(),
        is_alone: false,
        is_plain: false,
    })
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty()
        && !name.starts_with(|char: char| char.is_ascii_digit())
        && name
            .chars()
            .all(|char| char == '_' || char.is_ascii_alphanumeric())
}

#[derive(Debug)]
struct Word {
    text: String,
    span: Range<usize>,
}

/// Splits a command line into commands, and these into words, without redirections and comments.
/// The second value is false if a word contains another command (`$(…)`), which is not split.
fn commands(line: &str) -> (Vec<Vec<Word>>, bool) {
    let mut commands = vec![Vec::new()];
    let mut word: Option<Word> = None;
    let mut is_target = false;
    let mut is_plain = true;
    let mut chars = line.char_indices().peekable();
    let finish = |word: &mut Option<Word>,
                  end: usize,
                  is_target: &mut bool,
                  commands: &mut Vec<Vec<Word>>| {
        let Some(mut finished) = word.take() else {
            return;
        };
        finished.span.end = end;
        if !std::mem::take(is_target)
            && let Some(words) = commands.last_mut()
        {
            words.push(finished);
        }
    };
    while let Some((at, char)) = chars.next() {
        match char {
            ';' | '&' | '|' | '(' | ')' | '\n' => {
                finish(&mut word, at, &mut is_target, &mut commands);
                commands.push(Vec::new());
            }
            '<' | '>' => {
                if word
                    .as_ref()
                    .is_some_and(|word| word.text.chars().all(|char| char.is_ascii_digit()))
                {
                    word = None;
                }
                finish(&mut word, at, &mut is_target, &mut commands);
                while chars.next_if(|(_, char)| "<>&|".contains(*char)).is_some() {}
                is_target = true;
            }
            '#' if word.is_none() => while chars.next_if(|(_, char)| *char != '\n').is_some() {},
            _ if char.is_whitespace() => finish(&mut word, at, &mut is_target, &mut commands),
            _ => {
                let text = &mut word
                    .get_or_insert_with(|| Word {
                        text: String::new(),
                        span: at..at,
                    })
                    .text;
                match char {
                    '\'' => text.extend(
                        chars
                            .by_ref()
                            .map(|(_, char)| char)
                            .take_while(|char| *char != '\''),
                    ),
                    '"' => is_plain &= double_quoted(&mut chars, text),
                    '\\' => text.extend(
                        chars
                            .next()
                            .map(|(_, char)| char)
                            .filter(|char| *char != '\n'),
                    ),
                    _ => {
                        is_plain &= char != '`';
                        text.push(char);
                    }
                }
            }
        }
    }
    finish(&mut word, line.len(), &mut is_target, &mut commands);
    (commands, is_plain)
}

/// Reads up to the closing double quote. Returns whether the text contains no command.
fn double_quoted(
    chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
    text: &mut String,
) -> bool {
    let mut is_plain = true;
    while let Some((_, char)) = chars.next() {
        match char {
            '"' => break,
            '\\' => match chars.next_if(|(_, next)| "$`\"\\\n".contains(*next)) {
                Some((_, '\n')) => {}
                Some((_, escaped)) => text.push(escaped),
                None => text.push('\\'),
            },
            _ => {
                is_plain &= char != '`'
                    && !(char == '$' && chars.peek().is_some_and(|(_, next)| *next == '('));
                text.push(char);
            }
        }
    }
    is_plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_found_in_every_spelling() {
        for (command, program) in [
            ("convex-sidecar hook", "convex-sidecar"),
            ("/usr/bin/convex-sidecar hook", "/usr/bin/convex-sidecar"),
            ("'/a b/convex-sidecar' hook", "/a b/convex-sidecar"),
            (r"'/it'\''s/convex-sidecar' hook", "/it's/convex-sidecar"),
            (r"/a\ b/convex-sidecar hook", "/a b/convex-sidecar"),
            (
                r#""$HOME/.cargo/bin/convex-sidecar" hook"#,
                "$HOME/.cargo/bin/convex-sidecar",
            ),
            (
                r#""C:/Program Files/convex-sidecar.exe" hook"#,
                "C:/Program Files/convex-sidecar.exe",
            ),
            (
                r"C:\bin\Convex-Sidecar.EXE hook",
                r"C:\bin\Convex-Sidecar.EXE",
            ),
            ("exec convex-sidecar hook --verbose", "convex-sidecar"),
            ("A=1 B='2 3' /x/convex-sidecar hook", "/x/convex-sidecar"),
            (
                "convex-sidecar hook >/dev/null 2>&1 || true",
                "convex-sidecar",
            ),
            (
                "convex-sidecar hook; exit 0 # never block",
                "convex-sidecar",
            ),
            ("exec '/a b/convex-sidecar' hook", "/a b/convex-sidecar"),
            ("/usr/bin/convex-sidecar", "/usr/bin/convex-sidecar"),
            ("exec convex-sidecar || true", "convex-sidecar"),
        ] {
            let call = find(command).unwrap_or_else(|| panic!("{command}"));
            assert_eq!(
                (&call.program[..], call.is_alone),
                (program, true),
                "{command}"
            );
        }
    }

    #[test]
    fn other_programs_are_not_ours() {
        for command in [
            "",
            "command -v convex-sidecar",
            "convex-sidecar sync",
            "echo convex-sidecar hook",
            "/x/convex-sidecar.sh hook",
            "my-convex-sidecar hook",
            "exec \"${CLAUDE_PLUGIN_ROOT}/hooks/convex-sidecar.sh\" SessionStart",
            "cat > convex-sidecar hook",
            "'convex-sidecar hook'",
        ] {
            assert_eq!(find(command), None, "{command}");
        }
    }

    #[test]
    fn command_that_does_more_is_not_ours_to_change() {
        for command in [
            "notify && convex-sidecar hook",
            "convex-sidecar hook | tee log",
            "tee log | convex-sidecar hook",
            "convex-sidecar hook; `notify`",
            "X=\"$(notify)\" convex-sidecar hook",
            "convex-sidecar hook\nnotify",
        ] {
            assert_eq!(
                find(command).map(|call| call.is_alone),
                Some(false),
                "{command}"
            );
        }
    }

    #[test]
    fn quoted_path_is_found_again() {
        for path in [
            "/usr/bin/convex-sidecar",
            "/a b/convex-sidecar",
            "/it's/convex-sidecar",
            "/$HOME/`x`/\"/é\n/convex-sidecar",
            "/~/*/convex-sidecar",
        ] {
            let command = format!("{} hook", quote(path, false));
            let call = find(&command).unwrap();
            assert_eq!(
                (&call.program[..], &command[call.span], call.is_alone),
                (path, &quote(path, false)[..], true)
            );
        }
        assert_eq!(
            quote("/usr/bin/convex-sidecar", false),
            "/usr/bin/convex-sidecar"
        );
        let windows = |path: &str| quote(&portable(path, true), true);
        assert_eq!(
            windows(r"\\?\C:\Program Files (x86)\convex-sidecar.exe"),
            "\"C:/Program Files (x86)/convex-sidecar.exe\""
        );
        assert_eq!(
            windows(r"\\?\UNC\server\bin\convex-sidecar.exe"),
            "\"//server/bin/convex-sidecar.exe\""
        );
        assert_eq!(
            windows(r"C:\$x\convex-sidecar.exe"),
            "'C:/$x/convex-sidecar.exe'"
        );
    }
}
