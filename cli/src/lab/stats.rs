//! The figures that Kexen prints with `kexen.stats`, read from its console.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The keys of a `kexen: stats` line before `hypercalls`; what follows that
/// key are hypercalls by kind.
const FIGURES: &[&str] = &[
    "running_ns",
    "runnable_ns",
    "blocked_ns",
    "offline_ns",
    "payload",
    "packed",
    "written",
    "zeroed",
    "exchanged",
    "mapped",
    "waited_connect_ns",
    "waited_connect",
    "waited_read_ns",
    "waited_read",
    "waited_close_ns",
    "waited_close",
    "heap_left",
    "hypercalls",
];

/// One `kexen: stats` line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stats {
    /// Nanoseconds, bytes, pages and totals.
    pub(crate) figures: BTreeMap<String, u64>,
    /// Hypercalls by kind.
    pub(crate) calls: BTreeMap<String, u64>,
}

impl Stats {
    /// Reads a console line, if it is one of these.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("kexen: stats ")?;
        let mut stats = Self::default();
        for word in rest.split_whitespace() {
            let (key, value) = word.split_once('=')?;
            let value = value.parse().ok()?;
            let map = if FIGURES.contains(&key) {
                &mut stats.figures
            } else {
                &mut stats.calls
            };
            map.insert(key.to_owned(), value);
        }
        Some(stats)
    }

    /// A figure by its key.
    pub(crate) fn figure(&self, key: &str) -> Result<u64> {
        self.figures
            .get(key)
            .copied()
            .with_context(|| format!("Kexen's stats line has no {key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_are_read() {
        let line = "kexen: stats running_ns=5 payload=100 written=104 hypercalls=3 mmu_update=2 memory_op=1";
        let stats = Stats::parse(line).unwrap();
        assert_eq!(stats.figure("written").unwrap(), 104);
        assert_eq!(stats.figure("hypercalls").unwrap(), 3);
        assert_eq!(stats.calls.len(), 2);
        assert!(stats.figure("zeroed").is_err());
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(Stats::parse("kexen: starting Linux"), None);
        assert_eq!(Stats::parse("kexen: stats running_ns=x"), None);
    }
}
