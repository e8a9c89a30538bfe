//! The screen behind stdout: its size, its colors, and frames drawn over each other.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

use super::text::{escape_block, escape_styled};
use crate::config::Environment;
use crate::record::session;
use crate::record::workflow;

/// The size in columns and lines of a terminal that does not report one.
const DEFAULT_SIZE: (usize, usize) = (80, 24);
/// The smallest width that is drawn for, in columns.
const MIN_WIDTH: usize = 40;

pub(super) const PLAIN: Style = Style::new();
pub(super) const HEADING: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();
pub(super) const ACTIVE: Style = AnsiColor::Cyan.on_default();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();

/// The kind of stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stdout {
    /// A pipe or a file.
    File,
    /// A Windows console that prints escape sequences instead of interpreting them.
    PlainConsole,
    /// A terminal.
    Terminal,
}

impl Stdout {
    fn detect(stdout: &std::io::Stdout) -> Self {
        match stdout.is_terminal() {
            false => Self::File,
            true if enable_escapes() => Self::Terminal,
            true => Self::PlainConsole,
        }
    }
}

/// Makes the terminal interpret escape sequences. Windows consoles do that only on request, and
/// those before Windows 10 never. Other terminals on Windows are not consoles and need nothing.
fn enable_escapes() -> bool {
    #[cfg(windows)]
    let is_enabled = winapi_util::console::Console::stdout().map_or(true, |mut console| {
        console.set_virtual_terminal_processing(true).is_ok()
    });
    #[cfg(not(windows))]
    let is_enabled = true;
    is_enabled
}

/// The screen or file that output is printed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// The width in columns; `None` for a pipe or a file, where lines have no limit.
    pub width: Option<usize>,
    /// The height in lines.
    pub height: usize,
    /// Whether it is a terminal that can be drawn on.
    pub is_terminal: bool,
    /// Whether text is printed in color.
    pub is_colored: bool,
}

impl Screen {
    /// The screen behind stdout.
    #[must_use]
    pub fn detect(environment: &Environment) -> Self {
        let stdout = std::io::stdout();
        let size = terminal_size::terminal_size_of(&stdout)
            .map(|(width, height)| (usize::from(width.0), usize::from(height.0)));
        Self::new(environment, Stdout::detect(&stdout), size)
    }

    /// A terminal's own size takes precedence over `COLUMNS` and `LINES`. A terminal that is not
    /// dumb has colors; `NO_COLOR`, `CLICOLOR_FORCE` and `CLICOLOR` override that, in this order.
    /// (`anstream` is not used for this because it takes `CLICOLOR_FORCE=0` as `1`.)
    fn new(environment: &Environment, stdout: Stdout, size: Option<(usize, usize)>) -> Self {
        let number = |name: &str| {
            environment
                .get(name)
                .and_then(|value| value.parse::<usize>().ok())
                .filter(|&number| number > 0)
        };
        let is = |name: &str, value: &str| environment.get(name).is_some_and(|set| set == value);
        let is_terminal = stdout != Stdout::File;
        let is_drawable = stdout == Stdout::Terminal && !is("TERM", "dumb");
        let is_forced = environment.contains_key("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0");
        let size = size.filter(|_| is_terminal);
        let width = size
            .map(|(width, _)| width)
            .or_else(|| number("COLUMNS"))
            .or_else(|| is_terminal.then_some(DEFAULT_SIZE.0));
        let height = size
            .map(|(_, height)| height)
            .or_else(|| number("LINES"))
            .unwrap_or(DEFAULT_SIZE.1);
        Self {
            width: width.map(|width| width.max(MIN_WIDTH)),
            height,
            is_terminal: is_drawable,
            is_colored: !environment.contains_key("NO_COLOR")
                && (is_forced || (is_drawable && !is("CLICOLOR", "0"))),
        }
    }

    /// The width beside a margin.
    pub(super) fn width_beside(&self, margin: usize) -> Option<usize> {
        self.width.map(|width| width.saturating_sub(margin))
    }

    /// The text in this style, if the screen has colors.
    pub(super) fn paint(&self, text: &str, style: Style) -> String {
        if self.is_colored && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// The text made safe for this screen: except for this screen's colors, nothing in it can
    /// control a terminal, wherever the text came from.
    #[must_use]
    pub fn harmless(&self, text: &str) -> String {
        if self.is_colored {
            escape_styled(text)
        } else {
            escape_block(text)
        }
    }

    /// A faint remark below a table.
    #[must_use]
    pub fn remark(&self, text: &str) -> String {
        self.paint(text, FAINT)
    }

    /// The first frame, on a cleared screen.
    #[must_use]
    pub fn draw_first(&self, frame: &str) -> String {
        format!("\x1b[2J{}", self.draw_over(frame))
    }

    /// The frame, drawn over the previous one without flicker: each line replaces the old one.
    /// Lines that do not fit are left out.
    #[must_use]
    pub fn draw_over(&self, frame: &str) -> String {
        let mut drawn = "\x1b[H".to_owned();
        for line in frame.lines().take(self.height.saturating_sub(1)) {
            drawn.push_str(&self.harmless(line));
            drawn.push_str("\x1b[K\n");
        }
        drawn.push_str("\x1b[J");
        drawn
    }
}

pub(super) const fn session_style(status: session::Status) -> Style {
    match status {
        session::Status::Running => ACTIVE,
        session::Status::Completed => GOOD,
        session::Status::Failed => BAD,
        session::Status::Abandoned => WARNING,
    }
}

pub(super) const fn workflow_style(status: workflow::Status) -> Style {
    match status {
        workflow::Status::Pending => PLAIN,
        workflow::Status::Running => ACTIVE,
        workflow::Status::Completed => GOOD,
        workflow::Status::Failed => BAD,
    }
}

#[cfg(test)]
mod tests {
    use super::Stdout::{File, PlainConsole, Terminal};
    use super::*;

    fn screen(variables: &[(&str, &str)], stdout: Stdout, size: Option<(usize, usize)>) -> Screen {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Screen::new(&environment, stdout, size)
    }

    #[test]
    fn terminal_has_its_own_width_and_pipe_has_columns_or_no_limit() {
        let columns = [("COLUMNS", "100")];
        assert_eq!(screen(&columns, Terminal, Some((90, 30))).width, Some(90));
        assert_eq!(screen(&columns, Terminal, None).width, Some(100));
        assert_eq!(screen(&[], Terminal, None).width, Some(80));
        assert_eq!(screen(&columns, File, Some((90, 30))).width, Some(100));
        assert_eq!(
            screen(&[("COLUMNS", "3")], File, None).width,
            Some(MIN_WIDTH)
        );
        assert_eq!(screen(&[("COLUMNS", "wide")], File, None).width, None);
    }

    #[test]
    fn terminal_has_colors_unless_the_environment_decides_otherwise() {
        let is_colored =
            |variables: &[(&str, &str)], stdout| screen(variables, stdout, None).is_colored;
        assert!(is_colored(&[("TERM", "xterm")], Terminal));
        assert!(!is_colored(&[("TERM", "xterm")], File));
        for off in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
            assert!(!is_colored(&[off], Terminal), "{off:?}");
        }
        assert!(is_colored(&[("CLICOLOR_FORCE", "1")], File));
        assert!(!is_colored(&[("CLICOLOR_FORCE", "0")], File));
        let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
        assert!(!is_colored(&both, Terminal));
    }

    #[test]
    fn console_that_prints_escape_sequences_gets_none_but_has_a_width() {
        let plain = screen(&[], PlainConsole, Some((90, 30)));
        assert_eq!(plain.width, Some(90));
        assert!(!plain.is_terminal && !plain.is_colored);
        assert_eq!(plain.paint("a", BAD), "a");
    }

    #[test]
    fn frame_is_cut_to_the_height_and_erases_the_previous_one() {
        let screen = screen(&[], Terminal, Some((80, 3)));
        assert_eq!(
            screen.draw_over("a\nb\nc\n"),
            "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
        );
    }
}
