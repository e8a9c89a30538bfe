//! Workflows: the table, and the page of one workflow with its sessions.

use super::delivery::{delivery_cell, delivery_line, reasons};
use super::page::Page;
use super::screen::{Screen, workflow_style};
use super::session::{ListedSession, if_known, session_table};
use super::table::{Cell, Column, UNKNOWN, table};
use super::text::{age, cost_of, date, duration, escape, failures, plural, tokens, tokens_by_kind};
use crate::convex::delivery_state::DeliveryState;
use crate::record::Millis;
use crate::record::workflow::{Totals, WorkflowDocument};

/// A workflow in a table or on a page.
#[derive(Debug, Clone)]
pub struct ListedWorkflow {
    /// The workflow, from the journal or from Convex.
    pub document: WorkflowDocument,
    /// The totals of its sessions, if they were queried.
    pub totals: Option<Totals>,
    /// Whether Convex has the workflow; `None` if it comes from there.
    pub delivery_state: Option<DeliveryState>,
}

/// `workflow list --help` names the order in which columns are dropped.
const COLUMNS: [Column<ListedWorkflow>; 11] = [
    Column::left("WORKFLOW", 0, |workflow, _| {
        Cell::new(escape(&workflow.document.key))
    }),
    Column::left("STATUS", 0, |workflow, _| {
        let status = workflow.document.status;
        Cell::styled(status.as_str(), workflow_style(status))
    }),
    Column::left("STEP", 7, |workflow, _| {
        Cell::new(escape(&workflow.document.current_step))
    }),
    Column::right("AGE", 0, |workflow, now| {
        Cell::new(age(workflow.document.metadata.updated_at, now))
    }),
    Column::right("SESSIONS", 0, |workflow, _| {
        total(workflow, |totals| totals.sessions.to_string())
    }),
    Column::right("TIME", 4, |workflow, _| {
        total(workflow, |totals| duration(totals.duration_ms))
    }),
    Column::right("TURNS", 2, |workflow, _| total(workflow, turns)),
    Column::right("TOOLS", 1, |workflow, _| {
        counted(workflow, |totals| totals.tool_calls.to_string())
    }),
    Column::right("TOKENS", 5, |workflow, _| {
        counted(workflow, |totals| tokens(totals.usage))
    }),
    Column::right("COST", 3, |workflow, _| {
        Cell::optional(workflow.totals.as_ref().and_then(cost))
    }),
    Column::left("CONVEX", 6, |workflow, _| {
        delivery_cell(workflow.delivery_state.as_ref())
    }),
];

const TASK: Column<ListedWorkflow> = Column::left("TASK", 0, |workflow, _| {
    Cell::new(escape(&workflow.document.task))
});

fn total(workflow: &ListedWorkflow, figure: fn(&Totals) -> String) -> Cell {
    Cell::new(workflow.totals.as_ref().map(figure).unwrap_or_default())
}

fn cost(totals: &Totals) -> Option<String> {
    let is_estimate = totals.estimated_sessions > 0;
    Some(cost_of(
        totals.cost_usd?,
        totals.cost_is_partial,
        is_estimate,
    ))
}

/// Without a transcript, hooks report the turns; clients that do not name them report none.
fn turns(totals: &Totals) -> String {
    if_known(totals.turns > 0 || totals.counted_sessions > 0, || {
        totals.turns.to_string()
    })
}

/// A total from transcripts, or unknown if none of several sessions has one.
fn counted(workflow: &ListedWorkflow, figure: fn(&Totals) -> String) -> Cell {
    match &workflow.totals {
        Some(totals) if totals.sessions > 0 && totals.counted_sessions == 0 => Cell::new(UNKNOWN),
        _ => total(workflow, figure),
    }
}

/// The table of workflows, and below it why some are not in Convex.
#[must_use]
pub fn workflow_table(workflows: &[ListedWorkflow], screen: &Screen, now: Millis) -> String {
    let mut text = table(&COLUMNS, &TASK, workflows, screen, now);
    let states = workflows.iter().map(|workflow| {
        (
            workflow.delivery_state.as_ref(),
            escape(&workflow.document.key),
        )
    });
    text.push_str(&reasons(states, "workflows", screen));
    text
}

/// The page of one workflow, with the table of its sessions.
#[must_use]
pub fn workflow_page(
    workflow: &ListedWorkflow,
    sessions: &[ListedSession],
    screen: &Screen,
    now: Millis,
) -> String {
    let document = &workflow.document;
    let mut page = Page::new(screen);
    page.line("workflow", &escape(&document.key));
    page.styled(
        "status",
        document.status.as_str(),
        workflow_style(document.status),
    );
    page.line("step", &escape(&document.current_step));
    page.line("task", &escape(&document.task));
    for artifact in &document.artifacts {
        page.line("artifact", &escape(artifact));
    }
    page.line("created", &date(document.metadata.created_at, now));
    page.line("updated", &date(document.metadata.updated_at, now));
    if let Some(totals) = &workflow.totals {
        totals_lines(&mut page, totals);
    }
    delivery_line(&mut page, workflow.delivery_state.as_ref());
    if !sessions.is_empty() {
        page.table(&session_table(sessions, 0, screen, now));
    }
    page.finish()
}

fn totals_lines(page: &mut Page<'_>, totals: &Totals) {
    if totals.sessions == 0 {
        page.line(
            "sessions",
            "none yet; sessions join the workflow that CONVEX_SIDECAR_WORKFLOW names when their client starts",
        );
        return;
    }
    let by_status: Vec<_> = [
        ("running", totals.running),
        ("completed", totals.completed),
        ("failed", totals.failed),
        ("abandoned", totals.abandoned),
    ]
    .iter()
    .filter(|(_, count)| *count > 0)
    .map(|(status, count)| format!("{count} {status}"))
    .collect();
    page.line("sessions", &by_status.join(", "));
    page.line("time", &duration(totals.duration_ms));
    if totals.counted_sessions == 0 {
        page.line("turns", &turns(totals));
        page.line("tokens", UNKNOWN);
    } else {
        page.line(
            "turns",
            &format!(
                "{}, {}{}",
                totals.turns,
                plural(totals.tool_calls, "tool call"),
                failures(totals.tool_errors)
            ),
        );
        let part = part(totals.counted_sessions, totals);
        let part = part.map_or_else(String::new, |part| format!(" ({part})"));
        page.line("tokens", &format!("{}{part}", tokens_by_kind(totals.usage)));
    }
    if let Some(cost) = cost(totals) {
        let part = part(totals.priced_sessions, totals);
        let part = part.map_or_else(String::new, |part| format!(" {part}"));
        let source = match totals.estimated_sessions {
            0 => "reported by Claude Code".to_owned(),
            estimated if estimated == totals.priced_sessions => "estimated from prices".to_owned(),
            estimated => format!("{estimated} of {} costs estimated", totals.priced_sessions),
        };
        page.line("cost", &format!("{cost} ({source}{part})"));
    }
}

/// Which sessions a total covers, if not all.
fn part(sessions: u64, totals: &Totals) -> Option<String> {
    let all = totals.sessions;
    (sessions < all).then(|| format!("for {sessions} of {all} sessions"))
}
