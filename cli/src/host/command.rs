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

/// A program that ends when this process does, killed or not. It lives no longer
/// than the thread that starts it (`prctl(2)`, `PR_SET_PDEATHSIG`).
pub(crate) fn ending_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;
    use std::time::{Duration, Instant};

    /// Starts a shell that starts a program, and kills the shell; whether the
    /// program ends by that.
    fn is_killed_with_its_parent(mut program: Command) -> bool {
        program.args(["-c", "echo $$; exec sleep 30"]);
        let script = format!(
            "{} '{}' & wait",
            program.get_program().to_string_lossy(),
            program
                .get_args()
                .map(|arg| arg.to_string_lossy())
                .collect::<Vec<_>>()
                .join("' '")
        );
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = shell.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let process = Path::new("/proc").join(line.trim());
        assert!(process.exists(), "{line:?}");
        shell.kill().unwrap();
        shell.wait().unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            // A process that was killed stays, as a zombie, until it is waited for.
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            if status.is_empty() || status.contains("State:\tZ") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        run(Command::new("kill").arg(line.trim())).unwrap();
        false
    }

    #[test]
    fn programs_end_with_the_process_that_started_them() {
        assert!(is_killed_with_its_parent(ending_with_us("sh")));
        assert!(!is_killed_with_its_parent(Command::new("sh")));
    }
}
