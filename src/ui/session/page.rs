//! The page of one session.

use std::collections::BTreeMap;

use super::{ListedSession, cost, cost_of_part, escaped, if_known, time};
use crate::record::Millis;
use crate::record::document::{
    Activity, ActivityState, CostSource, Metadata, ModelUsage, PullRequest, RunDocument,
    SubagentDocument, ToolDocument,
};
use crate::record::run::EndedBy;
use crate::record::usage::Usage;
use crate::ui::delivery::delivery_line;
use crate::ui::page::Page;
use crate::ui::screen::{Screen, session_style};
use crate::ui::text::{date, duration, escape, failures, plural, span, tokens, tokens_by_kind};

/// How many digits of a commit ID are shown.
const COMMIT: usize = 10;

/// The page of one session.
#[must_use]
pub fn session_page(session: &ListedSession, screen: &Screen, now: Millis) -> String {
    let document = &session.document;
    let metadata = &document.metadata;
    let mut page = Page::new(screen);
    page.line("session", &escape(&document.session_id));
    page.styled(
        "status",
        document.status.as_str(),
        session_style(document.status),
    );
    page.line("activity", &activity_line(metadata, now));
    page.line("title", &escaped(metadata.title.as_ref()));
    page.line("workflow", &escaped(document.workflow_key.as_ref()));
    page.line("fork of", &escaped(metadata.forked_from.as_ref()));
    page.line("child of", &escaped(metadata.parent_session_id.as_ref()));
    project_lines(&mut page, metadata);
    page.line("started", &date(metadata.started_at, now));
    if let Some(at) = metadata.completed_at {
        page.line("ended", &date(at, now));
    }
    page.line("time", &time(document, now));
    for run in &metadata.runs {
        page.line("run", &run_line(run, now));
    }
    page.line("model", &escape(&metadata.models.join(", ")));
    page.line(
        "turns",
        &if_known(metadata.has_prompts(), || turns(metadata)),
    );
    let tools = metadata.tools.iter().map(tool);
    page.line("tools", &tools.collect::<Vec<_>>().join(", "));
    let subagents = metadata.subagent_types.iter().map(subagents);
    page.line("subagents", &subagents.collect::<Vec<_>>().join(", "));
    page.line(
        "tokens",
        &if_known(metadata.has_usage(), || tokens_by_kind(metadata.usage)),
    );
    breakdown(&mut page, metadata);
    if let Some(inherited) = metadata.inherited_usage {
        page.line(
            "inherited",
            &format!(
                "{} (counted in the session that this one was forked from)",
                tokens_by_kind(inherited)
            ),
        );
    }
    page.line("cost", &cost_line(metadata));
    page.line("spent", &time_spent(metadata));
    page.line("lines", &lines_changed(metadata));
    let agent = [
        escape(&document.agent_type),
        escaped(metadata.client_version.as_ref()),
        escaped(metadata.entrypoint.as_ref()),
    ];
    page.line("agent", agent.join(" ").trim_end());
    page.line("host", &escape(&metadata.host));
    page.line("user", &escaped(metadata.user.as_ref()));
    let transcript = &metadata.transcript;
    page.line(
        "transcript",
        &format!(
            "{}, {} bytes, {}",
            transcript.state.as_str(),
            transcript.bytes,
            escape(&transcript.path)
        ),
    );
    if let Some(lines) = transcript.skipped_lines {
        let skipped = format!(
            "{} of the transcript, too long to read",
            plural(lines, "line")
        );
        page.line("skipped", &skipped);
    }
    if let Some(lines) = metadata.damaged_lines {
        let lines = plural(lines, "line");
        let damaged = format!("{lines} of the transcript; only whole records in them count");
        page.line("damaged", &damaged);
    }
    delivery_line(&mut page, session.delivery_state.as_ref());
    for (name, text) in [
        ("input", &document.input),
        ("last prompt", &metadata.last_prompt),
        ("output", &document.output),
        ("error", &document.error),
    ] {
        if let Some(text) = text {
            page.block(name, text);
        }
    }
    page.finish()
}

fn run_line(run: &RunDocument, now: Millis) -> String {
    let end = if let Some(ended_at) = run.ended_at {
        let reason = run
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(" ({})", escape(reason)));
        format!(
            "{}, {}{reason}",
            duration(ended_at - run.started_at),
            run.ended_by.map_or("ended", ended_by)
        )
    } else {
        "still open".to_owned()
    };
    let source = run.source.as_deref().unwrap_or("first seen");
    format!("{} {}, {end}", escape(source), date(run.started_at, now))
}

const fn ended_by(by: EndedBy) -> &'static str {
    match by {
        EndedBy::Hook => "ended by hook",
        EndedBy::Superseded => "superseded by another session",
        EndedBy::Swept => "swept: its process is gone",
    }
}

/// The project that the session worked on.
fn project_lines(page: &mut Page<'_>, metadata: &Metadata) {
    page.line("project", &escape(&metadata.cwd));
    page.line("repository", &escaped(metadata.repository.as_ref()));
    page.line("worktree", &escaped(metadata.worktree.as_ref()));
    page.line("branch", &escaped(metadata.git_branch.as_ref()));
    page.line("commits", &commits(metadata));
    for PullRequest { number, url } in &metadata.pull_requests {
        page.line("PR", &format!("#{number} {}", escape(url)));
    }
    page.line("tags", &escape(&metadata.tags.join(", ")));
}

/// The commits at the first and at the last event, as short as Git shows them.
fn commits(metadata: &Metadata) -> String {
    let short = |commit: &String| escape(&commit.chars().take(COMMIT).collect::<String>());
    let start = metadata.commit_start.as_ref().map(short);
    let end = metadata.commit_end.as_ref().map(short);
    match (start, end) {
        (Some(start), Some(end)) if start != end => format!("{start} to {end}"),
        (start, end) => start.or(end).unwrap_or_default(),
    }
}

/// The usage by model and by day, if there are several.
fn breakdown(page: &mut Page<'_>, metadata: &Metadata) {
    for line in by_model(metadata) {
        page.line("by model", &line);
    }
    for line in by_day(metadata) {
        page.line("by day", &line);
    }
}

/// The cost of the session and its source; empty if it is not known.
fn cost_line(metadata: &Metadata) -> String {
    let Some(cost) = cost(metadata) else {
        return String::new();
    };
    let source = match metadata.cost_source {
        Some(CostSource::Estimate) => "estimated from prices",
        _ => "reported by Claude Code",
    };
    let part = match metadata.cost_is_partial {
        Some(true) => " for a part of the session",
        _ => "",
    };
    format!("{cost} ({source}{part})")
}

/// Usage and cost by model, if there are several.
fn by_model(metadata: &Metadata) -> Vec<String> {
    let models = &metadata.usage_by_model;
    if models.len() < 2 {
        return Vec::new();
    }
    let line = |model: &ModelUsage| {
        let cost = cost_of_part(metadata, model.cost_usd);
        let cost = cost.map_or_else(String::new, |cost| format!(", {cost}"));
        let name = escape(&model.model);
        format!("{name}: {}{cost}", tokens_by_kind(model.usage))
    };
    models.iter().map(line).collect()
}

/// Usage and cost by day, if there are several.
fn by_day(metadata: &Metadata) -> Vec<String> {
    let mut days: BTreeMap<&str, (Usage, Option<f64>)> = BTreeMap::new();
    for entry in &metadata.usage_by_day {
        let (usage, cost) = days.entry(&entry.day).or_default();
        usage.add(entry.usage);
        if let Some(usd) = entry.cost_usd {
            *cost.get_or_insert(0.0) += usd;
        }
    }
    if days.len() < 2 {
        return Vec::new();
    }
    let line = |(day, (usage, cost)): (&str, (Usage, Option<f64>))| {
        let cost = cost_of_part(metadata, cost);
        let cost = cost.map_or_else(String::new, |cost| format!(", {cost}"));
        format!("{}: {} tokens{cost}", escape(day), tokens(usage))
    };
    days.into_iter().map(line).collect()
}

fn turns(metadata: &Metadata) -> String {
    let mut parts = vec![format!(
        "{} of {}",
        metadata.turns,
        plural(metadata.prompts, "prompt")
    )];
    if metadata.has_counts() {
        parts.push(plural(metadata.api_messages, "API message"));
    }
    for (count, noun) in [
        (metadata.subagents, "subagent"),
        (metadata.compactions, "compaction"),
    ] {
        if count > 0 {
            parts.push(plural(count, noun));
        }
    }
    parts.join(", ")
}

/// How the time was spent, as far as the client reports it.
fn time_spent(metadata: &Metadata) -> String {
    let parts = [
        (metadata.api_duration_ms, "in API requests"),
        (metadata.tool_duration_ms, "in tools"),
    ];
    known_parts(parts, duration)
}

/// The lines of code that tools changed, as far as the client reports it.
fn lines_changed(metadata: &Metadata) -> String {
    let parts = [
        (metadata.lines_added, "added"),
        (metadata.lines_removed, "removed"),
    ];
    known_parts(parts, |lines| lines.to_string())
}

fn known_parts<T>(parts: [(Option<T>, &str); 2], text: impl Fn(T) -> String) -> String {
    let known = parts
        .into_iter()
        .filter_map(|(part, what)| Some(format!("{} {what}", text(part?))));
    known.collect::<Vec<_>>().join(", ")
}

fn tool(tool: &ToolDocument) -> String {
    format!(
        "{} {}{}",
        escape(&tool.name),
        tool.calls,
        failures(tool.errors)
    )
}

fn subagents(subagents: &SubagentDocument) -> String {
    format!(
        "{} {} ({} tokens)",
        escape(&subagents.name),
        subagents.calls,
        tokens(subagents.usage)
    )
}

/// What a running session is doing, and for how long.
fn activity_line(metadata: &Metadata, now: Millis) -> String {
    let Some(Activity { state, since }) = metadata.activity else {
        return String::new();
    };
    let time = span(now - since);
    match state {
        ActivityState::Working => format!("has been working on the last prompt for {time}"),
        ActivityState::Waiting => format!("has been waiting for a prompt for {time}"),
        ActivityState::Background => {
            format!("answered, background work running ({time} since the answer)")
        }
    }
}
