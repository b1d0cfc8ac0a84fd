//! Reads the pages of a database file without SQLite. SQLite refuses files that it does not trust; this module trusts
//! no part of the file.
//!
//! <https://sqlite.org/fileformat2.html> describes the format. Every number in the file may have any value. Therefore
//! all reads are bounds-checked, and every chain of pages is bounded.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt, path::Path};

use crate::connection::beside;

/// Page size of every database of ours in bytes; the whole page is used.
const USUAL_PAGE: usize = 4096;

/// Size of the header of a database file, in bytes.
const HEAD: usize = 100;
/// Size of the header of a write-ahead log, in bytes.
const WAL_HEAD: u64 = 32;
/// Size of the header of a frame in a write-ahead log, in bytes.
const FRAME_HEAD: u64 = 24;

/// A database file together with the committed pages in its write-ahead log.
pub(super) struct Pages {
    file: File,
    /// Bytes per page.
    size: usize,
    /// Bytes per page that SQLite uses, from the start of the page.
    usable: usize,
    /// Number of pages in the database file, without the write-ahead log.
    count: u32,
    wal: Option<File>,
    /// Offset in the write-ahead log of each page that was committed there.
    newer: HashMap<u32, u64>,
}

impl Pages {
    /// Opens a file with our usual page size, whatever its header states. Only a valid write-ahead log overrides the
    /// size.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::of(path, USUAL_PAGE, USUAL_PAGE)
    }

    /// Opens a file with the page size from its header. Returns `None` if that size is the usual one or is invalid, or
    /// if the file cannot be read.
    pub(super) fn of_header_size(path: &Path) -> Option<Self> {
        let mut head = [0; HEAD];
        File::open(path).ok()?.read_exact_at(&mut head, 0).ok()?;
        let size = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65536,
            bytes => usize::from(bytes),
        };
        let usable = size.checked_sub(usize::from(head[20])).filter(|usable| *usable >= 480)?;
        let is_valid =
            head.starts_with(b"SQLite format 3\0") && (512..=65536).contains(&size) && size.is_power_of_two();
        (is_valid && (size, usable) != (USUAL_PAGE, USUAL_PAGE)).then(|| Self::of(path, size, usable).ok())?
    }

    fn of(path: &Path, size: usize, usable: usize) -> io::Result<Self> {
        let log = File::open(beside(path, "-wal"));
        let (file, length) = match File::open(path) {
            Ok(file) => {
                let length = file.metadata()?.len();
                (file, length)
            }
            // Only the write-ahead log is left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (log.as_ref().map_err(|_| error)?.try_clone()?, 0),
            Err(error) => return Err(error),
        };
        let count = u32::try_from(length / size as u64).unwrap_or(u32::MAX);
        let mut pages = Self { file, size, usable, count, wal: None, newer: HashMap::new() };
        if let Ok(wal) = log {
            // The unreadable part of the log was never committed, or is lost.
            pages.read_wal(wal).unwrap_or_default();
        }
        Ok(pages)
    }

    /// The numbers of all pages.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        let last = self.newer.keys().copied().max().unwrap_or(0).max(self.count);
        1..=last
    }

    /// Returns the last committed version of a page; `None` if it cannot be read.
    pub(super) fn page(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; self.size];
        match (self.newer.get(&number), &self.wal) {
            (Some(at), Some(wal)) => wal.read_exact_at(&mut page, *at).ok()?,
            _ if (1..=self.count).contains(&number) => {
                self.file.read_exact_at(&mut page, u64::from(number - 1) * self.size as u64).ok()?;
            }
            _ => return None,
        }
        page.truncate(self.usable);
        Some(page)
    }

    /// Records the pages of all committed transactions. As in SQLite's recovery, frames count as long as their salts
    /// and checksums match, up to the last commit.
    fn read_wal(&mut self, wal: File) -> io::Result<()> {
        let mut head = [0; 32];
        wal.read_exact_at(&mut head, 0)?;
        let word =
            |bytes: &[u8], at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let is_big = match word(&head, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return Ok(()),
        };
        let size = word(&head, 8) as usize;
        let mut sum = checksum([0, 0], &head[..24], is_big);
        if sum != [word(&head, 24), word(&head, 28)] || !(512..=65536).contains(&size) || !size.is_power_of_two() {
            return Ok(());
        }
        if size != self.size {
            // Trust the write-ahead log, which has a checksum; the header of the file has none.
            let length = u64::from(self.count) * self.size as u64;
            (self.size, self.usable) = (size, size);
            self.count = u32::try_from(length / size as u64).unwrap_or(u32::MAX);
        }
        let mut pending = HashMap::new();
        let mut at = WAL_HEAD;
        let mut frame = [0; 24];
        let mut page = vec![0; size];
        while wal.read_exact_at(&mut frame, at).is_ok() && wal.read_exact_at(&mut page, at + FRAME_HEAD).is_ok() {
            sum = checksum(checksum(sum, &frame[..8], is_big), &page, is_big);
            if frame[8..16] != head[16..24] || sum != [word(&frame, 16), word(&frame, 20)] {
                break;
            }
            pending.insert(word(&frame, 0), at + FRAME_HEAD);
            if word(&frame, 4) > 0 {
                self.newer.extend(pending.drain());
            }
            at += FRAME_HEAD + size as u64;
        }
        self.wal = Some(wal);
        Ok(())
    }

    /// The cells of a page that holds rows or index entries, except those whose records cannot be assembled. Empty for
    /// other pages.
    pub(super) fn cells(&self, page: &[u8], is_first: bool) -> Vec<Cell> {
        let base = if is_first { HEAD } else { 0 };
        let kind = match page.get(base) {
            Some(0x0d) => Kind::Rows,
            Some(0x0a) => Kind::Entries { head: 8 },
            Some(0x02) => Kind::Entries { head: 12 },
            _ => return Vec::new(),
        };
        let head = if let Kind::Entries { head } = kind { head } else { 8 };
        let number = |at: usize| Some(usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?])));
        let count = number(base + 3).unwrap_or(0).min(self.usable / 4);
        let offsets = (0..count).filter_map(|n| number(base + head + 2 * n));
        offsets.filter_map(|at| self.cell(page, at, kind)).collect()
    }

    fn cell(&self, page: &[u8], at: usize, kind: Kind) -> Option<Cell> {
        // On an inner page of an index, the number of the child page precedes the record.
        let mut at = if let Kind::Entries { head: 12 } = kind { at + 4 } else { at };
        let length = usize::try_from(varint(page, &mut at)?).ok()?;
        let row = if let Kind::Rows = kind { varint(page, &mut at)? } else { 0 };
        if length == 0 || length > LONGEST {
            return None;
        }
        let (usable, least) = (self.usable, (self.usable - 12) * 32 / 255 - 23);
        let most = if let Kind::Rows = kind { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        let here = match least + (length.saturating_sub(least)) % (usable - 4) {
            _ if length <= most => length,
            fits if fits <= most => fits,
            _ => least,
        };
        let mut record = page.get(at..at + here)?.to_vec();
        let mut next =
            if here < length { u32::from_be_bytes(page.get(at + here..at + here + 4)?.try_into().ok()?) } else { 0 };
        while record.len() < length {
            let page = self.page(next)?;
            next = u32::from_be_bytes(page.get(..4)?.try_into().ok()?);
            let left = (length - record.len()).min(page.len() - 4);
            record.extend(&page[4..4 + left]);
        }
        Some(Cell { row, record })
    }
}

/// Maximum length of an assembled record, in bytes: an event of the maximum size with its columns.
const LONGEST: usize = thrum_core::limits::MAX_EVENT_BYTES + (64 << 10);

#[derive(Clone, Copy)]
enum Kind {
    Rows,
    Entries { head: usize },
}

/// A row or an index entry.
pub(super) struct Cell {
    pub(super) row: u64,
    record: Vec<u8>,
}

/// A value in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Other,
}

impl<'a> Value<'a> {
    pub(super) fn text(self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn number(self) -> Option<u64> {
        if let Self::Integer(number) = self { u64::try_from(number).ok() } else { None }
    }
}

impl Cell {
    /// Returns `true` if this is a well-formed record: its header gives the right length.
    pub(super) fn is_record(&self) -> bool {
        self.measure().is_some_and(|length| length == self.record.len() as u64)
    }

    fn measure(&self) -> Option<u64> {
        let mut at = 0;
        let head = usize::try_from(varint(&self.record, &mut at)?).ok()?;
        let mut length = head as u64;
        while at < head {
            length = length.checked_add(match varint(self.record.get(..head)?, &mut at)? {
                0 | 8 | 9 => 0,
                kind @ 1..=4 => kind,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return None,
                kind => (kind - 12) / 2,
            })?;
        }
        (at == head && at > 1).then_some(length)
    }

    /// The values of the record, if it has exactly `N`.
    pub(super) fn values<const N: usize>(&self) -> Option<[Value<'_>; N]> {
        let record = &self.record;
        let mut at = 0;
        let head = usize::try_from(varint(record, &mut at)?).ok()?;
        let mut kinds = [0; N];
        for kind in &mut kinds {
            *kind = varint(record.get(..head)?, &mut at)?;
        }
        if at != head {
            return None;
        }
        let mut values = [Value::Null; N];
        for (value, kind) in values.iter_mut().zip(kinds) {
            let length = match kind {
                0 | 8 | 9 => 0,
                1..=4 => usize::try_from(kind).ok()?,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return None,
                _ => usize::try_from((kind - 12) / 2).ok()?,
            };
            let bytes = record.get(at..at.checked_add(length)?)?;
            *value = match kind {
                0 => Value::Null,
                8 => Value::Integer(0),
                9 => Value::Integer(1),
                1..=6 => {
                    let first = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
                    Value::Integer(bytes.iter().fold(first, |number: i64, byte| number << 8 | i64::from(*byte)))
                }
                kind if kind >= 13 && kind % 2 == 1 => Value::Text(std::str::from_utf8(bytes).ok()?),
                _ => Value::Other,
            };
            at += length;
        }
        Some(values)
    }
}

/// SQLite's variable-length integers of one to nine bytes.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for n in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if n == 8 {
            return Some(number << 8 | u64::from(byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(number)
}

/// The checksum of a write-ahead log, computed over pairs of words.
fn checksum([mut one, mut two]: [u32; 2], bytes: &[u8], is_big: bool) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let word = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
            if is_big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        one = one.wrapping_add(word(0)).wrapping_add(two);
        two = two.wrapping_add(word(4)).wrapping_add(one);
    }
    [one, two]
}
