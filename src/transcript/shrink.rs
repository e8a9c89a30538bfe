//! Shortens a line that is too long for memory. Such a line contains images, and the small fields
//! beside them (a prompt, a token count) still count.

use memchr::memchr2;

/// The longest string that is kept, in bytes. Longer ones are images and files.
const MAX_STRING: usize = 256 * 1024;
/// The longest escape sequence, `\u0000`.
const MAX_ESCAPE: usize = 6;

/// Shortens the strings of one line, which arrives in parts.
#[derive(Debug, Default)]
pub struct Shrinker {
    is_in_string: bool,
    /// How much of the string is kept, in bytes.
    kept: usize,
    /// Whether the rest of the string is left out.
    is_full: bool,
    /// How much of the buffer was processed.
    done: usize,
}

impl Shrinker {
    /// Shortens the line at the start of `line`, of which more may come. Returns its new length.
    pub fn shrink(&mut self, line: &mut [u8]) -> usize {
        let (mut from, mut to) = (self.done, self.done);
        while from < line.len() {
            let length = match line[from] {
                b'"' | b'\\' if from + 1 == line.len() => break,
                b'"' => {
                    // After a record that was cut off within a string, this can be the start of a string.
                    let next = line[from + 1];
                    let can_end = next.is_ascii_whitespace() || b",:]}".contains(&next);
                    self.is_in_string = !(self.is_in_string && can_end);
                    (self.kept, self.is_full) = (0, false);
                    line.copy_within(from..=from, to);
                    to += 1;
                    1
                }
                b'\\' => {
                    self.is_full |= self.kept + MAX_ESCAPE > MAX_STRING;
                    to += self.keep(line, from, 2, to);
                    2
                }
                _ => {
                    let rest = &line[from..];
                    let length = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    let fits = length.min(MAX_STRING - self.kept.min(MAX_STRING));
                    let kept = if self.is_in_string && fits < length {
                        floor_char_boundary(rest, fits)
                    } else {
                        length
                    };
                    to += self.keep(line, from, kept, to);
                    self.is_full |= kept < length;
                    length
                }
            };
            from += length;
        }
        line.copy_within(from.., to);
        self.done = to;
        to + line.len() - from
    }

    fn keep(&mut self, line: &mut [u8], from: usize, length: usize, to: usize) -> usize {
        if self.is_full {
            return 0;
        }
        line.copy_within(from..from + length, to);
        self.kept += if self.is_in_string { length } else { 0 };
        length
    }
}

/// The last character boundary up to `at`.
fn floor_char_boundary(bytes: &[u8], mut at: usize) -> usize {
    while at > 0 && bytes[at] & 0xC0 == 0x80 {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_strings_are_cut_wherever_the_line_is_cut() {
        let images = [
            "x".repeat(3 * MAX_STRING),
            "é".repeat(MAX_STRING),
            "\\u00e9\\\"".repeat(MAX_STRING / 4),
        ];
        for image in images {
            let line = format!(r#"{{"a":"{image}","b":"small","c":[1,"{image}"],"d":2}}"#);
            let cut = |part: usize| {
                let (mut shrinker, mut buffer) = (Shrinker::default(), Vec::new());
                for chunk in line.as_bytes().chunks(part) {
                    buffer.extend_from_slice(chunk);
                    let length = shrinker.shrink(&mut buffer);
                    buffer.truncate(length);
                }
                buffer
            };
            let whole = cut(line.len());
            let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            assert_eq!((&json["b"], &json["d"]), (&"small".into(), &2.into()));
            let kept = json["a"].as_str().unwrap();
            assert!(!kept.is_empty() && whole.len() < 3 * MAX_STRING);
            for part in [65_536, 65_537, 1_000_003] {
                assert!(serde_json::from_slice::<serde_json::Value>(&cut(part)).is_ok());
            }
        }
    }
}
