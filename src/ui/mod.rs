//! Tables and pages for people, and what keeps them harmless: everything a session says is escaped,
//! because prompts, answers, paths and branches can hold terminal control sequences.

mod check;
mod page;
mod session;
mod table;
mod workflow;

use std::fmt::Write;
use std::io::IsTerminal;

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub use self::check::{Check, Mark, checks};
pub use self::session::{Listed, candidates, session, sessions};
pub use self::workflow::{ListedWorkflow, workflow, workflows};
use crate::config::Environment;
use crate::record::Millis;

/// The width and height of a terminal that does not tell.
const DEFAULT_SIZE: (usize, usize) = (80, 24);
/// The narrowest screen that is drawn for.
const MIN_WIDTH: usize = 40;

/// What is printed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// How many columns there are; `None` for a pipe or a file, where there is no end.
    pub width: Option<usize>,
    /// How many lines there are, on a terminal.
    pub height: usize,
    /// Whether it is a terminal that can be drawn on.
    pub is_terminal: bool,
    is_colored: bool,
}

impl Screen {
    /// The screen behind stdout.
    #[must_use]
    pub fn detect(environment: &Environment) -> Self {
        let stdout = std::io::stdout();
        let size = terminal_size::terminal_size_of(&stdout)
            .map(|(width, height)| (usize::from(width.0), usize::from(height.0)));
        Self::new(environment, stdout.is_terminal(), size)
    }

    /// A terminal's size is its own; where it does not tell, and where there is no terminal,
    /// `COLUMNS` counts. There are colours on a terminal that is not dumb, never with `NO_COLOR`
    /// and otherwise always with `CLICOLOR_FORCE`.
    fn new(environment: &Environment, is_terminal: bool, size: Option<(usize, usize)>) -> Self {
        let number = |name: &str| {
            environment
                .get(name)
                .and_then(|value| value.parse::<usize>().ok())
                .filter(|&number| number > 0)
        };
        let is = |name: &str, value: &str| environment.get(name).is_some_and(|set| set == value);
        let is_dumb = is("TERM", "dumb");
        let is_forced = environment.contains_key("CLICOLOR_FORCE") && !is("CLICOLOR_FORCE", "0");
        let stated = (number("COLUMNS"), number("LINES"));
        let width = match size.filter(|_| is_terminal) {
            Some((width, _)) => Some(width),
            None => stated.0.or_else(|| is_terminal.then_some(DEFAULT_SIZE.0)),
        };
        Self {
            width: width.map(|width| width.max(MIN_WIDTH)),
            height: size
                .map(|(_, height)| height)
                .or(stated.1)
                .unwrap_or(DEFAULT_SIZE.1),
            is_terminal: is_terminal && !is_dumb,
            is_colored: !environment.contains_key("NO_COLOR")
                && (is_forced || (is_terminal && !is_dumb && !is("CLICOLOR", "0"))),
        }
    }

    /// The text in that colour, where there are colours.
    fn paint(&self, text: &str, paint: Paint) -> String {
        match paint.code() {
            Some(code) if self.is_colored && !text.is_empty() => {
                format!("\x1b[{code}m{text}\x1b[0m")
            }
            _ => text.to_owned(),
        }
    }

    /// The frame drawn over the one before it, without a flicker: each line replaces the one that
    /// stood there. What does not fit below is left out.
    #[must_use]
    pub fn draw_over(&self, frame: &str) -> String {
        let mut drawn = "\x1b[H".to_owned();
        for line in frame.lines().take(self.height.saturating_sub(1)) {
            drawn.push_str(line);
            drawn.push_str("\x1b[K\n");
        }
        drawn.push_str("\x1b[J");
        drawn
    }

    /// The first frame, on a cleared screen.
    #[must_use]
    pub fn draw_anew(&self, frame: &str) -> String {
        format!("\x1b[2J{}", self.draw_over(frame))
    }

    /// A remark beside what was asked for.
    #[must_use]
    pub fn remark(&self, text: &str) -> String {
        self.paint(text, Paint::Faint)
    }
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Heading,
    Faint,
    Active,
    Good,
    Doubtful,
    Bad,
}

impl Paint {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Faint => Some("2"),
            Self::Active => Some("36"),
            Self::Good => Some("32"),
            Self::Doubtful => Some("33"),
            Self::Bad => Some("31"),
        }
    }

    fn of_status(status: &str) -> Self {
        match status {
            "running" => Self::Active,
            "completed" => Self::Good,
            "failed" => Self::Bad,
            "abandoned" => Self::Doubtful,
            _ => Self::Plain,
        }
    }
}

/// The text with control characters made visible, on one line.
#[must_use]
pub fn escape(text: &str) -> String {
    escape_where(text, |char| char.is_control() || is_invisible(char))
}

/// As [`escape`], but line feeds and tabs stay.
#[must_use]
pub fn escape_block(text: &str) -> String {
    escape_where(text, |char| {
        (char.is_control() && char != '\n' && char != '\t') || is_invisible(char)
    })
}

/// Characters that turn the order of text around, with which one text can pass for another.
const fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape_where(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' if is_escaped(char) => escaped.push('↵'),
            '\t' if is_escaped(char) => escaped.push(' '),
            _ if is_escaped(char) => escaped.extend(char.escape_unicode()),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// JSON on one line, with a line feed. What a terminal could take for a control sequence is escaped
/// as JSON has it.
#[must_use]
pub fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for char in value.to_string().chars() {
        if char.is_control() || is_invisible(char) {
            let _ = write!(line, "\\u{:04x}", u32::from(char));
        } else {
            line.push(char);
        }
    }
    line.push('\n');
    line
}

/// A session's id as it is listed: its first eight characters.
#[must_use]
pub fn short_id(session_id: &str) -> String {
    session_id.chars().take(8).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn word(value: &Value) -> String {
    escape(text(value))
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn usage(usage: &Value) -> String {
    let figure = |name: &str| count(number(&usage[name]));
    format!(
        "{} in, {} out, {} cache read, {} cache written",
        figure("inputTokens"),
        figure("outputTokens"),
        figure("cacheReadInputTokens"),
        figure("cacheCreationInputTokens")
    )
}

fn tokens(usage: &Value) -> i64 {
    [
        "inputTokens",
        "outputTokens",
        "cacheReadInputTokens",
        "cacheCreationInputTokens",
    ]
    .iter()
    .map(|name| number(&usage[name]))
    .sum()
}

/// A point in time in UTC, and how long ago it was while that is less than a week.
fn date(at: Millis, now: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at)
        .unwrap_or_default()
        .strftime("%Y-%m-%d %H:%M:%S UTC");
    if now - at < 7 * DAY {
        format!("{time} ({} ago)", span(now - at))
    } else {
        time.to_string()
    }
}

/// How old something is, in a cell: after a hundred days its month says more.
fn age(at: Millis, now: Millis) -> String {
    let month = || {
        jiff::Timestamp::from_millisecond(at)
            .unwrap_or_default()
            .strftime("%Y-%m")
            .to_string()
    };
    if now - at < 100 * DAY {
        span(now - at)
    } else {
        month()
    }
}

/// In milliseconds.
const DAY: Millis = 86_400_000;

/// A length of time in its largest unit: an age.
fn span(millis: Millis) -> String {
    let seconds = millis.max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A length of time in its two largest units: a duration.
fn duration(millis: Millis) -> String {
    let seconds = millis.max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn dollars(usd: f64) -> String {
    if usd < 1.0 {
        format!("${usd:.3}")
    } else {
        format!("${usd:.2}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn count(number: i64) -> String {
    match number {
        ..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}

fn plural(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The text, of which at most `width` columns are kept.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let mut kept: String = text
        .chars()
        .take_while(|char| {
            let width = char.width().unwrap_or_default();
            let fits = width <= room;
            room = room.saturating_sub(width);
            fits
        })
        .collect();
    kept.push('…');
    kept
}

/// The text in lines of at most `width` columns, broken between words, and within a word that is
/// longer than a line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        for char in word.chars() {
            if line.width() + char.width().unwrap_or_default() > width && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line.push(char);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_become_visible() {
        assert_eq!(escape("a\x1b[31mb\u{9b}c\nd"), "a\\u{1b}[31mb\\u{9b}c↵d");
        assert_eq!(escape_block("a\n\tb\r\u{202e}"), "a\n\tb\\u{d}\\u{202e}");
        assert_eq!(
            json_line(&serde_json::json!("\x1b\u{9b}\n")),
            "\"\\u001b\\u009b\\n\"\n"
        );
    }

    fn screen(
        variables: &[(&str, &str)],
        is_terminal: bool,
        size: Option<(usize, usize)>,
    ) -> Screen {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Screen::new(&environment, is_terminal, size)
    }

    #[test]
    fn colours_are_for_terminals_and_the_user_has_the_last_word() {
        let is_colored = |variables: &[(&str, &str)], is_terminal| {
            screen(variables, is_terminal, None).is_colored
        };
        assert!(is_colored(&[("TERM", "xterm")], true));
        assert!(!is_colored(&[("TERM", "xterm")], false));
        for off in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
            assert!(!is_colored(&[off], true), "{off:?}");
        }
        assert!(is_colored(&[("CLICOLOR_FORCE", "1")], false));
        assert!(!is_colored(&[("CLICOLOR_FORCE", "0")], false));
        assert!(!is_colored(
            &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
            true
        ));
    }

    #[test]
    fn a_terminal_has_its_own_width_and_a_pipe_the_stated_one_or_none() {
        assert_eq!(
            screen(&[("COLUMNS", "100")], true, Some((90, 30))).width,
            Some(90)
        );
        assert_eq!(screen(&[("COLUMNS", "100")], true, None).width, Some(100));
        assert_eq!(screen(&[], true, None).width, Some(80));
        assert_eq!(
            screen(&[("COLUMNS", "100")], false, Some((90, 30))).width,
            Some(100)
        );
        assert_eq!(
            screen(&[("COLUMNS", "3")], false, None).width,
            Some(MIN_WIDTH)
        );
        assert_eq!(screen(&[("COLUMNS", "wide")], false, None).width, None);
    }

    #[test]
    fn text_is_broken_between_words_and_long_words_within() {
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrap("abcdefg hi", 3), ["abc", "def", "g", "hi"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn a_frame_is_no_higher_than_the_screen_and_erases_what_stood_there() {
        let screen = screen(&[], true, Some((80, 3)));
        assert_eq!(
            screen.draw_over("a\nb\nc\n"),
            "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
        );
    }
}
