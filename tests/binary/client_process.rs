//! A stand-in for the client that runs hooks as the real one does: as descendants of a process with
//! the client's name, which was started with its own environment.
//!
//! It is this test executable, started through a link with that name. It reads jobs from stdin, one
//! JSON object per line, and answers each with a line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{Machine, Output};

/// The names of the two roles that the executable can play, which are tests in it.
const CLIENT: &str = "client_process::part_of_the_client";
const DISPATCHER: &str = "client_process::part_of_a_dispatcher";
/// What starts a command that outlives its parent: the hook then has no client among its ancestors.
const DETACH: &str = "exec 3<&0; (sleep 0.1; exec \"$@\" <&3) &";

#[derive(Serialize, Deserialize)]
struct Job {
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    stdin: String,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Job {
    fn run(&self) -> Answer {
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(self.stdin.as_bytes());
        drop(stdin);
        // This also waits for a detached hook, which has the other ends of the pipes.
        let output = child.wait_with_output().unwrap();
        Answer {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn is_started_as(part: &str) -> bool {
    std::env::args().any(|word| word == part) && std::env::args().any(|word| word == "--ignored")
}

/// Runs jobs until stdin ends.
#[test]
#[ignore = "it is not a test, but what the stand-in for the client runs"]
fn part_of_the_client() {
    if !is_started_as(CLIENT) {
        return;
    }
    for line in std::io::stdin().lines() {
        let job: Job = serde_json::from_str(&line.unwrap()).unwrap();
        println!("{}", serde_json::to_string(&job.run()).unwrap());
    }
}

/// Runs the command line in its last argument and waits for it. Both outputs of that go to stderr,
/// because this executable announces its tests on stdout.
#[test]
#[ignore = "it is not a test, but what the stand-in for a dispatcher of hooks runs"]
fn part_of_a_dispatcher() {
    if !is_started_as(DISPATCHER) {
        return;
    }
    let command: Vec<String> =
        serde_json::from_str(&std::env::args().next_back().unwrap()).unwrap();
    let status = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .unwrap();
    std::process::exit(status.code().unwrap_or(-1));
}

/// The output of this executable and its roles, without the test runner's messages.
fn without_announcements(output: &str) -> String {
    output.replace("\nrunning 1 test\n", "")
}

/// The answer in the output of a client.
fn output_in(mut lines: impl Iterator<Item = String>) -> Output {
    let line = lines.find(|line| line.starts_with('{')).unwrap();
    let answer: Answer = serde_json::from_str(&line).unwrap();
    Output {
        status: answer.status,
        stdout: without_announcements(&answer.stdout),
        stderr: without_announcements(&answer.stderr),
    }
}

/// The command line that starts this executable in one of its roles, through a link with this name.
fn part(folder: &Path, name: &str, part: &str) -> Vec<String> {
    let link = folder.join(name);
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    if !link.exists() {
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
    }
    let words = [
        link.to_str().unwrap(),
        part,
        "--exact",
        "--ignored",
        "--nocapture",
    ];
    words.map(str::to_owned).to_vec()
}

/// How to start a stand-in for the client.
#[must_use]
pub struct Launch<'a> {
    machine: &'a Machine,
    name: String,
    environment: BTreeMap<String, String>,
}

impl Machine {
    /// A client that runs on this machine, started with what is set for all commands.
    pub fn client(&self) -> Launch<'_> {
        let own = [
            ("HOME", self.home().to_str().unwrap()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Launch {
            machine: self,
            name: "claude".to_owned(),
            environment: own.into_iter().chain(self.environment()).collect(),
        }
    }
}

impl Launch<'_> {
    /// The path of its program, below the home folder; `claude` by default.
    pub fn named(mut self, path: &str) -> Self {
        path.clone_into(&mut self.name);
        self
    }

    /// Sets a variable in the environment that its process is started with.
    pub fn started_with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable from that environment.
    pub fn started_without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    pub fn start(self) -> RunningClient {
        let command = part(self.machine.home(), &self.name, CLIENT);
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        RunningClient {
            answers: BufReader::new(child.stdout.take().unwrap()),
            home: self.machine.home().to_owned(),
            child,
        }
    }
}

/// A stand-in for the client. It ends with the test.
pub struct RunningClient {
    child: Child,
    answers: BufReader<ChildStdout>,
    home: PathBuf,
}

impl RunningClient {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A hook of this client. It has the client's environment and the variables that all clients
    /// add to it.
    pub fn hook(&mut self, input: &serde_json::Value) -> Hook<'_> {
        self.command(&["hook"], &input.to_string())
    }

    /// This program, run by this client with these arguments.
    pub fn command(&mut self, args: &[&str], stdin: &str) -> Hook<'_> {
        let program = env!("CARGO_BIN_EXE_convex-sidecar");
        let words = std::iter::once(&program).chain(args);
        Hook {
            job: Job {
                command: words.map(|word| (*word).to_owned()).collect(),
                environment: [("CLAUDECODE".to_owned(), "1".to_owned())].into(),
                stdin: stdin.to_owned(),
            },
            clients_between: 0,
            client: self,
        }
    }

    /// Writes the entry that a client keeps of itself while it runs.
    pub fn register(&self, session_id: &str) {
        let pid = self.pid();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let start_time = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .nth(19)
            .unwrap();
        self.register_as(session_id, start_time);
    }

    /// As [`RunningClient::register`], with another start time.
    pub fn register_as(&self, session_id: &str, start_time: &str) {
        let entry = json!({"pid": self.pid(), "sessionId": session_id, "procStart": start_time, "kind": "interactive"});
        let path = self.entry();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, entry.to_string()).unwrap();
    }

    /// Removes the entry, as a client does before its SessionEnd hook.
    pub fn deregister(&self) {
        let _ = std::fs::remove_file(self.entry());
    }

    fn entry(&self) -> PathBuf {
        self.home
            .join(format!(".claude/sessions/{}.json", self.pid()))
    }

    fn run(&mut self, job: &Job) -> Output {
        let mut stdin = self.child.stdin.as_ref().unwrap();
        writeln!(stdin, "{}", serde_json::to_string(job).unwrap()).unwrap();
        output_in((&mut self.answers).lines().map(Result::unwrap))
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for RunningClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hook that a client is about to run.
#[must_use]
pub struct Hook<'a> {
    job: Job,
    /// How many clients there are between the first one and the hook.
    clients_between: usize,
    client: &'a mut RunningClient,
}

impl Hook<'_> {
    /// Sets a variable for the hook, which the process of its client does not have.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.job
            .environment
            .insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets `CLAUDE_PID` and `CLAUDE_CODE_SESSION_ID`, as client 2.1.332 does.
    pub fn current(self, session_id: &str) -> Self {
        let pid = self.client.pid().to_string();
        self.env("CLAUDE_PID", &pid)
            .env("CLAUDE_CODE_SESSION_ID", session_id)
    }

    /// Puts a program with this name between the client and the hook, before any others.
    pub fn dispatcher(mut self, name: &str) -> Self {
        let mut command = part(&self.client.home.join("dispatchers"), name, DISPATCHER);
        command.push(serde_json::to_string(&self.job.command).unwrap());
        self.job.command = command;
        self
    }

    /// Lets a shell run it, in this way.
    pub fn shell(mut self, script: &str) -> Self {
        let mut command = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        command.append(&mut self.job.command);
        self.job.command = command;
        self
    }

    /// Lets the hook outlive what started it, as `setsid` and `nohup … &` do.
    pub fn detached(self) -> Self {
        self.shell(DETACH)
    }

    /// Runs it from a client inside this one, which is started this way from a tool call.
    pub fn nested(mut self, name: &str, started_with: &[(&str, &str)]) -> Self {
        let inner = serde_json::to_string(&self.job).unwrap();
        let variables = started_with.iter().copied();
        self.job = Job {
            command: part(&self.client.home, name, CLIENT),
            environment: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            stdin: inner + "\n",
        };
        self.clients_between += 1;
        self
    }

    #[track_caller]
    pub fn run(self) -> Output {
        // Each client prints the answer of the one inside it as a part of its own.
        (0..self.clients_between).fold(self.client.run(&self.job), |output, _| {
            output_in(output.stdout.lines().map(str::to_owned))
        })
    }
}
