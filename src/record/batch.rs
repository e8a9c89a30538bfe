//! The records of some stretches: what is known about each, and what has to be remembered.

use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use super::Millis;
use super::index::{Index, Key, KeyMap, Known, Seen};
use super::prices::Prices;

/// What is known about the records of some stretches, and what has to be remembered.
pub(super) struct Batch<'a, I> {
    index: &'a mut I,
    pub(super) prices: &'a Prices,
    records: KeyMap<(Seen, bool)>,
}

impl<'a, I: Index> Batch<'a, I> {
    /// Looks up the records of all facts at once, each with the time at which it was written.
    pub(super) fn new(
        index: &'a mut I,
        keys: impl Iterator<Item = (Key, Option<Millis>)>,
        prices: &'a Prices,
    ) -> Result<Self, I::Error> {
        let keys: Vec<_> = keys.collect();
        let mut records =
            KeyMap::with_capacity_and_hasher(keys.len(), BuildHasherDefault::default());
        for (key, at) in keys {
            if let Entry::Vacant(record) = records.entry(key) {
                record.insert((index.look_up(key, at)?, false));
            }
        }
        Ok(Self {
            index,
            prices,
            records,
        })
    }

    pub(super) fn get(&mut self, key: Key) -> Result<Seen, I::Error> {
        if let Some((seen, _)) = self.records.get(&key) {
            return Ok(*seen);
        }
        let seen = self.index.look_up(key, None)?;
        self.records.insert(key, (seen, false));
        Ok(seen)
    }

    /// Whether the session has counted a record, which may belong to another session.
    pub(super) fn is_counted(&mut self, key: Key) -> Result<bool, I::Error> {
        match self.records.get(&key) {
            Some((seen, _)) => Ok(seen.known.is_some()),
            None => self.index.is_counted(key),
        }
    }

    pub(super) fn put(&mut self, key: Key, known: Known) {
        let (seen, is_changed) = self.records.entry(key).or_default();
        seen.known = Some(known);
        *is_changed = true;
    }

    /// Marks a record as history, although no session is known that had it first.
    pub(super) fn inherit(&mut self, key: Key) -> Result<(), I::Error> {
        self.get(key)?;
        if let Some((seen, _)) = self.records.get_mut(&key) {
            seen.is_inherited = true;
        }
        Ok(())
    }

    /// Remembers a record that counts once. Returns whether it counts for this session.
    pub(super) fn is_new(&mut self, key: Key) -> Result<bool, I::Error> {
        let seen = self.get(key)?;
        if seen.known.is_none() {
            self.put(key, Known::Other);
        }
        Ok(seen.known.is_none() && !seen.is_inherited)
    }

    /// Writes what has changed.
    pub(super) fn finish(self) -> Result<(), I::Error> {
        for (key, (seen, is_changed)) in self.records {
            if let Some(known) = seen.known.filter(|_| is_changed) {
                self.index.put(key, known)?;
            }
        }
        Ok(())
    }
}
