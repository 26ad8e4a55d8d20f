//! `test`: everything that tests the project, layer by layer.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::differential::{self, Part};
use super::readers;
use super::real_xen;
use crate::host::{command, tools, workspace};
use crate::lab::artefacts::Xen;
use crate::lab::build::{BARE_METAL, PACKAGE};
use crate::lab::matrix::{self, Case, Expect, Linux};
use crate::ui;

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// Only what needs no QEMU
    #[arg(long)]
    quick: bool,
    /// Name every test with its layer, and run none
    #[arg(long)]
    list: bool,
    /// Also the long runs, which tell what shorter ones do, at greater length or
    /// on the other Xen
    #[arg(long)]
    all: bool,
    /// Only tests with this text in their name (`layer: name`)
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Only the runs on this version of Xen
    #[arg(long, value_enum)]
    xen: Option<Xen>,
    /// Check the lab itself: the guests that should reach userspace, with
    /// their kernels started by the toolstack, without Kexen
    #[arg(long)]
    control: bool,
    /// Only the differential test: random hypercalls on a real Xen and on the
    /// model, every result compared (with --quick: a few of them)
    #[arg(long)]
    differential: bool,
    /// How many machines with a Xen run side by side: 1 or 2 (default: by
    /// processors and memory)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    jobs: Option<u8>,
    /// The seed of the differential test
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// How many tests came out how.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    fn count(&mut self, ok: bool) {
        if ok {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    fn line(self) -> String {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        if skipped == 0 {
            format!("{passed} passed, {failed} failed")
        } else {
            format!("{passed} passed, {failed} failed, {skipped} skipped")
        }
    }
}

/// A check that is one command of cargo's.
struct Check {
    layer: &'static str,
    name: &'static str,
    command: Command,
}

/// The checks before any test runs. Bare metal is built with and without the
/// features that leave single steps out and that ask Xen questions.
fn checks() -> Vec<Check> {
    let check = |layer, name, args: &[&str]| {
        let mut command = workspace::cargo();
        command.args(args);
        Check {
            layer,
            name,
            command,
        }
    };
    let mut bare = vec!["clippy"];
    bare.extend(PACKAGE);
    let deny = ["--", "-D", "warnings"];
    let mut all = vec!["clippy"];
    all.extend(BARE_METAL);
    let plain = [all.as_slice(), &deny].concat();
    let omission = [bare.as_slice(), &["--features", "omission"], &deny].concat();
    let probe = [bare.as_slice(), &["--features", "probe"], &deny].concat();
    let mut docs = check("docs", "cargo doc", &["doc", "--no-deps"]);
    docs.command.env("RUSTDOCFLAGS", "-D warnings");
    let mut bare = vec!["doc", "--no-deps", "--document-private-items"];
    bare.extend(BARE_METAL);
    let mut bare_docs = check("docs", "bare metal", &bare);
    bare_docs.command.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        check("fmt", "cargo fmt", &["fmt", "--all", "--check"]),
        check(
            "clippy",
            "host",
            &["clippy", "--all-targets", "--", "-D", "warnings"],
        ),
        check("clippy", "bare metal", &plain),
        check("clippy", "bare metal, omission", &omission),
        check("clippy", "bare metal, probe", &probe),
        docs,
        bare_docs,
    ]
}

/// Runs the tests; an error if any failed.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    if args.differential {
        let parts = differential::parts(args.xen);
        let (passed, failed) = differential::run(&parts, args.seed, args.quick)?;
        println!("{passed} passed, {failed} failed");
        if failed > 0 {
            bail!("{failed} failed");
        }
        return Ok(());
    }
    let wanted = |layer: &str, name: &str| {
        let name = format!("{layer}: {name}");
        args.filter
            .as_ref()
            .is_none_or(|text| name.contains(text.as_str()))
    };
    let cases: Vec<Case> = matrix::cases()
        .into_iter()
        .filter(|case| !args.quick && args.xen.is_none_or(|xen| case.xen == xen))
        .filter(|case| wanted("real-xen", &case.to_string()))
        .filter(|case| args.all || args.filter.is_some() || !case.is_long())
        // The toolstack itself does not know all compressions.
        .filter(|case| {
            let plain = matches!(case.linux, Linux::Debian(_));
            !args.control || plain && case.expect == Expect::Userspace
        })
        .collect();
    let only_xen = args.control || args.xen.is_some();
    let checks: Vec<Check> = checks()
        .into_iter()
        .filter(|check| !only_xen && wanted(check.layer, check.name))
        .collect();
    let parts: Vec<Part> = differential::parts(args.xen)
        .into_iter()
        .filter(|part| !args.quick && !args.control && wanted("differential", &part.to_string()))
        .collect();
    let read = |name: &str| {
        // All the others: `cargo kexen readers`.
        !args.quick && !only_xen && readers::often(name) && wanted("readers", name)
    };
    if args.list {
        for name in readers::names(&read) {
            ui::say(format!("readers: {name}"));
        }
        list(&checks, &cases, &wanted, !only_xen)?;
        for part in parts {
            ui::say(format!("differential: {part}"));
        }
        return Ok(());
    }
    let mut tally = Tally::default();
    if !checks.is_empty() {
        tools::require_target()?;
    }
    for mut check in checks {
        let step = ui::step(format!("{}: {}", check.layer, check.name));
        let result = command::run(&mut check.command);
        tally.count(result.is_ok());
        step.done(if result.is_ok() { "passed" } else { "FAILED" });
        if let Err(error) = result {
            eprintln!("{error:#}");
        }
    }
    if !only_xen {
        host_tests(args, &mut tally)?;
    }
    if !readers::names(&read).is_empty() {
        let mut say = |one: &readers::Outcome| println!("readers: {one}");
        for outcome in readers::all(&read, readers::Disks::Made, &mut say)? {
            tally.count(outcome.is_ok());
        }
    }
    let (passed, failed) = real_xen::run(cases, args.control, args.jobs)?;
    tally.passed += passed;
    tally.failed += failed;
    let (passed, failed) = differential::run(&parts, args.seed, false)?;
    tally.passed += passed;
    tally.failed += failed;
    println!("{}", tally.line());
    if !args.all && args.filter.is_none() && !args.quick {
        let long = matrix::cases().iter().filter(|case| case.is_long()).count();
        println!("{long} long runs were not asked for; `--all` makes them too");
    }
    if tally.failed > 0 {
        bail!("{} failed", tally.failed);
    }
    if tally.passed == 0 {
        bail!("no test has this in its name");
    }
    Ok(())
}

fn list(
    checks: &[Check],
    cases: &[Case],
    wanted: &dyn Fn(&str, &str) -> bool,
    host: bool,
) -> Result<()> {
    for check in checks {
        ui::say(format!("{}: {}", check.layer, check.name));
    }
    if host {
        // libtest's own list: `name: test` and, for documentation tests, the same.
        let text = command::text(workspace::cargo().args(["test", "--quiet", "--", "--list"]))
            .context("cannot list the host tests")?;
        for name in text.lines().filter_map(|line| line.strip_suffix(": test")) {
            if wanted("host", name) {
                ui::say(format!("host: {name}"));
            }
        }
    }
    for case in cases {
        ui::say(format!("real-xen: {case}"));
    }
    Ok(())
}

/// `cargo test`, counted test by test.
fn host_tests(args: &TestArgs, tally: &mut Tally) -> Result<()> {
    tools::require(&[tools::REPACK, tools::IMAGES])?;
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast"]);
    if let Some(filter) = &args.filter {
        let Some(name) = filter.strip_prefix("host: ").or_else(|| {
            // A text that names another layer leaves nothing here.
            (!filter.contains(": ")).then_some(filter.as_str())
        }) else {
            return Ok(());
        };
        command.args(["--", name]);
    }
    let step = ui::step("host: cargo test");
    let output = command.output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (passed, failed, skipped) = libtest_totals(&text);
    tally.passed += passed;
    tally.failed += failed;
    tally.skipped += skipped;
    if !output.status.success() && failed == 0 {
        // It did not come to running them.
        tally.failed += 1;
    }
    step.done(format!("{passed} passed, {failed} failed"));
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        eprint!("{text}");
    }
    Ok(())
}

/// Sums up the closing lines of all test binaries.
fn libtest_totals(text: &str) -> (usize, usize, usize) {
    let mut totals = (0, 0, 0);
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
    {
        for part in line.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let Some(count) = words.next().and_then(|word| word.parse::<usize>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => totals.0 += count,
                Some("failed") => totals.1 += count,
                Some("ignored") => totals.2 += count,
                _ => {}
            }
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_summed() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n\
                    test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 5 filtered out\n";
        assert_eq!(libtest_totals(text), (5, 1, 1));
    }

    #[test]
    fn closing_line_tells_all() {
        let mut tally = Tally::default();
        tally.count(true);
        tally.count(false);
        assert_eq!(tally.line(), "1 passed, 1 failed");
        tally.skipped = 2;
        assert_eq!(tally.line(), "1 passed, 1 failed, 2 skipped");
    }
}
