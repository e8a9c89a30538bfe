//! The real Convex functions behind Convex's HTTP API (`tests/backend`): what they accept is what Convex would.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::sidecar::{Home, root};

pub struct Backend {
    process: Child,
    pub url: String,
    pub key: String,
}

impl Backend {
    pub fn start() -> Self {
        let mut process = Command::new("node")
            .args(["--import", "tsx", "tests/backend/main.ts"])
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { url: ready["url"].as_str().unwrap().to_owned(), key: ready["adminKey"].as_str().unwrap().to_owned(), process }
    }

    /// The sessions that are there, as `sessions --remote` reads them.
    pub fn sessions(&self, home: &Home) -> Vec<Value> {
        let home = home.deployment(&self.url, &self.key);
        let output = home.sidecar(&["sessions", "--remote", "--json", "--limit", "100000"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
