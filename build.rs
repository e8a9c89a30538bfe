//! How the executable is linked, so that it starts quickly: a hook is mostly the start of a
//! process.
//!
//! - On Linux, GCC's unwinder is linked statically if the compiler has it as an archive. Rust links
//!   the shared library, and loading it at each start took a twentieth of the time of a hook
//!   (measured).
//! - On Windows, DLLs that most hooks do not use are loaded only when one of their functions is
//!   called.

#![expect(
    clippy::disallowed_methods,
    reason = "Cargo passes everything to a build script in its environment"
)]

use std::path::Path;
use std::process::Command;

/// DLLs that libraries link, but that only some commands or only calls over https need.
const LOADED_LATE: [&str; 8] = [
    "combase", "crypt32", "ole32", "oleaut32", "pdh", "powrprof", "psapi", "shell32",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // Only MSVC's linker, which is used for releases, can do that.
    if is("CARGO_CFG_TARGET_OS", "windows") && is("CARGO_CFG_TARGET_ENV", "msvc") {
        for library in LOADED_LATE {
            println!("cargo:rustc-link-arg-bins=/DELAYLOAD:{library}.dll");
        }
        println!("cargo:rustc-link-arg-bins=delayimp.lib");
    }
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
    // A compiler without the archive prints only its name.
    if let Some(folder) = Path::new(path.trim())
        .parent()
        .filter(|folder| folder.is_absolute())
    {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=gcc_eh");
    }
}
