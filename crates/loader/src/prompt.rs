//! A prompt on the guest's console: no shell, just another try.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use kexen_abi::sched;
use kexen_guest::hypercall;

use kexen_platform::{guest::Guest, module, native::Native, report::Report};

/// What to start, beside what is configured: for the prompt to change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Name of the entry; none for the configured one.
    pub(crate) entry: Option<String>,
    /// The kernel's whole command line; none for the configured one.
    pub(crate) command_line: Option<String>,
    /// Whether an earlier try has failed.
    pub(crate) again: bool,
    /// Which of the entries that a configuration falls back on.
    pub(crate) fallback: Option<usize>,
}

/// What the prompt looks like.
pub(crate) const PROMPT: &str = "kexen> ";

/// The longest line that is taken.
const LINE: usize = 2048;

const HELP: &str = "\
commands:
  boot [ENTRY] [-- WORDS]   start an entry of the boot module; with WORDS as
                            the kernel's whole command line
  list                      the entries of the boot module
  poweroff                  power the guest off
  crash                     end with a crash code, for the toolstack to see
  help                      this text
";

/// Asks until somebody wants something started.
pub(crate) fn ask<G: Guest>(guest: &mut G, report: &Report, last: &Choice) -> Choice {
    let m = guest.machine();
    report.raw(m, "Type `boot` to try again, `help` for more.\n");
    loop {
        report.raw(m, PROMPT);
        let line = read_line(m, report, &mut || guest.wait_for_input());
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "" => {}
            "boot" => return choice(rest, last),
            "list" => match module::find(guest, report, true).and_then(|(at, len)| {
                let archive = module::read(m, at, len)?;
                Ok(module::names(&archive))
            }) {
                Ok(names) => report.raw(m, &(names + "\n")),
                Err(failure) => report.line(m, format_args!("error: {failure}")),
            },
            "poweroff" | "crash" => end(m, report, command == "crash"),
            "help" => report.raw(m, HELP),
            other => report.line(
                m,
                format_args!("error: no command {other:?}; try boot, list, poweroff, crash, help"),
            ),
        }
    }
}

/// Ends the guest.
pub(crate) fn end<M: Native>(m: &M, report: &Report, crash: bool) {
    let reason = if crash {
        sched::SHUTDOWN_CRASH
    } else {
        sched::SHUTDOWN_POWEROFF
    };
    report.console().drain(m);
    if let Err(error) = hypercall::shutdown(m, reason) {
        report.line(m, format_args!("error: {error}"));
    }
}

/// `boot [ENTRY] [-- WORDS]`.
fn choice(rest: &str, last: &Choice) -> Choice {
    let (entry, words) = match rest.split_once("--") {
        Some((entry, words)) => (entry.trim(), Some(words.trim().to_string())),
        None => (rest.trim(), None),
    };
    Choice {
        entry: if entry.is_empty() {
            last.entry.clone()
        } else {
            Some(entry.to_string())
        },
        command_line: words.or_else(|| last.command_line.clone()),
        again: true,
        fallback: None,
    }
}

/// Reads a line, echoing it, with backspace; `wait` waits until something is
/// typed.
pub(crate) fn read_line<M: Native>(m: &M, report: &Report, wait: &mut dyn FnMut()) -> String {
    let mut line: Vec<u8> = Vec::new();
    loop {
        let mut bytes = [0; 64];
        let n = report.console().read(m, &mut bytes);
        if n == 0 {
            wait();
            continue;
        }
        for byte in bytes.into_iter().take(n) {
            match byte {
                b'\r' | b'\n' => {
                    report.raw(m, "\n");
                    return String::from_utf8_lossy(&line).trim().to_string();
                }
                8 | 127 if line.pop().is_some() => report.raw(m, "\x08 \x08"),
                b' '..=b'~' if line.len() < LINE => {
                    line.push(byte);
                    report.console().write(m, &[byte]);
                }
                _ => {}
            }
        }
    }
}
