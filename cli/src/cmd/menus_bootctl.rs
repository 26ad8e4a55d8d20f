//! The part of `menus` about Boot Loader Specification entries: `bootctl`'s list
//! beside Kexen's.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::host::tools;
use crate::lab::menus::bootctl::{self, Bootctl, Both};
use crate::lab::menus::esp;

/// What one partition came to.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    name: &'static str,
    entries: usize,
    left_out: Vec<String>,
    differences: Vec<String>,
    error: Option<String>,
    seconds: f64,
    #[serde(skip)]
    both: Option<Both>,
}

impl Outcome {
    /// What is wrong, if anything is.
    pub(crate) fn result(&self) -> Result<(), String> {
        match (&self.error, self.differences.first()) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(first)) => Err(first.clone()),
            (None, None) => Ok(()),
        }
    }

    /// What both make of it, a row a line.
    pub(crate) fn rows(&self) -> String {
        let rows = self.both.iter().flat_map(|both| &both.bootctl);
        rows.map(|row| format!("  {row:?}\n")).collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let result = if self.result().is_ok() {
            "ok"
        } else {
            "FAILED"
        };
        write!(
            f,
            "{}, bootctl ... {result} ({} entries, {:.1} s)",
            self.name, self.entries, self.seconds
        )?;
        if !self.left_out.is_empty() {
            let gone = self.left_out.join(", ");
            write!(f, "\n  listed, and not shown by systemd-boot: {gone}")?;
        }
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        if let Some(error) = &self.error {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

/// Compares the partitions that a filter wants, and says how each went.
pub(crate) fn table(
    wanted: &dyn Fn(&str) -> bool,
    say: &mut dyn FnMut(&Outcome),
) -> Result<Vec<Outcome>> {
    tools::require(&[tools::MKFS, tools::BOOTCTL])?;
    let bootctl = Bootctl::fetch()?;
    let mut outcomes = Vec::new();
    for esp in esp::all().iter().filter(|esp| wanted(esp.name)) {
        let start = Instant::now();
        let both = bootctl::both(&bootctl, esp);
        let (both, error) = match both {
            Ok(both) => (Some(both), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let outcome = Outcome {
            name: esp.name,
            entries: both.as_ref().map_or(0, |both| both.bootctl.len()),
            left_out: both
                .as_ref()
                .map_or(Vec::new(), |both| both.left_out.clone()),
            differences: both.as_ref().map_or(Vec::new(), Both::differences),
            error,
            seconds: start.elapsed().as_secs_f64(),
            both,
        };
        say(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}
