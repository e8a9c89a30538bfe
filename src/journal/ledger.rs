//! What was counted on this machine: every message, tool call and prompt, under the session that had it first.
//!
//! A long transcript has two hundred thousand of them. Their keys are hashes, so a row for each is inserted at another
//! place of the table each time; that took a third of all instructions of a cold reading, and nine tenths of the time
//! of an import (measured). So a row of the table `counted` is a page: the entries between two keys, packed one after
//! another. A transaction takes the pages that it needs, counts in memory, and writes what has changed, in order, before
//! it commits. Pages stay packed in memory, because unpacking costs more than looking through one.

use std::array;
use std::cell::RefMut;
use std::collections::hash_map::Entry as Known;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::ops::Range;

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Unreadable;
use crate::transcript::summary::{Counted, Item};

/// How long a page may be before it is split, in bytes; an entry takes some 24. Half as much and twice as much were no
/// faster, whatever was read (measured); a page of SQLite's (4 KiB) takes four.
const MAX_PAGE: usize = 960;
/// How much is held in memory before what has changed is written, in bytes.
const MAX_HELD: usize = 12 * 1024 * 1024;

/// What one session has of a fact.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Share<'a> {
    /// The row of the session.
    session: i64,
    /// Another session had it first, so this is history that a fork copied.
    is_copy: bool,
    /// A tool's name; empty otherwise.
    name: &'a str,
    /// The largest ever seen.
    figures: [u64; 4],
}

/// Entries in the order of their keys: the key (eight bytes), the length of its shares (four), and the shares.
#[derive(Debug)]
struct Page {
    /// The last key that belongs here.
    high: i64,
    entries: Vec<u8>,
    is_changed: bool,
}

/// An entry, and where it stands in its page.
struct Entry<'a> {
    place: Range<usize>,
    key: i64,
    shares: &'a [u8],
}

/// The pages that a transaction has looked at, by the first key that belongs to them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pages: BTreeMap<i64, Page>,
    held: usize,
}

impl Ledger {
    /// Writes what has changed.
    pub fn write(&mut self, connection: &Connection) -> Result<()> {
        for (low, page) in self.pages.iter_mut().filter(|(_, page)| page.is_changed) {
            let sql = "INSERT OR REPLACE INTO counted (low, high, entries) VALUES (?, ?, ?)";
            connection.prepare_cached(sql)?.execute(params![low, page.high, page.entries])?;
            page.is_changed = false;
        }
        Ok(())
    }

    /// Takes out what was counted for `session`. Returns the sessions that had copied some of what it had first.
    pub fn forget(&mut self, connection: &Connection, session: i64) -> Result<BTreeSet<i64>> {
        self.write(connection)?;
        *self = Self::default();
        let mut heirs = BTreeSet::new();
        let mut statement = connection.prepare("SELECT low, high, entries FROM counted")?;
        for page in statement.query_map([], page)? {
            let (low, mut page) = page?;
            let mut kept = Vec::with_capacity(page.entries.len());
            for entry in page.entries() {
                let entry = entry?;
                let mut shares = entry.shares()?;
                if shares.iter().any(|share| share.session == session && !share.is_copy) {
                    heirs.extend(shares.iter().filter(|share| share.is_copy).map(|share| share.session));
                }
                shares.retain(|share| share.session != session);
                if !shares.is_empty() {
                    kept.extend(pack(entry.key, &shares)?);
                }
            }
            if kept != page.entries {
                (page.entries, page.is_changed) = (kept, true);
                self.hold(low, page);
            }
        }
        Ok(heirs)
    }

    /// The page that `key` belongs to.
    fn page(&mut self, connection: &Connection, key: i64) -> Result<&mut Page> {
        let held = self.pages.range(..=key).next_back().filter(|(_, page)| key <= page.high);
        let low = match held.map(|(&low, _)| low) {
            Some(low) => low,
            None => self.take(connection, key)?,
        };
        self.pages.get_mut(&low).context("could not find a page that was just read from the journal")
    }

    /// Reads the page that `key` belongs to. Returns its place. At first there is one, without entries, for all keys.
    fn take(&mut self, connection: &Connection, key: i64) -> Result<i64> {
        if self.held > MAX_HELD {
            self.write(connection)?;
            *self = Self::default();
        }
        let sql = "SELECT low, high, entries FROM counted WHERE low <= ? ORDER BY low DESC LIMIT 1";
        let found = connection.prepare_cached(sql)?.query_row([key], page).optional()?;
        let (low, page) = found.unwrap_or((i64::MIN, Page { high: i64::MAX, entries: Vec::new(), is_changed: false }));
        self.hold(low, page);
        Ok(low)
    }

    fn hold(&mut self, low: i64, page: Page) {
        self.held += page.entries.len();
        self.pages.insert(low, page);
    }
}

fn page(row: &Row<'_>) -> rusqlite::Result<(i64, Page)> {
    Ok((row.get(0)?, Page { high: row.get(1)?, entries: row.get(2)?, is_changed: false }))
}

impl Page {
    fn entries(&self) -> impl Iterator<Item = Result<Entry<'_>>> {
        let mut rest = &self.entries[..];
        iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let start = self.entries.len() - rest.len();
            let Some((key, shares, after)) = split_entry(rest) else {
                return Some(Err(Unreadable("an entry is cut off".to_owned()).into()));
            };
            rest = after;
            Some(Ok(Entry { place: start..self.entries.len() - rest.len(), key, shares }))
        })
    }

    /// The entry of `key`; one without shares, where it would stand, when there is none.
    fn find(&self, key: i64) -> Result<Entry<'_>> {
        for entry in self.entries() {
            let entry = entry?;
            if entry.key >= key {
                let start = entry.place.start;
                return Ok(if entry.key == key { entry } else { Entry { place: start..start, key, shares: &[] } });
            }
        }
        let end = self.entries.len();
        Ok(Entry { place: end..end, key, shares: &[] })
    }

    /// Gives away the later half of a page that has become too long, with its place.
    fn split(&mut self) -> Result<Option<(i64, Self)>> {
        let is_later = |entry: &Result<Entry<'_>>| {
            entry.as_ref().map_or(true, |entry| entry.place.start > 0 && entry.place.end > self.entries.len() / 2)
        };
        let Some((start, key)) = self.entries().find(is_later).transpose()?.map(|entry| (entry.place.start, entry.key)) else {
            return Ok(None);
        };
        let later = Self { high: self.high, entries: self.entries.split_off(start), is_changed: true };
        self.high = key - 1;
        Ok(Some((key, later)))
    }
}

impl<'a> Entry<'a> {
    fn shares(&self) -> Result<Vec<Share<'a>>> {
        if self.shares.is_empty() {
            return Ok(Vec::new());
        }
        Ok(postcard::from_bytes(self.shares).map_err(|error| Unreadable(error.to_string()))?)
    }
}

fn pack(key: i64, shares: &[Share<'_>]) -> Result<Vec<u8>> {
    let shares = postcard::to_allocvec(shares)?;
    let length = u32::try_from(shares.len())?;
    Ok([&key.to_le_bytes()[..], &length.to_le_bytes(), &shares].concat())
}

/// The first entry's key and shares, and what follows.
fn split_entry(entries: &[u8]) -> Option<(i64, &[u8], &[u8])> {
    let (key, rest) = entries.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (shares, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((i64::from_le_bytes(*key), shares, rest))
}

/// Counts items for one session: remembers the largest figures of each and says what was known of it.
pub struct Counter<'a> {
    connection: &'a Connection,
    ledger: RefMut<'a, Ledger>,
    session: i64,
    /// Whether this session is older than another one.
    is_older: HashMap<i64, bool>,
}

impl<'a> Counter<'a> {
    pub(super) fn new(connection: &'a Connection, ledger: RefMut<'a, Ledger>, session: i64) -> Self {
        Self { connection, ledger, session, is_older: HashMap::new() }
    }

    /// Counts an item.
    pub fn count(&mut self, item: &Item<'_>) -> Result<Counted> {
        let (session, key) = (self.session, item.key.cast_signed());
        let page = self.ledger.page(self.connection, key)?;
        let entry = page.find(key)?;
        let mut shares = entry.shares()?;
        let owner = shares.iter().find(|share| !share.is_copy).map(|share| share.session).filter(|&owner| owner != session);
        let is_copy = match owner.map(|owner| (owner, self.is_older.entry(owner))) {
            None => false,
            // Forks may be read before their parents.
            Some((owner, Known::Vacant(unknown))) => !*unknown.insert(take_over(self.connection, session, owner)?),
            Some((_, Known::Occupied(known))) => !*known.get(),
        };
        let known = shares.iter_mut().find(|share| share.is_copy == is_copy && (share.session == session || !is_copy));
        let mut counted = Counted { inherited: is_copy, ..Counted::default() };
        match known {
            None => shares.push(Share { session, is_copy, name: item.name, figures: item.figures }),
            Some(known) => {
                counted.before = (known.session == session).then_some(known.figures);
                if item.name.is_empty() {
                    known.name.clone_into(&mut counted.name);
                }
                let name = if item.name.is_empty() { known.name } else { item.name };
                let figures = array::from_fn(|index| known.figures[index].max(item.figures[index]));
                let grown = Share { session, is_copy, name, figures };
                if *known == grown {
                    return Ok(counted);
                }
                *known = grown;
            }
        }
        let (place, packed) = (entry.place, pack(key, &shares)?);
        let growth = packed.len().saturating_sub(place.len());
        page.entries.splice(place, packed);
        page.is_changed = true;
        let later = if page.entries.len() > MAX_PAGE { page.split()? } else { None };
        self.ledger.held += growth;
        self.ledger.pages.extend(later);
        Ok(counted)
    }
}

/// Whether `session` had first what was counted for `owner`, because it is older. The owner is then to be read anew.
fn take_over(connection: &Connection, session: i64, owner: i64) -> Result<bool> {
    let sql = "SELECT (younger.born, younger.made) > (older.born, older.made) FROM sessions AS younger, sessions AS older
               WHERE older.id = ? AND younger.id = ?";
    let answer = connection.prepare(sql)?.query_row([session, owner], |answer| answer.get(0)).optional()?;
    let is_older = answer.flatten().unwrap_or(false);
    if is_older {
        connection.execute("UPDATE sessions SET is_stale = 1, is_settled = 0 WHERE id = ?", [owner])?;
    }
    Ok(is_older)
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::*;
    use crate::session::Session;
    use proptest::prelude::*;

    fn journal(sessions: &[&str]) -> Journal {
        let mut journal = Journal::in_memory().unwrap();
        journal
            .write(|write| {
                for (index, session) in sessions.iter().enumerate() {
                    write.insert(&Session::new(session, "host", 0), 0)?;
                    // Each is younger than those before.
                    write.bear(session, (i64::try_from(index)?, 0))?;
                }
                Ok(())
            })
            .unwrap();
        journal
    }

    fn hash(number: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
    }

    fn count(journal: &mut Journal, session: &str, keys: impl Iterator<Item = u64>, figure: u64) -> Vec<Counted> {
        journal
            .write(|write| {
                let mut counter = write.counter(session)?;
                keys.map(|key| counter.count(&Item { key: hash(key), name: "", figures: [figure, 0, 0, key] })).collect()
            })
            .unwrap()
    }

    fn is_whole(journal: &Journal) {
        let mut statement = journal.connection.prepare("SELECT low, high, entries FROM counted ORDER BY low").unwrap();
        let mut next = Some(i64::MIN);
        for page in statement.query_map([], page).unwrap() {
            let (low, page) = page.unwrap();
            assert_eq!(Some(low), next, "a gap between two pages, or two of them for one key");
            let keys: Vec<_> = page.entries().map(|entry| entry.unwrap().key).collect();
            assert!(keys.is_sorted_by(|key, next| key < next) && keys.iter().all(|key| (low..=page.high).contains(key)));
            next = page.high.checked_add(1);
        }
        assert_eq!(next, None);
    }

    #[test]
    fn more_than_is_held_in_memory_is_counted_once() {
        const ITEMS: u64 = 500_000;
        let mut journal = journal(&["a", "b"]);
        for (round, more) in [(0, 0), (1, 1_000)] {
            let known = count(&mut journal, "a", more..ITEMS + more, 1).iter().filter(|counted| counted.before.is_some()).count();
            assert_eq!(known as u64, round * (ITEMS - more));
        }
        is_whole(&journal);
        assert!(count(&mut journal, "b", 0..ITEMS, 1).iter().all(|counted| counted.inherited));
        journal.write(|write| write.forget("a", None, 0)).unwrap();
        is_whole(&journal);
        assert!(journal.load("b").unwrap().unwrap().is_stale);
        let left: i64 = journal.connection.query_row("SELECT sum(length(entries)) FROM counted", [], |row| row.get(0)).unwrap();
        journal.write(|write| write.forget_reading("b")).unwrap();
        is_whole(&journal);
        let none: i64 = journal.connection.query_row("SELECT sum(length(entries)) FROM counted", [], |row| row.get(0)).unwrap();
        assert!(left > 0 && none == 0);
    }

    #[test]
    fn a_page_that_is_cut_off_is_damage() {
        let mut journal = journal(&["a"]);
        count(&mut journal, "a", 0..3, 1);
        for cut in ["substr(entries, 1, length(entries) - 1)", "substr(entries, 1, 5)", "x'00'"] {
            journal.connection.execute(&format!("UPDATE counted SET entries = {cut}"), []).unwrap();
            let error =
                journal.write(|write| write.counter("a")?.count(&Item { key: u64::MAX >> 1, name: "", figures: [0; 4] })).unwrap_err();
            assert!(super::super::is_damaged(&error), "{error:#}");
        }
    }

    proptest! {
        /// As the plainest way to keep it says: who had a key first, and what each has of it.
        #[test]
        fn each_session_is_told_what_was_known(
            counts in prop::collection::vec((0..3_usize, prop::collection::vec((0..40_u64, 0..3_u64), 1..60)), 1..12),
        ) {
            let names = ["a", "b", "c"];
            let mut journal = journal(&names);
            let mut owners: HashMap<u64, usize> = HashMap::new();
            let mut figures: HashMap<(usize, bool, u64), u64> = HashMap::new();
            for (session, items) in counts {
                for (key, figure) in items {
                    let counted = count(&mut journal, names[session], std::iter::once(key), figure).remove(0);
                    let owner = *owners.get(&key).unwrap_or(&session);
                    let is_taken = session < owner;
                    let is_copy = owner < session;
                    let known = if is_taken { figures.remove(&(owner, false, key)) } else { figures.get(&(session, is_copy, key)).copied() };
                    prop_assert_eq!((counted.inherited, counted.before.map(|before| before[0])), (is_copy, known.filter(|_| !is_taken)));
                    figures.insert((session, is_copy, key), known.unwrap_or_default().max(figure));
                    if !is_copy {
                        owners.insert(key, session);
                    }
                }
            }
            is_whole(&journal);
        }
    }
}
