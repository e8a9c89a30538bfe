//! Commands, screens and messages in README.md, CONTRIBUTING.md and docs/ match the program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::site::Site;
use crate::support::{Backend, CAPTURES, Capture, root};

/// The binary before it is installed.
const BINARY: &str = env!("CARGO_BIN_EXE_convex-sidecar");

/// Scripts in place of programs that cannot run here. Each one has the effects of the real program
/// that a reader would notice, and fails if the real one would.
const STAND_INS: [(&str, &str); 9] = [
    (
        "cargo",
        "[ \"$*\" = 'install --locked --path .' ] && [ -f Cargo.toml ] || exit 9\nln -sf '@BINARY@' \"${0%/*}/convex-sidecar\"\n",
    ),
    ("date", "exec date \"$@\"\n"),
    (
        "xargs",
        "PATH=\"${0%/*}\" exec \"$(command -v xargs)\" \"$@\"\n",
    ),
    // No session here is old enough to match, so the first one is printed.
    (
        "jq",
        "[ \"$1 $2 $3\" = '-r --argjson before' ] && [ \"$4\" -gt 0 ] && sed -n '1s/.*\"sessionId\":\"\\([^\"]*\\)\".*/\\1/p'\n",
    ),
    (
        "claude",
        "[ \"$1 $#\" = '--plugin-dir 2' ] && [ -f \"$2/.claude-plugin/plugin.json\" ] && [ -f \"$2/hooks/hooks.json\" ]\n",
    ),
    (
        "brew",
        "name=convex-sidecar/convex-sidecar/convex-sidecar\necho \"$*\"\ncase \"$*\" in \"tap ${name%/*} https://github.com/${name%/*}\") [ -f HomebrewFormula/convex-sidecar.rb ] ;; \"trust --formula $name\" | \"install $name\") ;; *) exit 9 ;; esac\n",
    ),
    // Prints what the real make would run. Only the demo runs, because it shows the program.
    (
        "make",
        "make --dry-run \"$@\" || exit\n[ \"$*\" != demo ] || sh tests/demo.sh '@BINARY@'\n",
    ),
    (
        "npm",
        "[ \"$*\" = ci ] && [ -f package-lock.json ] || { [ \"$1\" = ci ] && mkdir -p node_modules && cp package-lock.json node_modules/.package-lock.json; }\n",
    ),
    (
        "npx",
        "case \"$*\" in 'convex deploy' | '--no-install convex deploy --yes '*) [ -f convex/schema.ts ] ;; 'convex export --include-file-storage --path backup.zip') : > backup.zip ;; 'convex import --replace-all --yes backup.zip') [ -f backup.zip ] ;; *) exit 9 ;; esac\n",
    ),
];

/// README.md, CONTRIBUTING.md and the documents in docs/.
fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut docs: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    docs.sort();
    [
        vec![root().join("README.md"), root().join("CONTRIBUTING.md")],
        docs,
    ]
    .concat()
}

/// The fenced blocks in this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside = None;
    for line in text.lines() {
        match (&mut inside, line.trim()) {
            (None, fence) if fence.starts_with("```") => {
                inside = Some((fence == format!("```{language}"), String::new()));
            }
            (Some(_), "```") => blocks.extend(
                inside
                    .take()
                    .filter(|(is_wanted, _)| *is_wanted)
                    .map(|(_, block)| block),
            ),
            (Some((_, block)), _) => *block += &format!("{}\n", line.trim_start()),
            (None, _) => {}
        }
    }
    blocks
}

/// One command per line; a line that ends in a pipe continues on the next one.
fn commands(block: &str) -> Vec<String> {
    block
        .replace("|\n", "| ")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Runs all commands in order, in a checkout on a machine that has recorded sessions.
#[test]
fn every_command_in_the_documents_runs() {
    // The manual steps print the key.
    let site =
        Site::new().key("convex-self-hosted|0a0b0c0d0e0f0a0b0c0d0e0f0a0b0c0d0e0f0a0b0c0d0e0f");
    let cloud = Backend::start();
    for (name, script) in STAND_INS {
        site.stand_in(name, &script.replace("@BINARY@", BINARY));
    }
    fs::remove_file(site.machine.home().join("bin/convex-sidecar")).unwrap();
    for name in CAPTURES {
        let capture = Capture::new(name);
        capture.place_transcripts(&site.machine);
        for hook in capture.hooks(&site.machine) {
            site.machine.hook(hook.json);
        }
    }
    let checkout = site.machine.home().join("checkout");
    fs::create_dir(&checkout).unwrap();
    for entry in fs::read_dir(root()).unwrap().map(|entry| entry.unwrap()) {
        if ![".git", ".env.local", "target"]
            .iter()
            .any(|name| entry.file_name() == *name)
        {
            symlink(entry.path(), checkout.join(entry.file_name())).unwrap();
        }
    }
    fs::write(checkout.join("deploy-key"), &cloud.key).unwrap();

    let mut count = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        // The steps of GitHub workflows that run the sidecar count too.
        let in_ci = text
            .lines()
            .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("run: "))
            .map(str::to_owned);
        let in_ci = in_ci.filter(|command| command.starts_with("convex-sidecar "));
        let of_blocks = blocks(&text, "sh")
            .into_iter()
            .flat_map(|block| commands(&block));
        for command in of_blocks.chain(in_ci) {
            // The README has set up another deployment since it started containers.
            let other = command.ends_with("--upgrade").then(|| {
                let other = site.read_config().unwrap();
                fs::remove_file(site.config_file()).unwrap();
                other
            });
            let script = command.replace("https://happy-animal-123.convex.cloud", &cloud.url);
            let output = site.machine.shell(&script).folder(&checkout).run();
            if let Some(other) = other {
                site.machine.write_config(&other);
            }
            assert_eq!(
                output.status,
                0,
                "{}: {command}: {}{}",
                path.display(),
                output.stdout,
                output.stderr
            );
            assert!(
                !command.contains("convex-sidecar ") || !output.stdout.is_empty(),
                "{}: {command}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn every_screen_in_the_documents_matches_its_snapshot() {
    for (document, command, name) in [
        ("README.md", "sessions", "sessions"),
        ("README.md", "usage --until 2025-03-31", "usage"),
        (
            "README.md",
            "usage project --breakdown --until 2025-03-31",
            "usage-project",
        ),
        (
            "docs/workflows.md",
            "workflow show release-1.0",
            "workflow-show",
        ),
    ] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let screen = crate::screens::snapshot(name, 80);
        assert!(
            text.contains(&format!("```\n$ convex-sidecar {command}\n{screen}```\n")),
            "{name}"
        );
    }
}

/// Indentation is ignored, because the code is inside a class in an example.
#[test]
fn code_in_the_page_on_the_agent_sdk_is_in_the_examples() {
    let page = fs::read_to_string(root().join("docs/sdk.md")).unwrap();
    for (language, example) in [
        ("ts", "agent-sdk-typescript/agent.ts"),
        ("python", "agent-sdk-python/agent.py"),
    ] {
        let source = fs::read_to_string(root().join("examples").join(example)).unwrap();
        let source: String = source
            .lines()
            .map(|line| format!("{}\n", line.trim_start()))
            .collect();
        let blocks = blocks(&page, language);
        assert!(!blocks.is_empty(), "{language}");
        for block in blocks {
            assert!(source.contains(&block), "{example} does not have:\n{block}");
        }
    }
}

/// The links of Markdown to files and headings of this repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .filter(|link| !link.contains("://"))
}

/// The anchors of the headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut is_code = false;
    let headings = text.lines().filter(|line| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code && line.starts_with('#')
    });
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let is_kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
            let kept: String = words.chars().filter(is_kept).collect();
            kept.replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_in_the_documents_leads_to_a_file_and_a_heading() {
    let mut count = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let from = path.display();
            assert!(target.exists(), "{from}: {link}: no such file");
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                assert!(
                    anchors.iter().any(|known| known == anchor),
                    "{from}: {link}: no such heading in {anchors:?}"
                );
            }
            count += 1;
        }
    }
    assert!(count >= 50, "{count}");
}

/// In tables and sentences too, not only in blocks.
#[test]
fn every_make_target_in_the_documents_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for target in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|code| code.strip_prefix("make ")?.split(' ').next())
        {
            assert!(
                makefile.contains(&format!("\n{target}:")),
                "{}: make {target}",
                path.display()
            );
        }
    }
}

/// Each message in the troubleshooting table is in the sources or in an answer of the backend.
#[test]
fn every_message_in_the_troubleshooting_table_exists() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme
        .split_once("| Message | What to do |")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    let mut sources =
        fs::read_to_string(root().join("tests/fixtures/convex-backend-2026-06-30/responses.json"))
            .unwrap();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let message = row.split('`').nth(1).unwrap();
        let words = message
            .split(['\'', ':'])
            .map(str::trim)
            .filter(|part| part.contains(' ') && !part.starts_with("HTTP"));
        for part in words {
            let part = part
                .replace("CONVEX_SELF_HOSTED_URL", "{URL}")
                .replace("CONVEX_SELF_HOSTED_ADMIN_KEY", "{KEY}")
                .replace(" http", "");
            assert!(sources.contains(&part), "{part}");
        }
    }
}
