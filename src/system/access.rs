//! Whether this user may use a file, and if not, why. A file that must not be accessed is not the
//! same as a file that does not exist.

use std::path::Path;

use super::files::owner;
use super::listener::is_foreign_user;

/// What a file is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It is read, if it exists.
    Read,
    /// It is read and written, and created if it does not exist.
    Write,
    /// It is executed, if it exists.
    Run,
}

/// What keeps this user from using a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// A message with the file or folder that cannot be used, why, and who owns it.
    pub finding: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether a link leads to something that does not exist, so that permissions do not matter.
    pub is_dangling: bool,
}

/// The ID of another ordinary user who owns this file or the link that leads to it, and so decides
/// what is read. Files of root and of services are not suspect: a managed machine or a container has
/// them.
#[must_use]
pub fn foreign_owner(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    let link = path
        .symlink_metadata()
        .ok()
        .map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
    #[cfg(not(unix))]
    let link = None;
    let mut owners = [owner(path), link].into_iter().flatten();
    owners.find(|owner| is_foreign_user(*owner))
}

/// What keeps this user from using `path` for this; `None` if nothing does.
#[cfg(unix)]
#[must_use]
pub fn obstacle(path: &Path, need: Need) -> Option<Obstacle> {
    use rustix::fs::{Access, access};
    use rustix::io::Errno;

    let parts: Vec<_> = path.ancestors().collect();
    let mut last = Path::new("/");
    for part in parts.into_iter().rev() {
        match access(part, Access::EXISTS) {
            Ok(()) => last = part,
            Err(Errno::NOENT) if need != Need::Run && part.is_symlink() => {
                return Some(dangling(part));
            }
            Err(Errno::NOENT) if need != Need::Write => return None,
            Err(Errno::NOENT) => break,
            // The folder before it cannot be searched.
            Err(error) => return Some(describe(path, last, need, error)),
        }
    }
    let needed = match need {
        _ if last != path => Access::WRITE_OK | Access::EXEC_OK,
        Need::Read => Access::READ_OK,
        Need::Write => Access::READ_OK | Access::WRITE_OK,
        Need::Run => Access::EXEC_OK,
    };
    let error = access(last, needed).err()?;
    Some(describe(path, last, need, error))
}

#[cfg(unix)]
fn dangling(link: &Path) -> Obstacle {
    Obstacle {
        finding: format!(
            "{} is a link to something that does not exist",
            link.display()
        ),
        remedy: "create what it points to, for example by mounting the disk, or remove the link"
            .to_owned(),
        is_dangling: true,
    }
}

#[cfg(unix)]
fn describe(path: &Path, blocker: &Path, need: Need, error: rustix::io::Errno) -> Obstacle {
    let own = rustix::process::getuid().as_raw();
    let owner = owner(blocker).filter(|owner| *owner != own);
    let whose = match owner {
        Some(0) => ", which belongs to root (as after a run with sudo)".to_owned(),
        Some(owner) => format!(", which belongs to another user (ID {owner})"),
        None => String::new(),
    };
    let error = std::io::Error::from(error);
    let finding = format!(
        "{} cannot be used because of the permissions of {}{whose}: {error}",
        path.display(),
        blocker.display()
    );
    let is_own = blocker == path || Some(blocker) == path.parent();
    let remedy = match owner {
        _ if need == Need::Run => format!(
            "let this user run it (`chmod a+rx '{}'`), or install convex-sidecar for this user",
            blocker.display()
        ),
        // Only a folder that certainly belongs to this program is handed to the user recursively.
        Some(_) if is_own => format!(
            "`sudo chown -R \"$(id -u):$(id -g)\" '{}'`",
            blocker.display()
        ),
        None if is_own => format!("`chmod u+rwX '{}'`", blocker.display()),
        _ => format!(
            "let this user use {}, or set CONVEX_SIDECAR_HOME to a folder of this user",
            blocker.display()
        ),
    };
    Obstacle {
        finding,
        remedy,
        is_dangling: false,
    }
}

/// Other systems have no such permissions.
#[cfg(not(unix))]
#[must_use]
pub const fn obstacle(_: &Path, _: Need) -> Option<Obstacle> {
    None
}
