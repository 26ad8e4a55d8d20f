//! `fuzz`: the parsers with inputs that libFuzzer makes up.
//!
//! Order of steps: cargo-fuzz is there or is installed, the fuzzers are built,
//! each runs for its time. It begins with the corpus and what was found before
//! (`fuzz/corpus`, `fuzz/found`), and keeps new inputs and findings in Cargo's
//! target folder: what is worth it is committed by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::host::{command, workspace};
use crate::ui;

/// Seconds after which an input counts as one that does not end.
const TOO_LONG: u32 = 20;
/// MiB that a fuzzer may take, its own tables included.
const MOST_MEMORY: u32 = 2048;

/// Options of `fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct FuzzArgs {
    /// Only these targets
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Name the targets, and run none
    #[arg(long)]
    list: bool,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Print one JSON document on stdout
    #[arg(long)]
    json: bool,
}

/// What came of one target.
#[derive(Debug, Serialize)]
struct Row {
    target: String,
    runs: u64,
    seconds: u64,
    new_inputs: u64,
    /// Files with inputs that failed.
    findings: Vec<PathBuf>,
}

/// Runs the fuzzers; an error if one finds something.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    let tool = Tool::get()?;
    let targets = tool.targets()?;
    if args.list {
        targets.iter().for_each(ui::say);
        return Ok(());
    }
    if let Some(unknown) = args.targets.iter().find(|name| !targets.contains(name)) {
        bail!("no target is called {unknown}; `cargo kexen fuzz --list` names them all");
    }
    let wanted = targets
        .into_iter()
        .filter(|name| args.targets.is_empty() || args.targets.contains(name));
    let mut rows = Vec::new();
    let all = wanted
        .map(|target| tool.one(target, args.seconds))
        .try_for_each(|row| row.map(|row| rows.push(row)));
    // What ran is told though a later target could not be built.
    if args.json {
        let document = serde_json::json!({ "targets": rows });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        show(&rows);
    }
    all?;
    let findings: usize = rows.iter().map(|row| row.findings.len()).sum();
    if findings > 0 {
        bail!(
            "{findings} inputs failed; when that is mended, they belong into fuzz/found/<target>"
        );
    }
    Ok(())
}

fn show(rows: &[Row]) {
    println!(
        "{:<14} {:>10} {:>8} {:>11} {:>9}",
        "target", "runs", "seconds", "new inputs", "findings"
    );
    for row in rows {
        println!(
            "{:<14} {:>10} {:>8} {:>11} {:>9}",
            row.target,
            row.runs,
            row.seconds,
            row.new_inputs,
            row.findings.len()
        );
    }
    for path in rows.iter().flat_map(|row| &row.findings) {
        println!("found: {}", path.display());
    }
}

/// cargo-fuzz, and where it works.
struct Tool {
    program: PathBuf,
}

impl Tool {
    /// The one on `PATH`, or one of our own in Cargo's target folder.
    fn get() -> Result<Self> {
        if command::run(Command::new("cargo-fuzz").arg("--version")).is_ok() {
            let program = PathBuf::from("cargo-fuzz");
            return Ok(Self { program });
        }
        let root = workspace::output().join("tools");
        let program = root.join("bin/cargo-fuzz");
        if !program.is_file() {
            let step = ui::step(format!("installing cargo-fuzz into {}", root.display()));
            let mut cargo = workspace::cargo();
            cargo.args(["install", "--quiet", "--locked", "cargo-fuzz", "--root"]);
            command::run(cargo.arg(&root)).context("could not install cargo-fuzz")?;
            step.done("installed");
        }
        Ok(Self { program })
    }

    /// A command of it. Sanitizers are for nightly toolchains, or for one
    /// that is told to take itself for one.
    fn cargo(&self, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(workspace::root())
            .env_remove("CARGO_MANIFEST_DIR")
            .env("RUSTC_BOOTSTRAP", "1")
            .args([what, "--fuzz-dir", "fuzz/libfuzzer"]);
        if what != "list" {
            let target = workspace::target().join("fuzz");
            command.arg("--target-dir").arg(target);
        }
        command
    }

    fn targets(&self) -> Result<Vec<String>> {
        let text = command::text(&mut self.cargo("list"))?;
        Ok(text.lines().map(String::from).collect())
    }

    /// Builds a target and runs it.
    fn one(&self, target: String, seconds: u32) -> Result<Row> {
        let step = ui::step(format!("building {target}"));
        command::run(self.cargo("build").arg(&target))?;
        step.done("built");
        let step = ui::step(format!("{target} for {seconds} s"));
        let row = self.fuzz(target, seconds)?;
        step.done(format!(
            "{} runs, {} findings",
            row.runs,
            row.findings.len()
        ));
        Ok(row)
    }

    fn fuzz(&self, target: String, seconds: u32) -> Result<Row> {
        let work = workspace::output().join("fuzz");
        let found = work.join("found").join(&target);
        let corpus = work.join("corpus").join(&target);
        for folder in [&found, &corpus] {
            fs::create_dir_all(folder)?;
        }
        let before = inputs(&found)?;
        let mut command = self.cargo("run");
        command.arg(&target).arg(corpus);
        for kept in ["fuzz/corpus", "fuzz/found"] {
            let folder = workspace::root().join(kept).join(&target);
            if folder.is_dir() {
                command.arg(folder);
            }
        }
        command.args([
            "--".into(),
            format!("-max_total_time={seconds}"),
            format!("-timeout={TOO_LONG}"),
            // Less is kept as slow, and would count as a finding where the
            // host is busy.
            format!("-report_slow_units={TOO_LONG}"),
            format!("-rss_limit_mb={MOST_MEMORY}"),
            "-print_final_stats=1".into(),
            format!("-artifact_prefix={}/", found.display()),
        ]);
        let begin = Instant::now();
        let output = command.output().context("cannot start cargo-fuzz")?;
        let seconds = begin.elapsed().as_secs();
        let text = String::from_utf8_lossy(&output.stderr);
        let mut findings = inputs(&found)?;
        findings.retain(|path| !before.contains(path));
        if !output.status.success() {
            eprintln!("{}", command::tail(&text, 60));
            if findings.is_empty() {
                bail!("{target} did not come to its end, and left no input");
            }
        }
        Ok(Row {
            runs: figure(&text, "number_of_executed_units"),
            new_inputs: figure(&text, "new_units_added"),
            // One that finds something does not say when it ended.
            seconds: done_after(&text).unwrap_or(seconds),
            target,
            findings,
        })
    }
}

/// The files of a folder.
fn inputs(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder)?;
    let mut files: Vec<PathBuf> = files
        .map(|file| file.map(|file| file.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    Ok(files)
}

/// One of libFuzzer's closing figures.
fn figure(text: &str, name: &str) -> u64 {
    let start = format!("stat::{name}:");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&start));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The seconds of `Done 12 runs in 34 second(s)`.
fn done_after(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("Done "))?;
    let (_, seconds) = line.split_once(" runs in ")?;
    seconds.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_figures_are_read() {
        let text = "#2 INITED\nDone 1234 runs in 61 second(s)\n\
                    stat::number_of_executed_units: 1234\nstat::new_units_added:          7\n";
        assert_eq!(figure(text, "number_of_executed_units"), 1234);
        assert_eq!(figure(text, "new_units_added"), 7);
        assert_eq!(figure(text, "peak_rss_mb"), 0);
        assert_eq!(done_after(text), Some(61));
    }
}
