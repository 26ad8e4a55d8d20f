//! `test`: what tests the project, layer by layer.
//!
//! | module | what it is |
//! |---|---|
//! | `checks` | formatting, lints, documentation |
//! | `host` | `cargo test`, counted |
//! | `menus` | boot menus as GRUB and `bootctl` make them |
//! | `real_xen` | the runs on a real Xen: the order, and how many at once |
//! | `budget` | how long it may take, and what is left out when it is over |

mod budget;
mod checks;
mod host;
mod menus;
mod real_xen;

use anyhow::{Result, bail};

use self::budget::{Budget, in_turn};
use self::checks::Check;
use self::menus::Menu;
use super::differential::{self, Part};
use super::readers;
use super::tally::Tally;
use crate::lab::artefacts::Xen;
use crate::lab::build::{self, Variant};
use crate::lab::fetch;
use crate::lab::matrix::{self, Case, Expect, Linux};
use crate::ui;

/// Options of `test`. Without any it makes all host tests and one run of each
/// kind on a real Xen.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// Only what needs no QEMU: formatting, lints, documentation, host tests
    #[arg(long)]
    quick: bool,
    /// Name every test with its layer, and run none
    #[arg(long)]
    list: bool,
    /// Everything: the whole matrix of runs on both versions of Xen
    #[arg(long, conflicts_with = "quick")]
    all: bool,
    /// What the plain command leaves out of everything
    #[arg(long, conflicts_with_all = ["quick", "all"])]
    rest: bool,
    /// Begin no test after so many minutes, and name those left out
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Put the runs into the order that this text chooses, a commit's hash for
    /// example: what --minutes leaves out comes first with another text
    #[arg(long, value_name = "TEXT")]
    turn: Option<String>,
    /// Only tests with this text in their name (`layer: name`)
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Only the runs on this version of Xen
    #[arg(long, value_enum)]
    xen: Option<Xen>,
    /// Check the lab itself: the guests that should reach userspace, with
    /// their kernels started by the toolstack, without Kexen
    #[arg(long)]
    control: bool,
    /// Only the differential test: random hypercalls on a real Xen and on the
    /// model, every result compared (with --quick: a few of them)
    #[arg(long)]
    differential: bool,
    /// How many machines with a Xen run side by side: 1 or 2 (default: by
    /// processors and memory)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    jobs: Option<u8>,
    /// The seed of the differential test
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Which tests are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// What needs no QEMU.
    Quick,
    /// The host tests, and one run of each kind.
    Short,
    /// What that leaves out.
    Rest,
    /// Everything.
    All,
}

impl TestArgs {
    /// A choice by name, or by Xen, is made from everything.
    const fn extent(&self) -> Extent {
        if self.quick {
            Extent::Quick
        } else if self.rest {
            Extent::Rest
        } else if self.all || self.filter.is_some() || self.xen.is_some() || self.control {
            Extent::All
        } else {
            Extent::Short
        }
    }

    /// Whether a test of this name (`layer: name`) is wanted.
    fn wants(&self, name: &str) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|text| name.contains(text.as_str()))
    }
}

/// The tests that were chosen.
struct Chosen {
    checks: Vec<Check>,
    host: bool,
    readers: Vec<&'static str>,
    menus: Vec<Menu>,
    differential: Vec<Part>,
    /// A few cases of the differential test, not all.
    few: bool,
    cases: Vec<Case>,
}

impl Chosen {
    fn of(args: &TestArgs, extent: Extent) -> Result<Self> {
        let wanted = |layer: &str, name: &str| args.wants(&format!("{layer}: {name}"));
        // Host tests are not of a Xen.
        let only_xen = args.control || args.xen.is_some();
        let short = |name: &str, is_short: bool, layer: &str| {
            let by_extent = match extent {
                Extent::Quick => false,
                Extent::Short => is_short,
                Extent::Rest => !is_short,
                Extent::All => true,
            };
            by_extent && wanted(layer, name)
        };
        let cases = matrix::cases()
            .into_iter()
            .filter(|case| args.xen.is_none_or(|xen| case.xen == xen))
            .filter(|case| short(&case.to_string(), case.is_short(), "real-xen"))
            // The toolstack itself does not know all compressions.
            .filter(|case| {
                let plain = matches!(case.linux, Linux::Debian(_));
                !args.control || plain && case.expect == Expect::Userspace
            });
        let parts = differential::parts(args.xen).into_iter().filter(|part| {
            // A few cases of one part are no part.
            let by_extent = match extent {
                Extent::Quick => false,
                Extent::Short => part.is_short(),
                Extent::Rest | Extent::All => true,
            };
            by_extent && !args.control && wanted("differential", &part.to_string())
        });
        let checks = checks::all()
            .into_iter()
            .filter(|check| extent != Extent::Short && !only_xen && args.wants(&check.to_string()));
        let readers = readers::names(&|name| {
            // All the others: `cargo kexen readers`.
            !only_xen && readers::often(name) && short(name, false, "readers")
        });
        let menus = menus::all()?.into_iter();
        let menus = menus.filter(|menu| !only_xen && short(&menu.to_string(), false, "menus"));
        let mut chosen = Self {
            menus: menus.collect(),
            checks: checks.collect(),
            host: !only_xen && extent != Extent::Rest,
            readers,
            differential: parts.collect(),
            few: extent == Extent::Short,
            cases: cases.collect(),
        };
        if let Some(turn) = &args.turn {
            in_turn(&mut chosen.cases, turn, Case::to_string);
            in_turn(&mut chosen.menus, turn, Menu::to_string);
            in_turn(&mut chosen.differential, turn, Part::to_string);
        }
        Ok(chosen)
    }

    /// How many there are beside the host tests, by layer.
    fn counts(&self) -> String {
        format!(
            "{} checks of the sources, {} readers of file systems, {} boot menus, {} parts of \
             the differential test, {} runs on a real Xen",
            self.checks.len(),
            self.readers.len(),
            self.menus.len(),
            self.differential.len(),
            self.cases.len()
        )
    }
}

/// Runs the tests; an error if any failed.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    if args.differential {
        let parts = differential::parts(args.xen);
        let tally = differential::run(&parts, args.seed, args.quick)?;
        return finish(&tally);
    }
    let extent = args.extent();
    let mut chosen = Chosen::of(args, extent)?;
    if args.list {
        return list(args, &chosen);
    }
    let budget = Budget::of(args.minutes);
    let mut tally = checks::run(std::mem::take(&mut chosen.checks))?;
    if chosen.host {
        tally.add(beside(&chosen.cases, || {
            host::run(args.filter.as_deref(), || build_images(extent, &chosen))
        })?);
    }
    tally.add(read(&chosen.readers)?);
    tally.add(menus::run(&chosen.menus, &budget)?);
    tally.add(differ(args, &chosen, &budget)?);
    let turned = args.turn.is_some();
    tally.add(real_xen::run(
        chosen.cases,
        args.control,
        args.jobs,
        turned,
        &budget,
    )?);
    let left = budget.left_out();
    if !left.is_empty() {
        ui::say(format!("left out for lack of time, {}:", left.len()));
        for name in left {
            ui::say(format!("  {name}"));
        }
    }
    if extent == Extent::Short {
        let rest = Chosen::of(args, Extent::Rest)?.counts();
        ui::say(format!("`--rest` makes what is left: {rest}"));
    }
    finish(&tally)
}

fn finish(tally: &Tally) -> Result<()> {
    tally.say();
    if tally.failed() > 0 {
        bail!("{} failed", tally.failed());
    }
    if tally.passed == 0 {
        bail!("no test has this in its name");
    }
    Ok(())
}

/// Does the work while what the first runs need is fetched and made.
fn beside(cases: &[Case], work: impl FnOnce() -> Result<Tally>) -> Result<Tally> {
    match cases.iter().map(|case| case.xen).min() {
        Some(xen) => fetch::beside(xen, true, work),
        None => work(),
    }
}

/// Builds the images that are needed behind the host tests of the short test.
fn build_images(extent: Extent, chosen: &Chosen) {
    if extent == Extent::Short && !chosen.cases.is_empty() {
        for variant in [Variant::Lab, Variant::Normal] {
            // An error comes again where the image is needed.
            build::image(variant).ok();
        }
    }
}

/// The differential test.
fn differ(args: &TestArgs, chosen: &Chosen, budget: &Budget) -> Result<Tally> {
    let mut tally = Tally::default();
    for part in &chosen.differential {
        if budget.allows(&format!("differential: {part}"), budget.share(100)) {
            tally.add(differential::run(&[*part], args.seed, chosen.few)?);
        }
    }
    Ok(tally)
}

/// The file systems' readers, on these images.
fn read(names: &[&str]) -> Result<Tally> {
    let mut tally = Tally::default();
    if names.is_empty() {
        return Ok(tally);
    }
    let mut say = |one: &readers::Outcome| ui::say(format!("readers: {one}"));
    let wanted = |name: &str| names.contains(&name);
    for outcome in readers::all(&wanted, readers::Disks::Made, &mut say)? {
        let name = format!("readers: {}", outcome.name);
        tally.count(&name, &outcome.result());
    }
    Ok(tally)
}

fn list(args: &TestArgs, chosen: &Chosen) -> Result<()> {
    for name in &chosen.readers {
        ui::say(format!("readers: {name}"));
    }
    for check in &chosen.checks {
        ui::say(check);
    }
    if chosen.host {
        for name in host::names()? {
            let name = format!("host: {name}");
            if args.wants(&name) {
                ui::say(name);
            }
        }
    }
    for menu in &chosen.menus {
        ui::say(format!("menus: {menu}"));
    }
    for case in &chosen.cases {
        ui::say(format!("real-xen: {case}"));
    }
    for part in &chosen.differential {
        let few = if chosen.few { " (a few cases)" } else { "" };
        ui::say(format!("differential: {part}{few}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: TestArgs,
    }

    fn chosen(words: &[&str]) -> Chosen {
        let line = Line::parse_from([&["test"], words].concat());
        Chosen::of(&line.args, line.args.extent()).unwrap()
    }

    fn names(chosen: &Chosen) -> Vec<String> {
        let mut names: Vec<String> = chosen.cases.iter().map(Case::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn short_and_rest_are_everything() {
        let (short, rest, all) = (chosen(&[]), chosen(&["--rest"]), chosen(&["--all"]));
        let mut both = names(&short);
        both.extend(names(&rest));
        both.sort();
        assert_eq!(both, names(&all));
        assert!(short.host && !rest.host && all.host);
        assert_eq!(rest.checks.len(), all.checks.len());
        assert_eq!(rest.readers, all.readers);
        assert_eq!(rest.differential.len(), all.differential.len());
        assert!(short.few && !short.differential.is_empty() && !rest.few);
    }

    #[test]
    fn a_turn_leaves_nothing_out() {
        let (plain, turned) = (chosen(&["--all"]), chosen(&["--all", "--turn", "a"]));
        assert_eq!(names(&plain), names(&turned));
        let order = |chosen: &Chosen| chosen.cases.iter().map(Case::to_string).collect::<Vec<_>>();
        assert_ne!(order(&plain), order(&turned));
    }

    #[test]
    fn quick_needs_no_qemu() {
        let quick = chosen(&["--quick"]);
        assert!(quick.host && !quick.checks.is_empty());
        assert!(quick.cases.is_empty() && quick.differential.is_empty());
    }
}
