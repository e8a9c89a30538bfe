//! The user who runs this process.

/// The ID of the user whose permissions this process has, if the system has such ids.
#[must_use]
pub fn current_user() -> Option<u32> {
    #[cfg(unix)]
    let user = Some(rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    let user = None;
    user
}

/// The name of that user, according to the system's user database.
#[must_use]
pub fn current_user_name() -> Option<String> {
    #[cfg(unix)]
    let name = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map(|user| user.name);
    #[cfg(not(unix))]
    let name = None;
    name
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    #[cfg(unix)]
    let is_root = rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    let is_root = false;
    is_root
}
