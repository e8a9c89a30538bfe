//! Without `--cfg fuzzing`, which cargo-fuzz sets, the fuzz targets are programs that run on the files
//! named on the command line, such as those in `artifacts/`.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a program that reads files and fails by panicking"
)]

/// Runs `target` on the content of each file.
///
/// # Panics
///
/// If a file cannot be read, or if the target finds a fault.
pub fn run_on_files(target: fn(&[u8])) {
    for path in std::env::args_os().skip(1) {
        let bytes = std::fs::read(&path).expect("a readable file");
        target(&bytes);
    }
}
