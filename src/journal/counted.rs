//! What was counted on this machine: every message, tool call and prompt, under the session that
//! had it first.
//!
//! A long transcript has two hundred thousand of them. Their keys are hashes, so a row for each is
//! inserted at another place of the table each time; that took a third of all instructions of a
//! cold reading, and nine tenths of the time of an import (measured). So a row of the table
//! `counted` is a page: the entries between two keys, packed one after another. A transaction takes
//! the pages that it needs, counts in memory, and writes what has changed, in order, before it
//! commits. Pages stay packed in memory, because unpacking costs more than looking through one.

use std::array;
use std::cell::RefMut;
use std::collections::hash_map::Entry as Known;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::mem::take;
use std::ops::Range;
use std::slice;

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Unreadable;
use crate::record::figures::{Counted, Item};

/// How long a page may be before it is split, in bytes; an entry takes some 24. From 600 to 1,900
/// all were as fast (measured); a page of SQLite's (4 KiB) takes four of these.
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

/// Entries in the order of their keys: the key (eight bytes), the length of its shares (four), and
/// the shares.
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

/// Going through a page. Most facts come in the order of their keys, so a page is gone through once
/// for all that belong to it; what changes is written behind what was passed before, so nothing is
/// moved to make room.
#[derive(Debug)]
struct Pass {
    low: i64,
    high: i64,
    /// The first key that may be asked for next; none behind the last of all.
    next: Option<i64>,
    /// The page as it was.
    old: Vec<u8>,
    /// How far that was looked through.
    at: usize,
    rewrite: Rewrite,
}

/// A page as it will be.
#[derive(Debug)]
struct Rewrite {
    entries: Vec<u8>,
    /// How far the page as it was stands here.
    up_to: usize,
}

/// The pages that a transaction has looked at, by the first key that belongs to them.
#[derive(Debug, Default)]
pub(super) struct DedupIndex {
    pages: BTreeMap<i64, Page>,
    /// How many bytes they hold.
    bytes: usize,
    /// The page that is gone through; its entries are here meanwhile.
    pass: Option<Pass>,
    /// Room for the next one to be written.
    spare: Vec<u8>,
}

impl DedupIndex {
    /// Writes what has changed.
    pub fn write(&mut self, connection: &Connection) -> Result<()> {
        self.end_pass()?;
        for (low, page) in self.pages.iter_mut().filter(|(_, page)| page.is_changed) {
            let sql = "INSERT OR REPLACE INTO counted (low, high, entries) VALUES (?, ?, ?)";
            connection
                .prepare_cached(sql)?
                .execute(params![low, page.high, page.entries])?;
            page.is_changed = false;
        }
        Ok(())
    }

    /// Takes out what was counted for `session`. Returns the sessions that had copied some of what
    /// it had first.
    pub fn forget(&mut self, connection: &Connection, session: i64) -> Result<BTreeSet<i64>> {
        self.write(connection)?;
        *self = Self::default();
        let mut heirs = BTreeSet::new();
        let mut statement = connection.prepare("SELECT low, high, entries FROM counted")?;
        for page in statement.query_map([], page)? {
            let (low, mut page) = page?;
            let mut kept = Vec::with_capacity(page.entries.len());
            for entry in entries(&page.entries) {
                let entry = entry?;
                let mut shares = unpack(entry.shares)?;
                if shares
                    .iter()
                    .any(|share| share.session == session && !share.is_copy)
                {
                    heirs.extend(
                        shares
                            .iter()
                            .filter(|share| share.is_copy)
                            .map(|share| share.session),
                    );
                }
                shares.retain(|share| share.session != session);
                if !shares.is_empty() {
                    pack(&mut kept, entry.key, &shares)?;
                }
            }
            if kept != page.entries {
                (page.entries, page.is_changed) = (kept, true);
                self.bytes += page.entries.len();
                self.pages.insert(low, page);
            }
        }
        Ok(heirs)
    }

    /// The page that `key` belongs to, gone through up to there.
    fn pass(&mut self, connection: &Connection, key: i64) -> Result<&mut Pass> {
        let pass = match self.pass.take() {
            Some(pass) if key <= pass.high && pass.next.is_some_and(|next| next <= key) => pass,
            other => {
                self.pass = other;
                self.end_pass()?;
                self.begin_pass(connection, key)?
            }
        };
        Ok(self.pass.insert(pass))
    }

    fn begin_pass(&mut self, connection: &Connection, key: i64) -> Result<Pass> {
        let held = self
            .pages
            .range_mut(..=key)
            .next_back()
            .filter(|(_, page)| key <= page.high);
        let (low, high, old) = if let Some((&low, page)) = held {
            (low, page.high, take(&mut page.entries))
        } else {
            let (low, mut page) = self.read(connection, key)?;
            let (high, old) = (page.high, take(&mut page.entries));
            self.bytes += old.len();
            self.pages.insert(low, page);
            (low, high, old)
        };
        Ok(Pass {
            low,
            high,
            next: Some(low),
            old,
            at: 0,
            rewrite: Rewrite {
                entries: take(&mut self.spare),
                up_to: 0,
            },
        })
    }

    /// Puts the page back. One that has become too long is split into even parts.
    fn end_pass(&mut self) -> Result<()> {
        let Some(Pass {
            mut low,
            high,
            mut old,
            rewrite,
            ..
        }) = self.pass.take()
        else {
            return Ok(());
        };
        let Rewrite {
            entries: mut new,
            up_to,
        } = rewrite;
        let page = self
            .pages
            .get_mut(&low)
            .context("could not find the page that was gone through")?;
        if new.is_empty() {
            (page.entries, self.spare) = (old, new);
            return Ok(());
        }
        self.bytes += new.len().saturating_sub(up_to);
        new.extend_from_slice(&old[up_to..]);
        page.is_changed = true;
        if new.len() <= MAX_PAGE {
            old.clear();
            (page.entries, self.spare) = (new, old);
            return Ok(());
        }
        let part = new.len() / new.len().div_ceil(MAX_PAGE);
        let mut start = 0;
        for entry in entries(&new) {
            let Entry { place, key, .. } = entry?;
            if place.start >= start + part {
                self.pages.insert(
                    low,
                    Page {
                        high: key - 1,
                        entries: new[start..place.start].to_owned(),
                        is_changed: true,
                    },
                );
                (low, start) = (key, place.start);
            }
        }
        self.pages.insert(
            low,
            Page {
                high,
                entries: new[start..].to_owned(),
                is_changed: true,
            },
        );
        new.clear();
        self.spare = new;
        Ok(())
    }

    /// Reads the page that `key` belongs to, and makes room for it. At first there is one, without
    /// entries, for all keys.
    fn read(&mut self, connection: &Connection, key: i64) -> Result<(i64, Page)> {
        if self.bytes > MAX_HELD {
            self.write(connection)?;
            *self = Self::default();
        }
        let sql = "SELECT low, high, entries FROM counted WHERE low <= ? ORDER BY low DESC LIMIT 1";
        let found = connection
            .prepare_cached(sql)?
            .query_row([key], page)
            .optional()?;
        Ok(found.unwrap_or((
            i64::MIN,
            Page {
                high: i64::MAX,
                entries: Vec::new(),
                is_changed: false,
            },
        )))
    }
}

fn page(row: &Row<'_>) -> rusqlite::Result<(i64, Page)> {
    Ok((
        row.get(0)?,
        Page {
            high: row.get(1)?,
            entries: row.get(2)?,
            is_changed: false,
        },
    ))
}

impl Pass {
    /// Goes on to `key`. Returns where its entry stands, or would stand, in the page as it was.
    fn find(&mut self, key: i64) -> Result<Range<usize>> {
        self.next = key.checked_add(1);
        while let Some(entry) = first(&self.old, self.at)? {
            if entry.key >= key {
                return Ok(if entry.key == key {
                    entry.place
                } else {
                    self.at..self.at
                });
            }
            self.at = entry.place.end;
        }
        Ok(self.at..self.at)
    }
}

impl Rewrite {
    /// Goes on with an entry, which takes its place in the page as it was.
    fn put(
        &mut self,
        old: &[u8],
        place: Range<usize>,
        key: i64,
        shares: &[Share<'_>],
    ) -> Result<()> {
        self.entries
            .extend_from_slice(&old[self.up_to..place.start]);
        self.up_to = place.end;
        pack(&mut self.entries, key, shares)
    }
}

/// All entries of a page.
fn entries(page: &[u8]) -> impl Iterator<Item = Result<Entry<'_>>> {
    let mut at = 0;
    iter::from_fn(move || {
        let entry = first(page, at).transpose()?;
        at = entry.as_ref().map_or(page.len(), |entry| entry.place.end);
        Some(entry)
    })
}

/// The entry at this place of a page; none at its end.
#[inline]
fn first(page: &[u8], at: usize) -> Result<Option<Entry<'_>>> {
    let rest = &page[at..];
    if rest.is_empty() {
        return Ok(None);
    }
    let cut_off = || Unreadable("an entry is cut off".to_owned());
    let (key, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
    let shares = rest
        .get(..u32::from_le_bytes(*length) as usize)
        .ok_or_else(cut_off)?;
    let end = page.len() - rest.len() + shares.len();
    Ok(Some(Entry {
        place: at..end,
        key: i64::from_le_bytes(*key),
        shares,
    }))
}

fn unpack(shares: &[u8]) -> Result<Vec<Share<'_>>> {
    Ok(postcard::from_bytes(shares).map_err(|error| Unreadable(error.to_string()))?)
}

/// Appends an entry to a page.
fn pack(page: &mut Vec<u8>, key: i64, shares: &[Share<'_>]) -> Result<()> {
    page.extend_from_slice(&key.to_le_bytes());
    let length_at = page.len();
    page.extend_from_slice(&[0; 4]);
    *page = postcard::to_extend(shares, take(page))?;
    let length = u32::try_from(page.len() - length_at - 4)?;
    page[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Counts items for one session: remembers the largest figures of each and says what was known of
/// it.
pub struct Counter<'a> {
    connection: &'a Connection,
    dedup_index: RefMut<'a, DedupIndex>,
    session: i64,
    /// Whether this session is older than another one.
    is_older: HashMap<i64, bool>,
}

impl<'a> Counter<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        dedup_index: RefMut<'a, DedupIndex>,
        session: i64,
    ) -> Self {
        Self {
            connection,
            dedup_index,
            session,
            is_older: HashMap::new(),
        }
    }

    /// Counts an item.
    pub fn count(&mut self, item: &Item<'_>) -> Result<Counted> {
        let (session, key) = (self.session, item.key.cast_signed());
        let pass = self.dedup_index.pass(self.connection, key)?;
        let place = pass.find(key)?;
        let mut new = Share {
            session,
            is_copy: false,
            name: item.name,
            figures: item.figures,
        };
        let Some(entry) = first(&pass.old[place.clone()], 0)? else {
            pass.rewrite
                .put(&pass.old, place, key, slice::from_ref(&new))?;
            return Ok(Counted::default());
        };
        let mut shares = unpack(entry.shares)?;
        let owner = shares
            .iter()
            .find(|share| !share.is_copy)
            .map(|share| share.session)
            .filter(|&owner| owner != session);
        new.is_copy = match owner.map(|owner| (owner, self.is_older.entry(owner))) {
            None => false,
            // Forks may be read before their parents.
            Some((owner, Known::Vacant(unknown))) => {
                !*unknown.insert(take_over(self.connection, session, owner)?)
            }
            Some((_, Known::Occupied(known))) => !*known.get(),
        };
        let mut counted = Counted {
            inherited: new.is_copy,
            ..Counted::default()
        };
        match shares.iter_mut().find(|share| {
            share.is_copy == new.is_copy && (share.session == session || !new.is_copy)
        }) {
            None => shares.push(new),
            Some(known) => {
                counted.before = (known.session == session).then_some(known.figures);
                if item.name.is_empty() {
                    known.name.clone_into(&mut counted.name);
                    new.name = known.name;
                }
                new.figures = array::from_fn(|index| known.figures[index].max(item.figures[index]));
                if *known == new {
                    return Ok(counted);
                }
                *known = new;
            }
        }
        pass.rewrite.put(&pass.old, place, key, &shares)?;
        Ok(counted)
    }
}

/// Whether `session` had first what was counted for `owner`, because it is older. The owner is then
/// to be read anew.
fn take_over(connection: &Connection, session: i64, owner: i64) -> Result<bool> {
    let sql = "SELECT (younger.first_record_at, younger.created_at) > (older.first_record_at, older.created_at) FROM sessions AS younger, sessions AS older
               WHERE older.id = ? AND younger.id = ?";
    let answer = connection
        .prepare(sql)?
        .query_row([session, owner], |answer| answer.get(0))
        .optional()?;
    let is_older = answer.flatten().unwrap_or(false);
    if is_older {
        connection.execute(
            "UPDATE sessions SET is_stale = 1, is_finalized = 0 WHERE id = ?",
            [owner],
        )?;
    }
    Ok(is_older)
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::*;
    use crate::record::session::Session;
    use proptest::prelude::*;

    fn journal(sessions: &[&str]) -> Journal {
        let mut journal = Journal::in_memory().unwrap();
        journal
            .write(|write| {
                for (index, session) in sessions.iter().enumerate() {
                    let mut record = write.begin(Session::new(session, "host", 0), 0)?;
                    write.store(&mut record, None, 0, 0, 0, true)?;
                    // Each is younger than those before.
                    write.set_origin(&record, (i64::try_from(index)?, 0))?;
                }
                Ok(())
            })
            .unwrap();
        journal
    }

    fn hash(number: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
    }

    fn count(
        journal: &mut Journal,
        session: &str,
        keys: impl Iterator<Item = u64>,
        figure: u64,
    ) -> Vec<Counted> {
        journal
            .write(|write| {
                let mut counter = write.counter(&write.load(session)?.unwrap());
                keys.map(|key| {
                    counter.count(&Item {
                        key: hash(key),
                        name: "",
                        figures: [figure, 0, 0, key],
                    })
                })
                .collect()
            })
            .unwrap()
    }

    fn is_whole(journal: &Journal) {
        let mut statement = journal
            .connection
            .prepare("SELECT low, high, entries FROM counted ORDER BY low")
            .unwrap();
        let mut next = Some(i64::MIN);
        for page in statement.query_map([], page).unwrap() {
            let (low, page) = page.unwrap();
            assert_eq!(
                Some(low),
                next,
                "a gap between two pages, or two of them for one key"
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
    fn more_than_is_held_in_memory_is_counted_once() {
        const ITEMS: u64 = 500_000;
        let mut journal = journal(&["a", "b"]);
        for (round, more) in [(0, 0), (1, 1_000)] {
            let known = count(&mut journal, "a", more..ITEMS + more, 1)
                .iter()
                .filter(|counted| counted.before.is_some())
                .count();
            assert_eq!(known as u64, round * (ITEMS - more));
        }
        is_whole(&journal);
        assert!(
            count(&mut journal, "b", 0..ITEMS, 1)
                .iter()
                .all(|counted| counted.inherited)
        );
        journal.write(|write| write.forget("a", None, 0)).unwrap();
        is_whole(&journal);
        assert!(journal.load("b").unwrap().unwrap().is_stale);
        let left: i64 = journal
            .connection
            .query_row("SELECT sum(length(entries)) FROM counted", [], |row| {
                row.get(0)
            })
            .unwrap();
        journal.write(|write| write.forget_reading("b")).unwrap();
        is_whole(&journal);
        let none: i64 = journal
            .connection
            .query_row("SELECT sum(length(entries)) FROM counted", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert!(left > 0 && none == 0);
    }

    #[test]
    fn a_page_that_is_cut_off_is_damage() {
        let mut journal = journal(&["a"]);
        count(&mut journal, "a", 0..3, 1);
        let item = Item {
            key: u64::MAX >> 1,
            name: "",
            figures: [0; 4],
        };
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
                .write(|write| write.counter(&record).count(&item))
                .unwrap_err();
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
