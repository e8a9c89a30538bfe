//! A hook event: what the JSON on a hook's stdin means.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;

use super::redact::{Label, Redactor};

/// The maximum length of a session ID; the client's are UUIDs of 36 characters.
const MAX_SESSION_ID: usize = 128;

/// One hook event, from validated hook input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The client's session ID: ASCII letters, digits, `-` and `_` only, so that it is safe in a
    /// path or a query.
    pub session_id: String,
    /// The path of the transcript, according to the client. The file may not exist yet, or ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcript_path: Option<String>,
    /// The client's working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The client's permission mode, for events that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission_mode: Option<String>,
    /// The client's ID of the turn, for events of clients that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened, with the fields that are specific to the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "hookEventName", rename_all_fields = "camelCase")]
#[expect(
    missing_docs,
    reason = "the names are those of the client's own documentation"
)]
pub enum EventKind {
    SessionStart {
        source: Option<String>,
        model: Option<String>,
        title: Option<String>,
    },
    /// `prompt` is `None` if nobody typed it.
    UserPromptSubmit {
        prompt: Option<String>,
        title: Option<String>,
    },
    Stop {
        last_assistant_message: Option<String>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        has_background_tasks: bool,
    },
    StopFailure {
        error: String,
    },
    SessionEnd {
        reason: Option<String>,
    },
    /// Any other event (SubagentStop, Notification, one of a later client). It shows only that the
    /// session is open.
    Other {
        name: String,
    },
}

impl Event {
    /// Masks and truncates the labels of the event, which are stored even with `capture =
    /// "metadata"`. Its texts are masked when they are stored.
    pub fn mask_labels(&mut self, redactor: &Redactor) {
        let mut names = vec![&mut self.permission_mode, &mut self.prompt_id];
        match &mut self.kind {
            EventKind::SessionStart { source, model, .. } => names.extend([source, model]),
            EventKind::SessionEnd { reason } => names.push(reason),
            EventKind::Other { name } => *name = redactor.name(name),
            EventKind::UserPromptSubmit { .. }
            | EventKind::Stop { .. }
            | EventKind::StopFailure { .. } => {}
        }
        let names = names.into_iter().flatten().map(Label::Name);
        redactor.mask_labels(names.chain(self.cwd.as_mut().map(Label::Path)));
        if let Some(path) = &mut self.transcript_path
            && let Cow::Owned(masked) = redactor.path(Path::new(&*path))
        {
            *path = masked.to_string_lossy().into_owned();
        }
    }

    /// The event with the home folder in place of the `~` at the start of the transcript's path,
    /// which a program that passes its own input to this one may not have expanded.
    #[must_use]
    pub fn in_home(mut self, home: Option<&Path>) -> Self {
        let below = self.transcript_path.as_deref();
        if let Some((home, below)) = home.zip(below.and_then(|path| path.strip_prefix("~/"))) {
            self.transcript_path = Some(home.join(below).to_string_lossy().into_owned());
        }
        self
    }

    /// The event with its texts masked and truncated, for display.
    #[must_use]
    pub fn masked(&self, redactor: &Redactor) -> Self {
        let keep = |text: &Option<String>| {
            text.as_deref()
                .and_then(|text| redactor.keep(text))
                .map(|text| text.text)
        };
        let kind = match &self.kind {
            EventKind::SessionStart {
                source,
                model,
                title,
            } => EventKind::SessionStart {
                source: source.clone(),
                model: model.clone(),
                title: keep(title),
            },
            EventKind::UserPromptSubmit { prompt, title } => EventKind::UserPromptSubmit {
                prompt: keep(prompt),
                title: keep(title),
            },
            EventKind::Stop {
                last_assistant_message,
                has_background_tasks,
            } => EventKind::Stop {
                last_assistant_message: keep(last_assistant_message),
                has_background_tasks: *has_background_tasks,
            },
            EventKind::StopFailure { error } => EventKind::StopFailure {
                error: redactor.keep(error).unwrap_or_default().text,
            },
            other => other.clone(),
        };
        Self {
            kind,
            ..self.clone()
        }
    }
}

impl EventKind {
    /// The client's name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::SessionStart { .. } => "SessionStart",
            Self::UserPromptSubmit { .. } => "UserPromptSubmit",
            Self::Stop { .. } => "Stop",
            Self::StopFailure { .. } => "StopFailure",
            Self::SessionEnd { .. } => "SessionEnd",
            Self::Other { name } => name,
        }
    }
}

/// Whether `id` is safe in a path or a query.
#[must_use]
pub fn is_session_id(id: &str) -> bool {
    (1..=MAX_SESSION_ID).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
