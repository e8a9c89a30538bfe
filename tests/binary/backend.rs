//! Starts the stand-in for a Convex deployment, for tests and benches.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The real Convex functions behind Convex's HTTP API (`tests/backend`). It exits with its parent.
pub struct Backend {
    process: Process,
    pub url: String,
    pub key: String,
}

/// What ends the backend when it is dropped.
enum Process {
    Own(Child),
    /// A backend that `tests/cross/backends.ts` runs, because Node does not start under Wine. It
    /// ends with the connection.
    Remote {
        _connection: TcpStream,
    },
}

impl Backend {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these options of `tests/backend/main.ts`.
    pub fn start_with(options: &[&str]) -> Self {
        let (process, line) = match std::env::var("TEST_BACKENDS") {
            Ok(address) => remote(&address, options),
            Err(_) => own(options),
        };
        let ready: Value = serde_json::from_str(&line).expect("the backend prints its URL and key");
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self {
            url: text("url"),
            key: text("adminKey"),
            process,
        }
    }
}

fn own(options: &[&str]) -> (Process, String) {
    let mut process = Command::new("node")
        .args(["--import", "tsx", "tests/backend/main.ts"])
        .args(options)
        .current_dir(crate::root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("could not start node; `make test` installs what else the backend needs");
    let line = first_line(process.stdout.take().unwrap());
    (Process::Own(process), line)
}

fn remote(address: &str, options: &[&str]) -> (Process, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    let options = serde_json::to_string(options).unwrap();
    connection
        .write_all(format!("{options}\n").as_bytes())
        .unwrap();
    let line = first_line(connection.try_clone().unwrap());
    let process = Process::Remote {
        _connection: connection,
    };
    (process, line)
}

fn first_line(stream: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Process::Own(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
