//! Assembles the document from hook events and the figures of the transcript.

use std::cmp::Reverse;

use super::Millis;
use super::answer::key_of;
use super::cost::Spent;
use super::document::{
    Document, Metadata, OwnerDocument, RunDocument, SubagentDocument, ToolDocument,
    TranscriptDocument, UsageSource,
};
use super::facts::SubagentFigures;
use super::figures::Figures;
use super::outcome::Outcome;
use super::prices::Prices;
use super::read_state::{ReadState, TranscriptState};
use super::redact::{MAX_LINE, Text};
use super::run::{Run, Runs};
use super::session::Session;

/// The maximum number of runs that a document lists: the first and the latest ones. The figures
/// include all of them.
const MAX_RUNS: usize = 200;
/// The maximum number of tools that a document lists by name, those with the most calls.
/// `toolCalls` includes all of them.
const MAX_TOOLS: usize = 500;
/// The longest prompt that is sent, in bytes. Together with the longest answer that can be
/// configured and everything else at its limit, the document stays below Convex's limit.
const MAX_INPUT: usize = 128 * 1024;
/// The longest source and reason of a run that are sent, in bytes.
const MAX_WORD: usize = 64;

impl Document {
    /// The document of a session. The journal numbers it: `revision` and `metadata.updated_at` are
    /// zero. `max_output` is the longest answer that is sent, in bytes; `prices` are for the
    /// estimate of the cost.
    #[must_use]
    pub fn new(
        session: &Session,
        figures: &Figures,
        transcript: TranscriptState,
        max_output: usize,
        prices: &Prices,
    ) -> Self {
        let latest = &figures.latest;
        let first_prompt = figures.first_prompt.as_ref();
        let input = first_prompt
            .and_then(|prompt| prompt.text.as_ref())
            .or(session.prompt.as_ref());
        let outcome = Outcome::of(session, figures);
        let output = output(session, figures, outcome.error(), max_output);
        let cut_output = output.as_ref().filter(|output| output.is_cut);
        let started_at = started_at(session, figures);
        let spent = Spent::of(figures, started_at, prices);
        let charge = spent.charge.as_ref();
        let has_usage = charge.is_some() || transcript.state != ReadState::Missing;
        let completed_at = completed_at(session, figures);
        let (prompts, turns) = prompts_and_turns(session, figures, transcript);
        let activity = session.activity();
        let metadata = Metadata {
            started_at,
            completed_at,
            updated_at: 0,
            duration_ms: completed_at.map(|_| duration(&session.runs, figures)),
            host: session.host.clone(),
            cwd: cwd(session, figures),
            git_branch: latest.git_branch.text(),
            entrypoint: latest.entrypoint.text(),
            client_version: latest.version.text(),
            permission_mode: session
                .permission_mode
                .clone()
                .or_else(|| latest.permission_mode.text()),
            model: latest.model.text().or_else(|| session.model.clone()),
            models: spent.models,
            title: title(session, figures),
            activity,
            last_prompt: activity.and(last_prompt(session, input)),
            runs: runs(&session.runs),
            transcript: TranscriptDocument {
                path: session.transcript_path.clone().unwrap_or_default(),
                state: transcript.state,
                bytes: transcript.bytes,
                skipped_lines: Some(figures.skipped_lines).filter(|&lines| lines > 0),
            },
            prompts,
            turns,
            api_messages: figures.api_messages,
            tool_calls: figures.tools.values().map(|tool| tool.calls).sum(),
            tool_errors: figures.tools.values().map(|tool| tool.errors).sum(),
            tools: tools(figures),
            compactions: figures.compactions,
            subagents: figures.subagents,
            subagent_types: subagent_types(figures),
            usage: spent.usage,
            usage_by_model: spent.by_model,
            usage_by_day: spent.by_day,
            usage_source: has_usage.then_some(if charge.is_some() {
                UsageSource::Client
            } else {
                UsageSource::Transcript
            }),
            inherited_usage: figures.inherited,
            cost_usd: spent.cost_usd,
            cost_source: spent.cost_source,
            cost_is_partial: Some(true).filter(|_| spent.is_partial),
            api_duration_ms: charge.and_then(|charge| charge.api_duration_ms),
            tool_duration_ms: charge.and_then(|charge| charge.tool_duration_ms),
            lines_added: charge.and_then(|charge| charge.lines_added),
            lines_removed: charge.and_then(|charge| charge.lines_removed),
            damaged_lines: Some(figures.damaged_lines).filter(|&lines| lines > 0),
            forked_from: figures.fork_parent().cloned(),
            parent_session_id: session.parent_session_id.clone(),
            user: session.user.clone(),
            repository: session.project.repository.clone(),
            worktree: session.project.worktree.clone(),
            commit_start: session.project.commit_start.clone(),
            commit_end: session.project.commit_end.clone(),
            pull_requests: figures.pull_requests.iter().cloned().collect(),
            tags: session.tags.clone().unwrap_or_default(),
            output_truncated: cut_output.map(|_| true),
            output_bytes: cut_output.map(|output| output.bytes),
        };
        Self {
            session_id: session.session_id.clone(),
            agent_type: session.agent_type.clone(),
            status: session.status(&outcome),
            input: input.map(|input| cut(&input.text, MAX_INPUT)),
            output: output.map(|output| output.text),
            error: outcome.error().map(|error| match error.text.as_str() {
                "" => "unknown".to_owned(),
                text => cut(text, MAX_LINE),
            }),
            revision: 0,
            workflow_key: session.workflow_key.clone(),
            metadata,
        }
    }
}

/// What a session was asked last, unless that is the first prompt.
fn last_prompt(session: &Session, first: Option<&Text>) -> Option<String> {
    let last = session.last_prompt.as_ref()?;
    // Less of the last one is kept than of the first one, which a hook can report twice.
    let is_first =
        first.is_some_and(|first| first.bytes == last.bytes && first.text.starts_with(&last.text));
    (!is_first).then(|| last.text.clone())
}

/// The numbers of prompts and turns, from the hooks until a transcript has been read.
fn prompts_and_turns(
    session: &Session,
    figures: &Figures,
    transcript: TranscriptState,
) -> (u64, u64) {
    if transcript.was_read() {
        (figures.prompts, figures.turns)
    } else {
        (session.prompts.prompts, session.prompts.turns)
    }
}

/// The final answer. Either the hooks or the transcript may have the later one, because at a Stop
/// the client may not have written it to the transcript yet. A structured answer is only in the
/// transcript; the Stop carries what the model said before it.
fn output(
    session: &Session,
    figures: &Figures,
    error: Option<&Text>,
    max_output: usize,
) -> Option<Text> {
    let from_transcript = figures.answer.as_ref();
    // Old clients fire Stop after an API error, with the error as the answer; and the Stop of an
    // earlier turn may arrive late.
    let is_of_this_turn = |text: &Text| {
        let key = key_of(&text.text);
        Some(text) != error
            && from_transcript.is_none_or(|last| last.text == *text || !last.earlier.contains(&key))
    };
    let answer = session.answer.as_ref();
    match answer.filter(|answer| is_of_this_turn(&answer.text)) {
        Some(answer)
            if from_transcript.is_none_or(|written| {
                !written.is_final() && written.at.is_none_or(|at| at <= answer.at)
            }) =>
        {
            Some(answer.text.clone())
        }
        _ => from_transcript.map(|answer| answer.text.clone().cut(max_output)),
    }
}

/// When the last run ended; `None` while one is open.
fn completed_at(session: &Session, figures: &Figures) -> Option<Millis> {
    if session.runs.is_open() {
        return None;
    }
    session.runs.ended_at().or(figures.span.last)
}

fn cwd(session: &Session, figures: &Figures) -> String {
    let cwd = session.cwd.clone();
    cwd.or_else(|| figures.latest.cwd.text())
        .unwrap_or_default()
}

/// The title set by the user, else the one from the hook, else the one that the model chose.
fn title(session: &Session, figures: &Figures) -> Option<String> {
    let latest = &figures.latest;
    let titles = [&latest.custom_title, &session.title, &latest.ai_title];
    let title = titles.into_iter().find_map(Option::as_ref)?;
    Some(cut(&title.text, MAX_LINE))
}

fn started_at(session: &Session, figures: &Figures) -> Millis {
    let runs = session.runs.iter().map(|run| run.started_at);
    runs.chain(figures.span.first)
        .min()
        .unwrap_or(session.first_at)
}

/// How long clients worked on the session: its runs, or without any, the time from the first to the
/// last step of the transcript.
fn duration(runs: &Runs, figures: &Figures) -> Millis {
    if runs.is_empty() {
        let span = figures.span.first.zip(figures.span.last);
        return span.map_or(0, |(first, last)| last - first);
    }
    let ended = runs
        .iter()
        .filter_map(|run| Some((run.end.as_ref()?.at - run.started_at).max(0)));
    ended.sum()
}

fn runs(runs: &Runs) -> Vec<RunDocument> {
    let left_out = runs.iter().len().saturating_sub(MAX_RUNS);
    let listed = runs
        .iter()
        .enumerate()
        .filter(|(index, _)| *index == 0 || *index > left_out);
    listed.map(|(_, run)| RunDocument::new(run)).collect()
}

fn subagent_types(figures: &Figures) -> Vec<SubagentDocument> {
    let types = figures.subagent_types.iter();
    let document = |(name, subagents): (&String, &SubagentFigures)| SubagentDocument {
        name: name.clone(),
        calls: subagents.calls,
        usage: subagents.usage,
    };
    types.map(document).collect()
}

fn tools(figures: &Figures) -> Vec<ToolDocument> {
    let called = figures.tools.iter().filter(|(_, tool)| tool.calls > 0);
    let mut tools: Vec<_> = called
        .map(|(name, tool)| ToolDocument {
            name: name.clone(),
            calls: tool.calls,
            errors: tool.errors,
        })
        .collect();
    if tools.len() > MAX_TOOLS {
        tools.sort_by_key(|tool| Reverse(tool.calls));
        tools.truncate(MAX_TOOLS);
    }
    tools
}

fn cut(text: &str, max_bytes: usize) -> String {
    text[..text.floor_char_boundary(max_bytes)].to_owned()
}

impl RunDocument {
    fn new(run: &Run) -> Self {
        let end = run.end.as_ref();
        Self {
            owner: run.owner.as_ref().map(|owner| OwnerDocument {
                pid: owner.pid,
                start_time: owner.start_time,
            }),
            started_at: run.started_at,
            source: run.source.as_deref().map(|source| cut(source, MAX_WORD)),
            ended_at: end.map(|end| end.at),
            reason: end
                .and_then(|end| end.reason.as_deref())
                .map(|reason| cut(reason, MAX_WORD)),
            ended_by: end.map(|end| end.by),
        }
    }
}
