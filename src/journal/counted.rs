//! The dedup index: every record that was counted on this machine, under the session that had it
//! first.
//!
//! A long transcript has two hundred thousand records. Their keys are hashes, so a row per item
//! would be inserted in a different place in the table each time; that took a third of all
//! instructions of a cold read, and nine tenths of the time of an import (measured). A row of the
//! table `counted` is therefore a [`Page`] with all entries between two keys. A transaction reads
//! the pages that it needs, collects its changes, merges them into the pages, and writes these, in
//! order, before it commits. Pages stay packed in memory, because unpacking one costs more than
//! searching it.

use std::cell::RefMut;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::ops::Range;

use rusqlite::{Connection, params};

use super::error::{Error, Result};
use super::forks::{Family, mark_stale};
use super::page::{Page, Share, entries, pack, push, unpack};
use super::sessions::SessionRow;
use super::sql::query_one;
use crate::record::Millis;
use crate::record::index::{Index, Key, KeyMap, Known, Seen};

/// How much of the dedup index is kept in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many changes are collected before they are merged into the pages, which takes one pass
    /// over each page. Records that were looked up and are not in the index count, too.
    changes: usize,
    /// How many bytes of pages are held before the changed ones are written.
    bytes: usize,
}

impl Limits {
    /// For hooks, which have to stay small.
    pub const HOOK: Self = Self {
        changes: 50_000,
        bytes: if cfg!(test) {
            1024 * 1024
        } else {
            12 * 1024 * 1024
        },
    };
    /// For an import. The records of each session belong to pages everywhere in the index, so an
    /// index that does not fit into memory is read and written over and over; that took a tenth
    /// of the CPU time for 2,000 sessions, whose index has 25 MiB (measured).
    pub const IMPORT: Self = Self {
        changes: 200_000,
        bytes: 64 * 1024 * 1024,
    };
}

/// The part of the dedup index that a transaction has read or changed.
#[derive(Debug)]
pub(super) struct DedupIndex {
    limits: Limits,
    /// The pages, by the first key that belongs to them.
    pages: BTreeMap<i64, Page>,
    /// The length of all entries in them, in bytes.
    bytes: usize,
    /// The changes that are not merged into the pages yet, by their places in `shares`; empty for
    /// a record that was looked up and is not in the index.
    changes: KeyMap<Range<usize>>,
    /// The packed shares of these changes.
    shares: Vec<u8>,
}

impl DedupIndex {
    /// An index of which nothing has been read yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pages: BTreeMap::new(),
            bytes: 0,
            changes: KeyMap::default(),
            shares: Vec::new(),
        }
    }

    /// Writes what has changed.
    pub fn write(&mut self, connection: &Connection) -> Result<()> {
        self.merge(connection)?;
        self.write_pages(connection)
    }

    /// Removes what was counted for `session`. Returns the sessions that had copied some of the
    /// records that it had first.
    pub fn forget(&mut self, connection: &Connection, session: i64) -> Result<BTreeSet<i64>> {
        self.write(connection)?;
        *self = Self::new(self.limits);
        let mut copiers = BTreeSet::new();
        let mut statement = connection.prepare("SELECT low, high, entries FROM counted")?;
        for page in statement.query_map([], Page::from_row)? {
            let (low, mut page) = page?;
            let mut kept = Vec::with_capacity(page.entries.len());
            for entry in entries(&page.entries) {
                let entry = entry?;
                let mut shares = unpack(entry.shares)?;
                let is_owned = |share: &Share| share.session == session && !share.is_copy;
                if shares.iter().any(is_owned) {
                    let others = shares.iter().filter(|share| share.is_copy);
                    copiers.extend(others.map(|share| share.session));
                }
                shares.retain(|share| share.session != session);
                if !shares.is_empty() {
                    let mut packed = Vec::new();
                    pack(&shares, &mut packed)?;
                    push(&mut kept, entry.key, &packed)?;
                }
            }
            if kept != page.entries {
                (page.entries, page.is_changed) = (kept, true);
                self.bytes += page.entries.len();
                self.pages.insert(low, page);
            }
        }
        Ok(copiers)
    }

    /// The shares of the record with this key. The next call for an absent key, which usually
    /// follows when the record has been counted, does not search again.
    fn find(&mut self, connection: &Connection, key: Key) -> Result<Vec<Share>> {
        if let Some(place) = self.changes.get(&key) {
            return if place.is_empty() {
                Ok(Vec::new())
            } else {
                unpack(&self.shares[place.clone()])
            };
        }
        let signed = key.cast_signed();
        let held = self.pages.range(..=signed).next_back();
        let shares = if let Some((_, page)) = held.filter(|(_, page)| signed <= page.high) {
            page.find(signed)?.map(unpack)
        } else {
            let (low, page) = self.read(connection, signed)?;
            let shares = page.find(signed)?.map(unpack);
            self.pages.insert(low, page);
            shares
        };
        shares.unwrap_or_else(|| {
            self.changes.insert(key, 0..0);
            Ok(Vec::new())
        })
    }

    fn put(&mut self, connection: &Connection, key: Key, shares: &[Share]) -> Result<()> {
        let place = pack(shares, &mut self.shares)?;
        self.changes.insert(key, place);
        if self.changes.len() < self.limits.changes {
            return Ok(());
        }
        self.merge(connection)
    }

    /// Merges the changes into their pages.
    fn merge(&mut self, connection: &Connection) -> Result<()> {
        let changes = take(&mut self.changes).into_iter();
        let shares = take(&mut self.shares);
        let changes = changes.filter(|(_, place)| !place.is_empty());
        let changes = changes.map(|(key, place)| (key.cast_signed(), &shares[place]));
        let mut changes: Vec<_> = changes.collect();
        changes.sort_unstable_by_key(|(key, _)| *key);
        let mut rest = &changes[..];
        while let Some(&(key, _)) = rest.first() {
            let held = self.pages.range(..=key).next_back();
            let held = held
                .filter(|(_, page)| key <= page.high)
                .map(|(low, _)| *low);
            let (low, page) = match held.and_then(|low| self.pages.remove_entry(&low)) {
                Some(held) => held,
                None => self.read(connection, key)?,
            };
            let count = rest.partition_point(|(key, _)| *key <= page.high);
            let (new, others) = rest.split_at(count);
            rest = others;
            self.bytes -= page.entries.len();
            for (low, page) in page.merge(low, new.iter().copied())? {
                self.bytes += page.entries.len();
                self.pages.insert(low, page);
            }
        }
        self.drop_pages(connection)
    }

    fn write_pages(&mut self, connection: &Connection) -> Result<()> {
        for (low, page) in self.pages.iter_mut().filter(|(_, page)| page.is_changed) {
            let sql = "INSERT OR REPLACE INTO counted (low, high, entries) VALUES (?, ?, ?)";
            connection
                .prepare_cached(sql)?
                .execute(params![low, page.high, page.entries])?;
            page.is_changed = false;
        }
        Ok(())
    }

    /// Writes and drops all pages if memory is full.
    fn drop_pages(&mut self, connection: &Connection) -> Result<()> {
        if self.bytes > self.limits.bytes {
            self.write_pages(connection)?;
            self.pages.clear();
            self.bytes = 0;
        }
        Ok(())
    }

    /// Reads the page that `key` belongs to.
    fn read(&mut self, connection: &Connection, key: i64) -> Result<(i64, Page)> {
        self.drop_pages(connection)?;
        let sql = "SELECT low, high, entries FROM counted WHERE low <= ? ORDER BY low DESC LIMIT 1";
        let found = query_one(connection, sql, [key], Page::from_row)?;
        let (low, page) = found.unwrap_or_else(|| (i64::MIN, Page::empty()));
        if page.high < key {
            return Err(Error::unreadable("a page is missing"));
        }
        self.bytes += page.entries.len();
        Ok((low, page))
    }
}

/// The dedup index as one session sees it.
pub struct Counter<'a> {
    connection: &'a Connection,
    dedup_index: RefMut<'a, DedupIndex>,
    session: i64,
    family: Family<'a>,
    /// The sessions that have copies of records which this one has claimed from another.
    copiers: BTreeSet<i64>,
}

impl<'a> Counter<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        dedup_index: RefMut<'a, DedupIndex>,
        row: &SessionRow,
    ) -> Self {
        Self {
            connection,
            dedup_index,
            session: row.stored.id,
            family: Family::of(connection, row),
            copiers: BTreeSet::new(),
        }
    }

    /// Whether the records say that a session is a fork of another, contrary to what was known.
    pub fn has_found_forks(&self) -> bool {
        self.family.has_found_forks
    }

    /// The IDs of the sessions that had records of this one before it.
    pub fn parents(&self) -> Result<BTreeSet<String>> {
        let sql = "SELECT session_id FROM sessions WHERE id = ?";
        let id = |row| query_one(self.connection, sql, [row], |row| row.get(0));
        let parents = self.family.parents();
        parents.filter_map(|row| id(row).transpose()).collect()
    }
}

impl Index for Counter<'_> {
    type Error = Error;

    fn look_up(&mut self, key: Key, at: Option<Millis>) -> Result<Seen> {
        let session = self.session;
        let shares = self.dedup_index.find(self.connection, key)?;
        if shares.is_empty() {
            return Ok(Seen::default());
        }
        let is_inherited = self.family.had_first(&shares, at)?;
        let is_ours = |share: &&Share| share.session == session && share.is_copy == is_inherited;
        let is_original = |share: &&Share| is_inherited && !share.is_copy;
        let original = shares.iter().find(is_original);
        Ok(Seen {
            is_inherited,
            known: shares.iter().find(is_ours).map(|share| share.known),
            original_message: original.and_then(|share| share.known.message_of(key)),
        })
    }

    fn is_counted(&mut self, key: Key) -> Result<bool> {
        let shares = self.dedup_index.find(self.connection, key)?;
        Ok(shares.iter().any(|share| share.session == self.session))
    }

    fn put(&mut self, key: Key, known: Known) -> Result<()> {
        let session = self.session;
        let mut shares = self.dedup_index.find(self.connection, key)?;
        let is_copy = self.family.had_first(&shares, None)?;
        // A record that an older session claims no longer belongs to the other one, and those that
        // have copied it have another parent.
        let is_of_other = |share: &Share| !share.is_copy && share.session != session;
        let is_claimed = !is_copy && shares.iter().any(is_of_other);
        shares.retain(|share| share.session != session && (share.is_copy || is_copy));
        for copier in shares.iter().filter(|_| is_claimed) {
            if self.copiers.insert(copier.session) {
                mark_stale(self.connection, copier.session)?;
            }
        }
        shares.push(Share {
            session,
            is_copy,
            known,
        });
        self.dedup_index.put(self.connection, key, &shares)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{ErrorKind, Journal, StoreOptions, Write};
    use super::*;
    use crate::record::prices::Prices;
    use crate::record::session::Session;
    use crate::transcript::beginning::Origin;
    use proptest::prelude::*;

    fn journal(sessions: &[&str]) -> Journal {
        let mut journal = Journal::in_memory().unwrap();
        let options = StoreOptions {
            deployment: None,
            max_output: 0,
            prices: &Prices::default(),
            now: 0,
            changed_at: 0,
            is_finalized: true,
        };
        journal
            .write(|write| {
                for (index, session) in sessions.iter().enumerate() {
                    let mut row = write.new_row(Session::new(session, "host", 0), 0)?;
                    write.store(&mut row, &options)?;
                    // Each session is younger than those before.
                    let origin = Origin {
                        first_record_at: i64::try_from(index).unwrap(),
                        created_at: 0,
                    };
                    write.store_origin(&row, origin)?;
                }
                Ok(())
            })
            .unwrap();
        journal
    }

    fn hash(number: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
    }

    /// Counts records. Returns what was known about them before.
    fn count(journal: &mut Journal, session: &str, keys: impl Iterator<Item = u64>) -> Vec<Seen> {
        journal
            .write(|write| {
                let mut counter = write.counter(&write.load(session)?.unwrap());
                keys.map(|key| {
                    let seen = counter.look_up(hash(key), None)?;
                    counter.put(hash(key), Known::Part(key))?;
                    Ok(seen)
                })
                .collect()
            })
            .unwrap()
    }

    fn assert_whole(journal: &Journal) {
        let mut statement = journal
            .connection
            .prepare("SELECT low, high, entries FROM counted ORDER BY low")
            .unwrap();
        let mut next = Some(i64::MIN);
        for page in statement.query_map([], Page::from_row).unwrap() {
            let (low, page) = page.unwrap();
            assert_eq!(
                Some(low),
                next,
                "a gap between two pages, or two pages for one key"
            );
            let keys: Vec<_> = entries(&page.entries)
                .map(|entry| entry.unwrap().key)
                .collect();
            assert!(
                keys.is_sorted_by(|key, next| key < next)
                    && keys.iter().all(|key| (low..=page.high).contains(key))
            );
            next = page.high.checked_add(1);
        }
        assert_eq!(next, None);
    }

    #[test]
    fn copies_are_read_again_when_their_owner_changes_or_is_read_again() {
        let is_stale =
            |journal: &Journal, session| journal.load(session).unwrap().unwrap().is_stale;
        let mut journal = journal(&["a", "b", "c"]);
        // They are read in another order than that of their ages.
        for session in ["b", "c", "a"] {
            assert!(!is_stale(&journal, "c"));
            count(&mut journal, session, 0..10);
        }
        assert_eq!(
            ["a", "b", "c"].map(|session| is_stale(&journal, session)),
            [false, true, true]
        );
        for session in ["b", "c"] {
            let forget = |write: &Write<'_>| write.forget_transcript(session);
            journal.write(forget).unwrap();
            count(&mut journal, session, 0..10);
        }
        assert_eq!(
            ["b", "c"].map(|session| is_stale(&journal, session)),
            [false, false]
        );
        journal.write(|write| write.forget_transcript("a")).unwrap();
        assert_eq!(
            ["a", "b", "c"].map(|session| is_stale(&journal, session)),
            [false, true, true]
        );
    }

    #[test]
    fn more_items_than_fit_into_memory_are_counted_once() {
        const ITEMS: u64 = 120_000;
        let mut journal = journal(&["a", "b"]);
        for (round, more) in [(0, 0), (1, 1_000)] {
            let known = count(&mut journal, "a", more..ITEMS + more)
                .iter()
                .filter(|seen| seen.known.is_some())
                .count();
            assert_eq!(known as u64, round * (ITEMS - more));
        }
        assert_whole(&journal);
        assert!(
            count(&mut journal, "b", 0..ITEMS)
                .iter()
                .all(|seen| seen.is_inherited)
        );
        journal.write(|write| write.forget("a", None, 0)).unwrap();
        assert_whole(&journal);
        assert!(journal.load("b").unwrap().unwrap().is_stale);
        let left: i64 = journal
            .connection
            .query_row("SELECT sum(length(entries)) FROM counted", [], |row| {
                row.get(0)
            })
            .unwrap();
        journal.write(|write| write.forget_transcript("b")).unwrap();
        assert_whole(&journal);
        let none: i64 = journal
            .connection
            .query_row("SELECT sum(length(entries)) FROM counted", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert!(left > 0 && none == 0);
    }

    #[test]
    fn truncated_or_missing_page_is_damage() {
        let mut journal = journal(&["a"]);
        count(&mut journal, "a", 0..3);
        let record = journal.load("a").unwrap().unwrap();
        for cut in [
            "substr(entries, 1, length(entries) - 1)",
            "substr(entries, 1, 5)",
            "x'00'",
        ] {
            journal
                .connection
                .execute(&format!("UPDATE counted SET entries = {cut}"), [])
                .unwrap();
            let error = journal
                .write(|write| write.counter(&record).look_up(u64::MAX >> 1, None))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        }
        journal
            .connection
            .execute("UPDATE counted SET high = 0", [])
            .unwrap();
        let error = journal
            .write(|write| write.counter(&record).put(1, Known::Other))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    }

    proptest! {
        /// The model keeps the first session of each key, and which sessions have it.
        #[test]
        fn counted_equals_a_simple_model(
            counts in prop::collection::vec((0..3_usize, prop::collection::vec(0..40_u64, 1..60)), 1..12),
        ) {
            let names = ["a", "b", "c"];
            let mut journal = journal(&names);
            let mut owners: HashMap<u64, usize> = HashMap::new();
            let mut shares: BTreeSet<(usize, bool, u64)> = BTreeSet::new();
            for (session, keys) in counts {
                for key in keys {
                    let seen = count(&mut journal, names[session], std::iter::once(key)).remove(0);
                    let owner = *owners.get(&key).unwrap_or(&session);
                    let is_copy = owner < session;
                    if session < owner {
                        shares.remove(&(owner, false, key));
                    }
                    let is_known = shares.contains(&(session, is_copy, key));
                    prop_assert_eq!((seen.is_inherited, seen.known.is_some()), (is_copy, is_known));
                    shares.retain(|share| *share != (session, !is_copy, key));
                    shares.insert((session, is_copy, key));
                    if !is_copy {
                        owners.insert(key, session);
                    }
                }
            }
            assert_whole(&journal);
        }
    }
}
