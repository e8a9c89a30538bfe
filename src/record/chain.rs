//! How the records of one file belong together: which of them are one API message, which call a
//! failure belongs to, and which prompt a reply answers.
//!
//! Backends choose the IDs of messages and tool calls, and gateways repeat them: one ID for all
//! messages, or one per position (`Bash:0`). So an ID counts only together with the records
//! around it. The state between two reads is stored with the checkpoint of the file.

use serde::{Deserialize, Serialize};

use super::days::{Day, day_of};
use super::facts::{Fact, Reply, SubagentFigures, is_before};
use super::index::Key;
use super::{Millis, keep_last};

/// How many messages may be open at once. Older clients wrote the messages of several subagents
/// into the main file, line by line.
const MAX_OPEN: usize = 16;
/// How many records of an open message are kept.
const MAX_RECORDS: usize = 64;
/// How many tool calls of an open message are kept.
const MAX_CALLS: usize = 512;

/// The state of reading one file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Chain {
    /// The messages to which the next record may belong, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    open: Vec<OpenMessage>,
    /// The last prompt, until it is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<Key>,
    /// When the last prompt was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompted_at: Option<Millis>,
    /// The IDs of the last prompt, if it is a command whose expansion may follow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    command: Vec<Key>,
    /// Whether there is a `user` record after the last reply, on the main chain and on others.
    pub(super) is_after_user: [bool; 2],
    /// Whether everything read so far is what a subagent copied from its parent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_fork_context: bool,
    /// The time of the records that an old client copied into the file of a resumed session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) copied_at: Option<Millis>,
    /// The subagent whose file it is; not stored, because the name of the file has it.
    #[serde(skip)]
    pub agent: Option<Key>,
    /// The type of the subagent whose file it is, if the client says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subagent_type: Option<String>,
    /// What the subagent did before its type was known.
    #[serde(skip_serializing_if = "SubagentFigures::is_none")]
    pub(super) untyped: SubagentFigures,
    /// The time of the last record of the main chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seen_at: Option<Millis>,
    /// The damaged lines of the file so far, and those that were too long.
    #[serde(skip_serializing_if = "is_zero")]
    lines: [u64; 2],
    /// Those that were counted before the file was read again from its beginning.
    #[serde(skip_serializing_if = "is_zero")]
    known_lines: [u64; 2],
}

fn is_zero(lines: &[u64; 2]) -> bool {
    *lines == [0; 2]
}

/// A message that may have more records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OpenMessage {
    /// The key of its first record, which stands for the message.
    key: Key,
    id: Option<Key>,
    request: Option<Key>,
    /// The model of its first record.
    model: String,
    /// The day on which its first record was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day: Option<Day>,
    is_main: bool,
    /// The subagent that wrote it, if the record names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<Key>,
    /// Whether there is a `user` record after its last record.
    is_followed: bool,
    /// Its last records.
    records: Vec<Key>,
    /// Its tool calls, with the names of the tools.
    calls: Vec<(Key, String)>,
}

impl Chain {
    /// The state before a file is read; `copied_at` is the time of the records that an old client
    /// copied into it.
    #[must_use]
    pub fn new(copied_at: Option<Millis>) -> Self {
        Self {
            copied_at,
            ..Self::default()
        }
    }

    /// The state before a file is read again from its beginning. `former` is the state in which the
    /// last read left it; its damaged lines were already counted.
    #[must_use]
    pub fn reading_again(self, former: &Self) -> Self {
        Self {
            untyped: former.untyped,
            known_lines: [0, 1].map(|kind| former.lines[kind].max(former.known_lines[kind])),
            ..self
        }
    }

    /// Adds damaged lines, and lines that were too long. Returns those that were not counted before.
    pub(super) fn add_lines(&mut self, more: [u64; 2]) -> [u64; 2] {
        [0, 1].map(|kind| {
            let counted = self.lines[kind].max(self.known_lines[kind]);
            self.lines[kind] += more[kind];
            self.lines[kind].saturating_sub(counted)
        })
    }

    /// Continues where the reading of another file of the session stopped, if the next record,
    /// written `at`, is later. While the client works in a worktree, it writes to another project
    /// folder.
    pub(super) fn continue_from(&mut self, other: &Self, at: Option<Millis>) {
        if other.seen_at <= self.seen_at || is_before(at, other.seen_at) {
            return;
        }
        self.open.clone_from(&other.open);
        self.prompt = other.prompt;
        self.prompted_at = other.prompted_at;
        self.command.clone_from(&other.command);
        self.seen_at = other.seen_at;
        // It is not known what follows the last reply in that file, so a reply continues a message
        // only if its parent says so.
        self.is_after_user[0] = true;
    }

    /// Whether a reply was copied from the parent of a subagent: all replies before the first
    /// `user` record were.
    pub(super) fn is_in_fork_context(&mut self, reply: &Reply) -> bool {
        self.has_fork_context &= !reply.follows_user && !self.is_after_user[1];
        self.has_fork_context
    }

    /// The message to which a reply belongs, by the key of its first record: its own key if it
    /// begins a message. `known` is the message that it was counted for before.
    pub(super) fn add_reply(
        &mut self,
        fact: &Fact,
        reply: &Reply,
        names: &[String],
        known: Option<Key>,
    ) -> Key {
        let is_after_user = &mut self.is_after_user[usize::from(!fact.is_main)];
        let follows_user = reply.follows_user || *is_after_user;
        if let Some(message) = known
            && is_before(fact.at, self.prompted_at)
        {
            // It is a second copy, which does not belong to the records around it.
            *is_after_user = follows_user;
            return message;
        }
        *is_after_user = false;
        for open in &mut self.open {
            open.is_followed |= follows_user && open.is_main == fact.is_main;
        }
        let place = match known {
            Some(message) => self.open.iter().position(|open| open.key == message),
            None => self.continued_by(fact, reply),
        };
        let mut message = match place {
            Some(place) => self.open.remove(place),
            None => OpenMessage {
                key: known.unwrap_or(fact.key),
                id: reply.id,
                request: reply.request,
                model: names[reply.model].clone(),
                day: fact.at.map(day_of),
                is_main: fact.is_main,
                agent: reply.agent,
                is_followed: false,
                records: Vec::new(),
                calls: Vec::new(),
            },
        };
        message.is_followed = false;
        message.records.push(fact.key);
        message.records.extend(fact.copy);
        keep_last(&mut message.records, MAX_RECORDS);
        let calls = reply.calls.iter();
        message
            .calls
            .extend(calls.map(|&(id, name)| (id, names[name].clone())));
        keep_last(&mut message.calls, MAX_CALLS);
        if self.open.len() == MAX_OPEN {
            // A subagent's messages do not displace those of the main chain, or vice versa.
            let is_alike = |open: &OpenMessage| open.is_main == message.is_main;
            let oldest = self.open.iter().position(is_alike);
            self.open.remove(oldest.unwrap_or_default());
        }
        let key = message.key;
        self.open.push(message);
        if fact.is_main {
            self.command.clear();
        }
        key
    }

    /// The message that a reply continues: preferably that of its parent, otherwise the latest one.
    fn continued_by(&self, fact: &Fact, reply: &Reply) -> Option<usize> {
        let goes_on = |open: &OpenMessage| open.is_continued_by(fact, reply);
        let is_parent = |open: &OpenMessage| open.records.contains(&fact.parent);
        let of_parent = self
            .open
            .iter()
            .rposition(|open| is_parent(open) && goes_on(open));
        of_parent.or_else(|| self.open.iter().rposition(goes_on))
    }

    /// The model of the message that was added last. A gateway may name a different one in each
    /// record.
    pub(super) fn model(&self, message: Key) -> Option<&str> {
        let open = self.open.last().filter(|open| open.key == message);
        open.map(|open| &*open.model)
    }

    /// The day of the message that the record `fact` belongs to, whose lines may have been written
    /// on two days.
    pub(super) fn day(&self, message: Key, fact: &Fact) -> Option<Day> {
        let open = self.open.last().filter(|open| open.key == message);
        open.map_or_else(|| fact.at.map(day_of), |open| open.day)
    }

    /// The tool of a failed call, which is forgotten: a call fails once, even if its result is in
    /// two records. The result is right after the record of the call, or after the last record of
    /// its message.
    pub(super) fn take_failed_call(&mut self, id: Key, parent: Key) -> Option<String> {
        let call = |open: &OpenMessage| open.calls.iter().rposition(|(call, _)| *call == id);
        let latest = |is_candidate: &dyn Fn(&OpenMessage) -> bool| {
            let is_its = |open: &OpenMessage| is_candidate(open) && call(open).is_some();
            self.open.iter().rposition(is_its)
        };
        let of_parent = |open: &OpenMessage| open.records.contains(&parent);
        let message = latest(&of_parent).or_else(|| latest(&|_| true))?;
        let message = &mut self.open[message];
        Some(message.calls.remove(call(message)?).1)
    }

    /// Whether a prompt is the client's expansion of the command before it.
    pub(super) fn is_expansion(&self, fact: &Fact) -> bool {
        self.command.contains(&fact.parent)
    }

    /// Begins a turn. `prompt` is `None` if it was answered before or belongs to another session.
    pub(super) fn begin_turn(&mut self, fact: &Fact, is_command: bool, prompt: Option<Key>) {
        self.interrupt_messages();
        self.prompt = None;
        self.prompted_at = None;
        self.repeat_prompt(fact, is_command, prompt);
    }

    /// A prompt that was counted before; `prompt` is its key if it is not answered yet.
    pub(super) fn repeat_prompt(&mut self, fact: &Fact, is_command: bool, prompt: Option<Key>) {
        // It is a second copy of an older prompt.
        if is_before(fact.at, self.prompted_at) {
            return;
        }
        self.prompted_at = fact.at.max(self.prompted_at);
        if is_command {
            self.command = std::iter::once(fact.key).chain(fact.copy).collect();
        }
        self.prompt = prompt;
    }

    /// A prompt or an error closes the messages of the main chain. The last one stays open, because
    /// the prompt or error may come from another client on the same session; a later record
    /// continues it only if its parent is one of its records.
    pub(super) fn interrupt_messages(&mut self) {
        let last = self.open.extract_if(.., |open| open.is_main).last();
        self.open.extend(last.map(|open| OpenMessage {
            is_followed: true,
            ..open
        }));
        self.command.clear();
    }

    /// The prompt that is answered now, if it is not answered yet.
    pub(super) fn answer(&mut self) -> Option<Key> {
        self.prompt.take()
    }
}

impl OpenMessage {
    /// Whether a reply is part of this message.
    ///
    /// A new request needs something new to send: a `user` record. Without one in between, a reply
    /// with the same ID is the same message. With one, it is the same only if its parent says so:
    /// tools can return while the model is still writing. The same holds for subagents without an
    /// ID, because another one may have written the records in between.
    fn is_continued_by(&self, fact: &Fact, reply: &Reply) -> bool {
        let has_same_request = match (self.request, reply.request) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.id.is_some(),
        };
        let is_next = !self.is_followed && (self.is_main || self.agent.is_some());
        self.id == reply.id
            && has_same_request
            && (self.is_main, self.agent) == (fact.is_main, reply.agent)
            && (is_next || self.records.contains(&fact.parent))
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::What;
    use super::super::prices::Rate;
    use super::super::usage::Usage;
    use super::*;

    /// A reply on the main chain with one tool call, and the message that it is counted for.
    struct Line {
        record: Key,
        parent: Key,
        id: Option<Key>,
        request: Option<Key>,
        follows_user: bool,
    }

    fn add(chain: &mut Chain, line: &Line) -> Key {
        let reply = Reply {
            id: line.id,
            request: line.request,
            model: 0,
            usage: Usage::default(),
            rate: Rate::default(),
            advisors: Vec::new(),
            calls: smallvec::smallvec![(7, 0)],
            is_answer: false,
            ends_turn: false,
            agent: None,
            subagent: None,
            follows_user: line.follows_user,
        };
        let fact = Fact {
            has_fork_mark: false,
            key: line.record,
            copy: None,
            parent: line.parent,
            at: None,
            is_main: true,
            what: What::Compaction,
        };
        chain.add_reply(&fact, &reply, &[format!("tool {}", line.record)], None)
    }

    #[test]
    fn reply_continues_a_message_only_if_nothing_new_was_sent_or_the_client_says_so() {
        let first = Line {
            record: 1,
            parent: 0,
            id: Some(9),
            request: None,
            follows_user: true,
        };
        let line = |parent, id, request, follows_user| Line {
            record: 2,
            parent,
            id,
            request,
            follows_user,
        };
        for (second, is_same, why) in [
            (line(1, Some(9), None, false), true, "the next block"),
            (line(1, Some(9), None, true), true, "a block after a result"),
            (
                line(5, Some(9), None, true),
                false,
                "the answer to a result",
            ),
            (line(5, Some(9), None, false), true, "nothing was sent"),
            (line(1, Some(8), None, false), false, "another id"),
            (line(1, None, None, false), false, "no id"),
        ] {
            let mut chain = Chain::default();
            assert_eq!(add(&mut chain, &first), 1);
            assert_eq!(add(&mut chain, &second) == 1, is_same, "{why}");
        }
        let of_request = |request| Line {
            request: Some(request),
            ..line(1, Some(9), None, false)
        };
        for (request, is_same) in [(3, true), (4, false)] {
            let mut chain = Chain::default();
            add(
                &mut chain,
                &Line {
                    record: 1,
                    ..of_request(3)
                },
            );
            assert_eq!(add(&mut chain, &of_request(request)) == 1, is_same);
        }
    }

    #[test]
    fn failure_belongs_to_the_call_of_the_record_that_it_answers() {
        let mut chain = Chain::default();
        for record in [1, 2] {
            let line = Line {
                record,
                parent: 0,
                id: None,
                request: None,
                follows_user: true,
            };
            add(&mut chain, &line);
        }
        let failed = |id, parent| chain.clone().take_failed_call(id, parent);
        assert_eq!(failed(7, 1).as_deref(), Some("tool 1"));
        assert_eq!(failed(7, 2).as_deref(), Some("tool 2"));
        // If the parent is not known, it is the latest call with this ID.
        assert_eq!(failed(7, 3).as_deref(), Some("tool 2"));
        assert_eq!(failed(8, 1), None);
        // Each call fails once.
        let mut all = || chain.take_failed_call(7, 2);
        assert_eq!(
            [all(), all(), all()].map(|tool| tool.is_some()),
            [true, true, false]
        );
    }
}
