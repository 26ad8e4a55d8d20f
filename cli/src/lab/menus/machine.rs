//! An emulator with disks, of which each run of a configuration finds the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::emulator::Emulator;
use super::screen::Size;
use super::session::{Next, Session, Start};
use crate::host::command;

/// A machine: disks and an interpreter.
#[derive(Debug)]
pub(super) struct Machine {
    emulator: Emulator,
    /// As they were made.
    disks: Vec<PathBuf>,
    dir: PathBuf,
    /// Whether a run leaves behind what the next one must not find: on the disks
    /// (`save_env`), or in GRUB itself, which keeps what it searched for.
    pub(super) anew: bool,
    pub(super) size: Size,
    pub(super) session: Session,
    used: bool,
}

impl Machine {
    /// Starts one, in a folder of its own.
    pub(super) fn start(
        emulator: &Emulator,
        disks: &[PathBuf],
        dir: &Path,
        size: Size,
    ) -> Result<Self> {
        Ok(Self {
            emulator: emulator.clone(),
            disks: disks.to_vec(),
            dir: dir.to_owned(),
            anew: false,
            size,
            session: boot(emulator, disks, size, dir)?,
            used: false,
        })
    }

    /// As [`Session::run`], with nothing left behind by those before.
    pub(super) fn run(&mut self, start: &Start, default: Option<&str>) -> Result<Next> {
        if self.anew && self.used {
            self.restart()?;
        }
        self.used = true;
        self.session.run(start, default)
    }

    /// Starts anew.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.session = boot(&self.emulator, &self.disks, self.size, &self.dir)?;
        self.used = false;
        Ok(())
    }
}

/// Copies of the disks, and an emulator over them.
fn boot(emulator: &Emulator, disks: &[PathBuf], size: Size, dir: &Path) -> Result<Session> {
    let mut copies = Vec::new();
    for (number, disk) in disks.iter().enumerate() {
        let copy = dir.join(format!("hd{number}.img"));
        let mut cp = Command::new("cp");
        cp.args(["--sparse=always", "--reflink=auto"]);
        command::run(cp.arg(disk).arg(&copy))?;
        copies.push(copy);
    }
    Session::start(emulator, &copies, size, dir)
}
