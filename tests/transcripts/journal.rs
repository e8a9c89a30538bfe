//! The same properties with real files and the real journal: however the files of several sessions
//! grow, whatever happens to them, and in whatever order they are read, each session has the record
//! of one read, which is that of the oracle.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use serde_json::json;

use crate::adds_up::assert_adds_up;
use crate::generate::{AGENTS, Files};
use crate::machine::{Machine, keeps_creation_times};
use crate::oracle::Truth;
use crate::world::{self, Charge, Plan, World};

/// How often all files are read until nothing moves from one session to another.
const ROUNDS: usize = 4;

/// What happens to a main file after it was read: other programs rewrite, truncate, delete and
/// restore transcripts.
#[derive(Debug, Clone)]
enum Change {
    /// It loses the lines whose bit is set.
    WithoutLines(u64),
    Truncated(Index),
    Deleted,
    Restored,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u64>().prop_map(Change::WithoutLines),
        any::<Index>().prop_map(Change::Truncated),
        Just(Change::Deleted),
        Just(Change::Restored),
    ]
}

/// How the files of a world are read.
#[derive(Debug, Clone)]
struct Reads {
    /// Which session's files grow next, and by how much.
    growth: Vec<(Index, [Index; 1 + AGENTS.len()])>,
    /// What happens to which main file after that.
    changes: Vec<(Index, Change)>,
    /// Like `growth`, for what was written later.
    later: Vec<(Index, [Index; 1 + AGENTS.len()])>,
    /// Whether the younger sessions are read first when all files are complete.
    is_reversed: bool,
}

fn reads() -> impl Strategy<Value = Reads> {
    let growth =
        |most| proptest::collection::vec(any::<(Index, [Index; 1 + AGENTS.len()])>(), 0..most);
    let changes = proptest::collection::vec((any::<Index>(), change()), 0..3);
    (growth(10), changes, growth(4), any::<bool>()).prop_map(
        |(growth, changes, later, is_reversed)| Reads {
            growth,
            changes,
            later,
            is_reversed,
        },
    )
}

/// The number of worlds, each with up to three sessions.
fn cases() -> u32 {
    let cases = std::env::var("TRANSCRIPT_CASES").map(|cases| cases.parse().unwrap());
    cases.unwrap_or(250)
}

/// `make test` always runs the same worlds, so that a change that did not cause a rare failure does
/// not get the blame. `make transcripts` looks for such worlds.
fn seed() -> RngSeed {
    match std::env::var("TRANSCRIPT_CASES") {
        Ok(_) => RngSeed::Random,
        Err(_) => RngSeed::Fixed(1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    #[test]
    fn sessions_that_grow_in_any_order_give_the_records_of_one_read(plans in world::plans(), reads in reads()) {
        check(&plans, &Reads { changes: Vec::new(), ..reads })?;
    }

    #[test]
    fn sessions_whose_files_change_give_the_records_of_one_read(plans in world::plans(), reads in reads()) {
        check(&plans, &reads)?;
    }
}

fn check(plans: &[Plan], reads: &Reads) -> Result<(), TestCaseError> {
    let world = world::build(plans);
    if cfg!(windows) && world.has_forks_without_marks && !keeps_creation_times() {
        // Only the ages of the files tell such a fork from its parent.
        return Ok(());
    }
    let mut machine = Machine::new(&world);
    let mut used = vec![Used::default(); world.sessions.len()];
    for (session, ends) in &reads.growth {
        let session = session.index(world.sessions.len());
        let expected = &world.sessions[session];
        machine.grow(session, &expected.files, cut(expected.middle, ends));
        read(&mut machine, session, &mut used, &world)?;
    }
    for (session, expected) in world.sessions.iter().enumerate() {
        machine.grow(session, &expected.files, expected.middle);
        read(&mut machine, session, &mut used, &world)?;
    }
    // A file that replaces another one is younger, so its age does not tell a fork from its parent.
    let changes = reads
        .changes
        .iter()
        .filter(|_| !world.has_forks_without_marks);
    for (session, change) in changes.clone() {
        let session = session.index(world.sessions.len());
        let expected = &world.sessions[session];
        let bytes = changed(&expected.files.main[..expected.middle[0]], change);
        machine.replace(session, bytes.as_deref());
        read(&mut machine, session, &mut used, &world)?;
    }
    // In the end the files are whole again, and grow.
    for (session, _) in changes {
        let session = session.index(world.sessions.len());
        let expected = &world.sessions[session];
        machine.replace(session, Some(&expected.files.main[..expected.middle[0]]));
    }
    for (session, ends) in &reads.later {
        let session = session.index(world.sessions.len());
        let expected = &world.sessions[session];
        machine.grow(session, &expected.files, cut(expected.ends(), ends));
        read(&mut machine, session, &mut used, &world)?;
    }
    let mut order: Vec<_> = (0..world.sessions.len()).collect();
    if reads.is_reversed {
        order.reverse();
    }
    // The part that a fork has copied moves to its parent when the parent is read, and from there
    // to the parent's parent.
    for &session in order.iter().cycle().take(ROUNDS * order.len()) {
        let expected = &world.sessions[session];
        machine.grow(session, &expected.files, expected.ends());
        read(&mut machine, session, &mut used, &world)?;
    }
    assert_true(&mut machine, &world, "in pieces")?;

    let mut whole = Machine::new(&world);
    for &session in order.iter().cycle().take(ROUNDS * order.len()) {
        let expected = &world.sessions[session];
        whole.grow(session, &expected.files, expected.ends());
        whole.read(session);
    }
    assert_true(&mut whole, &world, "at once")
}

/// What a session has used, as it was shown: its own part and what it inherited.
#[derive(Debug, Default, Clone)]
struct Used {
    tokens: [u64; 4],
    /// What has moved to its ancestors.
    moved: [u64; 4],
    /// Whether one of its ancestors was read after it was.
    has_new_history: bool,
}

/// Reads a session. No session must have used less than before, with one exception: before its
/// parent is read, nothing tells which part of the charge of a fork without marks is the parent's.
/// That part, and no more, may move to the ancestors when they are read.
fn read(
    machine: &mut Machine,
    session: usize,
    used: &mut [Used],
    world: &World,
) -> Result<(), TestCaseError> {
    machine.read(session);
    let numbers = 0..world.sessions.len();
    let truths: Vec<_> = numbers
        .map(|number| Truth::from(&machine.document(number)))
        .collect();
    for (number, (used, expected)) in used.iter_mut().zip(&world.sessions).enumerate() {
        let before = used.clone();
        used.has_new_history |= expected.ancestors.contains(&session);
        for kind in 0..4 {
            let now = truths[number].usage[kind] + truths[number].inherited[kind];
            let less = used.tokens[kind].saturating_sub(now);
            used.tokens[kind] = now;
            used.moved[kind] += less;
            let ancestors = expected.ancestors.iter();
            let shown_there: u64 = ancestors.map(|&number| truths[number].usage[kind]).sum();
            let may_move = expected.carried[kind].min(shown_there);
            prop_assert!(
                less == 0 || used.has_new_history && used.moved[kind] <= may_move,
                "session {} was {:?} and is {:?} after session {} was read\n{}",
                number,
                before,
                used,
                session,
                world.dump()
            );
        }
        used.has_new_history &= number != session;
    }
    Ok(())
}

fn assert_true(machine: &mut Machine, world: &World, how: &str) -> Result<(), TestCaseError> {
    for (session, expected) in world.sessions.iter().enumerate() {
        let document = machine.document(session);
        assert_adds_up(&document);
        let mut truth = Truth::from(&document);
        match expected.charge {
            Charge::Known(usd) => {
                prop_assert_eq!(truth.cost_usd, usd, "{} {}\n{}", session, how, world.dump());
            }
            Charge::Any => (),
        }
        truth.cost_usd = None;
        // The oracle's estimate does not apply to the client's figures.
        truth.estimate = expected.truth.estimate;
        let started_at = document["metadata"]["startedAt"].as_i64().unwrap();
        prop_assert_eq!(
            truth,
            expected.truth.clone().started_at(started_at),
            "session {} {}\n{}",
            session,
            how,
            world.dump()
        );
        // Without new lines nothing changes.
        let before = machine.document(session);
        machine.read(session);
        prop_assert_eq!(machine.document(session), before);
    }
    Ok(())
}

/// Lengths up to these.
fn cut(
    ends: [usize; 1 + AGENTS.len()],
    at: &[Index; 1 + AGENTS.len()],
) -> [usize; 1 + AGENTS.len()] {
    std::array::from_fn(|file| at[file].index(ends[file] + 1))
}

/// The file after a change; `None` if it is gone.
fn changed(bytes: &[u8], change: &Change) -> Option<Vec<u8>> {
    match change {
        Change::WithoutLines(lost) => {
            let lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
            let kept = lines.filter(|(number, _)| lost >> (number % 64) & 1 == 0);
            Some(kept.flat_map(|(_, line)| line).copied().collect())
        }
        Change::Truncated(at) => Some(bytes[..at.index(bytes.len() + 1)].to_vec()),
        Change::Deleted => None,
        Change::Restored => Some(bytes.to_vec()),
    }
}

/// A session shows what its client charged even if it has no message, because a title or a refusal
/// leaves none. So a fork shows the part of its parent until that is read.
#[test]
fn charge_of_a_fork_without_a_message_moves_to_its_parent_when_that_is_read() {
    let world = world::build(&world::unused_forks());
    let mut machine = Machine::new(&world);
    let mut used = vec![Used::default(); world.sessions.len()];
    for (session, expected) in world.sessions.iter().enumerate() {
        machine.grow(session, &expected.files, expected.ends());
    }
    for (session, shown) in [
        (1, [0, 1, 0]),
        (2, [0, 1, 0]),
        (0, [1, 1, 0]),
        (1, [1, 0, 0]),
        (2, [1, 0, 0]),
    ] {
        read(&mut machine, session, &mut used, &world).unwrap();
        let output: Vec<_> = used.iter().map(|used| used.tokens[1]).collect();
        assert_eq!(output, shown, "after session {session} was read");
    }
    assert_true(&mut machine, &world, "from the fork to its parent").unwrap();
}

/// Long enough for several rounds of segments that are read in parallel, with lines and messages
/// across their bounds.
#[test]
fn parallel_segments_give_the_record_of_small_pieces() {
    let filler = "x".repeat(90_000);
    let mut files = Files {
        subagents: AGENTS
            .iter()
            .map(|id| ((*id).to_owned(), Vec::new()))
            .collect(),
        ..Files::default()
    };
    for line in 0..300_u64 {
        let message = line / 3;
        let text = if line % 50 == 49 { "short" } else { &filler };
        let usage = format!(
            r#"{{"input_tokens":{message},"output_tokens":{line},"cache_read_input_tokens":1,"cache_creation_input_tokens":2}}"#
        );
        let json = if line % 42 == 0 {
            format!(
                r#"{{"type":"user","uuid":"u{line}","message":{{"role":"user","content":"{text}"}}}}"#
            )
        } else {
            format!(
                r#"{{"type":"assistant","uuid":"u{line}","message":{{"id":"m{message}","model":"m","usage":{usage},"content":[{{"type":"text","text":"{line} {text}"}},{{"type":"tool_use","id":"t{line}","name":"Bash"}}]}}}}"#
            )
        };
        files.main.extend_from_slice(json.as_bytes());
        files.main.push(b'\n');
    }
    let length = files.main.len();
    let machine = || Machine::with_sessions(std::iter::once("s".to_owned()));
    let (mut growing, mut whole) = (machine(), machine());
    for piece in 1..=23 {
        growing.grow(0, &files, [length * piece / 23, 0, 0]);
        growing.read(0);
    }
    whole.grow(0, &files, [length, 0, 0]);
    whole.read(0);
    let document = whole.document(0);
    let metadata = &document["metadata"];
    assert_eq!(
        (&metadata["apiMessages"], &metadata["prompts"]),
        (&json!(100), &json!(8))
    );
    assert_eq!(metadata["transcript"]["state"], "complete");
    assert_eq!(growing.document(0), document);
}
