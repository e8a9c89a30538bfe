//! Libraries that are loaded before libc's own and stand in for a part of the system.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::root;

/// Compiles `tests/binary/shim/<name>.c`; `None` without a C compiler.
pub fn compile(name: &str) -> Option<PathBuf> {
    let source = root().join(format!("tests/binary/shim/{name}.c"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&path).arg(source);
    match cc.arg("-ldl").status() {
        Ok(status) => {
            assert!(status.success(), "{status}");
            Some(path)
        }
        Err(error) => {
            eprintln!("not tested: there is no C compiler ({error})");
            None
        }
    }
}
