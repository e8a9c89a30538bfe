//! What `setup` checks about the machine before it starts anything, and which part of its
//! environment the programs that it runs get.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};

use crate::setup::snapshot;
use crate::site::{DEPLOYED, Site};
use crate::support::Backend;

const INFO: &str = "info --format";

/// Whether containers were started, or packages installed.
fn started(site: &Site) -> bool {
    let is_start = |line: &String| line.contains(" up ") || line.starts_with("npm");
    site.argv().iter().any(is_start)
}

fn variables(site: &Site, program: &str) -> Vec<String> {
    let text = fs::read_to_string(site.state(&format!("{program}.env"))).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn setup_that_cannot_succeed_is_refused_before_anything_starts() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let taken = format!(r#"{{"services":{{"backend":{{"ports":[{{"published":"{port}"}}]}}}}}}"#);
    for (command, script, parts) in [
        (
            "node --version",
            "echo v18.19.1; exit\n".to_owned(),
            &["could not use Node.js 18.19.1", "install Node.js 20 or newer"][..],
        ),
        (
            "node --version",
            "echo 'node: version not set' >&2; exit 126\n".to_owned(),
            &["could not ask Node.js for its version", "version not set"],
        ),
        (
            "compose version",
            "echo 'unknown flag: --short' >&2; exit 125\n".to_owned(),
            &["Docker has no Compose plugin", "install it"],
        ),
        (
            "compose version",
            "echo '>>>> Executing external compose provider \"/usr/bin/podman-compose\"' >&2; echo 1.5.0; exit\n".to_owned(),
            &["Podman", "PODMAN_COMPOSE_PROVIDER"],
        ),
        (
            "compose version",
            "echo 2.17.3; exit\n".to_owned(),
            &["could not use Docker Compose \"2.17.3\"", "needs 2.20.2 or newer; update Docker"],
        ),
        (
            INFO,
            "echo '{}'; echo 'Cannot connect to the Docker daemon' >&2; exit 1\n".to_owned(),
            &["could not reach the Docker daemon; start Docker"],
        ),
        (
            INFO,
            r#"echo '{"Architecture":"armv7l","OSType":"linux"}'; exit
"#.to_owned(),
            &["no image for this processor", "linux on armv7l", "64-bit"],
        ),
        (
            INFO,
            r#"echo '{"Architecture":"x86_64","OSType":"windows"}'; exit
"#.to_owned(),
            &["windows on x86_64", "Linux containers"],
        ),
        // This file system is always full.
        #[cfg(target_os = "linux")]
        (
            INFO,
            r#"echo '{"Architecture":"x86_64","OSType":"linux","DockerRootDir":"/proc"}'; exit
"#.to_owned(),
            &["/proc has 0 MiB left", "free some space"],
        ),
        (
            "context inspect",
            "echo ssh://me@build.example; exit\n".to_owned(),
            &["on another machine, build.example (according to `docker context`)", "--url"],
        ),
        (
            "config --format json",
            format!("echo '{taken}'; exit\n"),
            &[&format!("port {port} is taken by a program that is not Convex"), "CONVEX_DASHBOARD_PORT"],
        ),
    ] {
        let site = Site::new().instead(command, &script);
        // The listener does not answer, and `setup` waits for an answer.
        let answers = command.starts_with("config").then(|| answer_once(&other));
        site.assert_fails(&[], parts);
        assert!(!started(&site), "{command}: {:?}", site.argv());
        drop(answers);
    }
}

/// Answers one request with something that Convex would not answer.
fn answer_once(listener: &TcpListener) -> std::thread::JoinHandle<()> {
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1_024]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    })
}

#[test]
fn full_disk_is_accepted_if_it_has_the_images() {
    let full = r#"echo '{"Architecture":"x86_64","OSType":"linux","DockerRootDir":"/proc"}'; exit
"#;
    let site = Site::new()
        .instead(INFO, full)
        .instead("image inspect", "exit\n");
    assert!(site.setup(&[]).ok().contains("✓ proof"));
}

#[test]
fn daemon_on_another_machine_is_named() {
    let site = Site::new();
    let host = "tcp://docker.example:2376";
    let printed = site.command(&[]).env("DOCKER_HOST", host).run();
    for part in [
        "on another machine, docker.example (according to DOCKER_HOST)",
        "ssh -N -L 3210",
    ] {
        assert!(printed.stderr.contains(part), "{}", printed.stderr);
    }
    assert!(printed.status == 1 && !started(&site), "{:?}", site.argv());
    // If Docker does not say so, it shows when nothing answers on the port of healthy containers.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    Site::new()
        .instead("up --detach", "exit\n")
        .instead("port backend", &format!("echo {free}; exit\n"))
        .assert_fails(
            &[],
            &[
                "although its container is healthy",
                "daemon",
                "`docker compose down`",
            ],
        );
}

#[test]
fn programs_get_no_variables_of_other_projects() {
    let site = Site::new();
    let stray = [
        ("POSTGRES_URL", "postgres://shop:hunter2@other.example"),
        ("MYSQL_URL", ""),
        ("INSTANCE_NAME", "other"),
        ("CONVEX_CLOUD_ORIGIN", "https://other.example"),
        ("CONVEX_DEPLOYMENT", "dev:other"),
        ("COMPOSE_PROFILES", "other"),
        ("COMPOSE_PROJECT_NAME", "other"),
    ];
    let command = stray
        .iter()
        .fold(site.command(&[]), |command, (name, value)| {
            command.env(name, value)
        });
    let printed = command.run();
    assert_eq!(
        site.normalize(&printed.stderr),
        "convex-sidecar: warning: the containers do not get these variables from the environment: CONVEX_CLOUD_ORIGIN, INSTANCE_NAME, \
         POSTGRES_URL; if they are meant for the containers, add them to ~/sidecar/deployment/.env\n"
    );
    assert_eq!(printed.status, 0);
    for program in ["docker", "npm", "npx", "node"] {
        let variables = variables(&site, program);
        for (name, _) in stray {
            let is_set = variables
                .iter()
                .any(|line| line.starts_with(&format!("{name}=")));
            assert!(!is_set, "{program}: {name}");
        }
    }
    // The ports are this program's own.
    assert!(variables(&site, "docker").contains(&format!("CONVEX_PORT={}", site.port)));
}

#[test]
fn programs_reach_this_machine_without_a_proxy_and_trust_the_systems_authorities() {
    let site = Site::new();
    let command = site.command(&[]);
    let command = command.env("HTTPS_PROXY", "http://127.0.0.1:9");
    let command = command.env("HTTP_PROXY", "http://127.0.0.1:9");
    let command = command.env("NO_PROXY", "corp.example");
    command.env("SSL_CERT_FILE", "/corp.pem").run().ok();
    for program in ["docker", "npm", "npx"] {
        let variables = variables(&site, program);
        for expected in [
            "HTTPS_PROXY=http://127.0.0.1:9",
            "NO_PROXY=corp.example,127.0.0.1,localhost,::1,[::1]",
            "no_proxy=corp.example,127.0.0.1,localhost,::1,[::1]",
            "NODE_EXTRA_CA_CERTS=/corp.pem",
        ] {
            assert!(
                variables.iter().any(|line| line == expected),
                "{program}: {expected}: {variables:?}"
            );
        }
    }
}

/// Docker from the snap store.
#[test]
fn docker_that_cannot_see_the_folder_gets_file_and_variables() {
    let site = Site::new();
    let see = "case \" $* \" in
*' --file - '*) cat > \"$state/file\"; pwd > \"$state/pwd\"
    case \"$*\" in *' ps '* | *' config '*) exit ;; *' up '*) env > \"$state/up.env\"; echo 'no space left on device' >&2; exit 1 ;; esac ;;
' compose version '*) ;;
' compose '*) echo 'no configuration file provided: not found' >&2; exit 14 ;;
esac\n";
    fs::create_dir_all(site.folder()).unwrap();
    fs::write(
        site.folder().join(".env"),
        "POSTGRES_PASSWORD=hunter2\nPOSTGRES_URL=\"postgresql://convex:${POSTGRES_PASSWORD}@postgres\" # own\n",
    )
    .unwrap();
    let site = site.instead("docker ", see);
    site.assert_fails(&[], &["because the disk is full"]);
    let file = fs::read_to_string(site.state("file")).unwrap();
    assert!(file.contains("ghcr.io/get-convex/convex-backend"), "{file}");
    assert_eq!(fs::read_to_string(site.state("pwd")).unwrap(), "/\n");
    let variables = fs::read_to_string(site.state("up.env")).unwrap();
    assert!(
        variables.contains("\nPOSTGRES_URL=postgresql://convex:hunter2@postgres\n"),
        "{variables}"
    );
    // Only one file can be passed on stdin.
    fs::write(
        site.folder().join("docker-compose.override.yml"),
        "services: {}\n",
    )
    .unwrap();
    site.assert_fails(
        &[],
        &[
            "docker-compose.override.yml",
            "snap store",
            "CONVEX_SIDECAR_HOME",
        ],
    );
    fs::remove_file(site.folder().join("docker-compose.override.yml")).unwrap();
    fs::write(site.folder().join(".env"), "A=1\nPASSWORD='hunter2\n").unwrap();
    let printed = site.setup(&[]);
    assert!(
        printed
            .stderr
            .contains(".env: line 2: a value that begins with a quote must end with it"),
        "{}",
        printed.stderr
    );
    assert!(!printed.stderr.contains("hunter2"), "{}", printed.stderr);
}

#[test]
fn packages_that_do_not_start_are_installed_again_once() {
    let site = Site::new();
    site.setup(&[]).ok();
    // Something removed the packages and left the lock file: npx finds nothing to run.
    let gone = "[ -e \"$state/again\" ] && exit 0; echo 'npx canceled due to missing packages' >&2; exit 1\n";
    fs::remove_file(site.folder().join(".deployed")).unwrap();
    let site = site
        .instead("npx ", gone)
        .instead("npm ci", ": > \"$state/again\"\n");
    let printed = site.setup(&[]).ok();
    assert!(
        printed.contains("deployed, after the packages were installed again"),
        "{printed}"
    );
    // If that does not help, it is not repeated.
    fs::remove_file(site.folder().join(".deployed")).unwrap();
    let calls = site.argv().len();
    let site = site.instead("npx ", "echo 'esbuild: cannot execute' >&2; exit 1\n");
    let printed = site.setup(&[]);
    assert!(
        printed.stderr.contains("esbuild: cannot execute"),
        "{}",
        printed.stderr
    );
    let count = |site: &Site, text: &str| {
        let argv = site.argv();
        argv[calls..]
            .iter()
            .filter(|line| line.contains(text))
            .count()
    };
    assert_eq!((count(&site, "npm ci"), count(&site, DEPLOYED)), (1, 2));
    // A deployment that fails, with packages that start, is not repeated.
    let failing = "case $* in *--version) exit 0 ;; esac; echo 'TypeError' >&2; exit 1\n";
    let site = site.instead("npx ", failing);
    assert_eq!(site.setup(&[]).status, 1);
    assert_eq!((count(&site, "npm ci"), count(&site, DEPLOYED)), (1, 3));
}

#[test]
fn changed_indexes_on_large_tables_are_printed() {
    let output = "printf '⚠️  This push will create the following index on a large table\\n\\n⛔ agentSessions.by_updatedAt   \
                  metadata.updatedAt  ⚠️  120,000 documents\\n' >&2; exit\n";
    let site = Site::new().instead("convex deploy", output);
    let printed = site.setup(&[]).ok();
    let expected = "because this version of the functions needs them: created agentSessions.by_updatedAt metadata.updatedAt (120,000 \
                    documents)  (";
    assert!(printed.contains(expected), "{printed}");
}

/// As with `sudo`, if it keeps HOME.
#[test]
fn root_in_the_home_of_another_user_is_refused() {
    let site = Site::new();
    let home = site.machine.home();
    if fs::metadata(home).unwrap().uid() != 0 {
        // Only root can run this as root.
        return;
    }
    let refused = |site: &Site, variable: &str| {
        let before = snapshot(home);
        for command in [site.command(&[]), site.machine.sidecar(&["install"])] {
            let printed = command.run();
            let expected = format!("({variable}) belongs to another user");
            assert!(
                printed.status == 1 && printed.stderr.contains(&expected),
                "{}",
                printed.stderr
            );
        }
        assert!(snapshot(home) == before);
    };
    // A folder that is created would also belong to root.
    fs::create_dir(home.join("user")).unwrap();
    chown(home.join("user"), Some(65_534), None).unwrap();
    let elsewhere = site.machine.sidecar(&["install"]);
    let printed = elsewhere
        .env(
            "CLAUDE_CONFIG_DIR",
            home.join("user/.claude").to_str().unwrap(),
        )
        .run();
    assert!(
        printed
            .stderr
            .contains("(CLAUDE_CONFIG_DIR) belongs to another user"),
        "{}",
        printed.stderr
    );
    chown(home, Some(65_534), None).unwrap();
    refused(&site, "HOME");
    chown(home, Some(0), None).unwrap();
    // In root's own home it says whose sessions are recorded.
    let printed = site
        .machine
        .sidecar(&["install"])
        .env("SUDO_USER", "alice")
        .run();
    assert_eq!(printed.status, 0);
    assert!(
        printed
            .stderr
            .contains("the sessions of root, not those of alice"),
        "{}",
        printed.stderr
    );
}

/// The version is the one of the packages that npm installs.
#[test]
fn documents_name_the_version_of_node_that_the_cli_needs() {
    let root = crate::support::root();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let lock: serde_json::Value =
        serde_json::from_str(&read("deployment/package-lock.json")).unwrap();
    let engine = lock["packages"]["node_modules/convex"]["engines"]["node"]
        .as_str()
        .unwrap();
    let major = engine
        .strip_prefix(">=")
        .unwrap()
        .split('.')
        .next()
        .unwrap();
    assert!(read("README.md").contains(&format!("Node.js {major} or newer")));
    assert!(read("docs/setup.md").contains(&format!("Node.js ({major} or newer)")));
    assert!(read("src/cli/mod.rs").contains(&format!("Node.js {major} or newer")));
}

#[test]
fn existing_deployment_needs_node_but_no_docker() {
    let backend = Backend::start();
    let site = Site::new().instead("node --version", "echo v18.19.1; exit\n");
    let named = site.command(&["--url", &backend.url, "--admin-key-stdin"]);
    let printed = named.stdin(&backend.key).run();
    assert!(
        printed.stderr.contains("could not use Node.js 18.19.1"),
        "{}",
        printed.stderr
    );
    assert_eq!(site.argv(), ["node --version"]);
    assert!(!site.config_file().exists());
}
