//! Which sessions a command reads, from the journal or from Convex.

use serde_json::{Value, json};

use crate::cli::sessions::Selected;
use crate::config::Config;
use crate::journal::Filter;
use crate::record::selection::Selection;

/// The requested sessions, without a limit.
pub(super) fn filter(config: &Config, selected: &Selected) -> Filter {
    // Keys are stored masked.
    let key = selected.workflow.as_ref();
    Filter {
        status: selected.status(),
        workflow_key: key.map(|key| config.redactor.name(key)),
        selection: Selection {
            project: selected.project.clone(),
            search: selected.search.clone(),
        },
        limit: usize::MAX,
        ..Filter::default()
    }
}

/// The arguments of the query that lists these sessions, with the filters that Convex applies.
pub(super) fn query_arguments(filter: &Filter) -> Value {
    let mut args = json!({});
    if let Some(status) = filter.status {
        args["status"] = json!(status);
    }
    if let Some(since) = filter.changed_since {
        args["since"] = json!(since);
    }
    if let Some(key) = &filter.workflow_key {
        args["workflowKey"] = json!(key);
    }
    args
}
