//! Chains of clusters as runs of bytes on the disk.

use alloc::{format, vec, vec::Vec};
use core::cell::RefCell;

use super::{
    super::{Problem, walk},
    bpb::{Layout, Width},
};
use crate::BlockSource;

/// Runs of a file at most: more is no boot file.
pub const MOST_RUNS: usize = 1 << 16;
/// Bytes of the table that are read at once.
const WINDOW: u64 = 4096;

/// Bytes of a file that are one after another on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where in the file.
    pub(super) from: u64,
    /// Where on the disk.
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// The table, of which a piece is kept.
pub(super) struct Table {
    window: RefCell<(u64, Vec<u8>)>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            window: RefCell::new((0, Vec::new())),
        }
    }

    /// Two or four bytes of the table.
    fn bytes<const N: usize>(&self, source: &dyn BlockSource, at: u64) -> Result<[u8; N], Problem> {
        let mut window = self.window.borrow_mut();
        let (start, bytes) = &mut *window;
        let found = |start: u64, bytes: &[u8]| {
            let within = usize::try_from(at.checked_sub(start)?).ok()?;
            bytes.get(within..)?.first_chunk().copied()
        };
        if let Some(found) = found(*start, bytes) {
            return Ok(found);
        }
        // An entry of FAT12 may lie across the border.
        let end = at.saturating_add(WINDOW).min(source.bytes());
        let len = usize::try_from(end.saturating_sub(at)).unwrap_or(0);
        *start = at;
        *bytes = vec![0; len];
        let read = source.read_at(at, bytes);
        if read.is_err() {
            bytes.clear();
        }
        read?;
        found(at, bytes).ok_or_else(|| Problem::Corrupt("the table is beyond the end".into()))
    }

    /// The cluster behind another; nothing at the end.
    fn next(
        &self,
        source: &dyn BlockSource,
        layout: &Layout,
        cluster: u32,
    ) -> Result<Option<u32>, Problem> {
        let at = |offset: u64| layout.table.saturating_add(offset);
        let number = u64::from(cluster);
        // Both parts of an entry of FAT12 have a half of the middle byte.
        let (value, end) = match layout.width {
            Width::Fat12 => {
                let at = at(number.saturating_add(number >> 1));
                let pair = u16::from_le_bytes(self.bytes(source, at)?);
                let value = if cluster & 1 == 0 {
                    pair & 0xfff
                } else {
                    pair >> 4
                };
                (u32::from(value), 0xff8)
            }
            Width::Fat16 => {
                let at = at(number.saturating_mul(2));
                (u16::from_le_bytes(self.bytes(source, at)?).into(), 0xfff8)
            }
            Width::Fat32 => {
                let at = at(number.saturating_mul(4));
                let value = u32::from_le_bytes(self.bytes(source, at)?);
                (value & 0x0fff_ffff, 0x0fff_fff8)
            }
        };
        Ok((value < end).then_some(value))
    }

    /// The runs of the chain from a cluster: of a file of `len` bytes, or all
    /// of a directory's, which are at most so many.
    pub(super) fn runs(
        &self,
        source: &dyn BlockSource,
        layout: &Layout,
        first: u32,
        len: u64,
        is_directory: bool,
    ) -> Result<Vec<Run>, Problem> {
        let size = u64::from(layout.cluster);
        let mut runs: Vec<Run> = Vec::new();
        let mut from = 0_u64;
        let mut next = (len > 0).then_some(first);
        while let Some(cluster) = next.filter(|_| from < len) {
            let index = cluster
                .checked_sub(2)
                .filter(|index| *index < layout.clusters)
                .ok_or_else(|| Problem::Corrupt(format!("a chain has cluster {cluster}")))?;
            // No chain has more clusters than there are.
            if from.checked_div(size).unwrap_or(0) >= layout.clusters.into() {
                return Err(Problem::Corrupt("a chain of clusters is a loop".into()));
            }
            let at = layout
                .data
                .saturating_add(u64::from(index).saturating_mul(size));
            let count = runs.len();
            match runs.last_mut() {
                Some(run) if run.at.saturating_add(run.bytes) == at => {
                    run.bytes = run.bytes.saturating_add(size);
                }
                _ if count >= MOST_RUNS => {
                    return Err(walk::limit("pieces of a file", MOST_RUNS));
                }
                _ => runs.push(Run {
                    from,
                    at,
                    bytes: size,
                }),
            }
            from = from.saturating_add(size);
            next = if from < len || is_directory {
                self.next(source, layout, cluster)?
            } else {
                None
            };
        }
        if is_directory && next.is_some() {
            return Err(Problem::Limit {
                what: "bytes of a directory",
                limit: len,
            });
        }
        if !is_directory && from < len {
            let text = format!("a chain ends after {from} of {len} bytes");
            return Err(Problem::Corrupt(text));
        }
        Ok(runs)
    }
}

/// Reads from a file of these runs, which cover what is asked for.
pub(super) fn read(
    source: &dyn BlockSource,
    runs: &[Run],
    offset: u64,
    into: &mut [u8],
) -> Result<(), Problem> {
    let first = runs.partition_point(|run| run.from.saturating_add(run.bytes) <= offset);
    let mut offset = offset;
    let mut into = into;
    for run in runs.get(first..).unwrap_or_default() {
        if into.is_empty() {
            return Ok(());
        }
        let within = offset.saturating_sub(run.from);
        let left = run.bytes.saturating_sub(within);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let (now, later) = into.split_at_mut_checked(len).unwrap_or_default();
        source.read_at(run.at.saturating_add(within), now)?;
        offset = offset.saturating_add(u64::try_from(len).unwrap_or(0));
        into = later;
    }
    if into.is_empty() {
        return Ok(());
    }
    Err(Problem::Corrupt("a chain is shorter than its file".into()))
}
