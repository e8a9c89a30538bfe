//! Arbitrary bytes on stdin: nothing panics, what is accepted is safe in a path and a query, and where the value ends
//! does not depend on how the bytes arrive.

#![no_main]

use std::io::{Cursor, Read};
use std::time::Duration;

use convex_sidecar::deadline::Deadline;
use convex_sidecar::hook_input::{self, EventKind};
use libfuzzer_sys::fuzz_target;

/// Long enough for a thread to start on a busy machine; the input ends, so it is not waited for.
const SILENCE: Duration = Duration::from_secs(10);

/// A reader that gives a few bytes at a time.
struct Pieces(Cursor<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(7);
        self.0.read(&mut buffer[..length])
    }
}

fuzz_target!(|bytes: &[u8]| {
    let at_once = hook_input::read_value(Cursor::new(bytes.to_vec()), SILENCE, Deadline::never());
    let in_pieces = hook_input::read_value(Pieces(Cursor::new(bytes.to_vec())), SILENCE, Deadline::never());
    assert_eq!(at_once, in_pieces);
    for json in [Some(bytes), at_once.as_deref().ok()].into_iter().flatten() {
        if let Ok(event) = hook_input::parse(json) {
            assert!(hook_input::is_session_id(&event.session_id));
            assert!(!matches!(event.kind, EventKind::Other { ref name } if name.is_empty()));
        }
    }
});
