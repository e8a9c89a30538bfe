//! What arrives on stdin, without waiting for it longer than is asked: a client may leave it open
//! and silent.

use std::time::Duration;

/// How much is read at once, in bytes: as much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// What arrives within the time that is asked for; `None` for silence, and at the end. On Linux no
/// thread is needed for that, which takes some 50 µs to start (measured).
#[cfg(target_os = "linux")]
pub fn arrivals() -> impl FnMut(Duration) -> Option<Vec<u8>> {
    use rustix::buffer::spare_capacity;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{read, retry_on_intr};

    let stdin = std::io::stdin();
    move |patience| {
        let patience = Timespec::try_from(patience).ok()?;
        let ready =
            retry_on_intr(|| poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&patience)))
                .ok()?;
        let mut chunk = Vec::new();
        if ready > 0 {
            chunk.reserve(CHUNK);
            retry_on_intr(|| read(&stdin, spare_capacity(&mut chunk))).ok()?;
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// What arrives within the time that is asked for; `None` for silence, and at the end. A thread
/// does the reading, because not every system can wait for every kind of input; it is left behind
/// when the process exits.
#[cfg(not(target_os = "linux"))]
pub fn arrivals() -> impl FnMut(Duration) -> Option<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = std::io::Read::read(&mut std::io::stdin(), &mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    move |patience| receiver.recv_timeout(patience).ok()
}
