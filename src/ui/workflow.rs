//! Workflows: the table, and one in full with its sessions.

use serde_json::{Value, json};

use super::page::Page;
use super::session::{Listed, delivery_line, delivery_state, reasons, sessions};
use super::table::{Cell, Column, table};
use super::{
    Paint, Screen, age, array, count, date, dollars, duration, escape, number, plural, text,
    tokens, usage, word,
};
use crate::convex::delivery_state::DeliveryState;
use crate::record::Millis;
use crate::record::workflow::Totals;

/// A workflow as it is listed.
#[derive(Debug, Clone)]
pub struct ListedWorkflow {
    /// The workflow, from the journal or from Convex.
    pub document: Value,
    /// What its sessions come to, where that was asked for.
    pub totals: Option<Totals>,
    /// Where it stands on its way to Convex; `None` when nothing is on its way.
    pub delivery_state: Option<DeliveryState>,
}

impl ListedWorkflow {
    /// The document with the totals, for scripts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut document = self.document.clone();
        if let Some(totals) = &self.totals {
            document["totals"] = json!(totals);
        }
        document
    }
}

/// `workflow list --help` names the order in which columns are given up.
const COLUMNS: [Column<ListedWorkflow>; 11] = [
    Column {
        heading: "WORKFLOW",
        is_right: false,
        given_up: 0,
        cell: |workflow, _| Cell::new(word(&workflow.document["key"])),
    },
    Column {
        heading: "STATUS",
        is_right: false,
        given_up: 0,
        cell: |workflow, _| {
            Cell::painted(
                word(&workflow.document["status"]),
                Paint::of_status(text(&workflow.document["status"])),
            )
        },
    },
    Column {
        heading: "STEP",
        is_right: false,
        given_up: 7,
        cell: |workflow, _| Cell::new(word(&workflow.document["currentStep"])),
    },
    Column {
        heading: "AGE",
        is_right: true,
        given_up: 0,
        cell: |workflow, now| {
            Cell::new(age(
                number(&workflow.document["metadata"]["updatedAt"]),
                now,
            ))
        },
    },
    Column {
        heading: "SESSIONS",
        is_right: true,
        given_up: 0,
        cell: |workflow, _| total(workflow, |totals| totals.sessions.to_string()),
    },
    Column {
        heading: "TIME",
        is_right: true,
        given_up: 4,
        cell: |workflow, _| total(workflow, |totals| duration(totals.duration_ms)),
    },
    Column {
        heading: "TURNS",
        is_right: true,
        given_up: 2,
        cell: |workflow, _| total(workflow, |totals| totals.turns.to_string()),
    },
    Column {
        heading: "TOOLS",
        is_right: true,
        given_up: 1,
        cell: |workflow, _| total(workflow, |totals| totals.tool_calls.to_string()),
    },
    Column {
        heading: "TOKENS",
        is_right: true,
        given_up: 5,
        cell: |workflow, _| total(workflow, |totals| count(tokens(&json!(totals.usage)))),
    },
    Column {
        heading: "COST",
        is_right: true,
        given_up: 3,
        cell: |workflow, _| {
            total(workflow, |totals| {
                totals.cost_usd.map(dollars).unwrap_or_default()
            })
        },
    },
    Column {
        heading: "CONVEX",
        is_right: false,
        given_up: 6,
        cell: |workflow, _| delivery_state(workflow.delivery_state.as_ref()),
    },
];

const TASK: Column<ListedWorkflow> = Column {
    heading: "TASK",
    is_right: false,
    given_up: 0,
    cell: |workflow, _| Cell::new(word(&workflow.document["task"])),
};

fn total(workflow: &ListedWorkflow, figure: fn(&Totals) -> String) -> Cell {
    Cell::new(workflow.totals.as_ref().map(figure).unwrap_or_default())
}

/// The table of workflows, and below it why some are not in Convex.
#[must_use]
pub fn workflows(workflows: &[ListedWorkflow], screen: &Screen, now: Millis) -> String {
    let mut text = table(&COLUMNS, &TASK, workflows, screen, now);
    let all = workflows.iter().map(|workflow| {
        (
            workflow.delivery_state.as_ref(),
            word(&workflow.document["key"]),
        )
    });
    text.push_str(&reasons(all, "workflows", screen));
    text
}

/// One workflow in full, with its sessions.
#[must_use]
pub fn workflow(
    workflow: &ListedWorkflow,
    its_sessions: &[Listed],
    screen: &Screen,
    now: Millis,
) -> String {
    let document = &workflow.document;
    let mut page = Page::new(screen);
    page.line("workflow", &word(&document["key"]));
    page.painted(
        "status",
        &word(&document["status"]),
        Paint::of_status(text(&document["status"])),
    );
    page.line("step", &word(&document["currentStep"]));
    page.line("task", &word(&document["task"]));
    for artifact in array(&document["artifacts"]) {
        page.line("artifact", &escape(text(artifact)));
    }
    page.line(
        "created",
        &date(number(&document["metadata"]["createdAt"]), now),
    );
    page.line(
        "updated",
        &date(number(&document["metadata"]["updatedAt"]), now),
    );
    if let Some(totals) = &workflow.totals {
        totals_lines(&mut page, totals);
    }
    delivery_line(&mut page, workflow.delivery_state.as_ref());
    if !its_sessions.is_empty() {
        page.gap();
        page.append(&sessions(its_sessions, 0, screen, now));
    }
    page.finish()
}

fn totals_lines(page: &mut Page<'_>, totals: &Totals) {
    let by_status = [
        ("running", totals.running),
        ("completed", totals.completed),
        ("failed", totals.failed),
        ("abandoned", totals.abandoned),
    ];
    let by_status: Vec<_> = by_status
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    if totals.sessions == 0 {
        page.line("sessions", "none yet; CONVEX_SIDECAR_WORKFLOW names the workflow of the sessions that a client starts");
        return;
    }
    page.line("sessions", &by_status.join(", "));
    page.line("time", &duration(totals.duration_ms));
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let failed = if totals.tool_errors > 0 {
        format!(" ({} failed)", totals.tool_errors)
    } else {
        String::new()
    };
    page.line(
        "turns",
        &format!(
            "{}, {}{failed}",
            totals.turns,
            plural(signed(totals.tool_calls), "tool call")
        ),
    );
    page.line("tokens", &usage(&json!(totals.usage)));
    if let Some(cost) = totals.cost_usd {
        let of = if totals.priced_sessions < totals.sessions {
            format!(
                ", known of {} of {}",
                totals.priced_sessions, totals.sessions
            )
        } else {
            String::new()
        };
        page.line(
            "cost",
            &format!("{} (the client's own reckoning{of})", dollars(cost)),
        );
    }
}
