//! Text for screens: escaped, cut, wrapped; times, numbers and amounts in readable form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::record::Millis;
use crate::record::usage::Usage;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// The text on one line, with control characters made visible.
#[must_use]
pub fn escape(text: &str) -> String {
    escape_if(text, is_harmful)
}

/// Like [`escape`], but keeps line feeds and tabs.
#[must_use]
pub fn escape_block(text: &str) -> String {
    escape_if(text, |char| {
        is_harmful(char) && char != '\n' && char != '\t'
    })
}

/// Like [`escape_block`], but keeps the sequences that set the style of text, which screens
/// contain.
pub(super) fn escape_styled(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut escaped = escape_block(parts.next().unwrap_or_default());
    for part in parts {
        let after_number = part
            .strip_prefix('[')
            .map(|rest| rest.trim_start_matches(|char: char| char.is_ascii_digit() || char == ';'));
        if after_number.is_some_and(|rest| rest.starts_with('m')) {
            escaped.push('\x1b');
        } else {
            escaped.push_str(&escape_block("\x1b"));
        }
        escaped.push_str(&escape_block(part));
    }
    escaped
}

/// The text with HTML's numeric references instead of special characters.
#[must_use]
pub fn references(text: &str, is_special: impl Fn(char) -> bool) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        if is_special(char) {
            let _ = write!(escaped, "&#{};", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Whether the character could control a terminal or deceive a reader: control characters; those
/// that change the direction of text or end a line, which can disguise a text as another one; and
/// invisible ones such as tags, which can hide a text that only a model reads, or make two names
/// look alike.
fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                // The invisible letters of Hangul and Khmer.
                | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180e}'
                // The two joiners in between are allowed, because emoji and some scripts need them.
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

fn escape_if(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
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

/// JSON on one line, with a line feed. Harmful characters are escaped as JSON escapes.
#[must_use]
pub fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for char in value.to_string().chars() {
        if is_harmful(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(char);
        }
    }
    line.push('\n');
    line
}

/// A session ID in tables: its first eight characters.
#[must_use]
pub fn short_id(session_id: &str) -> String {
    escape(&session_id.chars().take(8).collect::<String>())
}

/// How long ago something was, in its largest unit.
#[must_use]
pub fn ago(elapsed: Millis) -> String {
    if elapsed < MINUTE {
        "just now".to_owned()
    } else {
        format!("{} ago", span(elapsed))
    }
}

/// A point in time in UTC, and how long ago it was if that is less than a week.
pub(super) fn date(at: Millis, now: Millis) -> String {
    let time = utc(at, "%Y-%m-%d %H:%M:%S UTC");
    if now - at < 7 * DAY {
        format!("{time} ({})", ago(now - at))
    } else {
        time
    }
}

/// The age of something in a table; its month after a hundred days.
pub(super) fn age(at: Millis, now: Millis) -> String {
    if now - at < 100 * DAY {
        span(now - at)
    } else {
        utc(at, "%Y-%m")
    }
}

fn utc(at: Millis, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at)
        .unwrap_or_default()
        .strftime(format)
        .to_string()
}

/// A time as part of a file name.
#[must_use]
pub fn file_time(at: Millis) -> String {
    utc(at, "%Y-%m-%dT%H-%M-%SZ")
}

/// A length of time in its largest unit.
pub(super) fn span(millis: Millis) -> String {
    match millis.max(0) {
        length @ ..MINUTE => format!("{}s", length / SECOND),
        length @ MINUTE..HOUR => format!("{}m", length / MINUTE),
        length @ HOUR..DAY => format!("{}h", length / HOUR),
        length => format!("{}d", length / DAY),
    }
}

/// A length of time in its two largest units.
pub(super) fn duration(millis: Millis) -> String {
    match millis.max(0) {
        length @ ..MINUTE => format!("{}s", length / SECOND),
        length @ MINUTE..HOUR => format!("{}m{:02}s", length / MINUTE, length % MINUTE / SECOND),
        length @ HOUR..DAY => format!("{}h{:02}m", length / HOUR, length % HOUR / MINUTE),
        length => format!("{}d{:02}h", length / DAY, length % DAY / HOUR),
    }
}

/// An amount of US dollars.
pub(super) fn dollars(usd: f64) -> String {
    if usd < 1.0 {
        format!("${usd:.3}")
    } else {
        format!("${usd:.2}")
    }
}

/// A cost: ≥ marks a partial one, ~ one that includes estimates.
pub(super) fn cost_of(usd: f64, is_partial: bool, is_estimate: bool) -> String {
    let bound = if is_partial { "≥" } else { "" };
    let estimate = if is_estimate { "~" } else { "" };
    format!("{bound}{estimate}{}", dollars(usd))
}

/// A number in at most five characters, if it is below a trillion.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn short_count(number: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    if number < 10_000 {
        return number.to_string();
    }
    let number = number as f64;
    // A number that rounds up to the next unit is shown in that unit.
    let unit = UNITS.iter().find(|(unit, _)| number >= 0.9995 * unit);
    let (unit, letter) = unit.unwrap_or(&UNITS[3]);
    match number / unit {
        share @ ..9.995 => format!("{share:.2}{letter}"),
        share @ 9.995..99.95 => format!("{share:.1}{letter}"),
        share => format!("{share:.0}{letter}"),
    }
}

/// A number and its noun: "1 session", "2 sessions".
#[must_use]
pub fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The number of failures in parentheses, or nothing.
pub(super) fn failures(count: u64) -> String {
    if count == 0 {
        String::new()
    } else {
        format!(" ({count} failed)")
    }
}

/// All tokens of any kind.
pub(super) fn tokens(usage: Usage) -> String {
    short_count(usage.tokens())
}

/// The tokens of each kind, and the number of web searches.
pub(super) fn tokens_by_kind(usage: Usage) -> String {
    let thinking = match usage.thinking_tokens {
        0 => String::new(),
        tokens => format!(" ({} thinking)", short_count(tokens)),
    };
    let searches = match usage.web_search_requests {
        0 => String::new(),
        requests => format!(
            ", {requests} web search{}",
            if requests == 1 { "" } else { "es" }
        ),
    };
    format!(
        "{} in, {} out{thinking}, {} cache read, {} cache written{searches}",
        short_count(usage.input_tokens),
        short_count(usage.output_tokens),
        short_count(usage.cache_read_input_tokens),
        short_count(usage.cache_creation_input_tokens)
    )
}

/// The text, cut to at most `width` columns.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut available = width.saturating_sub(1);
    let mut kept: String = text
        .chars()
        .take_while(|char| {
            let width = char.width().unwrap_or_default();
            let fits = width <= available;
            available = available.saturating_sub(width);
            fits
        })
        .collect();
    kept.push('…');
    kept
}

/// The end of the text, of at most `width` columns.
pub(super) fn cut_left(text: &str, width: usize) -> String {
    let mut end = text;
    while end.width() >= width && end.width() < text.width() || end.width() > width {
        let mut chars = end.chars();
        chars.next();
        end = chars.as_str();
    }
    if end.len() == text.len() {
        text.to_owned()
    } else {
        format!("…{end}")
    }
}

/// The beginning and the end of the text, of at most `width` columns together.
fn cut_middle(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let beginning = cut(text, width / 2 + 1);
    let end = cut_left(text, width - beginning.width().min(width) + 1);
    format!("{beginning}{}", end.trim_start_matches('…'))
}

/// The texts, each cut to at most `width` columns: at the end, or, where different texts would look
/// the same, in the middle or at the beginning.
pub(super) fn cut_apart(texts: &[&str], width: usize) -> Vec<String> {
    let mut shortened: Vec<_> = texts.iter().map(|text| cut(text, width)).collect();
    for shorten in [cut_middle, cut_left] {
        let mut originals: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (short, text) in shortened.iter().zip(texts) {
            originals.entry(short).or_default().insert(text);
        }
        let is_ambiguous = |short: &String| originals[short.as_str()].len() > 1;
        let ambiguous: Vec<_> = shortened.iter().map(is_ambiguous).collect();
        for (index, text) in texts.iter().enumerate() {
            if ambiguous[index] {
                shortened[index] = shorten(text, width);
            }
        }
    }
    shortened
}

/// The text in lines of at most `width` columns, broken between words, or within words that are
/// longer than a line. Without a width it is one line.
pub(super) fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else {
        return vec![text.to_owned()];
    };
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
        for invisible in "\u{ad}\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{3164}\u{ffa0}".chars() {
            let code = format!("\\u{{{:x}}}", u32::from(invisible));
            assert_eq!(escape(&format!("a{invisible}b")), format!("a{code}b"));
        }
        for visible in ["👩\u{200d}💻", "❤\u{fe0f}", "می\u{200c}خواهم", "한국어"] {
            assert_eq!(escape(visible), visible);
        }
        assert_eq!(
            json_line(&serde_json::json!("\x1b\u{9b}\n\u{e0041}")),
            "\"\\u001b\\u009b\\n\\udb40\\udc41\"\n"
        );
    }

    #[test]
    fn only_the_style_of_text_is_kept_on_a_screen() {
        for kept in ["\x1b[1ma\x1b[0m\n", "\x1b[mb", "\x1b[38;5;1m"] {
            assert_eq!(escape_styled(kept), kept);
        }
        for harmful in [
            "\x1b",
            "\x1b[",
            "\x1b[2J",
            "\x1b[1;",
            "\x1b]0;m",
            "a\x1b\x1b[1K",
        ] {
            assert_eq!(escape_styled(harmful), escape_block(harmful));
        }
        assert_eq!(escape_styled("\x1b[1m\u{9b}1m"), "\x1b[1m\\u{9b}1m");
    }

    #[test]
    fn text_is_wrapped_between_words_and_within_long_ones() {
        assert_eq!(wrap("ab cd ef", Some(5)), ["ab cd", "ef"]);
        assert_eq!(wrap("abcdefg hi", Some(3)), ["abc", "def", "g", "hi"]);
        assert_eq!(wrap("", Some(3)), [""]);
        assert_eq!(wrap("ab cd", None), ["ab cd"]);
    }

    #[test]
    fn end_of_a_text_fits_its_width() {
        assert_eq!(cut_left("abcdef", 6), "abcdef");
        assert_eq!(cut_left("abcdef", 5), "…cdef");
        assert_eq!(cut_left("ab日本", 4), "…本");
    }

    #[test]
    fn texts_are_cut_where_they_differ() {
        let same = ["abcdefgh", "abcdefgh"];
        assert_eq!(cut_apart(&same, 5), ["abcd…"; 2]);
        assert_eq!(cut_apart(&["abcdefgh", "short"], 5), ["abcd…", "short"]);
        let in_end = ["run-2026-1", "run-2026-2", "else"];
        assert_eq!(cut_apart(&in_end, 7), ["run…6-1", "run…6-2", "else"]);
        let in_middle = ["aaaaaaaa-1-bbb", "aaaaaaaa-2-bbb"];
        assert_eq!(cut_apart(&in_middle, 7), ["…-1-bbb", "…-2-bbb"]);
        assert_eq!(
            cut_apart(&["日本日本a", "日本日本b"], 6),
            ["日…本a", "日…本b"]
        );
        assert_eq!(cut_apart(&same, 1), ["…"; 2]);
    }

    #[test]
    fn short_numbers_have_at_most_five_characters() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (99_949, "99.9k"),
            (99_950, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (1_840_000, "1.84M"),
            (999_500_000, "1.00G"),
            (12_345_678_901, "12.3G"),
        ] {
            assert_eq!(short_count(number), text);
        }
    }

    #[test]
    fn times_have_one_or_two_units() {
        let length = 2 * HOUR + 3 * MINUTE;
        assert_eq!(
            [span(length), duration(length), ago(length)],
            ["2h", "2h03m", "2h ago"]
        );
        assert_eq!(
            [span(59_999), duration(-1), ago(59_999)],
            ["59s", "0s", "just now"]
        );
    }
}
