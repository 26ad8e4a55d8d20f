//! `test --differential`: random hypercalls, on a real Xen and on the model.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};
use kexen_differential::{Kind, generate};

use super::tally::Tally;
use crate::host::tools;
use crate::lab::artefacts::Xen;
use crate::lab::differential::{self, Cases, Real, Values};
use crate::ui;

/// Hypercalls on each Xen and kind of guest, at least.
const CALLS: u64 = 50_000;
/// Cases in one guest: a translated one that maps its own grants loses a frame
/// each time, and may have some 240 more than it started with.
const IN_ONE: u64 = 200;
/// What is said of a case that agrees when it is run alone.
const ONLY_TOGETHER: &str = "differs only after the cases before it";
/// Digests that the guest prints in a line.
const AT_A_TIME: u64 = 8;
/// How many other cases that disagree are told of.
const OTHERS: usize = 7;
/// Real runs that shrinking one disagreement may take.
const SHRINK: u32 = 24;

/// One part of the test: a Xen and a kind of guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    xen: Xen,
    kind: Kind,
}

impl Part {
    /// Whether `test` runs a few cases of it each time.
    pub(crate) fn is_short(self) -> bool {
        (self.xen, self.kind) == (Xen::V4_17, Kind::Pv)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "xen-{}/{}", self.xen.version(), name(self.kind))
    }
}

/// All parts, or those of one Xen.
pub(crate) fn parts(only: Option<Xen>) -> Vec<Part> {
    let xens = Xen::ALL
        .into_iter()
        .filter(|xen| only.is_none_or(|one| one == *xen));
    xens.flat_map(|xen| [Kind::Pv, Kind::Pvh].map(|kind| Part { xen, kind }))
        .collect()
}

/// Runs parts of the test, and counts them. `quick` runs a few cases of each
/// alone.
pub(super) fn run(parts: &[Part], seed: u64, quick: bool) -> Result<Tally> {
    let mut tally = Tally::default();
    if parts.is_empty() {
        return Ok(tally);
    }
    tools::require_lab()?;
    let mut real = Real::new()?;
    for part in parts {
        let start = Instant::now();
        let result = compare(&mut real, part.xen, part.kind, seed, quick);
        let seconds = start.elapsed().as_secs_f64();
        let name = format!("differential: {part}");
        match &result {
            Ok((cases, calls)) => println!(
                "{name} ... ok ({cases} cases, {calls} hypercalls, seed {seed}, {seconds:.1} s)"
            ),
            Err(error) => println!("{name} ... FAILED ({seconds:.1} s)\n    {error:#}"),
        }
        tally.count(&name, &result);
    }
    Ok(tally)
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Pv => "pv",
        Kind::Pvh => "pvh",
    }
}

fn compare(real: &mut Real, xen: Xen, kind: Kind, seed: u64, quick: bool) -> Result<(u64, u64)> {
    let wanted = if quick { 1 } else { CALLS };
    let (mut first, mut calls) = (0, 0);
    while calls < wanted {
        let count = if quick { 40 } else { IN_ONE };
        let cases = Cases {
            xen,
            kind,
            seed,
            first,
            count,
        };
        let there = real.digests(cases)?;
        if let Some(last) = there.ended_after {
            // One of the next cases ended the guest: find which, and where.
            for case in last..(last + AT_A_TIME).min(first + count) {
                let one = Cases {
                    first: case,
                    count: 1,
                    ..cases
                };
                let text = explain(real, one)?;
                if !text.contains(ONLY_TOGETHER) {
                    bail!("the guest did not come to its end\n{text}");
                }
            }
            bail!("the guest did not come to its end after case {last}, nor alone");
        }
        let here = differential::on_model(cases)?;
        let differs = |(case, digest): &(&u64, &u64)| here.by_case.get(case) != Some(digest);
        let other: Vec<u64> = there
            .by_case
            .iter()
            .filter(differs)
            .map(|(case, _)| *case)
            .collect();
        if let Some((first, more)) = other.split_first() {
            let one = |case: u64| Cases {
                first: case,
                count: 1,
                ..cases
            };
            let mut text = format!("{} of {count} cases disagree; the first:\n", other.len());
            text.push_str(&explain(real, one(*first))?);
            for case in more.iter().take(OTHERS) {
                text.push_str(&first_difference(real, one(*case))?);
            }
            bail!("{text}");
        }
        calls += there.calls;
        first += count;
    }
    Ok((first, calls))
}

/// The first step whose outcomes differ.
fn difference(there: &BTreeMap<usize, Values>, here: &BTreeMap<usize, Values>) -> Option<usize> {
    let steps = there.keys().chain(here.keys());
    let mut steps: Vec<usize> = steps.copied().collect();
    steps.sort_unstable();
    steps
        .into_iter()
        .find(|step| there.get(step) != here.get(step))
}

/// Where another case differs first, in short.
fn first_difference(real: &mut Real, cases: Cases) -> Result<String> {
    let ops = generate::case(cases.kind, cases.seed, cases.first);
    let keep = (1_u128 << ops.len().min(127)) - 1;
    let there = real.steps(cases, keep)?;
    let here = differential::steps_on_model(cases, keep)?;
    let Some(step) = difference(&there, &here) else {
        return Ok(format!("  case {} alone does not differ\n", cases.first));
    };
    let values = side_by_side(there.get(&step), here.get(&step));
    let op = ops.get(step);
    Ok(format!(
        "  case {} differs at step {step}: {op:?}\n{values}",
        cases.first
    ))
}

/// Runs a case again step by step, shrinks it, and shows what differs.
fn explain(real: &mut Real, cases: Cases) -> Result<String> {
    let Cases {
        xen,
        kind,
        seed,
        first,
        ..
    } = cases;
    let ops = generate::case(kind, seed, first);
    let mut keep = (1_u128 << ops.len().min(127)) - 1;
    let differs = |real: &mut Real, keep: u128| -> Result<Option<usize>> {
        let there = real.steps(cases, keep)?;
        let here = differential::steps_on_model(cases, keep)?;
        Ok(difference(&there, &here))
    };
    let Some(step) = differs(real, keep)? else {
        return Ok(format!(
            "case {first} of seed {seed} {ONLY_TOGETHER}: a clean-up did not clean up; \
             replay with --seed {seed}"
        ));
    };
    if step < ops.len() {
        keep &= (1 << (step + 1)) - 1;
    }
    let shrink = ui::step(format!(
        "shrinking case {first} of {} steps",
        keep.count_ones()
    ));
    let mut chunk = keep.count_ones().div_ceil(2);
    let mut runs = 0;
    while chunk > 0 && runs < SHRINK {
        let kept: Vec<u32> = (0..128).filter(|n| keep >> n & 1 == 1).collect();
        let mut smaller = false;
        for part in kept.chunks(usize::try_from(chunk).unwrap_or(1)) {
            let without = part.iter().fold(keep, |bits, n| bits & !(1 << n));
            if without == 0 || runs >= SHRINK {
                continue;
            }
            runs += 1;
            if differs(real, without)?.is_some() {
                keep = without;
                smaller = true;
            }
        }
        if !smaller || chunk > 1 {
            chunk /= 2;
        }
    }
    shrink.done(format!("{} steps", keep.count_ones()));
    let there = real.steps(cases, keep)?;
    let here = differential::steps_on_model(cases, keep)?;
    let mut text = format!(
        "case {first} of seed {seed} on Xen {} ({}) disagrees with the model; \
         replay with `test --differential --seed {seed} --xen {}`\n",
        xen.version(),
        name(kind),
        xen.version(),
    );
    for n in (0..ops.len()).filter(|n| *n < 128 && keep >> n & 1 == 1) {
        text.push_str(&format!("    step {n}: {:?}\n", ops[n]));
    }
    for step in there.keys().chain(here.keys()) {
        let (a, b) = (there.get(step), here.get(step));
        if a != b {
            text.push_str(&format!("    step {step} differs:\n{}", side_by_side(a, b)));
            break;
        }
    }
    text.push_str("    the model's Xen says:\n");
    for line in differential::model_log(cases, keep)? {
        text.push_str(&format!("      {line}\n"));
    }
    Ok(text)
}

fn side_by_side(there: Option<&Values>, here: Option<&Values>) -> String {
    let (Some(there), Some(here)) = (there, here) else {
        let side = if there.is_some() {
            "the real Xen"
        } else {
            "the model"
        };
        return format!("      only {side} came to it\n");
    };
    let mut text = String::new();
    for n in 0..there.len().max(here.len()) {
        let (a, b) = (there.get(n), here.get(n));
        if a != b {
            text.push_str(&format!("      value {n}: real {a:x?}, model {b:x?}\n"));
        }
    }
    text
}
