//! The real Convex functions behind Convex's HTTP API: they accept what Convex would accept.

#[path = "../../tests/binary/backend.rs"]
mod process;

use serde_json::Value;

pub use self::process::Backend;
use crate::sidecar::Home;

impl Backend {
    /// All stored sessions, as `sessions --remote` reads them.
    pub fn sessions(&self, home: &Home) -> Vec<Value> {
        let home = home.deployment(&self.url, &self.key);
        let output = home
            .sidecar(&["sessions", "--remote", "--json", "--limit", "100000"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}
