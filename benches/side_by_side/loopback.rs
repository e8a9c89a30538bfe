//! A server on this machine that answers at once: so the clients are compared, not the server. It
//! answers each request what a real backend was recorded to answer a mutation that succeeds, and
//! counts.
//!
//! The rival with routes of its own (`/sync/session`) is content with any JSON under the status
//! 200.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const ANSWER: &str = r#"{"status":"success","value":{"outcome":"created","revision":1.0}}"#;

/// What was asked so far.
#[derive(Debug, Default, Clone)]
pub struct Asked {
    pub requests: usize,
    /// Heads and bodies, in bytes.
    pub bytes: usize,
    /// The last body.
    pub body: String,
}

pub struct Loopback {
    pub url: String,
    asked: Arc<Mutex<Asked>>,
}

impl Loopback {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&server.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&asked);
                // A client that goes away in the middle is its own business.
                std::thread::spawn(move || answer_all(&stream, &asked).ok());
            }
        });
        server
    }

    /// What was asked since the last call of this.
    pub fn take(&self) -> Asked {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// The URL of a server that is down.
pub fn down() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn answer_all(stream: &TcpStream, asked: &Mutex<Asked>) -> std::io::Result<()> {
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
            let mut asked = asked.lock().unwrap();
            asked.requests += 1;
            asked.bytes += head + length;
            asked.body = String::from_utf8_lossy(&body).into_owned();
        }
        let length = ANSWER.len();
        writer.write_all(
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{ANSWER}").as_bytes(),
        )?;
    }
}
