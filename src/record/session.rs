//! A session as it is known from hook events, and the document that it becomes: a pure fold.
//!
//! Every event is a hint. Hooks fire twice, in either order, late or not at all (measured and
//! reported, see docs/hooks.md), so folding the same events in another order or again gives the
//! same session.

use serde::{Deserialize, Serialize};

use super::Millis;
use super::document::{
    CostSource, Document, Metadata, ModelUsage, RunDocument, ToolDocument, TranscriptDocument,
    TranscriptState,
};
use super::event::{Event, EventKind};
use super::figures::Figures;
use super::redact::{Redactor, Text};
use super::run::{End, EndedBy, Owner, Run};
use super::usage::Usage;

/// How many runs a document holds: the first and the latest. A session resumed more often is still
/// counted whole.
const MAX_RUNS: usize = 200;
/// How many tools a document lists by name, the most called first.
const MAX_TOOLS: usize = 500;
/// How much of a title or an error message is sent, in bytes.
const MAX_LINE: usize = 4_096;

/// What can be said of a session as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A run is open.
    Running,
    /// The last turn ended with an answer.
    Completed,
    /// The last turn ended in an error.
    Failed,
    /// The last run ended without a SessionEnd.
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

    /// The name that the document holds.
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

/// How the last turn that a hook told of ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    at: Millis,
    /// `Some` when it failed; empty when the text is not kept.
    error: Option<Text>,
}

/// The answer that a Stop hook carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HookAnswer {
    at: Millis,
    text: Text,
}

/// A session as its events tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The client's session id.
    pub session_id: String,
    /// What kind of agent this is, by the user's word.
    pub agent_type: String,
    /// The workflow that it belongs to.
    pub workflow_key: Option<String>,
    /// The machine.
    pub host: String,
    /// The client's working directory at the first event that named it.
    pub cwd: Option<String>,
    /// Where the client says the transcript is.
    pub transcript_path: Option<String>,
    /// The runs, in the order in which they opened.
    pub runs: Vec<Run>,
    first_at: Millis,
    permission_mode: Option<String>,
    model: Option<String>,
    title: Option<Text>,
    prompt: Option<Text>,
    turn: Option<Turn>,
    answer: Option<HookAnswer>,
}

/// What the user says of a session by the environment.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// `CONVEX_SIDECAR_AGENT_TYPE`.
    pub agent_type: Option<String>,
    /// `CONVEX_SIDECAR_WORKFLOW`.
    pub workflow_key: Option<String>,
}

impl Session {
    /// A session of which nothing is known but its id.
    #[must_use]
    pub fn new(session_id: &str, host: &str, now: Millis) -> Self {
        Self {
            session_id: session_id.to_owned(),
            agent_type: "claude-code".to_owned(),
            workflow_key: None,
            host: host.to_owned(),
            cwd: None,
            transcript_path: None,
            runs: Vec::new(),
            first_at: now,
            permission_mode: None,
            model: None,
            title: None,
            prompt: None,
            turn: None,
            answer: None,
        }
    }

    /// Folds one event. Returns whether it shows that `owner` now works on this session, so that
    /// its runs on other sessions are over.
    pub fn apply(
        &mut self,
        event: &Event,
        owner: Option<&Owner>,
        labels: &Labels,
        redactor: &Redactor,
        now: Millis,
    ) -> bool {
        let take = |ours: &mut Option<String>, theirs: &Option<String>| {
            if theirs.is_some() {
                ours.clone_from(theirs);
            }
        };
        if let Some(agent_type) = &labels.agent_type {
            self.agent_type.clone_from(agent_type);
        }
        take(&mut self.workflow_key, &labels.workflow_key);
        take(&mut self.transcript_path, &event.transcript_path);
        take(&mut self.permission_mode, &event.permission_mode);
        if self.cwd.is_none() {
            self.cwd.clone_from(&event.cwd);
        }
        match &event.kind {
            EventKind::SessionStart {
                source,
                model,
                title,
            } => {
                take(&mut self.model, model);
                if let Some(title) = title.as_deref().and_then(|title| redactor.keep(title)) {
                    self.title = Some(title);
                }
                self.start(owner, source.as_deref(), now)
            }
            EventKind::SessionEnd { reason } => {
                let stays = matches!(reason.as_deref(), Some("clear" | "resume"));
                self.end(owner, reason.as_deref(), now) && !stays
            }
            EventKind::UserPromptSubmit { prompt } => {
                if self.prompt.is_none() {
                    self.prompt = prompt.as_deref().and_then(|prompt| redactor.keep(prompt));
                }
                self.touch(owner, now)
            }
            EventKind::Stop {
                last_assistant_message,
            } => {
                self.turn = Some(Turn {
                    at: now,
                    error: None,
                });
                if let Some(text) = last_assistant_message
                    .as_deref()
                    .and_then(|message| redactor.keep(message))
                {
                    self.answer = Some(HookAnswer { at: now, text });
                }
                self.touch(owner, now)
            }
            EventKind::StopFailure { error } => {
                self.turn = Some(Turn {
                    at: now,
                    error: Some(redactor.keep(error).unwrap_or_default()),
                });
                self.touch(owner, now)
            }
            EventKind::Other { .. } => self.touch(owner, now),
        }
    }

    /// Ends the open runs of `owner`, which was seen with another session. Returns whether there
    /// were any.
    pub fn supersede(&mut self, owner: &Owner, now: Millis) -> bool {
        self.end_open(
            |run| run.owner.as_ref() == Some(owner),
            EndedBy::Superseded,
            now,
        )
    }

    /// Ends the open runs whose owner is gone. Returns whether there were any.
    pub fn sweep(&mut self, is_gone: impl Fn(&Owner) -> bool, now: Millis) -> bool {
        self.end_open(
            |run| run.owner.as_ref().is_some_and(&is_gone),
            EndedBy::Swept,
            now,
        )
    }

    /// The owners of its open runs.
    pub fn open_owners(&self) -> impl Iterator<Item = &Owner> {
        self.runs
            .iter()
            .filter(|run| run.end.is_none())
            .filter_map(|run| run.owner.as_ref())
    }

    /// Whether a run is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.runs.iter().any(|run| run.end.is_none())
    }

    fn end_open(&mut self, which: impl Fn(&Run) -> bool, by: EndedBy, now: Millis) -> bool {
        let mut ended = false;
        for run in self
            .runs
            .iter_mut()
            .filter(|run| run.end.is_none() && which(run))
        {
            run.end = Some(End {
                at: now,
                by,
                reason: None,
            });
            ended = true;
        }
        ended
    }

    /// The last run of `owner`; runs of unknown owners are one line of runs.
    fn last_run(&mut self, owner: Option<&Owner>) -> Option<&mut Run> {
        self.runs
            .iter_mut()
            .rev()
            .find(|run| run.owner.as_ref() == owner)
    }

    fn start(&mut self, owner: Option<&Owner>, source: Option<&str>, now: Millis) -> bool {
        if let Some(source) = source
            && self
                .runs
                .iter()
                .any(|run| run.owner.as_ref() == owner && run.repeats(source, now))
        {
            return self.is_on(owner);
        }
        match self.last_run(owner) {
            // An event that overtook the SessionStart opened the run.
            Some(run) if run.source.is_none() && run.may_have_started_by(source, now) => {
                run.source = source.map(str::to_owned);
            }
            Some(run) if run.end.is_none() => {}
            _ => self.open(owner, source, now),
        }
        self.is_on(owner)
    }

    fn end(&mut self, owner: Option<&Owner>, reason: Option<&str>, now: Millis) -> bool {
        if self.last_run(owner).is_none() {
            self.open(owner, None, now);
        }
        let end = End {
            at: now,
            by: EndedBy::Hook,
            reason: reason.map(str::to_owned),
        };
        if let Some(run) = self.last_run(owner) {
            match &mut run.end {
                // What the hook says is better than what was inferred; the time of an end does not
                // move.
                Some(known) if known.by != EndedBy::Hook => {
                    *known = End {
                        at: known.at,
                        ..end
                    }
                }
                Some(_) => {}
                None => run.end = Some(end),
            }
        }
        true
    }

    /// An event that neither starts nor ends a run: it belongs to the last run of its owner, ended
    /// or not.
    fn touch(&mut self, owner: Option<&Owner>, now: Millis) -> bool {
        if self.last_run(owner).is_none() {
            self.open(owner, None, now);
        }
        self.is_on(owner)
    }

    fn open(&mut self, owner: Option<&Owner>, source: Option<&str>, now: Millis) {
        self.runs.push(Run {
            owner: owner.cloned(),
            started_at: now,
            source: source.map(str::to_owned),
            end: None,
        });
    }

    fn is_on(&mut self, owner: Option<&Owner>) -> bool {
        self.last_run(owner).is_some_and(|run| run.end.is_none())
    }

    fn status(&self, failed: bool) -> Status {
        let last_end = self.runs.last().and_then(|run| run.end.as_ref());
        if self.is_open() {
            Status::Running
        } else if failed {
            Status::Failed
        } else if last_end.is_some_and(|end| end.by == EndedBy::Swept) {
            Status::Abandoned
        } else {
            Status::Completed
        }
    }

    /// The document, as it is sent. `revision` and `updated_at` belong to the journal's row.
    #[must_use]
    pub fn document(
        &self,
        figures: &Figures,
        transcript: TranscriptState,
        max_output: usize,
        revision: i64,
        updated_at: Millis,
    ) -> Document {
        let error = self.error(figures);
        let output = self.output(figures, max_output);
        let usage_by_model = figures
            .usage_by_model
            .iter()
            .map(|(model, usage)| ModelUsage {
                model: model.clone(),
                usage: *usage,
            });
        let usage_by_model: Vec<_> = usage_by_model
            .filter(|of_model| of_model.usage != Usage::default())
            .collect();
        let ended_at = self
            .runs
            .iter()
            .filter_map(|run| run.end.as_ref().map(|end| end.at))
            .max();
        let completed_at = if self.is_open() {
            None
        } else {
            ended_at.or(figures.span.last)
        };
        let latest = &figures.latest;
        let title = [&latest.custom_title, &self.title, &latest.ai_title]
            .into_iter()
            .find_map(Option::as_ref);
        Document {
            session_id: self.session_id.clone(),
            agent_type: self.agent_type.clone(),
            status: self.status(error.is_some()),
            input: figures
                .input
                .as_ref()
                .or(self.prompt.as_ref())
                .map(|text| text.text.clone()),
            output: output.as_ref().map(|text| text.text.clone()),
            error: error.map(|text| {
                if text.text.is_empty() {
                    "unknown".to_owned()
                } else {
                    line(&text.text)
                }
            }),
            revision,
            workflow_key: self.workflow_key.clone(),
            metadata: Metadata {
                started_at: self.started_at(figures),
                completed_at,
                updated_at,
                duration_ms: completed_at.map(|_| self.duration(figures)),
                host: self.host.clone(),
                cwd: self
                    .cwd
                    .clone()
                    .or_else(|| latest.cwd.text())
                    .unwrap_or_default(),
                git_branch: latest.git_branch.text(),
                entrypoint: latest.entrypoint.text(),
                client_version: latest.version.text(),
                permission_mode: self
                    .permission_mode
                    .clone()
                    .or_else(|| latest.permission_mode.text()),
                model: latest.model.text().or_else(|| self.model.clone()),
                models: figures.usage_by_model.keys().cloned().collect(),
                title: title.map(|text| line(&text.text)),
                runs: self.run_documents(),
                transcript: TranscriptDocument {
                    path: self.transcript_path.clone().unwrap_or_default(),
                    state: transcript.state,
                    bytes: transcript.bytes,
                    skipped_lines: Some(figures.skipped_lines).filter(|&lines| lines > 0),
                },
                prompts: figures.prompts,
                turns: figures.turns,
                api_messages: figures.api_messages,
                tool_calls: figures.tools.values().map(|tool| tool.calls).sum(),
                tool_errors: figures.tools.values().map(|tool| tool.errors).sum(),
                tools: tool_documents(figures),
                compactions: figures.compactions,
                subagents: figures.subagents,
                usage: figures.usage(),
                usage_by_model,
                inherited_usage: figures.inherited,
                cost_usd: latest.cost_usd,
                cost_source: latest.cost_usd.map(|_| CostSource::Client),
                output_truncated: output.as_ref().filter(|text| text.is_cut).map(|_| true),
                output_bytes: output
                    .as_ref()
                    .filter(|text| text.is_cut)
                    .map(|text| text.bytes),
            },
        }
    }

    /// The error in which the last turn ended, by whoever knows of the later turn: hooks or the
    /// transcript.
    fn error(&self, figures: &Figures) -> Option<Text> {
        match &self.turn {
            Some(turn) if figures.stepped_at.is_none_or(|at| at <= turn.at) => turn.error.clone(),
            _ => figures.error.clone(),
        }
    }

    /// The final answer, by whoever knows of the later one: at Stop the transcript may lag behind
    /// the hook.
    fn output(&self, figures: &Figures, max_output: usize) -> Option<Text> {
        let from_transcript = figures.answers.last();
        match &self.answer {
            Some(answer)
                if from_transcript
                    .and_then(|answer| answer.at)
                    .is_none_or(|at| at <= answer.at) =>
            {
                Some(answer.text.clone())
            }
            _ => Text::join(
                from_transcript?.parts.iter().map(|(_, text)| text),
                max_output,
            ),
        }
    }

    fn started_at(&self, figures: &Figures) -> Millis {
        let runs = self.runs.iter().map(|run| run.started_at).min();
        runs.into_iter()
            .chain(figures.span.first)
            .min()
            .unwrap_or(self.first_at)
    }

    /// How long clients worked on it: its runs, or without any, from the first to the last step of
    /// the transcript.
    fn duration(&self, figures: &Figures) -> Millis {
        if self.runs.is_empty() {
            return figures
                .span
                .first
                .zip(figures.span.last)
                .map_or(0, |(first, last)| last - first);
        }
        self.runs
            .iter()
            .filter_map(|run| run.end.as_ref().map(|end| (end.at - run.started_at).max(0)))
            .sum()
    }

    fn run_documents(&self) -> Vec<RunDocument> {
        let left_out = self.runs.len().saturating_sub(MAX_RUNS);
        let kept = self
            .runs
            .iter()
            .enumerate()
            .filter(|(index, _)| *index == 0 || *index > left_out);
        kept.map(|(_, run)| run.document()).collect()
    }
}

fn tool_documents(figures: &Figures) -> Vec<ToolDocument> {
    let tools = figures.tools.iter().filter(|(_, tool)| tool.calls > 0);
    let mut tools: Vec<_> = tools
        .map(|(name, tool)| ToolDocument {
            name: name.clone(),
            calls: tool.calls,
            errors: tool.errors,
        })
        .collect();
    if tools.len() > MAX_TOOLS {
        tools.sort_by_key(|tool| std::cmp::Reverse(tool.calls));
        tools.truncate(MAX_TOOLS);
    }
    tools
}

fn line(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_LINE)].to_owned()
}
