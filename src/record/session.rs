//! A session, folded from its hook events. Pure.
//!
//! Every event is a hint. Hooks fire twice, in either order, late or not at all (see
//! `docs/hooks.md`), so folding the same events again, or in another order, gives the same session.

use serde::{Deserialize, Serialize};

use super::document::{Activity, ActivityState};
use super::event::{Event, EventKind};
use super::outcome::Outcome;
use super::project::{Checkout, Project};
use super::prompts::HookPrompts;
use super::redact::{Label, Redactor, Text, is_secret};
use super::run::{Owner, Runs};
use super::turn::{HookAnswer, Turn, TurnEnd};
use super::{FIRST_RELEASE, Millis};

/// How much earlier a hook can have started than one that was recorded before it, in milliseconds.
/// This is much longer than the client lets a hook run.
const LONGEST_DELAY: Millis = 60_000;

/// The status of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A run is open.
    Running,
    /// The last turn ended with an answer.
    Completed,
    /// The last turn ended in an error.
    Failed,
    /// The last prompt got no answer.
    Abandoned,
}

impl Status {
    /// All of them, in the order in which help lists them.
    pub const ALL: [Self; 4] = [
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Abandoned,
    ];

    /// The name in the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What is known about a session from its hook events. The journal stores it as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The client's session ID.
    pub session_id: String,
    /// The kind of agent: `claude-code`, or the user's name for it.
    pub agent_type: String,
    /// The key of the workflow that it belongs to.
    pub workflow_key: Option<String>,
    /// The name of this machine.
    pub host: String,
    /// The client's working directory at the first event that had one.
    pub cwd: Option<String>,
    /// The path of the transcript, according to the client.
    pub transcript_path: Option<String>,
    /// The runs.
    pub runs: Runs,
    /// The session that this one was started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent_session_id: Option<String>,
    /// The user of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// The user's tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<Vec<String>>,
    /// The project that it works on.
    #[serde(default, skip_serializing_if = "Project::is_empty")]
    pub(super) project: Project,
    /// When the session was first seen.
    pub(super) first_at: Millis,
    pub(super) permission_mode: Option<String>,
    pub(super) model: Option<String>,
    pub(super) title: Option<Text>,
    pub(super) prompt: Option<Text>,
    /// The last prompt, if there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_prompt: Option<Text>,
    /// When the last prompt was submitted, by its hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked_at: Option<Millis>,
    /// The turn of that prompt, if the client names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_turn: Option<Turn>,
    /// The prompts, which count until a transcript has been read.
    #[serde(default, skip_serializing_if = "HookPrompts::is_empty")]
    pub(super) prompts: HookPrompts,
    #[serde(rename = "turn")]
    pub(super) turn_end: Option<TurnEnd>,
    pub(super) answer: Option<HookAnswer>,
}

/// The labels that the user sets in the environment of a client.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// `CONVEX_SIDECAR_AGENT_TYPE`.
    pub agent_type: Option<String>,
    /// `CONVEX_SIDECAR_WORKFLOW`.
    pub workflow_key: Option<String>,
    /// `CONVEX_SIDECAR_TAGS`.
    pub tags: Option<Vec<String>>,
}

/// Where an event comes from.
#[derive(Debug, Default)]
pub struct Origin {
    /// The client process, if it is known.
    pub owner: Option<Owner>,
    /// The user's labels.
    pub labels: Labels,
    /// The session that this one was started from, if the event starts it and it is known.
    pub parent_session_id: Option<String>,
    /// The user, unless configured not to record it.
    pub user: Option<String>,
    /// What Git says about the client's folder.
    pub checkout: Checkout,
}

impl Session {
    /// A session without events, first seen at `now`.
    #[must_use]
    pub fn new(session_id: &str, host: &str, now: Millis) -> Self {
        Self {
            session_id: session_id.to_owned(),
            agent_type: "claude-code".to_owned(),
            workflow_key: None,
            host: host.to_owned(),
            cwd: None,
            transcript_path: None,
            runs: Runs::default(),
            parent_session_id: None,
            user: None,
            tags: None,
            project: Project::default(),
            first_at: now,
            permission_mode: None,
            model: None,
            title: None,
            prompt: None,
            last_prompt: None,
            asked_at: None,
            last_turn: None,
            prompts: HookPrompts::default(),
            turn_end: None,
            answer: None,
        }
    }

    /// Folds one event. Returns whether the event shows that its owner works on this session now,
    /// so that its runs on other sessions are over.
    pub fn apply(
        &mut self,
        event: &Event,
        origin: &Origin,
        redactor: &Redactor,
        now: Millis,
    ) -> bool {
        let owner = origin.owner.as_ref();
        let now = self.settle(now);
        self.apply_labels(&origin.labels, redactor);
        if self.parent_session_id.is_none() {
            let parent = origin.parent_session_id.clone();
            self.parent_session_id = parent.filter(|parent| !is_secret(parent));
        }
        let is_own_folder = self.cwd.is_none() || self.cwd == event.cwd;
        let user = origin.user.as_deref();
        self.recognize(user, &origin.checkout, is_own_folder, redactor);
        set(&mut self.transcript_path, event.transcript_path.as_ref());
        set(&mut self.permission_mode, event.permission_mode.as_ref());
        if self.cwd.is_none() {
            self.cwd.clone_from(&event.cwd);
        }
        let keep = |text: &Option<String>| redactor.keep(text.as_deref()?);
        match &event.kind {
            EventKind::SessionStart {
                source,
                model,
                title,
            } => {
                set(&mut self.model, model.as_ref());
                self.set_title(title.as_deref(), redactor);
                self.runs.start(owner, source.as_deref(), now);
            }
            EventKind::SessionEnd { reason } => {
                self.runs.end(owner, reason.as_deref(), now);
                // With these reasons, the process continues with another session, whose
                // SessionStart may have arrived before this event.
                return !matches!(reason.as_deref(), Some("clear" | "resume"));
            }
            EventKind::UserPromptSubmit { prompt, title } => {
                self.set_title(title.as_deref(), redactor);
                let mut is_repeated = false;
                if let Some(text) = prompt {
                    let is_new = self.prompts.submit(event.prompt_id.as_deref(), text);
                    is_repeated = !is_new && event.prompt_id.is_some();
                    if self.prompt.is_none() {
                        self.prompt = keep(prompt);
                    } else if self.asked_at <= Some(now) && !is_repeated {
                        self.last_prompt = redactor.keep_line(text);
                    }
                }
                if !is_repeated {
                    self.note_prompt(event.prompt_id.as_ref(), now);
                }
                self.runs.touch(owner, now);
            }
            EventKind::Stop {
                last_assistant_message,
                has_background_tasks,
            } => {
                let answer = keep(last_assistant_message);
                self.end_turn(
                    event.prompt_id.as_deref(),
                    answer,
                    TurnEnd {
                        at: now,
                        error: None,
                        has_background_tasks: *has_background_tasks,
                    },
                );
                self.runs.touch(owner, now);
            }
            EventKind::StopFailure { error } => {
                self.end_turn(
                    event.prompt_id.as_deref(),
                    None,
                    TurnEnd {
                        at: now,
                        error: Some(redactor.keep(error).unwrap_or_default()),
                        has_background_tasks: false,
                    },
                );
                self.runs.touch(owner, now);
            }
            EventKind::Other { .. } => self.runs.touch(owner, now),
        }
        self.runs.is_open_for(owner)
    }

    /// The time of an event that arrives at `now`, later than that of earlier events. If the clock
    /// was ahead at one of those, its time is moved back to just before `now`. A clock that shows a
    /// time before this program existed is ignored.
    fn settle(&mut self, now: Millis) -> Millis {
        let turn = self.last_turn.iter_mut().map(|turn| &mut turn.began_at);
        let end = self.turn_end.iter_mut().map(|end| &mut end.at);
        let answer = self.answer.iter_mut().map(|answer| &mut answer.at);
        let asked_at = self.asked_at.iter_mut();
        let times = asked_at.chain(turn).chain(end).chain(answer);
        let mut times: Vec<_> = times.chain(self.runs.open_starts()).collect();
        if now < FIRST_RELEASE {
            let latest = times.iter().map(|at| **at).max();
            return latest.map_or(now, |latest| now.max(latest + 1));
        }
        times.retain(|at| **at > now + LONGEST_DELAY);
        let mut order: Vec<_> = times.iter().map(|at| **at).collect();
        order.sort_unstable();
        order.dedup();
        for at in times {
            let later = order.iter().filter(|other| **other >= *at).count();
            *at = now - Millis::try_from(later).unwrap_or_default();
        }
        now
    }

    fn set_title(&mut self, title: Option<&str>, redactor: &Redactor) {
        let title = title.and_then(|title| redactor.keep_line(title));
        set(&mut self.title, title.as_ref());
    }

    /// Adds the user and the project of the session; `is_own_folder` as in [`Project::update`].
    pub fn recognize(
        &mut self,
        user: Option<&str>,
        checkout: &Checkout,
        is_own_folder: bool,
        redactor: &Redactor,
    ) {
        if self.user.is_none() {
            self.user = user.map(|user| redactor.name(user));
        }
        self.project.update(checkout, is_own_folder, redactor);
    }

    fn apply_labels(&mut self, labels: &Labels, redactor: &Redactor) {
        let mut labels = labels.clone();
        let all = [&mut labels.agent_type, &mut labels.workflow_key];
        let tags = labels.tags.iter_mut().flatten();
        redactor.mask_labels(all.into_iter().flatten().chain(tags).map(Label::Name));
        if let Some(agent_type) = labels.agent_type {
            self.agent_type = agent_type;
        }
        set(&mut self.workflow_key, labels.workflow_key.as_ref());
        set(&mut self.tags, labels.tags.as_ref());
    }

    /// What the client is doing, according to the hooks of its open runs. `None` if no run is open.
    pub(super) fn activity(&self) -> Option<Activity> {
        let open = self.runs.iter().filter(|run| run.end.is_none());
        let began_at = open.map(|run| run.started_at).min()?;
        // Turns that an earlier process did not finish are over.
        let asked_at = self.asked_at.filter(|&at| at >= began_at);
        let end = self.turn_end.as_ref().filter(|end| end.at >= began_at);
        let (state, since) = match (asked_at, end) {
            (Some(at), end) if end.is_none_or(|end| end.at < at) => {
                let turn = self.last_turn.as_ref().map(|turn| turn.began_at);
                (ActivityState::Working, turn.unwrap_or(at).max(began_at))
            }
            (_, Some(end)) if end.has_background_tasks => (ActivityState::Background, end.at),
            (_, end) => (ActivityState::Waiting, end.map_or(began_at, |end| end.at)),
        };
        Some(Activity { state, since })
    }

    /// The status of the session, given how its last turn ended.
    pub(super) fn status(&self, outcome: &Outcome) -> Status {
        match outcome {
            _ if self.runs.is_open() => Status::Running,
            Outcome::Failed(_) => Status::Failed,
            Outcome::Unanswered => Status::Abandoned,
            // All that is known is that its client vanished.
            Outcome::Unknown if self.runs.is_swept() => Status::Abandoned,
            Outcome::Answered | Outcome::Unknown => Status::Completed,
        }
    }
}

/// Sets a field to a later value, if there is one.
fn set<T: Clone>(field: &mut Option<T>, value: Option<&T>) {
    if value.is_some() {
        *field = value.cloned();
    }
}
