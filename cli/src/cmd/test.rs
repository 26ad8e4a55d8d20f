//! `test`: everything that tests the project, layer by layer.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::differential::{self, Part};
use super::readers;
use super::real_xen;
use super::tally::Tally;
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
        let tally = differential::run(&parts, args.seed, args.quick)?;
        tally.say();
        if tally.failed() > 0 {
            bail!("{} failed", tally.failed());
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
        let name = format!("{}: {}", check.layer, check.name);
        let step = ui::step(&name);
        let result = command::run(&mut check.command);
        tally.count(&name, &result);
        step.done(if result.is_ok() { "passed" } else { "FAILED" });
        if let Err(error) = result {
            eprintln!("{error:#}");
        }
    }
    if !only_xen {
        tally.add(host_tests(args)?);
    }
    if !readers::names(&read).is_empty() {
        let mut say = |one: &readers::Outcome| println!("readers: {one}");
        for outcome in readers::all(&read, readers::Disks::Made, &mut say)? {
            let name = format!("readers: {}", outcome.name);
            tally.count(&name, &outcome.result());
        }
    }
    tally.add(real_xen::run(cases, args.control, args.jobs)?);
    tally.add(differential::run(&parts, args.seed, false)?);
    tally.say();
    if !args.all && args.filter.is_none() && !args.quick {
        let long = matrix::cases().iter().filter(|case| case.is_long()).count();
        println!("{long} long runs were not asked for; `--all` makes them too");
    }
    if tally.failed() > 0 {
        bail!("{} failed", tally.failed());
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
fn host_tests(args: &TestArgs) -> Result<Tally> {
    tools::require(&[tools::REPACK, tools::IMAGES])?;
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast"]);
    if let Some(filter) = &args.filter {
        let Some(name) = filter.strip_prefix("host: ").or_else(|| {
            // A text that names another layer leaves nothing here.
            (!filter.contains(": ")).then_some(filter.as_str())
        }) else {
            return Ok(Tally::default());
        };
        command.args(["--", name]);
    }
    let step = ui::step("host: cargo test");
    let output = command.output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut tally = libtest_totals(&text);
    if !output.status.success() && tally.failed() == 0 {
        tally.count(
            "host: cargo test",
            &Err::<(), _>("it did not come to running them"),
        );
    }
    step.done(tally.line());
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        eprint!("{text}");
    }
    Ok(tally)
}

/// What all test binaries said: how many passed and were left out, by their
/// closing lines, and which failed.
fn libtest_totals(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        if let Some(test) = line.strip_prefix("test ")
            && let Some(name) = test.strip_suffix(" ... FAILED")
        {
            tally.count(&format!("host: {name}"), &Err::<(), _>(""));
        }
        let Some(totals) = line.strip_prefix("test result: ") else {
            continue;
        };
        for part in totals.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let Some(count) = words.next().and_then(|word| word.parse::<usize>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => tally.passed += count,
                Some("ignored") => tally.skipped += count,
                _ => {}
            }
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_summed() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n\
                    test a::b ... ok\ntest a::c ... FAILED\n\
                    test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 5 filtered out\n";
        let tally = libtest_totals(text);
        assert_eq!(tally.line(), "5 passed, 1 failed, 1 skipped");
    }
}
