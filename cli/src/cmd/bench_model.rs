//! The model's part of `bench`: operations and schedules a second, on one
//! core, as its own example program measures them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::host::{command, workspace};
use crate::ui;

/// Page-type operations a second that are to be reached.
const GOAL: u64 = 2_000_000;

/// Figures by kind.
pub(crate) type Figures = BTreeMap<String, u64>;

/// Builds the example optimised, and runs it.
pub(crate) fn measure() -> Result<Figures> {
    let step = ui::step("the model, on one core");
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--release", "-p", "kexen-model"]);
    let text = command::text(cargo.args(["--example", "figures"]))?;
    let pair = |line: &str| -> Result<(String, u64)> {
        let (key, value) = line
            .split_once('=')
            .with_context(|| format!("no figure: {line}"))?;
        Ok((key.to_owned(), value.parse()?))
    };
    let figures = text.lines().map(pair).collect::<Result<_>>()?;
    step.done("measured");
    Ok(figures)
}

/// Prints them.
pub(crate) fn show(figures: &Figures) {
    println!("\nThe model on one core, each second:");
    for (kind, count) in figures {
        let goal = if kind == "page_type_updates" {
            format!("  (to reach: {GOAL})")
        } else {
            String::new()
        };
        println!("  {:<20} {count:>12}{goal}", kind.replace('_', " "));
    }
}
