//! Who listens on a port of this machine, as far as Linux tells. Anyone can take a port whose
//! server is down, and would receive what is meant for that server.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads what the operating system knows of sockets and users"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// How much of a table of sockets is read, in bytes: about 50,000 listening sockets.
const MAX_TABLE: u64 = 8 * 1024 * 1024;
/// How much is read at once, in bytes: a line. To fill a larger buffer, the kernel goes on to the
/// connections, and searching its table of them takes longer than the rest of the hook (measured:
/// 1.3 ms with 262,144 buckets, most of them empty).
const LINE: usize = 150;
/// The state of a listening socket.
const LISTEN: &str = "0A";
/// The first ID of an ordinary user; those below belong to the system.
const FIRST_USER: u32 = if cfg!(target_os = "macos") {
    501
} else {
    1_000
};
/// The IDs that systemd assigns to services while they run.
const SERVICES: Range<u32> = 61_184..65_520;
/// The ID that stands for users of another user namespace, who are not known here. If there is no
/// other namespace, it is `nobody`.
const UNKNOWN_USER: u32 = 65_534;
/// The ID map of a user namespace that knows all users.
const ALL_USERS: [&str; 3] = ["0", "0", "4294967295"];

/// Another user's program on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignUser {
    /// The program of the ordinary user with this ID.
    Id(u32),
    /// It is not known whose: too many programs listen to check all of them.
    Hidden,
}

/// Who listens on this port of this machine, if that is known to be another ordinary user.
/// `address` is a loopback address; without one, as for `localhost`, it can be any.
///
/// If nobody is known to listen, the port may still be in use: Docker can forward a port without a
/// socket. Only Linux tells who owns a socket.
#[must_use]
pub fn foreign_user(address: Option<IpAddr>, port: u16) -> Option<ForeignUser> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Without IPv6 this table does not exist.
        let Ok(table) = File::open(path) else {
            continue;
        };
        let table = BufReader::with_capacity(LINE, table);
        match find(table, address, port, is_foreign_user) {
            Some(Listener::Foreign(user)) => return Some(user),
            Some(Listener::Trusted) if address.is_some() => return None,
            _ => {}
        }
    }
    None
}

/// Who gets the connections to an address.
#[derive(Debug, PartialEq, Eq)]
enum Listener {
    Trusted,
    Foreign(ForeignUser),
}

fn find(
    table: impl BufRead,
    address: Option<IpAddr>,
    port: u16,
    is_foreign_user: impl Fn(u32) -> bool,
) -> Option<Listener> {
    let mut table = table.take(MAX_TABLE);
    let mut line = String::new();
    let mut found = None;
    // The first line contains the headings.
    while let Ok(1..) = table.read_line(&mut line) {
        match parse(&line) {
            Some(socket) if !socket.listens => return found,
            Some(socket) if socket.accepts(address, port) => {
                if is_foreign_user(socket.user) {
                    return Some(Listener::Foreign(ForeignUser::Id(socket.user)));
                }
                found = Some(Listener::Trusted);
                // Nobody else can listen on the same address.
                if address.is_some() {
                    return found;
                }
            }
            _ => {}
        }
        line.clear();
    }
    if table.limit() == 0 {
        return Some(Listener::Foreign(ForeignUser::Hidden));
    }
    found
}

/// A line of the table. Listening sockets come first, so the others need not be read.
struct Socket {
    address: IpAddr,
    port: u16,
    listens: bool,
    user: u32,
}

fn parse(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    let state = words.nth(1)?;
    // Each group of eight digits is a number in this machine's byte order.
    let group = |at| {
        Some(
            u32::from_str_radix(address.get(at..at + 8)?, 16)
                .ok()?
                .to_ne_bytes(),
        )
    };
    let address = if address.len() == 8 {
        IpAddr::from(group(0)?)
    } else {
        let groups = [group(0)?, group(8)?, group(16)?, group(24)?];
        let bytes = <[u8; 16]>::try_from(groups.concat()).ok()?;
        Ipv6Addr::from(bytes).to_canonical()
    };
    Some(Socket {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        listens: state == LISTEN,
        user: words.nth(3)?.parse().ok()?,
    })
}

impl Socket {
    /// Whether it accepts connections to this port of this address.
    fn accepts(&self, address: Option<IpAddr>, port: u16) -> bool {
        let is_any = match self.address {
            IpAddr::V4(own) => {
                own == Ipv4Addr::UNSPECIFIED && !address.is_some_and(|to| to.is_ipv6())
            }
            // This also accepts IPv4 connections.
            IpAddr::V6(own) => own == Ipv6Addr::UNSPECIFIED,
        };
        let is_same = address.map_or(self.address.is_loopback(), |to| to == self.address);
        self.port == port && (is_any || is_same)
    }
}

/// Whether this is an ordinary user other than the one running this program.
pub(super) fn is_foreign_user(user: u32) -> bool {
    #[cfg(unix)]
    let own = rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    let own = user;
    let is_trusted = |user| is_trusted(user, own);
    if is_trusted(user) || (user == UNKNOWN_USER && !knows_all_users(&read("/proc/self/uid_map"))) {
        return false;
    }
    // A rootless container has IDs from a range that belongs to the user who started it.
    let (ranges, users) = (read("/etc/subuid"), read("/etc/passwd"));
    !owners(&ranges, &users, user).any(is_trusted)
}

fn is_trusted(user: u32, own: u32) -> bool {
    user == own || user < FIRST_USER || SERVICES.contains(&user)
}

fn knows_all_users(map: &str) -> bool {
    map.split_ascii_whitespace().eq(ALL_USERS)
}

/// The users who own a range that contains this ID.
fn owners(ranges: &str, users: &str, id: u32) -> impl Iterator<Item = u32> {
    ranges.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let offset = id.checked_sub(first.trim().parse().ok()?)?;
        if offset >= count.trim().parse().ok()? {
            return None;
        }
        owner.parse().ok().or_else(|| id_of(users, owner))
    })
}

/// The ID of a user in the text of `/etc/passwd`.
fn id_of(users: &str, name: &str) -> Option<u32> {
    let mut users = users.lines().map(|line| line.split(':'));
    users.find_map(|mut fields| {
        let is_named = fields.next() == Some(name);
        fields.nth(1).filter(|_| is_named)?.parse().ok()
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const HEADINGS: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    /// A line as the kernel of a machine of this byte order writes it.
    fn line(address: &str, port: u16, state: &str, user: u32) -> String {
        let bytes = match address.parse().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let mut own = String::new();
        for group in bytes.chunks(4) {
            let number = u32::from_ne_bytes(group.try_into().unwrap());
            write!(own, "{number:08X}").unwrap();
        }
        let remote = "0".repeat(own.len());
        format!(
            "   0: {own}:{port:04X} {remote}:0000 {state} 00000000:00000000 00:00000000 00000000 {user:5}        0 71 1 ffff 100 0 0 10 0\n"
        )
    }

    fn found(lines: &[String], address: &str, port: u16) -> Option<Listener> {
        let table = format!("{HEADINGS}{}", lines.concat());
        find(table.as_bytes(), address.parse().ok(), port, |user| {
            user == 1001
        })
    }

    #[test]
    fn line_of_the_kernel_is_parsed() {
        let line = "   1: 0100007F:0C8A 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 188 1 0000000000000000 100 0 0 10 0";
        let socket = parse(line).unwrap();
        assert!(socket.listens);
        if cfg!(target_endian = "little") {
            assert_eq!(socket.address, IpAddr::from([127, 0, 0, 1]));
        }
        assert_eq!((socket.port, socket.user), (3210, 1001));
        for broken in [
            "",
            HEADINGS,
            "   1: 0100007F:0C8A",
            "   1: 7F:1 0:0 0A 0:0 0:0 0 x 0 1",
        ] {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn foreign_user_is_the_one_who_would_get_the_connection() {
        let user = |address, port, user| [line(address, port, LISTEN, user)];
        let foreign = || Some(Listener::Foreign(ForeignUser::Id(1001)));
        for (listener, host) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::", "127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("127.0.0.2", "127.0.0.2"),
            ("::1", "::1"),
            ("::", "::1"),
            ("127.0.0.1", "localhost"),
            ("127.0.1.1", "localhost"),
            ("0.0.0.0", "localhost"),
            ("::1", "localhost"),
            ("::", "localhost"),
        ] {
            let case = format!("{listener} for {host}");
            assert_eq!(
                found(&user(listener, 3210, 1001), host, 3210),
                foreign(),
                "{case}"
            );
            assert_eq!(
                found(&user(listener, 3210, 0), host, 3210),
                Some(Listener::Trusted),
                "{case}"
            );
            assert_eq!(
                found(&user(listener, 3211, 1001), host, 3210),
                None,
                "{case}"
            );
        }
        for (listener, host) in [
            ("127.0.0.2", "127.0.0.1"),
            ("192.168.1.5", "127.0.0.1"),
            ("192.168.1.5", "localhost"),
            ("::1", "127.0.0.1"),
            ("127.0.0.1", "::1"),
            ("0.0.0.0", "::1"),
            ("fe80::1", "localhost"),
        ] {
            assert_eq!(
                found(&user(listener, 3210, 1001), host, 3210),
                None,
                "{listener} for {host}"
            );
        }
        let both = [user("127.0.0.1", 3210, 0), user("::1", 3210, 1001)].concat();
        assert_eq!(found(&both, "localhost", 3210), foreign());
        assert_eq!(found(&[], "127.0.0.1", 3210), None);
    }

    #[test]
    fn only_listening_sockets_are_read() {
        let busy = line("127.0.0.1", 3210, "01", 1001);
        assert_eq!(found(std::slice::from_ref(&busy), "127.0.0.1", 3210), None);
        let mut table = std::io::Cursor::new([HEADINGS, &busy.repeat(10_000)].concat());
        assert_eq!(find(&mut table, None, 3210, |_| true), None);
        assert!(table.position() < 1_000);
        let own = line("127.0.0.1", 3210, LISTEN, 1000);
        let mut table = std::io::Cursor::new([HEADINGS, &own, &busy].concat());
        let found = find(&mut table, "127.0.0.1".parse().ok(), 3210, |_| false);
        assert_eq!(found, Some(Listener::Trusted));
        assert_eq!(table.position(), (HEADINGS.len() + own.len()) as u64);
        let many = line("127.0.0.1", 80, LISTEN, 1001).repeat(100_000);
        let many = std::io::Cursor::new(many);
        let hidden = Some(Listener::Foreign(ForeignUser::Hidden));
        assert_eq!(find(many, None, 3210, |_| true), hidden);
    }

    #[test]
    fn unknown_user_is_nobody_where_all_users_are_known() {
        assert!(knows_all_users("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 1000 1\n1 100000 65536\n"] {
            assert!(!knows_all_users(map), "{map}");
        }
    }

    #[test]
    fn system_and_own_containers_are_trusted_and_other_users_are_not() {
        let users = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\ndockremap:x:998:998::/:/bin/false\n";
        let ranges = "ann:100000:65536\nbob:165536:65536\ndockremap:231072:65536\n1000:400000:10\ngone:500000:10\nbroken:x:y\n";
        let is_foreign_user = |user: u32| {
            let is_trusted = |user| is_trusted(user, 1000);
            !is_trusted(user) && !owners(ranges, users, user).any(is_trusted)
        };
        for trusted in [
            0, 33, 999, 1000, 61_184, 65_519, 100_000, 165_535, 231_072, 400_009,
        ] {
            assert!(!is_foreign_user(trusted), "{trusted}");
        }
        for foreign in [
            1001,
            60_001,
            65_520,
            99_999,
            165_536,
            231_071,
            400_010,
            500_000,
            1_234_567_890,
        ] {
            assert!(is_foreign_user(foreign), "{foreign}");
        }
    }
}
