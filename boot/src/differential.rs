//! `kexen.differential`: cases of the differential test, on this Xen.
//!
//! Prints a digest a case, eight to a line: `kexen-diff: FIRST D D D ...`.
//! With a choice of steps every outcome is printed instead:
//! `kexen-diff: step N results=... seen=...` (the last one is the clean-up).
//! The last line is `kexen-diff: done calls=N`; then the guest powers off.

use alloc::{format, string::String};
use core::fmt::Write as _;

use kexen_bootconfig::options::Differential;
use kexen_differential::{Digest, Kind, generate, run::run_case};
use kexen_guest::hypercall;

use kexen_platform::guest::Guest;
use kexen_platform::native::Native as _;
use kexen_platform::report::Report;

/// Digests in a line.
const IN_A_LINE: u64 = 8;

/// Runs the cases, says what came out, powers off.
pub(crate) fn run<G: Guest>(guest: &mut G, report: &Report, cases: Differential) {
    let m = guest.machine();
    let say = |text: &str| {
        report.raw(m, &format!("kexen-diff: {text}\n"));
        report.console().drain(m);
    };
    match guest.world() {
        Ok(mut world) => {
            let kind = if m.is_pv() { Kind::Pv } else { Kind::Pvh };
            let mut line = String::new();
            let mut calls = 0;
            for number in cases.first..cases.first.saturating_add(cases.count) {
                let ops = generate::case(kind, cases.seed, number);
                let mut digest = Digest::default();
                let keep = |n: usize| cases.keep.is_none_or(|bits| n < 128 && bits >> n & 1 == 1);
                calls += run_case(m, &mut world, &ops, &keep, &mut |n, outcome| {
                    outcome.fold(&mut digest);
                    if cases.keep.is_some() {
                        let list = |values: &[u64]| {
                            values.iter().fold(String::new(), |mut text, value| {
                                let _ = write!(text, "{value:x},");
                                text
                            })
                        };
                        let (results, seen) = (list(&outcome.results), list(&outcome.seen));
                        say(&format!("step {n} results={results} seen={seen}"));
                    }
                });
                if line.is_empty() {
                    line = format!("{number}");
                }
                let _ = write!(line, " {:016x}", digest.0);
                if (number - cases.first + 1).is_multiple_of(IN_A_LINE) {
                    say(&line);
                    line.clear();
                }
            }
            if !line.is_empty() {
                say(&line);
            }
            say(&format!("done calls={calls}"));
        }
        Err(why) => say(&format!("failed: {why}")),
    }
    let _ = hypercall::shutdown(m, kexen_abi::sched::SHUTDOWN_POWEROFF);
}
