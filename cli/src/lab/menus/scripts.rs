//! Generated scripts, many on one disk, read both ways; and one that differs made
//! as small as it goes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::generate;
use super::machine::Machine;
use super::screen::Size;
use super::script::Script;
use super::seen::{Difference, differences};
use super::{Both, Emulator, kexen, make_disks, walk, world};

/// How long one is made smaller.
const PATIENCE: Duration = Duration::from_secs(60);

/// The script of a number, from a seed.
pub(crate) fn generate(seed: u64, number: u64) -> Script {
    generate::script(seed, number)
}

/// Reads scripts both ways.
pub(crate) fn both(emulator: &Emulator, scripts: &[Script]) -> Result<Vec<Result<Both>>> {
    let dir = tempfile::tempdir()?;
    let images = make_disks(&world::disks(scripts), dir.path())?;
    let volumes = kexen::volumes(&images)?;
    let mut machine = Machine::start(emulator, &images, dir.path(), Size::SMALL)?;
    let mut all = Vec::new();
    for (number, script) in scripts.iter().enumerate() {
        machine.anew = script.shown().contains(world::MANY);
        let start = world::start(number);
        let menu = kexen::read(&volumes, &start)?;
        let kexen = kexen::seen(&volumes, &menu);
        let grub = walk::seen(&mut machine, &start);
        if grub.is_err() {
            machine.restart()?;
        }
        all.push(grub.map(|grub| Both { grub, kexen }));
    }
    Ok(all)
}

/// What differs without being meant to.
pub(crate) fn wrong(both: &Both) -> Vec<Difference> {
    let mut all = differences(&both.grub, &both.kexen, false);
    all.retain(|one| one.meant.is_none());
    all
}

/// What kind of difference it is: `command line of "E1"` and the like are of one.
pub(crate) fn kind(difference: &Difference) -> &str {
    difference.what.split(" of ").next().unwrap_or_default()
}

/// A script as small as it goes that still differs in the same kind of thing.
pub(crate) fn shrink(
    emulator: &Emulator,
    script: &Script,
    difference: &Difference,
) -> Result<(Script, Option<Both>)> {
    let wanted = kind(difference).to_owned();
    let mut smallest = script.clone();
    let mut found = None;
    let start = Instant::now();
    'smaller: loop {
        let candidates = smallest.smaller();
        for some in candidates.chunks(8) {
            if start.elapsed() > PATIENCE {
                break 'smaller;
            }
            for (script, both) in some.iter().zip(both(emulator, some)?) {
                if let Ok(both) = both
                    && wrong(&both).iter().any(|one| kind(one) == wanted)
                {
                    smallest = script.clone();
                    found = Some(both);
                    continue 'smaller;
                }
            }
        }
        break;
    }
    Ok((smallest, found))
}
