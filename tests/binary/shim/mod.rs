//! Libraries that are loaded before libc and stand in for a part of the system. The C compiler that
//! builds SQLite builds them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use crate::support::root;

/// The library whose source is `tests/binary/shim/<name>.c`.
pub fn path(name: &str) -> PathBuf {
    static SHIMS: LazyLock<Mutex<BTreeMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    let mut shims = SHIMS.lock().unwrap();
    let shim = shims.entry(name.to_owned());
    shim.or_insert_with(|| compile(name)).clone()
}

fn compile(name: &str) -> PathBuf {
    let source = root().join(format!("tests/binary/shim/{name}.c"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&path).arg(source);
    let status = cc.arg("-ldl").status().unwrap();
    assert!(status.success(), "{status}");
    path
}
