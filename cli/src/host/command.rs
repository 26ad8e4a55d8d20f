//! Short-lived programs, run to their end, with errors that show their output.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs a command quietly; its output is shown only if it fails.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>> {
    run_with(command, b"")
}

/// The same with something to read.
pub(crate) fn run_with(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not want it all says why by its status.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}):\n{}{}",
            shown(command),
            output.status,
            tail(&String::from_utf8_lossy(&output.stdout), 15),
            tail(&String::from_utf8_lossy(&output.stderr), 30)
        );
    }
    Ok(output.stdout)
}

/// Runs a command and takes its output as text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run(command)?).into_owned())
}

/// The last `lines` lines of a text, each ended.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect()
}
