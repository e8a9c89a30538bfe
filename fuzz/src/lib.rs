//! Without `--cfg fuzzing`, which cargo-fuzz sets, the fuzz targets are programs that run on the
//! files named on the command line, such as those in `artifacts/`.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a program that reads files and fails by panicking"
)]

/// The entry point of a target, which calls `check` with the input.
#[macro_export]
macro_rules! target {
    ($check:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $check(bytes));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::run_on_files($check);
        }
    };
}

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
