//! The boot menus: each layout with each release of GRUB, a few scripts, and each
//! partition as `bootctl` lists it (`cargo kexen menus`).

use std::fmt;
use std::time::Instant;

use anyhow::Result;

use super::budget::Budget;
use crate::cmd::tally::Tally;
use crate::cmd::{menus, menus_bootctl};
use crate::lab::menus::{Release, esp, layouts};
use crate::ui;

/// Scripts of a test; the seed is always the same.
const SCRIPTS: u64 = 40;
const SEED: u64 = 1;
/// Of the time that is left, what all of them may take.
const PERCENT: u32 = 15;

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Menu {
    Layout(&'static str, Release),
    Scripts(Release),
    Bootctl(&'static str),
}

impl fmt::Display for Menu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(name, release) => write!(f, "{name}, GRUB {}", release.version()),
            Self::Scripts(release) => write!(f, "{SCRIPTS} scripts, GRUB {}", release.version()),
            Self::Bootctl(name) => write!(f, "{name}, bootctl"),
        }
    }
}

/// All of them.
pub(super) fn all() -> Result<Vec<Menu>> {
    let mut all = Vec::new();
    let layouts = layouts::all()?;
    for release in Release::ALL {
        let wanted = layouts.iter().filter(|layout| layout.wants(release));
        all.extend(wanted.map(|layout| Menu::Layout(layout.name, release)));
        all.push(Menu::Scripts(release));
    }
    let partitions = esp::all();
    all.extend(partitions.iter().map(|esp| Menu::Bootctl(esp.name)));
    Ok(all)
}

/// Runs these, and counts them.
pub(super) fn run(menus: &[Menu], budget: &Budget) -> Result<Tally> {
    let mut tally = Tally::default();
    let end = budget.share(PERCENT);
    for menu in menus {
        let name = format!("menus: {menu}");
        if !budget.allows(&name, end) {
            continue;
        }
        let start = Instant::now();
        let result = one(*menu)?;
        let said = if result.is_ok() { "ok" } else { "FAILED" };
        let seconds = start.elapsed().as_secs_f64();
        ui::say(format!("{name} ... {said} ({seconds:.1} s)"));
        tally.count(&name, &result);
    }
    Ok(tally)
}

/// Runs one; what is wrong is shown whole.
fn one(menu: Menu) -> Result<Result<(), String>> {
    let mut wrong = |one: &menus::Outcome| {
        if one.result().is_err() {
            ui::say(one);
        }
    };
    let results: Vec<Result<(), String>> = match menu {
        Menu::Layout(name, release) => {
            let outcomes = menus::table(&[release], &|one| one == name, &mut wrong)?;
            outcomes.iter().map(menus::Outcome::result).collect()
        }
        Menu::Scripts(release) => {
            let outcomes = menus::made_up(&[release], SEED, 0..SCRIPTS, &mut wrong)?;
            let results = outcomes.iter().map(|one| {
                let result = one.result();
                result.map_err(|why| format!("{}: {why}", one.name))
            });
            results.collect()
        }
        Menu::Bootctl(name) => {
            let mut wrong = |one: &menus_bootctl::Outcome| {
                if one.result().is_err() {
                    ui::say(one);
                }
            };
            let outcomes = menus_bootctl::table(&|one| one == name, &mut wrong)?;
            outcomes
                .iter()
                .map(menus_bootctl::Outcome::result)
                .collect()
        }
    };
    if results.is_empty() {
        return Ok(Err("it was not compared".into()));
    }
    Ok(results.into_iter().collect())
}
