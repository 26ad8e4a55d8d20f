//! The tests that need no QEMU: `cargo test`, counted test by test.

use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};

use crate::cmd::tally::Tally;
use crate::host::{command, tools, workspace};
use crate::ui;

/// Builds and runs those with this text in their name (`host: name`), and does
/// other work beside the running: most tests leave a processor free.
pub(super) fn run(filter: Option<&str>, other: impl FnOnce() + Send) -> Result<Tally> {
    let name = match filter {
        None => None,
        Some(filter) => {
            let Some(name) = filter.strip_prefix("host: ").or_else(|| {
                // A text that names another layer leaves nothing here.
                (!filter.contains(": ")).then_some(filter)
            }) else {
                return Ok(Tally::default());
            };
            Some(name)
        }
    };
    tools::require(&[tools::REPACK, tools::IMAGES])?;
    let test = |more: &[&str]| {
        let mut command = workspace::cargo();
        command.args(["test", "--no-fail-fast"]).args(more);
        command
    };
    let step = ui::step("host: building the tests");
    // An error comes again where they are run.
    let built = test(&["--no-run"]).output().context("cannot start cargo")?;
    step.done(if built.status.success() {
        "built"
    } else {
        "not all of them can be built"
    });
    let mut command = test(&[]);
    if let Some(name) = name {
        command.args(["--", name]);
    }
    thread::scope(|scope| {
        scope.spawn(other);
        count(&mut command)
    })
}

/// Runs `cargo test`, and counts.
fn count(command: &mut Command) -> Result<Tally> {
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

/// The names of all of them.
pub(super) fn names() -> Result<Vec<String>> {
    // libtest's own list: `name: test` and, for documentation tests, the same.
    let text = command::text(workspace::cargo().args(["test", "--quiet", "--", "--list"]))
        .context("cannot list the host tests")?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
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
