//! Links the unwinder of GCC into the binary where the compiler has it as an archive. As a shared
//! library, as Rust links it on Linux, it is loaded and set up at each start, which took a hook a
//! twentieth of its time (measured).

#![expect(
    clippy::disallowed_methods,
    reason = "Cargo tells a build script everything by its environment"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|own| own == value);
    let is_cross = std::env::var_os("HOST") != std::env::var_os("TARGET");
    if is_cross || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    let Ok(output) = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output()
    else {
        return;
    };
    let path = String::from_utf8_lossy(&output.stdout);
    // A compiler that does not have it repeats the name.
    if let Some(folder) = Path::new(path.trim())
        .parent()
        .filter(|folder| folder.is_absolute())
    {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=gcc_eh");
    }
}
