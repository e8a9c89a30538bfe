//! `sessions --watch` on a pseudo-terminal, which `script` from util-linux provides.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use crate::screens::assert_screen;
use crate::stories::machine;
use crate::support::Machine;

/// The last line of a frame.
const HINT: &str = "Press Ctrl-C to exit";

/// A watching sidecar on a pseudo-terminal.
struct Terminal(Child);

impl Terminal {
    fn watch(machine: &Machine, columns: usize) -> Self {
        // A background process of a script, as in CI, ignores Ctrl-C unless the signal is reset.
        let command = format!(
            "exec env --default-signal=INT {} sessions --watch",
            env!("CARGO_BIN_EXE_convex-sidecar")
        );
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .env("COLUMNS", columns.to_string())
            .env("CONVEX_SIDECAR_HOME", machine.sidecar_home());
        Self(
            script
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("script, of util-linux, is needed"),
        )
    }

    /// What is drawn up to the end of the first frame that contains `wanted`.
    fn draw_until(&mut self, wanted: &str) -> String {
        let mut drawn = Vec::new();
        loop {
            let mut byte = [0];
            let count = self.0.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert!(
                count == 1,
                "it ended without {wanted}: {}",
                String::from_utf8_lossy(&drawn)
            );
            drawn.push(byte[0]);
            if drawn.ends_with(b"\x1b[J") && String::from_utf8_lossy(&drawn).contains(wanted) {
                return String::from_utf8(drawn).unwrap();
            }
        }
    }

    /// Presses Ctrl-C; returns what is printed after that, and the exit code.
    fn interrupt(mut self) -> (String, Option<i32>) {
        self.0.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        let mut rest = String::new();
        let mut stdout = self.0.stdout.take().unwrap();
        stdout.read_to_string(&mut rest).unwrap();
        (rest, self.0.wait().unwrap().code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn watched_screen_matches_snapshot() {
    let machine = machine();
    for columns in [80, 140] {
        let drawn = Terminal::watch(&machine, columns).draw_until(HINT);
        let sequence = regex_lite::Regex::new("\x1b\\[[0-9;]*[A-Za-z]|\r").unwrap();
        assert_screen("watch", columns, &sequence.replace_all(&drawn, ""));
    }
}

#[test]
fn watch_redraws_in_place_and_ends_on_control_c() {
    let machine = machine();
    let mut terminal = Terminal::watch(&machine, 80);
    let first = terminal.draw_until(HINT);
    assert!(
        first.starts_with("\x1b[2J\x1b[H\x1b[1mSESSION\x1b[0m "),
        "{first:?}"
    );
    assert!(
        first.contains("\x1b[31mfailed\x1b[0m") && first.contains("\x1b[K\r\n"),
        "{first:?}"
    );
    let hook = r#"{"session_id":"brandnew","hook_event_name":"SessionStart"}"#;
    machine
        .sidecar(&["hook"])
        .stdin(hook)
        .env("CONVEX_SIDECAR_WORKFLOW", "nightly")
        .run()
        .silent();
    let second = terminal.draw_until("brandnew");
    assert!(
        second.starts_with("\x1b[H") && !second.contains("\x1b[2J"),
        "{second:?}"
    );
    let (rest, code) = terminal.interrupt();
    assert_eq!(code, Some(130), "ended by the signal");
    assert!(
        ![first, second, rest].concat().contains("\x1b[?"),
        "the cursor stays visible and the terminal's own screen is used"
    );
}
