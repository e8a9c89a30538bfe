//! Reads one JSON value from stdin, which a client may leave open.

use std::time::Duration;

use super::InputError;
use crate::system::deadline::Deadline;
use crate::system::signals;

/// The largest hook input that is read, in bytes. A prompt with pasted files can have several
/// megabytes.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long stdin may be silent before reading ends. On a busy machine a client can be stopped
/// between two writes, and an event that is lost is worse than a hook that waits; the rest of the
/// hook's budget is enough to record the event.
const SILENCE: Duration = Duration::from_millis(900);
/// How long stdin may be silent before the time for which signals are held back starts.
const SHORT_WAIT: Duration = Duration::from_millis(20);
/// How much is read at once, in bytes: the capacity of a pipe.
const CHUNK: usize = 64 * 1024;

/// Reads one JSON value from stdin without waiting for the end of the input. The client writes
/// immediately but does not always close the pipe (claude-code#79508).
pub fn read_value(deadline: Deadline) -> Result<Vec<u8>, InputError> {
    read_value_from(arrivals(), deadline)
}

/// Reads one JSON value from `next`, which returns what arrives within a time limit, or `None` if
/// nothing does.
pub fn read_value_from(
    mut next: impl FnMut(Duration) -> Option<Vec<u8>>,
    deadline: Deadline,
) -> Result<Vec<u8>, InputError> {
    let mut value = Vec::new();
    let mut end = ValueEnd::default();
    while let Some(chunk) = next(deadline.remaining(SILENCE)) {
        let found = end.find(&chunk);
        value.extend_from_slice(&chunk[..found.unwrap_or(chunk.len())]);
        if value.len() > MAX_BYTES {
            return Err(InputError::TooLarge);
        }
        if found.is_some() {
            return Ok(value);
        }
    }
    if value.trim_ascii().is_empty() {
        Err(InputError::Empty)
    } else {
        Err(InputError::Incomplete)
    }
}

/// Finds where a JSON object or array ends, over any number of chunks, by counting brackets outside
/// strings.
#[derive(Debug, Default)]
struct ValueEnd {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl ValueEnd {
    /// The number of bytes of `chunk` up to the end of the value, if it ends in this chunk. A value
    /// that is not an object or array ends at its first byte; it is malformed in any case.
    fn find(&mut self, chunk: &[u8]) -> Option<usize> {
        for (index, &byte) in chunk.iter().enumerate() {
            if self.is_in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b'"' if self.depth > 0 => self.is_in_string = true,
                // The last three are a byte order mark, as PowerShell writes it (RFC 8259, section
                // 8.1).
                b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF if self.depth == 0 => continue,
                _ => {}
            }
            if self.depth == 0 {
                return Some(index + 1);
            }
        }
        None
    }
}

/// Returns what arrives on stdin within some time; `None` if nothing does, and at the end. Linux
/// needs no thread for this; starting one takes about 50 µs (measured).
#[cfg(target_os = "linux")]
fn arrivals() -> impl FnMut(Duration) -> Option<Vec<u8>> {
    use rustix::buffer::spare_capacity;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{read, retry_on_intr};

    let stdin = std::io::stdin();
    move |patience| {
        limited(patience, |patience| {
            let patience = Timespec::try_from(patience).ok()?;
            let poll = || poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&patience));
            retry_on_intr(poll).ok().filter(|&ready| ready > 0)
        })?;
        let mut chunk = Vec::with_capacity(CHUNK);
        retry_on_intr(|| read(&stdin, spare_capacity(&mut chunk))).ok()?;
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Returns what arrives on stdin within some time; `None` if nothing does, and at the end. A thread
/// reads, because not every system can wait for every kind of input with a timeout. It ends with
/// the process.
#[cfg(not(target_os = "linux"))]
fn arrivals() -> impl FnMut(Duration) -> Option<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = std::io::Read::read(&mut std::io::stdin(), &mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    move |patience| limited(patience, |patience| receiver.recv_timeout(patience).ok())
}

/// Waits for stdin. If nothing is there immediately, the wait counts toward the time for which
/// signals are held back.
fn limited<T>(patience: Duration, wait: impl Fn(Duration) -> Option<T>) -> Option<T> {
    wait(patience.min(SHORT_WAIT)).or_else(|| {
        signals::limit();
        wait(patience.saturating_sub(SHORT_WAIT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_value_is_found_wherever_it_is_cut() {
        let json = b"\xEF\xBB\xBF {\"a\":\"}]\\\"\",\"b\":[{\"c\":\"\\\\\"}]} trailing";
        let length = json.len() - " trailing".len();
        for cut in 1..length {
            let mut end = ValueEnd::default();
            assert_eq!(end.find(&json[..cut]), None, "cut at {cut}");
            assert_eq!(end.find(&json[cut..]), Some(length - cut), "cut at {cut}");
        }
    }

    #[test]
    fn reading_ends_with_the_value_or_with_silence() {
        let after = |arrivals: &[&str]| {
            let mut arrivals = arrivals.iter();
            let next = |patience: Duration| {
                assert_eq!(patience, SILENCE);
                arrivals.next().map(|chunk| chunk.as_bytes().to_owned())
            };
            read_value_from(next, Deadline::never())
                .map(|value| (String::from_utf8(value).unwrap(), arrivals.len()))
        };
        assert_eq!(
            after(&["{\"a\"", ":1}\n{", "\"b\":2}"]),
            Ok(("{\"a\":1}".to_owned(), 1))
        );
        assert_eq!(after(&["{\"a\":"]), Err(InputError::Incomplete));
        assert_eq!(after(&[" \n"]), Err(InputError::Empty));
        assert_eq!(after(&[]), Err(InputError::Empty));
    }
}
