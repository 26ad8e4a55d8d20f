//! The checks of the sources: formatting, lints and documentation, each one
//! command of cargo's.

use std::process::Command;

use anyhow::Result;

use crate::cmd::tally::Tally;
use crate::host::{command, tools, workspace};
use crate::lab::build::{BARE_METAL, PACKAGE};
use crate::ui;

/// A check that is one command of cargo's.
pub(super) struct Check {
    layer: &'static str,
    name: &'static str,
    command: Command,
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.layer, self.name)
    }
}

/// All of them. Bare metal is built with and without the features that leave
/// single steps out and that ask Xen questions.
pub(super) fn all() -> Vec<Check> {
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
    let lab = [bare.as_slice(), &["--features", "omission,probe"], &deny].concat();
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
        check("clippy", "bare metal, the lab's image", &lab),
        docs,
        bare_docs,
    ]
}

/// Runs these, and counts them.
pub(super) fn run(checks: Vec<Check>) -> Result<Tally> {
    let mut tally = Tally::default();
    if !checks.is_empty() {
        tools::require_target()?;
    }
    for mut check in checks {
        let name = check.to_string();
        let step = ui::step(&name);
        let result = command::run(&mut check.command);
        tally.count(&name, &result);
        step.done(if result.is_ok() { "passed" } else { "FAILED" });
        if let Err(error) = result {
            eprintln!("{error:#}");
        }
    }
    Ok(tally)
}
