//! The pages of the dedup index: entries in the order of their keys, packed one after another.
//!
//! An entry is its key (eight bytes), the length of its shares (four), and the shares.

use std::iter;
use std::mem::take;
use std::ops::Range;

use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use crate::record::index::Known;

/// A session's share of a record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Share {
    /// The row of the session.
    pub session: i64,
    /// Another session had the record first, so this is history that a fork copied.
    pub is_copy: bool,
    /// What the session counted the record as.
    pub known: Known,
}

/// A page of entries.
#[derive(Debug)]
pub(super) struct Page {
    /// The last key that belongs here.
    pub high: i64,
    pub entries: Vec<u8>,
    pub is_changed: bool,
}

/// An entry and its place in the page.
pub(super) struct Entry<'a> {
    pub place: Range<usize>,
    pub key: i64,
    pub shares: &'a [u8],
}

/// One pass over a page. Most items come in the order of their keys, so one pass serves all that
/// belong to the page. Changed entries are appended to a copy, so that nothing is moved to make
/// space.
#[derive(Debug)]
pub(super) struct Pass {
    pub low: i64,
    pub high: i64,
    /// The smallest key that the pass can still find; `None` after the last key of all.
    next: Option<i64>,
    /// The original page.
    pub old: Vec<u8>,
    /// How much of it was passed.
    at: usize,
    pub rewrite: Rewrite,
}

/// The changed copy of a page.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub entries: Vec<u8>,
    /// How much of the original page has been copied or replaced.
    pub up_to: usize,
}

impl Page {
    /// The first page, without entries, for all keys.
    pub fn empty() -> Self {
        Self {
            high: i64::MAX,
            entries: Vec::new(),
            is_changed: false,
        }
    }

    /// Reads `low, high, entries`.
    pub fn from_row(row: &Row<'_>) -> rusqlite::Result<(i64, Self)> {
        let page = Self {
            high: row.get(1)?,
            entries: row.get(2)?,
            is_changed: false,
        };
        Ok((row.get(0)?, page))
    }

    pub fn changed(high: i64, entries: &[u8]) -> Self {
        Self {
            high,
            entries: entries.to_owned(),
            is_changed: true,
        }
    }
}

impl Pass {
    /// A pass over the entries of the page from `low` to `high`. `spare` is a buffer for the copy.
    pub fn new(low: i64, high: i64, entries: Vec<u8>, spare: Vec<u8>) -> Self {
        Self {
            low,
            high,
            next: Some(low),
            old: entries,
            at: 0,
            rewrite: Rewrite {
                entries: spare,
                up_to: 0,
            },
        }
    }

    /// Whether the pass can still find `key`.
    pub fn can_find(&self, key: i64) -> bool {
        key <= self.high && self.next.is_some_and(|next| next <= key)
    }

    /// Advances to `key`. Returns the place of its entry in the original page, or the empty place
    /// where it belongs.
    pub fn find(&mut self, key: i64) -> Result<Range<usize>> {
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
    /// Copies what precedes `place` in the original page, and puts an entry in that place.
    pub fn put(
        &mut self,
        old: &[u8],
        place: Range<usize>,
        key: i64,
        shares: &[Share],
    ) -> Result<()> {
        self.entries
            .extend_from_slice(&old[self.up_to..place.start]);
        self.up_to = place.end;
        pack(&mut self.entries, key, shares)
    }
}

/// All entries of a page.
pub(super) fn entries(page: &[u8]) -> impl Iterator<Item = Result<Entry<'_>>> {
    let mut at = 0;
    iter::from_fn(move || {
        let entry = first(page, at).transpose()?;
        at = entry.as_ref().map_or(page.len(), |entry| entry.place.end);
        Some(entry)
    })
}

/// The entry at this place of a page; `None` at its end.
#[inline]
pub(super) fn first(page: &[u8], at: usize) -> Result<Option<Entry<'_>>> {
    let rest = &page[at..];
    if rest.is_empty() {
        return Ok(None);
    }
    let cut_off = || Error::unreadable("an entry is cut off");
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

pub(super) fn unpack(shares: &[u8]) -> Result<Vec<Share>> {
    postcard::from_bytes(shares).map_err(Error::unreadable)
}

/// Appends an entry to a page.
pub(super) fn pack(page: &mut Vec<u8>, key: i64, shares: &[Share]) -> Result<()> {
    page.extend_from_slice(&key.to_le_bytes());
    let length_at = page.len();
    page.extend_from_slice(&[0; 4]);
    *page = postcard::to_extend(shares, take(page)).map_err(Error::too_large)?;
    let length = u32::try_from(page.len() - length_at - 4).map_err(Error::too_large)?;
    page[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}
