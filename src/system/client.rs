//! Which processes are Claude Code clients.

use std::path::Path;

use jiff::Timestamp;

use crate::system::files::read_regular;
use crate::system::json::{Scalar, object, parse_object};
use crate::system::process::{self, Process};

/// The name of the client's program.
const PROGRAM: &str = "claude";
/// Where the client's own installer keeps its versions: the programs in it are named `2.1.199`.
const VERSIONS: &str = "/claude/versions/";
/// Interpreters of clients that are scripts: those up to about 2.1.112.
const INTERPRETERS: [&str; 3] = ["node", "bun", "deno"];
/// Interpreters of scripts that start a client and may have its name.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"];
/// The maximum size of the client's file about one process, in bytes.
const MAX_REGISTRATION: u64 = 65_536;

/// The process that a client names as its own. A hook that was detached from its client is not its
/// descendant. Without a registration the number can be that of a process in another namespace. A
/// repository's settings can name another ancestor, which counts only if no client is known below
/// it.
#[must_use]
pub fn named(pid: u32, registry: &Registry<'_>) -> Option<Process> {
    let Some(ancestor) = process::ancestors().find(|process| process.pid == pid) else {
        return Process::find(pid).filter(|process| registry.has(process));
    };
    let mut between = process::ancestors().take_while(|process| process.pid != pid);
    let is_client = |process: &Process| is_client(process, registry);
    (is_client(&ancestor) || !between.any(|process| is_client(&process))).then_some(ancestor)
}

/// The clients among these processes.
pub fn clients(
    processes: impl Iterator<Item = Process>,
    registry: &Registry<'_>,
) -> impl Iterator<Item = Process> {
    processes.filter(|process| is_client(process, registry))
}

/// Whether a process is a client: by its name, by the client's own list, by its program, or by the
/// script that it runs. A shell script with the name of the client starts a client, but is not one.
#[must_use]
pub fn is_client(process: &Process, registry: &Registry<'_>) -> bool {
    let program = process.program().unwrap_or_default();
    let is_one_of = |names: &[&str]| names.iter().any(|name| is_named(file_name(&program), name));
    if is_one_of(&SHELLS) {
        return false;
    }
    if is_named(&process.name, PROGRAM) || is_client_program(&program) || registry.has(process) {
        return true;
    }
    let arguments = process.arguments();
    arguments
        .first()
        .is_some_and(|name| is_client_program(name))
        || is_one_of(&INTERPRETERS) && is_client_script(&arguments)
}

/// Whether a program is the client, by its path or by the name that it was started by.
fn is_client_program(path: &str) -> bool {
    let path = path.replace('\\', "/");
    is_named(file_name(&path), PROGRAM) || path.contains(VERSIONS)
}

/// Whether the command line of an interpreter runs the client's package, directly or by the link
/// that npm makes.
fn is_client_script(arguments: &[String]) -> bool {
    let is_package = |argument: &String| {
        let path = argument.replace('\\', "/");
        path.ends_with("/cli.js")
            && (path.contains("/claude-code/") || path.contains("/@anthropic-ai/claude-"))
    };
    let mut words = arguments.iter().skip(1);
    let script = words.clone().find(|word| !word.starts_with('-'));
    words.any(is_package) || script.is_some_and(|script| is_named(file_name(script), PROGRAM))
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// Whether a program has this name.
fn is_named(program: &str, name: &str) -> bool {
    has_name(program, name, cfg!(not(target_os = "macos")))
}

/// Windows does not distinguish names by their case. On macOS, `Claude` is the desktop app, and the
/// client that it brings along is `claude.app/Contents/MacOS/claude`.
fn has_name(program: &str, name: &str, ignores_case: bool) -> bool {
    let bare = match program.len().checked_sub(".exe".len()) {
        Some(end)
            if program.is_char_boundary(end) && program[end..].eq_ignore_ascii_case(".exe") =>
        {
            &program[..end]
        }
        _ => program,
    };
    bare == name || ignores_case && bare.eq_ignore_ascii_case(name)
}

/// The client's list of its processes, `<its folder>/sessions/<pid>.json`. An entry is gone when
/// its SessionEnd hook runs.
#[derive(Debug, Clone, Copy)]
pub struct Registry<'a>(Option<&'a Path>);

object! {
    /// An entry of that list.
    struct Entry<'a> {
        "sessionId" => session_id: Scalar<'a>,
        "procStart" => start_time: Scalar<'a>,
    }
}

impl<'a> Registry<'a> {
    /// The list in the folder of the client.
    #[must_use]
    pub const fn of(client_folder: Option<&'a Path>) -> Self {
        Self(client_folder)
    }

    /// Whether it lists exactly this process. Process IDs are reused, and clients in other
    /// containers can share the folder, so the start time must be the same.
    #[must_use]
    pub fn has(&self, process: &Process) -> bool {
        self.entry(process, |entry| {
            let start_time = entry.start_time.text();
            start_time.is_some_and(|text| is_start(text, process.start_time))
        })
        .unwrap_or_default()
    }

    /// The session that it gives for a process that is known to be a client. Client 2.1.100 writes
    /// no start time.
    #[must_use]
    pub fn session(&self, process: &Process) -> Option<String> {
        self.entry(process, |entry| {
            let start_time = entry.start_time.text();
            entry
                .session_id
                .owned()
                .filter(|_| start_time.is_none_or(|text| is_start(text, process.start_time)))
        })
        .flatten()
    }

    fn entry<T>(&self, process: &Process, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let path = self.0?.join(format!("sessions/{}.json", process.pid));
        let json = read_regular(&path, MAX_REGISTRATION).ok()?;
        parse_object(&json).ok().map(|entry| read(&entry))
    }
}

/// Whether a client means this start time. On Linux it writes the kernel's number. On macOS it writes
/// what `LC_ALL=C TZ=UTC ps -o lstart=` prints (captures of clients 2.1.234 and 2.1.267 in public
/// issues).
fn is_start(text: &str, start_time: u64) -> bool {
    text == start_time.to_string()
        || cfg!(not(target_os = "linux")) && date(start_time).is_some_and(|date| date == text)
}

/// A time in seconds since 1970 as C's `asctime` gives it, in UTC.
fn date(seconds: u64) -> Option<String> {
    let time = Timestamp::from_second(seconds.try_into().ok()?).ok()?;
    Some(time.strftime("%a %b %e %H:%M:%S %Y").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn client_is_known_by_its_name() {
        for name in ["claude", "claude.exe"] {
            assert!(has_name(name, PROGRAM, false), "{name}");
            assert!(has_name(name, PROGRAM, true), "{name}");
        }
        for name in ["Claude", "Claude.EXE"] {
            assert!(has_name(name, PROGRAM, true), "{name}");
            assert!(!has_name(name, PROGRAM, false), "{name}");
        }
        for name in [
            "",
            ".exe",
            "exe",
            "claudex",
            "claude-hooks",
            "Claude Helper",
            "é.exe",
        ] {
            assert!(!has_name(name, PROGRAM, true), "{name}");
        }
    }

    #[test]
    fn start_time_is_a_number_or_off_linux_a_date() {
        assert_eq!(
            date(1_789_029_118).as_deref(),
            Some("Thu Sep 10 08:31:58 2026")
        );
        assert_eq!(
            date(1_788_220_800).as_deref(),
            Some("Tue Sep  1 00:00:00 2026")
        );
        assert_eq!(date(u64::MAX), None);
        assert!(is_start("1789029118", 1_789_029_118));
        assert!(!is_start("1789029117", 1_789_029_118));
        let is_date = is_start("Thu Sep 10 08:31:58 2026", 1_789_029_118);
        assert_eq!(is_date, cfg!(not(target_os = "linux")));
    }

    #[test]
    fn client_is_known_by_the_path_of_its_program() {
        for path in [
            "/usr/local/bin/claude",
            "/home/dev/.local/share/claude/versions/2.1.199",
            r"C:\Users\dev\.local\bin\claude.exe",
            r"C:\Users\dev\.local\share\claude\versions\2.1.199",
        ] {
            assert!(is_client_program(path), "{path}");
        }
        for path in [
            "/usr/bin/python3.13",
            "/home/dev/.claude/hooks/dispatch",
            "/opt/tool/versions/2.1.199",
            "/home/dev/claude/dispatch",
        ] {
            assert!(!is_client_program(path), "{path}");
        }
    }

    #[test]
    fn client_that_is_a_script_is_known_by_its_command_line() {
        for line in [
            "node /usr/local/bin/claude -p hello",
            "node --max-old-space-size=8192 /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js",
            "node /app/node_modules/@anthropic-ai/claude-agent-sdk/cli.js --output-format json",
            r"C:\node.exe C:\npm\node_modules\@anthropic-ai\claude-code\cli.js",
        ] {
            assert!(is_client_script(&words(line)), "{line}");
        }
        for line in [
            "",
            "node /home/dev/.claude/hooks/dispatch.js",
            "node /home/dev/claude/server.js",
            "node server.js --folder /home/dev/claude",
            "node /app/node_modules/claude-tools/cli.js",
        ] {
            assert!(!is_client_script(&words(line)), "{line}");
        }
    }
}
