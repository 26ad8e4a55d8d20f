//! Whether a case's run came to what it must.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::dom0::SOFT_RESET;
use super::guest::{self, End, Guest, Run};
use super::matrix::{Case, Expect};
use super::probe;
use crate::host::{command, tools};

/// Whether one line of the console has all of these texts.
fn line_with(run: &Run, texts: &[&str]) -> bool {
    run.lines
        .iter()
        .any(|line| texts.iter().all(|text| line.text.contains(text)))
}

/// Holds what came of a run against what should have.
pub(super) fn judge(case: &Case, guest: &Guest, run: &Run, release: &str) -> Result<()> {
    let whole = || format!("\n{}    (whole console: {})", run.tail(), run.log.display());
    match case.expect {
        Expect::Userspace => guest::check(guest, run, Some(release)),
        Expect::Chain(hops) => {
            guest::check(guest, run, Some(release))?;
            chain(run, hops).with_context(whole)
        }
        Expect::Prompt(texts) => {
            ensure!(line_with(run, texts), "no line with {texts:?}{}", whole());
            ensure!(
                run.end == End::Text,
                "the prompt did not answer ({:?}){}",
                run.end,
                whole()
            );
            ensure!(
                run.said("userspace").is_none(),
                "it went on to a userspace{}",
                whole()
            );
            Ok(())
        }
        Expect::Ends(texts, code) => {
            ensure!(line_with(run, texts), "no line with {texts:?}{}", whole());
            ensure!(
                run.end == End::Shutdown(code),
                "ended with {:?}, not with reason code {code}{}",
                run.end,
                whole()
            );
            Ok(())
        }
        Expect::Lost(texts) => {
            ensure!(line_with(run, texts), "no line with {texts:?}{}", whole());
            ensure!(
                run.said("userspace").is_none(),
                "it went on to a userspace{}",
                whole()
            );
            ensure!(
                matches!(run.end, End::Shutdown(_)),
                "it did not end ({:?}){}",
                run.end,
                whole()
            );
            Ok(())
        }
        Expect::Refuses(texts) => {
            ensure!(line_with(run, texts), "no line with {texts:?}{}", whole());
            ensure!(
                line_with(run, &["kexen-busy: alive="]),
                "the guest did not go on{}",
                whole()
            );
            ensure!(
                run.end == End::Shutdown(3),
                "ended with {:?}, not with a crash code{}",
                run.end,
                whole()
            );
            Ok(())
        }
        Expect::Fails(texts) => {
            let Err(error) = guest::check(guest, run, Some(release)) else {
                bail!("nothing failed{}", whole());
            };
            let error = error.to_string();
            ensure!(
                texts.iter().all(|text| error.contains(text)),
                "it failed, but not by {texts:?}: {error}"
            );
            Ok(())
        }
        Expect::Hops(hops) => {
            guest::check(guest, run, Some(release))?;
            hops_of_busy(run, hops).with_context(whole)
        }
        Expect::Steady => {
            guest::check(guest, run, Some(release))?;
            ensure!(
                line_with(run, &["kexen-busy: moves=1000"]),
                "no 1000 moves{}",
                whole()
            );
            ensure!(
                line_with(run, &["kexen-busy: work=", " wrong 0 ", " damaged 0"]),
                "the clock was read wrongly{}",
                whole()
            );
            Ok(())
        }
        Expect::Reset => {
            handed_over(run).with_context(whole)?;
            let second = userspaces(run);
            ensure!(second == 2, "{second} userspaces, not 2{}", whole());
            guest::check(guest, run, Some(release))
        }
        Expect::Captured => {
            ensure!(userspaces(run) == 2, "no second userspace{}", whole());
            ensure!(run.end == End::Shutdown(0), "{:?}{}", run.end, whole());
            captured(run).with_context(whole)
        }
        Expect::Gone => {
            handed_over(run).with_context(whole)?;
            let first = userspaces(run);
            ensure!(first == 1, "{first} userspaces, not 1{}", whole());
            ensure!(
                run.end == End::Shutdown(SOFT_RESET) && run.cpu_seconds.is_none(),
                "the domain is still there ({:?}){}",
                run.end,
                whole()
            );
            Ok(())
        }
        Expect::Talk(talk) => talk.judge(guest, run, release),
        Expect::Vmcore => vmcore(guest, run).with_context(whole),
        Expect::System => {
            let distro = case.distro.context("no distribution")?;
            distro.check(|key| run.said(key)).with_context(whole)?;
            ensure!(
                run.end == End::Shutdown(0),
                "the system did not end well ({:?}){}",
                run.end,
                whole()
            );
            Ok(())
        }
        Expect::Probe(what) => probe::judge(what, guest, run),
        Expect::Example(..) => bail!("an example is no guest of the lab's configuration"),
        Expect::Retry(texts) => {
            ensure!(line_with(run, texts), "no line with {texts:?}{}", whole());
            guest::check(guest, run, Some(release))
        }
    }
}

/// The capture kernel found the dead kernel's memory, and its bytes.
fn vmcore(guest: &Guest, run: &Run) -> Result<()> {
    ensure!(
        run.saw("kexen-busy: crash=on vCPU"),
        "the guest did not crash"
    );
    ensure!(
        run.said("done") == Some("ok") && run.end == End::Shutdown(0),
        "the capture kernel's userspace did not come to its end"
    );
    let number = |key: &str| run.said(key)?.parse::<u64>().ok();
    let size = number("vmcore-size").unwrap_or(0);
    let least = (guest.memory << 20) * 4 / 10;
    ensure!(size > least, "/proc/vmcore has {size} bytes, not {least}");
    let marker = number("vmcore-marker");
    ensure!(
        marker > Some(0),
        "the dead kernel's words are not in /proc/vmcore"
    );
    readelf(run, &["CORE (Core file)", "X86-64", "LOAD ", "NT_PRSTATUS"])?;
    ensure!(run.said("problems") == Some("0"), "Linux reports problems");
    Ok(())
}

/// How many userspaces a run came to.
fn userspaces(run: &Run) -> usize {
    run.lines
        .iter()
        .filter(|line| line.text.contains("kexen-lab: userspace=reached"))
        .count()
}

/// Whether Linux's own kexec did its part, and the toolstack saw that.
fn handed_over(run: &Run) -> Result<()> {
    let loaded = run.said("kexec-load");
    ensure!(loaded == Some("0"), "kexec -l came to {loaded:?}");
    ensure!(
        line_with(run, &["kexec_core: Starting new kernel"]),
        "kexec -e started nothing"
    );
    for text in [
        "has shut down, reason code 5",
        "Action for shutdown reason code 5 is soft-reset",
    ] {
        ensure!(
            run.toolstack.contains(text),
            "xl did not say `{text}`, but:\n{}",
            run.toolstack
        );
    }
    Ok(())
}

/// Checks what a capture kernel said and copied of the first one's memory.
fn captured(run: &Run) -> Result<()> {
    let number = |key: &str| run.said(key)?.parse::<u64>().ok();
    let size = number("vmcore-size").context("no /proc/vmcore")?;
    ensure!(size > 64 << 20, "/proc/vmcore has {size} bytes");
    let marker = number("vmcore-marker");
    ensure!(marker > Some(0), "the marker is not in /proc/vmcore");
    readelf(
        run,
        &[
            "CORE (Core file)",
            "Advanced Micro Devices X86-64",
            "LOAD ",
            "NT_PRSTATUS",
            "VMCOREINFO",
        ],
    )
}

/// The core file that was copied, and the tools that open one.
fn core(run: &Run) -> Result<&Path> {
    tools::require(&[tools::CORE])?;
    run.core.as_deref().context("no core file was copied")
}

/// What the host's own tools find in the core file that was copied.
fn readelf(run: &Run, parts: &[&str]) -> Result<()> {
    let text = command::text(Command::new("readelf").arg("-hln").arg(core(run)?))?;
    for part in parts {
        ensure!(text.contains(part), "readelf finds no `{part}` in:\n{text}");
    }
    Ok(())
}

/// Has gdb open a busy guest's core file: the vCPU that crashed, and where.
pub(super) fn backtrace(run: &Run, symbols: &Path) -> Result<()> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "backtrace"]).arg(symbols);
    let text = command::text(gdb.arg(core(run)?))?;
    for function in ["rust_begin_unwind", "panic_fmt", "stuck_or_crash"] {
        ensure!(
            text.contains(function),
            "gdb finds no `{function}` in the backtrace:\n{text}"
        );
    }
    Ok(())
}

/// Checks a chain: each Kexen but the first verified the memory that the one
/// before left, and all found the same number of free pages.
fn chain(run: &Run, hops: u32) -> Result<()> {
    let texts = || run.lines.iter().map(|line| line.text.as_str());
    let stages = texts()
        .filter(|text| text.contains("kexen: Kexen "))
        .count();
    ensure!(
        stages >= hops as usize,
        "{stages} Kexens in the chain, not {hops}"
    );
    let free: Vec<&str> = texts().filter_map(free_pages).collect();
    ensure!(
        free.len() + 1 == stages,
        "memory verified by {} of {stages} Kexens",
        free.len()
    );
    let (first, last) = (free.first(), free.last());
    ensure!(first == last, "free pages went from {first:?} to {last:?}");
    Ok(())
}

/// Checks hand-offs of the busy guest to itself: each stage but the first found
/// nothing left and its memory as it was.
fn hops_of_busy(run: &Run, hops: u32) -> Result<()> {
    let count = |text: &str| {
        let lines = run.lines.iter();
        lines.filter(|line| line.text.contains(text)).count()
    };
    let (stages, whole) = (count("kexen-busy: started="), count("kexen-busy: memory="));
    let hops = hops as usize;
    ensure!(stages == hops + 1, "{stages} stages, not {}", hops + 1);
    ensure!(whole == hops, "memory was whole {whole} times, not {hops}");
    Ok(())
}

/// The number of free pages in a line that tells of verified memory.
fn free_pages(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("kexen: memory verified: ")?;
    let (rest, _) = rest.rsplit_once(" pages free")?;
    rest.rsplit(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pages_are_read() {
        let line =
            "kexen: memory verified: 50 free pages unchanged, checksum 00ff, 60000 pages free";
        assert_eq!(free_pages(line), Some("60000"));
        assert_eq!(free_pages("kexen: starting Linux"), None);
    }
}
