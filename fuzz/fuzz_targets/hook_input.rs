//! Arbitrary bytes on stdin: nothing panics, an accepted session ID is safe in a path and a query,
//! and the end of the value does not depend on how the bytes arrive.

#![cfg_attr(fuzzing, no_main)]

use convex_sidecar::hook::{input, stdin};
use convex_sidecar::record::event::{EventKind, is_session_id};
use convex_sidecar::record::redact::Redactor;
use convex_sidecar::system::deadline::Deadline;

convex_sidecar_fuzz::target!(check);

fn check(bytes: &[u8]) {
    let redactor = Redactor::metadata_only();
    let read = |length| {
        let mut pieces = bytes.chunks(length).map(<[u8]>::to_vec);
        stdin::read_value_from(|_| pieces.next(), Deadline::never())
    };
    let (at_once, in_pieces) = (read(bytes.len().max(1)), read(7));
    assert_eq!(at_once, in_pieces);
    for json in [Some(bytes), at_once.as_deref().ok()].into_iter().flatten() {
        if let Ok(event) = input::parse(json, &redactor) {
            assert!(is_session_id(&event.session_id));
            assert!(!matches!(event.kind, EventKind::Other { ref name } if name.is_empty()));
        }
    }
}
