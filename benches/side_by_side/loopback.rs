//! A local server that answers at once, so that clients are compared and not servers. It answers
//! every request as a real backend answers a successful mutation, and counts requests.
//!
//! `claude-code-sync`, which has its own routes (`/sync/session`), accepts any JSON with status
//! 200.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was received so far.
#[derive(Debug, Default, Clone)]
pub struct Received {
    pub requests: usize,
    /// Headers and bodies, in bytes.
    pub bytes: usize,
    /// The last body.
    pub body: String,
}

pub struct Loopback {
    pub url: String,
    received: Arc<Mutex<Received>>,
}

impl Loopback {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            received: Arc::default(),
        };
        let received = Arc::clone(&server.received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                // A client may disconnect at any time.
                std::thread::spawn(move || answer_all(&stream, &received).ok());
            }
        });
        server
    }

    /// What was received since the last call.
    pub fn take(&self) -> Received {
        std::mem::take(&mut self.received.lock().unwrap())
    }
}

/// The URL of a server that is down.
pub fn down() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn answer_all(stream: &TcpStream, received: &Mutex<Received>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (mut head, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head += line.len();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "expect: 100-continue" {
                writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        {
            let mut received = received.lock().unwrap();
            received.requests += 1;
            received.bytes += head + length;
            received.body = String::from_utf8_lossy(&body).into_owned();
        }
        let answer = answer(&String::from_utf8_lossy(&body));
        let length = answer.len();
        writer.write_all(
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}").as_bytes(),
        )?;
    }
}

/// The answer with a receipt for each session in a request, without which nothing is delivered.
fn answer(body: &str) -> String {
    let receipts: Vec<_> = body
        .split("\"revision\":")
        .skip(1)
        .map(|rest| {
            // Python's `json` puts a space after the colon.
            let rest = rest.trim_start();
            let end = rest.find(|char: char| !char.is_ascii_digit());
            let revision = &rest[..end.unwrap_or(rest.len())];
            format!(r#"{{"outcome":"created","revision":{revision}.0}}"#)
        })
        .collect();
    let value = match receipts.as_slice() {
        [one] if !body.contains("syncAgentSessions") => one.clone(),
        all => format!("[{}]", all.join(",")),
    };
    format!(r#"{{"status":"success","value":{value}}}"#)
}
