//! Links GCC's unwinder statically if the compiler has it as an archive. Rust links the shared
//! library on Linux, and loading it at each start took a twentieth of the time of a hook (measured).

#![expect(
    clippy::disallowed_methods,
    reason = "Cargo passes everything to a build script in its environment"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
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
    // A compiler that does not have it prints the bare name.
    if let Some(folder) = Path::new(path.trim())
        .parent()
        .filter(|folder| folder.is_absolute())
    {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=gcc_eh");
    }
}
