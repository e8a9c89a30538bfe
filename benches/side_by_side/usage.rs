//! What was used on which day, compared with `ccusage`: the time, and the tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::figures::copy_folder;
use crate::import::{SESSIONS, gib, projects};
use crate::rivals;
use crate::sidecar::{Home, fresh, root};
use crate::table::{Column, beside, count, table};
use crate::timing::{Contender, in_turn, timed};

const RUNS: usize = 9;
const SLOW_RUNS: usize = 3;
/// The names of tokens by kind, ours and those of `ccusage`.
const KINDS: [(&str, &str); 4] = [
    ("inputTokens", "inputTokens"),
    ("outputTokens", "outputTokens"),
    ("cacheReadInputTokens", "cacheReadTokens"),
    ("cacheCreationInputTokens", "cacheCreationTokens"),
];

/// Tokens by day or month, and model.
type Tokens = BTreeMap<(String, String), [u64; 4]>;

pub fn by_day(scratch: &Path) -> String {
    format!("{}\n{}", speed(scratch), agreement(scratch))
}

fn speed(scratch: &Path) -> String {
    let (folder, bytes) = projects(scratch);
    let home = Home::bare(scratch, "usage");
    timed(home.sidecar(&["import"]).arg(&folder), "");
    let outcomes = in_turn(vec![
        Contender::new(RUNS, || timed(&mut home.sidecar(&["usage"]), "")),
        Contender::new(RUNS, || {
            timed(&mut home.sidecar(&["usage", "model", "--json"]), "")
        }),
        // The projects are in the folder `projects` of the scratch folder.
        Contender::program(SLOW_RUNS, rivals::ccusage(scratch, "daily")),
    ]);
    let heading = format!("{} sessions, {:.1} GiB", count(SESSIONS), gib(bytes));
    let names = [
        "**convex-sidecar usage**",
        "**convex-sidecar usage model --json**",
        "`ccusage daily --json --offline`",
    ];
    beside(&names, &[Column { heading, outcomes }])
}

/// A client's folder with the transcripts of a captured run.
struct Run {
    name: String,
    client: PathBuf,
    home: Home,
}

fn agreement(scratch: &Path) -> String {
    let headings = ["captured run", "convex-sidecar", "`ccusage`", "why"];
    let mut equal = (0, 0);
    let mut rows = Vec::new();
    for run in runs(scratch) {
        match run.compare() {
            Err(missing) => return format!("{missing}\n"),
            Ok(None) => {
                equal.0 += 1;
                equal.1 += run.ours("day").values().flatten().sum::<u64>();
            }
            Ok(Some((ours, theirs, why))) => {
                rows.push(vec![run.name, kinds(ours), kinds(theirs), why.to_owned()]);
            }
        }
    }
    let same = format!("{} tokens", count(equal.1));
    let first = vec![
        format!("{} runs", equal.0),
        same.clone(),
        same,
        "equal".to_owned(),
    ];
    table(&headings, std::iter::once(first).chain(rows))
}

fn kinds([input, output, read, written]: [u64; 4]) -> String {
    format!("{input} in, {output} out, {read} read, {written} written")
}

/// All captured runs of all clients.
fn runs(scratch: &Path) -> Vec<Run> {
    let entries = |path: &Path| {
        let mut paths: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    };
    let name_of = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut runs = Vec::new();
    for client in entries(&root().join("tests/fixtures")) {
        let Some(version) = name_of(&client)
            .strip_prefix("claude-code-")
            .map(str::to_owned)
        else {
            continue;
        };
        for capture in entries(&client) {
            let transcripts = capture.join("transcripts");
            if !transcripts.exists() {
                continue;
            }
            let name = format!("{version}-{}", name_of(&capture));
            let client = fresh(scratch, &name);
            copy_folder(&transcripts, &client.join("projects/-home-dev-proj"));
            let home = Home::bare(scratch, &format!("{name}-home"));
            timed(home.sidecar(&["import"]).arg(client.join("projects")), "");
            runs.push(Run { name, client, home });
        }
    }
    runs
}

/// Our tokens, those of `ccusage`, and why they differ.
type Difference = ([u64; 4], [u64; 4], &'static str);

impl Run {
    /// The sums of both, and why they differ; `None` if all tokens are equal by day and by month.
    fn compare(&self) -> Result<Option<Difference>, String> {
        let days = (self.ours("day"), self.theirs("daily")?);
        let months = (self.ours("month"), self.theirs("monthly")?);
        if days.0 == days.1 && months.0 == months.1 {
            return Ok(None);
        }
        let sum = |tokens: &Tokens| {
            tokens.values().fold([0; 4], |sum: [u64; 4], more| {
                std::array::from_fn(|kind| sum[kind] + more[kind])
            })
        };
        let (ours, theirs) = (sum(&days.0), sum(&days.1));
        let documents = self.home.documents();
        let is_of_client = |document: &Value| document["metadata"]["usageSource"] == "client";
        let inherits = |document: &Value| document["metadata"].get("inheritedUsage").is_some();
        let why = if ours[..3] == theirs[..3] && theirs[3] == 0 {
            "cache writes"
        } else if documents.iter().any(is_of_client)
            && (0..4).all(|kind| ours[kind] >= theirs[kind])
        {
            "no message"
        } else if documents.iter().any(inherits) && (0..4).all(|kind| ours[kind] <= theirs[kind]) {
            "copied history"
        } else {
            panic!(
                "{}: {:?} and {:?} differ for no known reason",
                self.name, days.0, days.1
            )
        };
        Ok(Some((ours, theirs, why)))
    }

    fn ours(&self, grouping: &str) -> Tokens {
        let mut command = self
            .home
            .sidecar(&["usage", grouping, "--json", "--breakdown"]);
        let text = output(&mut command);
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["total"] != true)
            .map(|line| {
                let key = [grouping, "model"].map(|field| line[field].as_str().unwrap().to_owned());
                (
                    key.into(),
                    KINDS.map(|(kind, _)| line[kind].as_u64().unwrap()),
                )
            })
            .filter(|(_, tokens)| tokens.iter().sum::<u64>() > 0)
            .collect()
    }

    fn theirs(&self, report: &str) -> Result<Tokens, String> {
        let text = output(&mut rivals::ccusage(&self.client, report)?);
        let report_of: Value = serde_json::from_str(&text).unwrap();
        let mut tokens = Tokens::new();
        for period in report_of[report].as_array().unwrap() {
            for model in period["modelBreakdowns"].as_array().unwrap() {
                let key = [&period["period"], &model["modelName"]]
                    .map(|text| text.as_str().unwrap().to_owned());
                tokens.insert(
                    key.into(),
                    KINDS.map(|(_, kind)| model[kind].as_u64().unwrap()),
                );
            }
        }
        tokens.retain(|_, tokens| tokens.iter().sum::<u64>() > 0);
        Ok(tokens)
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} failed");
    String::from_utf8(output.stdout).unwrap()
}
