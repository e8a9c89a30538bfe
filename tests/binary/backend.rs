//! Starts the stand-in for a Convex deployment, for tests and benches.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The real Convex functions behind Convex's HTTP API (`tests/backend`). It exits with its parent.
pub struct Backend {
    process: Child,
    pub url: String,
    pub key: String,
}

impl Backend {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these options of `tests/backend/main.ts`.
    pub fn start_with(options: &[&str]) -> Self {
        let mut process = Command::new(std::env::var("NODE").unwrap_or_else(|_| "node".to_owned()))
            .args(["--import", "tsx", "tests/backend/main.ts"])
            .args(options)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("could not start node; `make test` installs what else the backend needs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the backend prints its URL and key");
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self {
            url: text("url"),
            key: text("adminKey"),
            process,
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
