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

/// The length at which a page is split, in bytes; an entry takes about 24. All lengths from 600 to
/// 1,900 were equally fast (measured); four of these fit into a page of SQLite (4 KiB).
const MAX_PAGE: usize = 960;

/// The length of the key and the length of the shares before them, in bytes.
const HEADER: usize = 12;

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

    /// The packed shares of the record with this key.
    pub fn find(&self, key: i64) -> Result<Option<&[u8]>> {
        let mut at = 0;
        while let Some(entry) = first(&self.entries, at)? {
            if entry.key >= key {
                return Ok((entry.key == key).then_some(entry.shares));
            }
            at = entry.place.end;
        }
        Ok(None)
    }

    /// Merges changed entries into this page, whose first key is `low`. Returns the resulting pages,
    /// each with its first key; there are several if it has become too long. The changes are keys
    /// in their order, with packed shares.
    pub fn merge<'a>(
        &self,
        low: i64,
        changes: impl Iterator<Item = (i64, &'a [u8])>,
    ) -> Result<Vec<(i64, Self)>> {
        let old = &self.entries;
        let mut merged = Vec::with_capacity(old.len());
        let (mut copied, mut at) = (0, 0);
        for (key, shares) in changes {
            let place = loop {
                match first(old, at)? {
                    Some(entry) if entry.key < key => at = entry.place.end,
                    Some(entry) if entry.key == key => break entry.place,
                    _ => break at..at,
                }
            };
            merged.extend_from_slice(&old[copied..place.start]);
            push(&mut merged, key, shares)?;
            (copied, at) = (place.end, place.end);
        }
        merged.extend_from_slice(&old[copied..]);
        self.split(low, &merged)
    }

    /// Splits entries into even parts.
    fn split(&self, mut low: i64, entries: &[u8]) -> Result<Vec<(i64, Self)>> {
        let part = entries.len() / entries.len().div_ceil(MAX_PAGE).max(1);
        let page = |high, entries: &[u8]| Self {
            high,
            entries: entries.to_owned(),
            is_changed: true,
        };
        let mut pages = Vec::new();
        let mut start = 0;
        for entry in self::entries(entries) {
            let Entry { place, key, .. } = entry?;
            if place.start >= start + part {
                pages.push((low, page(key - 1, &entries[start..place.start])));
                (low, start) = (key, place.start);
            }
        }
        pages.push((low, page(self.high, &entries[start..])));
        Ok(pages)
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
    let Some((key, rest)) = rest.split_first_chunk() else {
        return Err(cut_off());
    };
    let Some((length, rest)) = rest.split_first_chunk() else {
        return Err(cut_off());
    };
    let length = u32::from_le_bytes(*length) as usize;
    let Some(shares) = rest.get(..length) else {
        return Err(cut_off());
    };
    Ok(Some(Entry {
        place: at..at + HEADER + length,
        key: i64::from_le_bytes(*key),
        shares,
    }))
}

#[cold]
fn cut_off() -> Error {
    Error::unreadable("an entry is cut off")
}

pub(super) fn unpack(shares: &[u8]) -> Result<Vec<Share>> {
    postcard::from_bytes(shares).map_err(Error::unreadable)
}

/// Appends packed shares. Returns their place.
pub(super) fn pack(shares: &[Share], to: &mut Vec<u8>) -> Result<Range<usize>> {
    let start = to.len();
    *to = postcard::to_extend(shares, take(to)).map_err(Error::too_large)?;
    Ok(start..to.len())
}

/// Appends an entry to a page.
pub(super) fn push(page: &mut Vec<u8>, key: i64, shares: &[u8]) -> Result<()> {
    let length = u32::try_from(shares.len()).map_err(Error::too_large)?;
    page.extend_from_slice(&key.to_le_bytes());
    page.extend_from_slice(&length.to_le_bytes());
    page.extend_from_slice(shares);
    Ok(())
}
