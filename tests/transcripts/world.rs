//! Several sessions on one machine, some of them forks of others, with what the client charged.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::generate::{AGENTS, By, Deviation, Files, Fork, Ids, Op, Style, Writer, ops, style};
use crate::oracle::{self, Truth, add};

/// The client finishes a message before it begins the next one, and repeats a line only
/// immediately.
const CLIENT: Deviation = Deviation {
    interleaved: 0,
    repeated: 1,
    blank: false,
};

/// Which of its charges the client writes when it exits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exit {
    /// All of them, including those of requests that left no record.
    Charged { extra: u64 },
    /// Only those of the last process, because an earlier one was killed.
    PartlyCharged,
    /// None, because it was killed.
    Killed,
}

/// How a session is written.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which of the older sessions it is a fork of, modulo their number, and how it was forked.
    fork: Option<(usize, Fork)>,
    first: Vec<Op>,
    first_exit: Exit,
    /// What is written after all sessions have ended for the first time.
    later: Vec<Op>,
    later_exit: Exit,
    style: Style,
}

pub fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let fork = prop_oneof![
        Just(Fork::Session),
        Just(Fork::Background),
        Just(Fork::Branch),
        Just(Fork::Sdk)
    ];
    let fork = proptest::option::weighted(0.7, (any::<usize>(), fork));
    let exit = || {
        prop_oneof![
            2 => (0..5_u64).prop_map(|extra| Exit::Charged { extra }),
            1 => Just(Exit::PartlyCharged),
            2 => Just(Exit::Killed),
        ]
    };
    let later = prop_oneof![Just(Vec::new()), ops(6, CLIENT)];
    let plan = (fork, ops(14, CLIENT), exit(), later, exit(), style());
    let plan = plan.prop_map(|(fork, first, first_exit, later, later_exit, style)| Plan {
        fork,
        first,
        first_exit,
        later,
        later_exit,
        style: Style {
            is_timed: true,
            ..style
        },
    });
    proptest::collection::vec(plan, 1..4)
}

/// A session in which only a subagent answered, and a fork without marks of it that was not used,
/// and one of that in the background. The charges of the forks are their parent's, which nothing in
/// their own files says.
pub fn unused_forks() -> Vec<Plan> {
    let answer = Op::Answer {
        chain: 3,
        back: 0,
        blocks: 0,
        text: 0,
        tool: 0,
        growth: 0,
        is_after_attachment: false,
    };
    let root = Plan {
        fork: None,
        first: vec![answer],
        first_exit: Exit::Charged { extra: 0 },
        later: Vec::new(),
        later_exit: Exit::Killed,
        style: Style {
            spaced: 0,
            crlf: 0,
            is_open: false,
            is_timed: true,
            ids: Ids::Unique,
            has_requests: false,
        },
    };
    let fork_of = |parent: usize, fork| Plan {
        fork: Some((parent, fork)),
        first: Vec::new(),
        ..root.clone()
    };
    vec![
        root.clone(),
        fork_of(0, Fork::Session),
        fork_of(1, Fork::Background),
    ]
}

/// What is known about the expected cost of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Charge {
    /// It is this amount, or the record must not have a cost.
    Known(Option<f64>),
    /// Any cost is accepted, because it depends on how much of it the record includes.
    Any,
}

/// A session's files, and the record that they must give.
pub struct ExpectedSession {
    pub files: Files,
    /// The lengths of its files when all sessions have ended for the first time.
    pub middle: [usize; 1 + AGENTS.len()],
    pub truth: Truth,
    pub charge: Charge,
    /// Its parent, the parent of that, and so on.
    pub ancestors: Vec<usize>,
    /// The tokens of its parent that the client carried into its charge. Nothing in a fork without
    /// marks tells them from its own until the parent is read: `0` for any other session.
    pub carried: [u64; 4],
}

impl ExpectedSession {
    pub fn ends(&self) -> [usize; 1 + AGENTS.len()] {
        ends(&self.files)
    }
}

pub struct World {
    /// Oldest first.
    pub sessions: Vec<ExpectedSession>,
    /// Whether some forks have no mark of their origin, so that only the ages of the files tell
    /// them from their parents.
    pub has_forks_without_marks: bool,
    /// Whether some forks are marked only in their parents, which may be read later.
    pub has_forks_marked_in_parents: bool,
}

impl World {
    /// The files as text, for the message of a failed assertion.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for expected in &self.sessions {
            let subagents = expected
                .files
                .subagents
                .iter()
                .filter(|(_, bytes)| !bytes.is_empty());
            let main = (&expected.files.session, &expected.files.main);
            for (name, bytes) in
                std::iter::once(main).chain(subagents.map(|(id, bytes)| (id, bytes)))
            {
                text += &format!("--- {name}, first {:?}\n", expected.middle);
                text += &bytes.escape_ascii().to_string().replace("\\n", "\\n\n");
                text.push('\n');
            }
        }
        text
    }
}

/// What the client has charged to a session so far.
#[derive(Default, Clone)]
struct Charged {
    /// Its last `cost-state`, including the parent's part: tokens by model.
    stated: Option<Usages>,
    /// The parent's part of it.
    carried: Usages,
    /// Whether it covers the session.
    is_whole: bool,
    /// Whether the client includes the parent's charge.
    is_unmarked_fork: bool,
    /// Whether the parent's charge was only partial, so that the two parts cannot be told apart.
    is_unclear: bool,
}

type Usages = std::collections::BTreeMap<String, [u64; 4]>;

pub fn build(plans: &[Plan]) -> World {
    let mut writers: Vec<Writer> = Vec::new();
    let mut charged: Vec<Charged> = Vec::new();
    let mut ancestors: Vec<Vec<usize>> = Vec::new();
    let begin = [Op::Prompt {
        text: 0,
        shape: 0,
        by: By::Unknown,
    }];
    for (number, plan) in plans.iter().enumerate() {
        let parent = plan.fork.as_ref().filter(|_| number > 0);
        let parent = parent.map(|(parent, fork)| (parent % number, *fork));
        let mut own = Charged::default();
        let mut writer = match parent {
            Some((parent, fork)) => {
                if [Fork::Session, Fork::Background].contains(&fork) {
                    let of_parent = &charged[parent];
                    own.is_unmarked_fork = true;
                    own.is_unclear =
                        of_parent.is_unclear || of_parent.stated.is_some() && !of_parent.is_whole;
                    own.carried = of_parent.stated.clone().unwrap_or_default();
                }
                writers[parent].fork(number, &plan.style, fork)
            }
            None => Writer::new(number, &plan.style),
        };
        writer.write_all(&begin);
        writer.write_all(&plan.first);
        writer.pause();
        if let Some((parent, Fork::Background)) = parent {
            let mark = json!({
                "timestamp": "2026-11-20T00:00:00.000Z",
                "sessionId": writers[parent].session, "continuedInSessionId": writer.session
            });
            writers[parent].state(line("continued-in", &mark));
        }
        writers.push(writer);
        charged.push(own);
        let of_parent = parent.map(|(parent, _)| [&[parent], &*ancestors[parent]].concat());
        ancestors.push(of_parent.unwrap_or_default());
        let exit = match plan.first_exit {
            // If a fork includes its parent's charge, that charge must be exact.
            Exit::Charged { .. } => Exit::Charged { extra: 0 },
            Exit::PartlyCharged if charged[number].is_unmarked_fork => Exit::Killed,
            exit => exit,
        };
        state_charges(&mut writers, &mut charged, number, exit);
    }
    let middles: Vec<_> = writers.iter().map(|writer| ends(&writer.files())).collect();
    for (number, plan) in plans.iter().enumerate() {
        if plan.later.is_empty() {
            continue;
        }
        writers[number].resume();
        writers[number].write_all(&begin);
        writers[number].write_all(&plan.later);
        writers[number].pause();
        let exit = match plan.later_exit {
            Exit::Charged { .. } if charged[number].is_unmarked_fork => Exit::Charged { extra: 0 },
            Exit::PartlyCharged => Exit::Killed,
            exit => exit,
        };
        charged[number].is_whole = false;
        state_charges(&mut writers, &mut charged, number, exit);
    }
    let files: Vec<_> = writers.iter().map(Writer::files).collect();
    let truths = oracle::read_all(&files);
    let has_forks = |kind: Fork| {
        let mut forks = plans.iter().skip(1).filter_map(|plan| plan.fork.as_ref());
        forks.any(|(_, fork)| *fork == kind)
    };
    let sessions = files.into_iter().zip(middles).zip(truths);
    let sessions = sessions.zip(charged.iter().zip(ancestors));
    let sessions = sessions.map(|(((files, middle), truth), (charged, ancestors))| {
        expect_session(files, middle, truth, charged, ancestors)
    });
    World {
        sessions: sessions.collect(),
        has_forks_without_marks: has_forks(Fork::Session),
        has_forks_marked_in_parents: has_forks(Fork::Background),
    }
}

/// Writes the client's `cost-state`.
fn state_charges(writers: &mut [Writer], charged: &mut [Charged], number: usize, exit: Exit) {
    let mut files: Vec<_> = writers.iter().map(Writer::files).collect();
    // The client knows its requests, whether or not the last line is whole yet.
    files[number].main.push(b'\n');
    let mut usages = oracle::read_all(&files)[number].usage_by_model.clone();
    match exit {
        _ if charged[number].is_unclear => return,
        Exit::Killed => return,
        Exit::PartlyCharged => {
            // If nothing was used, a part is the whole.
            if usages.is_empty() {
                return;
            }
            for usage in usages.values_mut() {
                *usage = usage.map(|tokens| tokens / 2);
            }
        }
        Exit::Charged { extra } => {
            if extra > 0 {
                add(
                    usages.entry("side-model".to_owned()).or_default(),
                    [extra; 4],
                );
            }
        }
    }
    for (model, usage) in &charged[number].carried {
        add(usages.entry(model.clone()).or_default(), *usage);
    }
    let by_model = usages.iter().map(|(model, usage)| {
        let usage = json!({
            "inputTokens": usage[0], "outputTokens": usage[1], "cacheReadInputTokens": usage[2],
            "cacheCreationInputTokens": usage[3], "webSearchRequests": 0, "costUSD": dollars(*usage)
        });
        (model.clone(), usage)
    });
    let writer = &mut writers[number];
    let duration = 1_000;
    let line = json!({
        "sessionId": writer.session, "totalCostUSD": total(&usages), "totalDuration": duration,
        "startTime": writer.now() - duration, "modelUsage": by_model.collect::<serde_json::Map<_, _>>(),
        "hasUnknownModelCost": false
    });
    writer.state(self::line("cost-state", &line));
    charged[number].is_whole = exit != Exit::PartlyCharged;
    charged[number].stated = Some(usages);
}

/// A line that begins with its type, as the client writes it.
fn line(kind: &str, fields: &Value) -> Vec<u8> {
    let fields = fields.to_string();
    format!(r#"{{"type":"{kind}",{}"#, &fields[1..]).into_bytes()
}

/// The exact cost of some tokens.
fn dollars(usage: [u64; 4]) -> f64 {
    let tokens: u64 = usage.iter().sum();
    f64::from(u32::try_from(tokens).unwrap()) / 1_024.0
}

fn total(usages: &Usages) -> f64 {
    usages
        .values()
        .fold(0.0, |sum, usage| sum + dollars(*usage))
}

/// The record that a session must have, from the figures of its messages and the client's charge.
fn expect_session(
    files: Files,
    middle: [usize; 1 + AGENTS.len()],
    mut truth: Truth,
    charged: &Charged,
    ancestors: Vec<usize>,
) -> ExpectedSession {
    let charge = match &charged.stated {
        None => Charge::Known(None),
        Some(stated) if charged.is_whole => {
            truth.usage_by_model.clone_from(stated);
            for (model, carried) in &charged.carried {
                let usage = truth.usage_by_model.get_mut(model).unwrap();
                *usage = std::array::from_fn(|kind| usage[kind] - carried[kind]);
            }
            truth.usage_by_model.retain(|_, usage| *usage != [0; 4]);
            truth.usage = [0; 4];
            truth
                .usage_by_model
                .values()
                .for_each(|usage| add(&mut truth.usage, *usage));
            if charged.is_unmarked_fork && charged.carried.is_empty() {
                // Whether the parent cost nothing or an unknown amount is not recorded.
                Charge::Any
            } else {
                Charge::Known(Some(total(stated) - total(&charged.carried)))
            }
        }
        Some(_) => Charge::Any,
    };
    let mut carried = [0; 4];
    if charged.stated.is_some() {
        let usages = charged.carried.values();
        usages.for_each(|usage| add(&mut carried, *usage));
    }
    ExpectedSession {
        files,
        middle,
        truth,
        charge,
        ancestors,
        carried,
    }
}

fn ends(files: &Files) -> [usize; 1 + AGENTS.len()] {
    std::array::from_fn(|file| match file.checked_sub(1) {
        None => files.main.len(),
        Some(file) => files.subagents[file].1.len(),
    })
}
