//! The fluent builder that runs the binary, and the stand-ins for the client and the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

pub use crate::backend::Backend;
pub use crate::capture::{CAPTURES, Capture, Captured};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How often something is repeated: on Windows less often, because under Wine a program takes
/// twenty times as long to start.
pub const fn by_system(on_unix: usize, on_windows: usize) -> usize {
    if cfg!(windows) { on_windows } else { on_unix }
}

/// A text with the paths in it as on Unix, so that one expectation fits all systems.
pub fn with_slashes(text: &str) -> String {
    if cfg!(windows) {
        text.replace('\\', "/")
    } else {
        text.to_owned()
    }
}

/// The binary, in the emulator that `TEST_EMULATOR` names if it was built for another processor.
fn executable() -> Command {
    let path = env!("CARGO_BIN_EXE_convex-sidecar");
    let Ok(emulator) = std::env::var("TEST_EMULATOR") else {
        return Command::new(path);
    };
    let mut words = emulator.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(path);
    command
}

/// A machine: its home folder, with the sidecar's home and the client's projects below it.
pub struct Machine {
    home: TempDir,
    environment: Vec<(String, String)>,
    /// Admin keys. No command may print them, and no file except [`KEY_FILES`] may contain them.
    keys: Vec<String>,
    /// Whether configuration and journal are where they are by default.
    is_at_home: bool,
}

/// What a command printed, and its exit status.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Asserts success and an empty stderr. Returns stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            (self.status, self.stderr.as_str()),
            (0, ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Asserts what a hook promises: exit status 0 and no output.
    #[track_caller]
    pub fn silent(self) {
        assert_eq!(
            (self.status, self.stdout.as_str(), self.stderr.as_str()),
            (0, "", "")
        );
    }
}

impl Machine {
    pub fn new() -> Self {
        let folder = std::env::temp_dir();
        // On macOS it is behind a link, and programs see the real path of the folder they run in.
        #[cfg(unix)]
        let folder = folder.canonicalize().unwrap();
        Self {
            home: TempDir::new_in(folder).unwrap(),
            environment: Vec::new(),
            keys: Vec::new(),
            is_at_home: false,
        }
    }

    /// A machine whose configuration and journal are where they are by default, and whose user also
    /// has this home folder in the system's user database.
    #[cfg(target_os = "linux")]
    pub fn at_home() -> Self {
        let shim = crate::shim::path("users");
        let mut machine = Self::new();
        machine.is_at_home = true;
        let home = machine.home().to_str().unwrap().to_owned();
        machine
            .env("HOME", &home)
            .env("USER_DATABASE_HOME", &home)
            .env("LD_PRELOAD", shim.to_str().unwrap())
    }

    /// All variables of a command that a user runs.
    pub fn environment(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let home = (!self.is_at_home).then(|| {
            let home = self.sidecar_home().to_str().unwrap().to_owned();
            ("CONVEX_SIDECAR_HOME".to_owned(), home)
        });
        home.into_iter().chain(self.environment.iter().cloned())
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The sidecar's own folder, or that of its configuration.
    pub fn sidecar_home(&self) -> PathBuf {
        self.home().join(if self.is_at_home {
            ".config/convex-sidecar"
        } else {
            "sidecar"
        })
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        let folder = if self.is_at_home {
            self.home().join(".local/state/convex-sidecar")
        } else {
            self.sidecar_home()
        };
        folder.join("journal.db")
    }

    /// The client's folder for the transcripts of one project.
    pub fn projects(&self) -> PathBuf {
        let client = self.home().join(".claude");
        client.join("projects").join("-home-dev-proj")
    }

    /// Sets a variable for all commands that follow.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Declares a key that must not appear anywhere.
    pub fn secret(mut self, key: &str) -> Self {
        self.keys.push(key.to_owned());
        self
    }

    /// Configures a deployment.
    pub fn deployment(self, url: &str, key: &str) -> Self {
        self.secret(key)
            .env("CONVEX_SELF_HOSTED_URL", url)
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", key)
    }

    /// Writes a file below the home folder.
    pub fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        #[cfg(not(unix))]
        let _ = mode;
    }

    /// Writes the configuration file.
    pub fn write_config(&self, text: &str) {
        std::fs::create_dir_all(self.sidecar_home()).unwrap();
        std::fs::write(self.sidecar_home().join("config.toml"), text).unwrap();
    }

    /// Puts a link to the binary on the PATH, as a package manager does, or a copy on Windows, and
    /// sets the home folder.
    pub fn linked(self) -> Self {
        let bin = self.home().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let executable = env!("CARGO_BIN_EXE_convex-sidecar");
        #[cfg(unix)]
        std::os::unix::fs::symlink(executable, bin.join("convex-sidecar")).unwrap();
        #[cfg(not(unix))]
        std::fs::copy(executable, bin.join("convex-sidecar.exe")).unwrap();
        let home = self.home().to_str().unwrap().to_owned();
        let home_folder = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        self.env("PATH", bin.to_str().unwrap())
            .env("PATHEXT", ".EXE")
            .env(home_folder, &home)
    }

    /// Replaces the link with the binary itself. On Windows there is no link.
    pub fn with_executable(self) -> Self {
        #[cfg(unix)]
        {
            let path = self.home().join("bin/convex-sidecar");
            std::fs::remove_file(&path).unwrap();
            place_executable(&path);
        }
        self
    }

    /// The binary with these arguments.
    pub fn sidecar(&self, args: &[&str]) -> Sidecar {
        let mut command = executable();
        command.args(args);
        self.prepare(command)
    }

    /// Runs a hook, which must not print anything.
    #[track_caller]
    pub fn hook(&self, event: impl AsRef<[u8]>) {
        self.sidecar(&["hook"]).stdin(event).run().silent();
    }

    /// The sessions of the deployment.
    #[track_caller]
    pub fn remote_sessions(&self) -> Vec<Value> {
        let args = ["sessions", "--remote", "--json", "--limit", "1000"];
        json_lines(&self.sidecar(&args).run().ok())
    }

    /// A shell script; the binary is its `$0`.
    #[cfg(unix)]
    pub fn shell(&self, script: &str) -> Sidecar {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_convex-sidecar")]);
        self.prepare(command)
    }

    /// Another command.
    pub fn prepare(&self, mut command: Command) -> Sidecar {
        command
            .env_clear()
            .envs(self.environment())
            .current_dir(self.home());
        Sidecar {
            command,
            stdin: None,
            keys: self.keys.clone(),
        }
    }

    /// The documents of all sessions, from the journal.
    pub fn documents(&self) -> Vec<Value> {
        json_lines(
            &self
                .sidecar(&["sessions", "--all", "--json", "--limit", "1000"])
                .run()
                .ok(),
        )
    }

    /// The document of one session, from the journal. The command that prints it first ends the
    /// sessions of killed clients.
    #[track_caller]
    pub fn document(&self, session_id: &str) -> Value {
        serde_json::from_str(&self.sidecar(&["show", session_id, "--json"]).run().ok()).unwrap()
    }

    /// The document of the session whose ID starts with `prefix`, as it is stored. Unlike
    /// [`document`](Self::document), this runs no command, so the journal stays as it is.
    #[track_caller]
    pub fn stored_document(&self, prefix: &str) -> Value {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let journal = Connection::open_with_flags(self.journal(), flags).unwrap();
        let sql = "SELECT document FROM sessions WHERE substr(session_id, 1, length(?1)) = ?1";
        let document: String = journal.query_one(sql, [prefix], |row| row.get(0)).unwrap();
        serde_json::from_str(&document).unwrap()
    }
}

/// The files that may contain a key: the sidecar's configuration and that of the Convex CLI.
const KEY_FILES: [&str; 2] = ["config.toml", ".env.local"];

impl Drop for Machine {
    fn drop(&mut self) {
        let mut folders = vec![self.sidecar_home()];
        while let Some(entries) = folders.pop().map(std::fs::read_dir) {
            for path in entries
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
            {
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if !KEY_FILES
                    .iter()
                    .any(|name| path.file_name().unwrap() == *name)
                {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    let has_key = self
                        .keys
                        .iter()
                        .any(|key| memchr::memmem::find(&bytes, key.as_bytes()).is_some());
                    assert!(
                        !has_key || std::thread::panicking(),
                        "{} contains the admin key",
                        path.display()
                    );
                }
            }
        }
    }
}

pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// One run of the binary.
pub struct Sidecar {
    command: Command,
    stdin: Option<Vec<u8>>,
    keys: Vec<String>,
}

impl Sidecar {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With more arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Runs it in this folder.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it as a user other than root, because root may write everywhere.
    #[cfg(unix)]
    pub fn nobody(mut self) -> Self {
        use std::os::unix::process::CommandExt;
        if rustix::process::geteuid().is_root() {
            self.command.uid(65_534);
        }
        self
    }

    /// Sets the client that the hook runs for.
    pub fn owner(self, client: &Client) -> Self {
        self.env("CONVEX_SIDECAR_OWNER_PID", &client.0.id().to_string())
    }

    pub fn stdin(mut self, input: impl AsRef<[u8]>) -> Self {
        self.stdin = Some(input.as_ref().to_vec());
        self
    }

    #[track_caller]
    pub fn run(self) -> Output {
        let (is_piped, keys) = (self.stdin.is_some(), self.keys.clone());
        let mut child = self.spawn();
        if is_piped {
            drop(child.stdin.take());
        }
        let output = child.wait_with_output().unwrap();
        for key in &keys {
            let is_printed = [&output.stdout, &output.stderr]
                .iter()
                .any(|printed| memchr::memmem::find(printed, key.as_bytes()).is_some());
            assert!(!is_printed, "the admin key was printed");
        }
        Output {
            status: output.status.code().expect("ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it and writes its stdin, which stays open.
    pub fn spawn(mut self) -> Child {
        let stdin = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        self.command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = start(&mut self.command);
        if let (Some(input), Some(pipe)) = (self.stdin, &mut child.stdin) {
            // A hook that rejects its input may close the pipe before everything is written.
            let _ = pipe.write_all(&input);
        }
        child
    }
}

/// Starts a program. Wine sometimes cannot start one of many at once; the program did not run then.
fn start(command: &mut Command) -> Child {
    const ERROR_INTERNAL_ERROR: i32 = 1359;
    for _ in 0..4 {
        match command.spawn() {
            Err(error) if cfg!(windows) && error.raw_os_error() == Some(ERROR_INTERNAL_ERROR) => {}
            started => return started.unwrap(),
        }
    }
    command.spawn().unwrap()
}

/// A process that stands in for the client that runs hooks. It ends with the test.
pub struct Client(Child);

impl Client {
    pub fn start() -> Self {
        Self(
            // A shell waits for its input.
            Command::new(if cfg!(windows) { "cmd" } else { "sh" })
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts the binary there.
pub fn place_executable(path: &Path) {
    if std::fs::hard_link(env!("CARGO_BIN_EXE_convex-sidecar"), path).is_err() {
        std::fs::copy(env!("CARGO_BIN_EXE_convex-sidecar"), path).unwrap();
    }
}

/// A pipe at `path`. Whoever opens it waits.
#[cfg(unix)]
pub fn fifo(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

pub fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Backend {
    /// A machine that delivers here.
    pub fn machine(&self) -> Machine {
        Machine::new().deployment(&self.url, &self.key)
    }

    /// What a query answers, JSON.
    pub fn query(&self, path: &str, args: &Value) -> String {
        let call = serde_json::json!({"path": path, "format": "json", "args": args});
        self.request("POST", "api/query", &call.to_string())
    }

    /// The calls of Convex functions so far, in order.
    pub fn calls(&self) -> Vec<String> {
        let requests: Vec<Value> =
            serde_json::from_str(&self.request("GET", "_test/requests", "")).unwrap();
        requests
            .iter()
            .filter_map(|request| request["function"].as_str().map(str::to_owned))
            .collect()
    }

    /// All requests so far, JSON.
    pub fn all_requests(&self) -> String {
        self.request("GET", "_test/requests", "")
    }

    /// Sets how the next calls fail: `{times?, status?, headers?, body?, delayMs?, dropReply?}`.
    pub fn fault(&self, fault: &Value) {
        self.request("POST", "_test/fault", &fault.to_string());
    }

    /// Answers every call with 503 until it is resumed.
    pub fn pause(&self) {
        self.fault(&serde_json::json!({"status": 503, "body": {"code": "Overloaded", "message": "paused"}, "times": 1_000_000}));
    }

    pub fn resume(&self) {
        self.fault(&serde_json::json!({"times": 0}));
    }

    /// Refuses to list the functions.
    pub fn hide_spec(&self) {
        self.request("POST", "_test/hide-spec", "{}");
    }

    /// Deploys functions that do not know these fields, such as `metadata.runs[].source`.
    pub fn forget_fields(&self, fields: &[&str]) {
        forget_fields(&self.url, fields);
    }

    /// Deletes all data, as with a new volume.
    pub fn wipe(&self) {
        self.request("POST", "_test/wipe", "{}");
    }

    /// Calls a mutation like another program.
    #[track_caller]
    pub fn mutate(&self, path: &str, args: &Value) {
        let call = serde_json::json!({ "path": path, "args": args, "format": "json" });
        let answer = self.request("POST", "api/mutation", &call.to_string());
        assert!(answer.contains(r#""status":"success""#), "{answer}");
    }

    /// Sets a variable of the deployment.
    pub fn set_variable(&self, name: &str, value: &str) {
        let changes = serde_json::json!({ "changes": [{ "name": name, "value": value }] });
        self.request(
            "POST",
            "api/update_environment_variables",
            &changes.to_string(),
        );
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        request(&self.url, &self.key, method, path, body)
    }
}

/// As [`Backend::forget_fields`], for the backend at this URL.
pub fn forget_fields(url: &str, fields: &[&str]) {
    let fields = serde_json::to_string(fields).unwrap();
    request(url, "", "POST", "_test/unknown-fields", &fields);
}

/// Sends one request by HTTP/1.0, so that the answer ends with the connection.
fn request(url: &str, key: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let length = body.len();
    write!(stream, "{method} /{path} HTTP/1.0\r\nAuthorization: Convex {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    body.to_owned()
}
