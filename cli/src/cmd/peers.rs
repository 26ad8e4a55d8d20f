//! What dom0 measures of a guest that is started in one way or another.
//!
//! Order of steps: the domain is made and waits; the time is taken and a look
//! at the backend's counts begins, ten a second (the backend forgets them when
//! a boot loader closes its device); the domain runs; when Linux says its first
//! line, the time and the domain's CPU time are taken; at the end the reads of
//! the disk's file, which the loop device has counted.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::lab::guest::{Guest, Run};

/// The first line of the guest's own kernel.
pub(super) const LINUX: &str = "Linux version";
/// Its line about the initrd, as soon as it knows its memory.
pub(super) const INITRD: &str = "RAMDISK: [mem ";
/// The loop device that the disk is on.
const LOOP: &str = "/sys/block/loop2/stat";

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// Wall clock, from xl create.
    pub(super) seconds_to_linux: f64,
    pub(super) seconds_to_userspace: f64,
    /// CPU seconds of the domain when Linux said its first line.
    pub(super) cpu_to_linux: f64,
    /// Seconds until then in which it did not run.
    pub(super) blocked_to_linux: f64,
    /// What the backend had been asked for when last looked at before that.
    pub(super) requests: u64,
    /// Bytes that were read of the disk until then.
    pub(super) bytes: u64,
}

/// Before the domain runs.
pub(super) fn before(name: &str) -> String {
    format!(
        "log=/lab/log/peer-{name}.log\n\
         rm -f /run/measured-{name}\n\
         set -- $(cat {LOOP})\n\
         echo \"read-before $3\" > $log\n\
         domid=$(xl domid {name})\n\
         (\n\
         until [ -e /run/measured-{name} ]; do\n\
             for vbd in /sys/bus/xen-backend/devices/vbd-$domid-*; do\n\
                 echo \"asked $(cat $vbd/statistics/rd_req)\" >> $log\n\
             done\n\
             sleep 0.1\n\
         done\n\
         ) 2>/dev/null &\n\
         echo \"began $(cut -d' ' -f1 /proc/uptime)\" >> $log\n"
    )
}

/// When Linux has said its first line.
pub(super) fn look(name: &str) -> String {
    format!(
        "log=/lab/log/peer-{name}.log\n\
         touch /run/measured-{name}\n\
         echo \"linux $(cut -d' ' -f1 /proc/uptime)\" >> $log\n\
         set -- $(xl list {name} | tail -n 1)\n\
         shift 5\n\
         echo \"cpu $1\" >> $log\n\
         set -- $(cat {LOOP})\n\
         echo \"read-after $3\" >> $log\n"
    )
}

/// At the end, whatever came of it.
pub(super) fn afterwards(name: &str) -> String {
    format!("touch /run/measured-{name}\n")
}

/// What a boot loader said was wrong.
pub(super) fn first_error(run: &Run) -> Option<String> {
    let mut lines = run.lines.iter();
    // What is before it has moved the cursor there.
    let error = lines.find_map(|line| Some(line.text.split_once("error: ")?.1))?;
    Some(format!("error: {}", error.trim()))
}

/// The figures, from what dom0 has written down.
pub(super) fn figures(guest: &Guest, run: &Run) -> Result<Figures> {
    let file = run.log.with_file_name(format!("peer-{}.log", guest.name));
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let noted = |key: &str| {
        let mut lines = text.lines().rev();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    let number = |key: &str| -> Result<f64> {
        let value = noted(key).with_context(|| format!("{}: no {key}", file.display()))?;
        value
            .parse()
            .with_context(|| format!("{}: {key} is {value:?}", file.display()))
    };
    let sectors = |key: &str| -> Result<u64> {
        let value = noted(key).with_context(|| format!("{}: no {key}", file.display()))?;
        Ok(value.parse()?)
    };
    let cpu = number("cpu")?;
    let passed = number("linux")? - number("began")?;
    ensure!(passed > 0.0, "{}: time ran backwards", file.display());
    let requests = text
        .lines()
        .filter_map(|line| line.strip_prefix("asked "))
        .filter_map(|count| count.parse().ok())
        .max();
    let to = |text| run.seconds_to(text).with_context(|| format!("no `{text}`"));
    Ok(Figures {
        seconds_to_linux: to(LINUX)?,
        seconds_to_userspace: to("kexen-lab: userspace=reached")?,
        cpu_to_linux: cpu,
        blocked_to_linux: (passed - cpu).max(0.0),
        requests: requests.unwrap_or(0),
        bytes: (sectors("read-after")? - sectors("read-before")?) * 512,
    })
}
