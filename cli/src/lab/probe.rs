//! Probes: the boot image asks Xen a question instead of starting anything
//! (`kexen.probe=`), with a backend in dom0 on the other side.
//!
//! Protocol: the guest prints lines `kexen-probe: KEY=VALUE`. `refs=FIRST
//! COUNT` has the host start `lab/backend` on these grants; after `ask=again`
//! another process maps the first one once more, after `ask=unmap` the backend
//! unmaps all; each is answered with a typed line. `done=ok` is the last.
//! The backend's own lines are in `log/backend-GUEST.log` of the shared folder,
//! the second process's in `log/again-GUEST.log`, dom0's messages since the
//! backend's start in `log/dmesg-GUEST.log`.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::guest::{End, Guest, Reply, Run};
use super::meanwhile::{afterwards, start_script};

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Pages are taken back from a backend that has them mapped.
    Abandon,
    /// The same page is used without that: the backend's writes are seen.
    AbandonOmit,
}

impl Probe {
    /// Its name in a case's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Abandon => "abandon",
            Self::AbandonOmit => "abandon-omit",
        }
    }

    /// The guest's command line.
    pub(crate) const fn options(self) -> &'static str {
        match self {
            Self::Abandon => "kexen.probe=abandon",
            Self::AbandonOmit => "kexen.probe=abandon-omit",
        }
    }
}

/// What dom0 does when the guest asks for it.
pub(crate) fn replies(probe: Probe, name: &str) -> Vec<(String, Reply)> {
    let backend = format!("/run/backend-{name}");
    let start = start_script(name);
    let go_on = format!(
        "tty=$(xenstore-read /local/domain/$(xl domid {name})/console/tty) || exit\n\
         printf 'done\\n' > \"$tty\"\n"
    );
    let again = format!(
        "{backend} read $(xl domid {name}) $value 1 > /lab/log/again-{name}.log 2>&1 || exit\n{go_on}"
    );
    let unmap = format!("{}{go_on}", afterwards(name));
    let mut replies = vec![("refs=", start)];
    if probe == Probe::Abandon {
        replies.push(("ask=again", again));
    }
    replies.push(("ask=unmap", unmap));
    replies
        .into_iter()
        .map(|(key, script)| (format!("kexen-probe: {key}"), Reply::Dom0(script)))
        .collect()
}

/// All values of a key, in order, of lines `WHO: KEY=VALUE`.
fn values<'a>(
    lines: impl Iterator<Item = &'a str> + 'a,
    who: &'a str,
    key: &'a str,
) -> impl Iterator<Item = &'a str> + 'a {
    lines.filter_map(move |line| {
        let (_, pair) = line.split_once(who)?;
        let (found, value) = pair.split_once('=')?;
        (found == key).then_some(value)
    })
}

/// Holds what guest and backend said against what must be true.
pub(crate) fn judge(probe: Probe, guest: &Guest, run: &Run) -> Result<()> {
    let all = || {
        let lines = run.lines.iter();
        let said = lines.filter(|line| line.text.contains(GUEST));
        said.map(|line| format!("    | {}\n", line.text))
            .collect::<String>()
    };
    check(probe, guest, run)
        .with_context(|| format!("the probe said:\n{}({})", all(), run.log.display()))
}

const GUEST: &str = "kexen-probe: ";
const PEER: &str = "kexen-backend: ";

/// What a kernel says that has hit a fault.
const FAULTS: &[&str] = &[
    "BUG",
    "Oops",
    "WARNING",
    "Bad page",
    "segfault",
    "general protection",
];

fn check(probe: Probe, guest: &Guest, run: &Run) -> Result<()> {
    let said = |key| values(run.lines.iter().map(|line| line.text.as_str()), GUEST, key).next();
    let read = |what: &str| {
        let file = run.log.with_file_name(format!("{what}-{}.log", guest.name));
        fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))
    };
    ensure!(
        said("done") == Some("ok"),
        "done is {:?}, the guest ended with {:?}",
        said("done"),
        run.end
    );
    ensure!(
        run.end == End::Shutdown(0),
        "ended with {:?} rather than a power-off",
        run.end
    );
    writer(&read("backend")?)?;
    let messages = read("dmesg")?;
    if let Some(line) = messages
        .lines()
        .find(|line| FAULTS.iter().any(|fault| line.contains(fault)))
    {
        anyhow::bail!("dom0's Linux says: {line}");
    }
    let number = |key| -> Result<u64> {
        let value = said(key).with_context(|| format!("the guest said no {key}"))?;
        value.parse().with_context(|| format!("{key} is {value:?}"))
    };
    ensure!(number("looks")? > 100, "the page was hardly looked at");
    match probe {
        Probe::AbandonOmit => ensure!(
            number("changes")? > 0,
            "the backend did not change a page that it has mapped"
        ),
        Probe::Abandon => {
            for key in ["changes", "changes-all"] {
                ensure!(number(key)? == 0, "the new frames were changed: {key}");
            }
            ensure!(number("abandons")? > 0, "nothing could be abandoned");
            reader(&read("again")?)?;
        }
    }
    Ok(())
}

/// The backend's writes all succeeded, to its end.
fn writer(log: &str) -> Result<()> {
    let peer = |key| values(log.lines(), PEER, key);
    ensure!(
        peer("done").next() == Some("ok"),
        "the backend failed:\n{log}"
    );
    ensure!(
        peer("lost").next().is_none(),
        "the backend's writes did not stay:\n{log}"
    );
    rising(peer("counter"), log)
}

/// Mapped again after the page was abandoned, the grant still gives the old
/// frame, to which the backend goes on writing.
fn reader(log: &str) -> Result<()> {
    let peer = |key| values(log.lines(), PEER, key);
    ensure!(peer("done").next() == Some("ok"), "it did not map:\n{log}");
    rising(
        peer("found").filter_map(|value| value.split(' ').next()),
        log,
    )
}

fn rising<'a>(values: impl Iterator<Item = &'a str>, log: &str) -> Result<()> {
    let counters = values
        .map(str::parse)
        .collect::<Result<Vec<u32>, _>>()
        .with_context(|| format!("no counter:\n{log}"))?;
    ensure!(
        counters.len() > 1 && counters.windows(2).all(|pair| pair[0] < pair[1]),
        "the counter does not go on:\n{log}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_goes_on_is_told_from_one_that_does_not() {
        let log = |counters: &str, end: &str| {
            let lines: String = counters
                .split(' ')
                .map(|counter| format!("kexen-backend: counter={counter}\n"))
                .collect();
            format!("kexen-backend: mapped=2\n{lines}{end}")
        };
        let good = "kexen-backend: unmapped=9\nkexen-backend: done=ok\n";
        writer(&log("1 5 9", good)).unwrap();
        writer(&log("1", good)).unwrap_err();
        writer(&log("1 5 5", good)).unwrap_err();
        writer(&log("1 5 9", "")).unwrap_err();
        let lost = "kexen-backend: lost=page 0: 0x0\nkexen-backend: done=ok\n";
        writer(&log("1 5 9", lost)).unwrap_err();
    }

    #[test]
    fn a_pattern_is_no_counter() {
        let log = |first, second| {
            format!(
                "kexen-backend: found={first} 1\nkexen-backend: found={second} 1\n\
                 kexen-backend: done=ok\n"
            )
        };
        const PATTERN: u32 = 0xa5a5_a5a5;
        reader(&log(0x100, 0x101)).unwrap();
        reader(&log(PATTERN, PATTERN)).unwrap_err();
    }
}
