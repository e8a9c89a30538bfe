//! What sessions did and cost, by day, model, project and more. docs/usage.md explains which figure
//! counts in which group.
//!
//! Tokens and cost belong to the day and the model of each message. What belongs to the session as
//! a whole (the session itself, its turns and tool calls) counts on the day it started and under
//! its model. Each figure thus counts once, and any grouping adds up to the same total.

mod session;
mod usage_day;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::Date;

pub use self::session::{SessionUsage, project};
pub use self::usage_day::UsageDay;
use super::dollars::dollars;
use super::period::{Period, day_of};
use super::selection::is_project;
use super::usage::Usage;

/// What usage is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Grouping {
    Day,
    Week,
    Month,
    Project,
    Model,
    AgentType,
    Workflow,
    User,
    Host,
    Tag,
    Status,
}

impl Grouping {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Project,
        Self::Model,
        Self::AgentType,
        Self::Workflow,
        Self::User,
        Self::Host,
        Self::Tag,
        Self::Status,
    ];

    /// The name of the field with a group's key.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Project => "project",
            Self::Model => "model",
            Self::AgentType => "agentType",
            Self::Workflow => "workflowKey",
            Self::User => "user",
            Self::Host => "host",
            Self::Tag => "tag",
            Self::Status => "status",
        }
    }

    /// Whether the groups are periods of time.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Week | Self::Month)
    }

    /// Whether the server's [`UsageDay`]s have this.
    #[must_use]
    pub const fn is_in_usage_days(self) -> bool {
        !matches!(
            self,
            Self::AgentType | Self::Workflow | Self::Tag | Self::Status
        )
    }
}

/// Sums of figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amounts {
    /// Sessions that started in the group.
    pub sessions: u64,
    /// The sessions with a known cost.
    pub sessions_with_cost: u64,
    /// Turns.
    pub turns: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Failed tool calls.
    pub tool_errors: u64,
    /// Tokens.
    pub usage: Usage,
    /// The sum of the costs that are known, in picodollars; `None` if none is.
    cost: Option<i128>,
    /// Whether part of the cost is an estimate.
    pub is_estimate: bool,
    /// Whether something was used whose cost is not known, so that the cost is a lower bound.
    pub is_partial: bool,
}

impl Amounts {
    fn add(&mut self, more: &Self) {
        self.sessions += more.sessions;
        self.sessions_with_cost += more.sessions_with_cost;
        self.turns = self.turns.saturating_add(more.turns);
        self.tool_calls = self.tool_calls.saturating_add(more.tool_calls);
        self.tool_errors = self.tool_errors.saturating_add(more.tool_errors);
        self.usage.add(more.usage);
        if let Some(cost) = more.cost {
            *self.cost.get_or_insert_default() += cost;
        }
        self.is_estimate |= more.is_estimate;
        self.is_partial |= more.is_partial;
    }

    /// Whether something was used and no token of it is known.
    #[must_use]
    pub const fn has_unknown_usage(&self) -> bool {
        self.is_partial && self.usage.tokens() == 0
    }

    /// The cost in dollars. If only a part of it is known and that is nothing, it is unknown.
    #[must_use]
    pub fn cost_usd(&self) -> Option<f64> {
        let cost = self.cost.filter(|cost| *cost != 0 || !self.is_partial);
        cost.map(dollars)
    }

    /// Whether the cost is partial. Without any cost there is nothing to mark.
    #[must_use]
    pub fn has_partial_cost(&self) -> bool {
        self.cost_usd().is_some() && self.is_partial
    }
}

/// The figures of one group, and of each model in it.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// All of its figures.
    pub amounts: Amounts,
    /// The same by model.
    pub models: BTreeMap<String, Amounts>,
}

/// Usage in groups.
#[derive(Debug)]
pub struct Ledger {
    grouping: Grouping,
    period: Period,
    project: Option<String>,
    groups: BTreeMap<String, Group>,
    total: Amounts,
    days: BTreeMap<Date, Amounts>,
}

impl Ledger {
    /// An empty ledger for the usage in this period, and in this project if one is named
    /// ([`is_project`]).
    #[must_use]
    pub fn new(grouping: Grouping, period: Period, project: Option<String>) -> Self {
        Self {
            grouping,
            period,
            project,
            groups: BTreeMap::new(),
            total: Amounts::default(),
            days: BTreeMap::new(),
        }
    }

    /// Adds a session.
    pub fn add_session(&mut self, session: &SessionUsage) {
        let start = day_of(session.started_at());
        let entries = session.entries();
        self.add(session, start, session.model(), &session.whole(&entries));
        for entry in entries.iter() {
            let day = entry.date().unwrap_or(start);
            self.add(session, day, &entry.model, &session.amounts(entry));
        }
    }

    /// Adds a row of the server's sums.
    pub fn add_usage_day(&mut self, row: &UsageDay) {
        if let Ok(day) = row.entry.day.parse() {
            self.add(row, day, &row.entry.model, &row.amounts());
        }
    }

    fn add(&mut self, labels: &impl Labels, day: Date, model: &str, amounts: &Amounts) {
        let is_of = |name: &String| labels.is_of_project(name);
        if *amounts == Amounts::default()
            || !self.period.contains(day)
            || !self.project.as_ref().is_none_or(is_of)
        {
            return;
        }
        self.total.add(amounts);
        self.days.entry(day).or_default().add(amounts);
        let mut add_to = |key: String| {
            let group = self.groups.entry(key).or_default();
            group.amounts.add(amounts);
            match group.models.get_mut(model) {
                Some(sum) => sum.add(amounts),
                None => drop(group.models.insert(model.to_owned(), *amounts)),
            }
        };
        match self.grouping {
            Grouping::Day => add_to(day.to_string()),
            Grouping::Week => add_to(monday_of(day).to_string()),
            Grouping::Month => add_to(day.strftime("%Y-%m").to_string()),
            Grouping::Model => add_to(model.to_owned()),
            Grouping::Tag if !labels.tags().is_empty() => {
                // A tag that is given twice counts once.
                let mut tags: Vec<_> = labels.tags().iter().collect();
                tags.sort_unstable();
                tags.dedup();
                tags.into_iter().cloned().for_each(add_to);
            }
            grouping => add_to(labels.label(grouping).to_owned()),
        }
    }

    /// What the groups are grouped by.
    #[must_use]
    pub const fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The groups with their keys: days in their order, everything else by cost, then by tokens.
    #[must_use]
    pub fn groups(&self) -> Vec<(&str, &Group)> {
        let mut groups: Vec<_> = self
            .groups
            .iter()
            .map(|(key, group)| (key.as_str(), group))
            .collect();
        if !self.grouping.is_time() {
            groups.sort_by(|(_, one), (_, other)| by_cost(&one.amounts, &other.amounts));
        }
        groups
    }

    /// The sum over all sessions. A session with several tags is in several groups and counts here
    /// once.
    #[must_use]
    pub const fn total(&self) -> &Amounts {
        &self.total
    }

    /// The figures of each day that has any.
    #[must_use]
    pub const fn days(&self) -> &BTreeMap<Date, Amounts> {
        &self.days
    }

    /// The requested days.
    #[must_use]
    pub const fn period(&self) -> Period {
        self.period
    }
}

/// The larger cost first; if the costs are equal or unknown, the larger number of tokens.
#[must_use]
pub fn by_cost(one: &Amounts, other: &Amounts) -> Ordering {
    let cost = |amounts: &Amounts| amounts.cost.unwrap_or_default();
    let by_cost = cost(other).cmp(&cost(one));
    by_cost.then(other.usage.tokens().cmp(&one.usage.tokens()))
}

fn monday_of(day: Date) -> Date {
    let days = day.weekday().to_monday_zero_offset();
    day.saturating_sub(i64::from(days).days())
}

/// What a figure is grouped by, except its day and model.
trait Labels {
    /// Empty if there is none.
    fn label(&self, grouping: Grouping) -> &str;

    /// Whether `name` means its project.
    fn is_of_project(&self, name: &str) -> bool {
        is_project(self.label(Grouping::Project), name)
    }

    fn tags(&self) -> &[String] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use serde_json::{Value, json};

    use super::*;
    use crate::record::dollars::picodollars;

    const KINDS: [&str; 4] = [
        "inputTokens",
        "outputTokens",
        "cacheReadInputTokens",
        "cacheCreationInputTokens",
    ];
    const MODELS: [&str; 3] = ["claude-opus-4-8", "claude-haiku-4-5", ""];
    /// 2025-12-28, so that days, weeks and months differ.
    const START: i64 = 1_766_880_000_000;
    const DAY: i64 = 86_400_000;

    /// What one model used on one day: the day after the start, the model, tokens, dollars.
    type Part = (i64, usize, [u64; 4], f64);

    /// How to make the document of a session.
    #[derive(Debug, Clone)]
    struct Recipe {
        start: i64,
        parts: Vec<Part>,
        counts: [u64; 3],
        /// Which of a few projects, hosts, users, agent types, workflows and statuses it has.
        labels: [usize; 6],
        tags: Vec<usize>,
        /// 0: no model is the session's, 1: it is named, 2: it is the first of several.
        model: usize,
        /// 0: by day, 1: by model, 2: a document without either.
        detail: usize,
        /// 0: no cost, 1: the client's, 2: an estimate, 3: a part.
        cost: usize,
    }

    fn recipe() -> impl Strategy<Value = Recipe> {
        let tokens = [0..9_u64, 0..900_000, 0..u64::from(u32::MAX), 0..2];
        let part = (0..70_i64, 0..MODELS.len(), tokens, 0.0..9.0);
        (
            (START..START + 400 * DAY, vec(part, 0..5)),
            (
                [0..50_u64, 0..200, 0..9],
                [0..3_usize, 0..2, 0..3, 0..2, 0..3, 0..4],
            ),
            vec(0..4_usize, 0..4),
            (0..3_usize, 0..3_usize, 0..4_usize),
        )
            .prop_map(
                |((start, parts), (counts, labels), tags, (model, detail, cost))| Recipe {
                    start,
                    parts,
                    counts,
                    labels,
                    tags,
                    model,
                    detail,
                    cost,
                },
            )
    }

    /// The entries by day and model, or only by model, in the order of the key.
    fn entries(recipe: &Recipe, by_day: bool) -> Vec<Value> {
        let mut sums: BTreeMap<(String, usize), ([u64; 4], f64)> = BTreeMap::new();
        for (offset, model, tokens, usd) in &recipe.parts {
            let day = day_of(recipe.start + offset * DAY).to_string();
            let key = (if by_day { day } else { String::new() }, *model);
            let (sum, dollars) = sums.entry(key).or_default();
            for (sum, tokens) in sum.iter_mut().zip(tokens) {
                *sum += tokens;
            }
            *dollars += usd;
        }
        let entry = |((day, model), (tokens, usd)): ((String, usize), ([u64; 4], f64))| {
            let mut entry = json!({ "model": MODELS[model] });
            if by_day {
                entry["day"] = json!(day);
            }
            for (kind, tokens) in KINDS.iter().zip(tokens) {
                entry[*kind] = json!(tokens);
            }
            if recipe.cost > 0 {
                entry["costUsd"] = json!(usd);
            }
            entry
        };
        sums.into_iter().map(entry).collect()
    }

    fn document(recipe: &Recipe) -> Value {
        let [project, host, user, agent, workflow, status] = recipe.labels;
        let pick = |names: [&str; 4], index: usize| names[index].to_owned();
        let usd: f64 = recipe.parts.iter().map(|(.., usd)| usd).sum();
        let mut usage = json!({});
        for (index, kind) in KINDS.iter().enumerate() {
            let sum: u64 = recipe
                .parts
                .iter()
                .map(|(_, _, tokens, _)| tokens[index])
                .sum();
            usage[*kind] = json!(sum);
        }
        let mut document = json!({
            "sessionId": "s", "agentType": pick(["claude-code", "ci", "", ""], agent),
            "status": pick(["running", "completed", "failed", "abandoned"], status),
            "input": "a prompt", "output": { "of": "another type" },
            "metadata": {
                "startedAt": recipe.start, "updatedAt": recipe.start, "host": pick(["laptop", "runner", "", ""], host),
                "cwd": pick(["/home/dev/shop", "/home/dev/docs", "", ""], project),
                "turns": recipe.counts[0], "toolCalls": recipe.counts[1], "toolErrors": recipe.counts[2],
                "tags": recipe.tags.iter().map(|tag| format!("tag-{tag}")).collect::<Vec<_>>(), "usage": usage,
            }
        });
        if workflow > 0 {
            document["workflowKey"] = json!(workflow.to_string());
        }
        let metadata = &mut document["metadata"];
        if user > 0 {
            metadata["user"] = json!(user.to_string());
            metadata["repository"] = json!("https://example.com/acme/shop");
        }
        match recipe.model {
            1 => metadata["model"] = json!(MODELS[0]),
            2 => metadata["models"] = json!([MODELS[1], MODELS[0]]),
            _ => {}
        }
        if recipe.detail < 2 {
            metadata["usageByModel"] = json!(entries(recipe, false));
        }
        if recipe.detail < 1 {
            metadata["usageByDay"] = json!(entries(recipe, true));
        }
        if recipe.cost > 0 {
            metadata["costUsd"] = json!(usd);
            metadata["costSource"] = json!(if recipe.cost == 2 {
                "estimate"
            } else {
                "client"
            });
        }
        if recipe.cost == 3 {
            metadata["costIsPartial"] = json!(true);
        }
        document
    }

    /// 2,000 documents of sessions, always the same.
    fn documents() -> Vec<Value> {
        let mut runner = TestRunner::deterministic();
        let recipes = vec(recipe(), 2_000);
        let tree = recipes.new_tree(&mut runner).unwrap();
        tree.current().iter().map(document).collect()
    }

    fn ledger(documents: &[Value], grouping: Grouping, period: Period) -> Ledger {
        let mut ledger = Ledger::new(grouping, period, None);
        for document in documents {
            ledger.add_session(&serde_json::from_str(&document.to_string()).unwrap());
        }
        ledger
    }

    /// The sums of the documents' totals.
    fn total(documents: &[Value]) -> Amounts {
        let mut total = Amounts::default();
        for document in documents {
            let metadata = &document["metadata"];
            let count = |value: &Value| value.as_u64().unwrap_or_default();
            let usage = &metadata["usage"];
            let cost_usd = metadata["costUsd"].as_f64();
            total.add(&Amounts {
                sessions: 1,
                sessions_with_cost: u64::from(cost_usd.is_some()),
                turns: count(&metadata["turns"]),
                tool_calls: count(&metadata["toolCalls"]),
                tool_errors: count(&metadata["toolErrors"]),
                usage: serde_json::from_value(usage.clone()).unwrap(),
                cost: cost_usd.map(picodollars),
                is_estimate: cost_usd.is_some() && metadata["costSource"] == "estimate",
                is_partial: cost_usd.is_none() || metadata["costIsPartial"] == true,
            });
        }
        total
    }

    fn sum<'a>(amounts: impl IntoIterator<Item = &'a Amounts>) -> Amounts {
        let mut sum = Amounts::default();
        amounts.into_iter().for_each(|amounts| sum.add(amounts));
        sum
    }

    #[test]
    fn sum_of_costs_does_not_depend_on_their_order() {
        let of = |costs: [f64; 3]| {
            let amounts = costs.map(|usd| Amounts {
                cost: Some(picodollars(usd)),
                ..Amounts::default()
            });
            sum(&amounts).cost_usd()
        };
        // As floating-point numbers, 0.1 + 0.2 + 0.3 is more.
        assert_eq!(of([0.1, 0.2, 0.3]), Some(0.6));
        assert_eq!(of([0.3, 0.2, 0.1]), Some(0.6));
    }

    /// Equal to the token and to a billionth of a dollar.
    #[track_caller]
    fn assert_equal(one: &Amounts, other: &Amounts, what: &str) {
        let cost = |amounts: &Amounts| amounts.cost.unwrap_or_default();
        assert!(
            (cost(one) - cost(other)).abs() < 1_000,
            "{what}: {one:?} {other:?}"
        );
        let cost = None;
        assert_eq!(
            Amounts { cost, ..*one },
            Amounts { cost, ..*other },
            "{what}"
        );
    }

    #[test]
    fn every_grouping_adds_up_to_the_sum_over_sessions() {
        let mut documents = documents();
        let total = total(&documents);
        for grouping in Grouping::ALL {
            if grouping == Grouping::Tag {
                // A session counts under each of its tags, so here they have at most one.
                for document in &mut documents {
                    let tags = document["metadata"]["tags"].as_array_mut().unwrap();
                    tags.truncate(1);
                }
            }
            let ledger = ledger(&documents, grouping, Period::default());
            let what = grouping.field();
            assert_equal(ledger.total(), &total, what);
            let groups = ledger.groups();
            assert!(groups.len() > 1, "{what}");
            assert_equal(
                &sum(groups.iter().map(|(_, group)| &group.amounts)),
                &total,
                what,
            );
            for (key, group) in groups {
                let what = &format!("{what} {key}");
                assert_equal(&sum(group.models.values()), &group.amounts, what);
            }
            assert_equal(&sum(ledger.days().values()), &total, what);
        }
    }

    #[test]
    fn session_with_several_tags_counts_under_each_and_once_in_the_total() {
        let documents = documents();
        let ledger = ledger(&documents, Grouping::Tag, Period::default());
        assert_equal(ledger.total(), &total(&documents), "tag");
        for (key, group) in ledger.groups() {
            let has_tag = |document: &&Value| {
                let tags = document["metadata"]["tags"].as_array().unwrap();
                tags.iter().any(|tag| tag == key) || key.is_empty() && tags.is_empty()
            };
            let tagged: Vec<_> = documents.iter().filter(has_tag).cloned().collect();
            assert_equal(&group.amounts, &total(&tagged), key);
        }
    }

    #[test]
    fn periods_that_follow_each_other_add_up() {
        let documents = documents();
        let bounds = ["2026-01-31", "2026-02-01", "2026-06-30"].map(|day| day.parse().unwrap());
        for last in bounds {
            let before = Period {
                since: None,
                until: Some(last),
            };
            let after = Period {
                since: last.tomorrow().ok(),
                until: None,
            };
            let parts =
                [before, after].map(|part| *ledger(&documents, Grouping::Month, part).total());
            assert!(
                parts
                    .iter()
                    .all(|part| part.usage.tokens() > 0 && part.sessions > 0)
            );
            assert_equal(&sum(&parts), &total(&documents), &last.to_string());
        }
    }

    #[test]
    fn figures_count_on_their_own_day_and_those_of_the_session_when_it_started() {
        let document = json!({
            "sessionId": "s", "status": "completed", "metadata": {
                "startedAt": START + DAY - 1, "model": MODELS[0], "turns": 2, "toolCalls": 3, "costUsd": 1.5, "costSource": "estimate",
                "usageByDay": [
                    { "day": "2025-12-28", "model": MODELS[0], "inputTokens": 1, "costUsd": 0.5 },
                    { "day": "2025-12-29", "model": MODELS[1], "outputTokens": 5, "costUsd": 1.0 },
                ],
            }
        });
        let ledger = ledger(&[document], Grouping::Day, Period::default());
        let days = ledger.groups();
        let figures = |index: usize| {
            let (key, Group { amounts, .. }): (&str, &Group) = days[index];
            let usage = amounts.usage;
            let whole = [amounts.sessions, amounts.turns, amounts.tool_calls];
            (
                key,
                whole,
                usage.input_tokens,
                usage.output_tokens,
                amounts.cost_usd(),
                amounts.is_estimate,
            )
        };
        assert_eq!(figures(0), ("2025-12-28", [1, 2, 3], 1, 0, Some(0.5), true));
        assert_eq!(figures(1), ("2025-12-29", [0, 0, 0], 0, 5, Some(1.0), true));
        assert_eq!(days.len(), 2);
    }

    #[test]
    fn tokens_without_a_date_count_when_the_session_started() {
        for day in ["", "soon", "2026-02-30", "20251229", "2025-12-29T10:00"] {
            let entry = json!({ "day": day, "model": "", "inputTokens": 5 });
            let document = json!({ "metadata": { "startedAt": START, "usageByDay": [entry] } });
            let ledger = ledger(&[document], Grouping::Day, Period::default());
            let days: Vec<_> = ledger.groups().iter().map(|(day, _)| *day).collect();
            assert_eq!(days, ["2025-12-28"], "{day}");
        }
    }

    #[test]
    fn week_starts_on_monday() {
        for (day, monday) in [
            ("2025-12-28", "2025-12-22"),
            ("2025-12-29", "2025-12-29"),
            ("2026-01-01", "2025-12-29"),
        ] {
            assert_eq!(monday_of(day.parse().unwrap()).to_string(), monday);
        }
    }
}
