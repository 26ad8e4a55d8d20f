//! The differential test's two sides: a guest on a real Xen, and the model.
//!
//! Both run `kexen-differential`'s cases. The guest prints digests (see
//! `boot/src/differential.rs`); where one differs from the model's, that case
//! is run again with every outcome printed, then with fewer and fewer of its
//! steps, while the two still differ.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kexen_differential::run::{Outcome, run_case};
use kexen_differential::world::{PvPlaces, PvhPlaces, World};
use kexen_differential::{Digest, Kind, generate};
use kexen_guest::{Extent, Extents, Machine as _, hypercall, pv};
use kexen_model as model;

use super::artefacts::Xen;
use super::build::{self, Variant};
use super::guest::{End, Guest, Mode, Run};
use super::run_case::Bench;

/// Memory of the guests, MiB.
const MEMORY: u64 = 256;
/// Pages of the model's guests; the test touches a few of them.
const PAGES: u64 = 4096;
/// Where the model's PV guest maps shared info and the grant table.
const SHARED_INFO: u64 = 0x0000_0600_0000_0000;
const GRANTS: u64 = SHARED_INFO + 4096;

/// What one step came to, as numbers to compare.
pub(crate) type Values = Vec<u64>;

/// Which cases to run where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cases {
    pub(crate) xen: Xen,
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Digests by case, and how many hypercalls were made.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    pub(crate) by_case: BTreeMap<u64, u64>,
    pub(crate) calls: u64,
    /// The first case that is missing, if the guest ended too early.
    pub(crate) ended_after: Option<u64>,
}

/// The model's world.
struct ModelWorld {
    vcpu: model::Vcpu,
    world: World,
}

fn model_world(cases: Cases) -> Result<ModelWorld> {
    let xen = model::Xen::new(model::Config {
        version: match cases.xen {
            Xen::V4_17 => model::Version::Xen4_17,
            Xen::V4_20 => model::Version::Xen4_20,
        },
        ..model::Config::default()
    });
    let build = model::Build {
        id: 7,
        pages: PAGES,
        ..model::Build::default()
    };
    let mut free = Extents::new();
    free.insert(Extent::new(PAGES / 2, PAGES / 4));
    let error = |error: &dyn std::fmt::Display| anyhow::anyhow!("the model's world: {error}");
    if cases.kind == Kind::Pvh {
        let vcpu = xen.domain(model::Kind::Pvh, build).vcpu(0);
        let places = PvhPlaces {
            first_hole: 0xf_0000,
            scratch: 4096,
        };
        let world = World::pvh(&vcpu, &mut free, places).map_err(|e| error(&e))?;
        return Ok(ModelWorld { vcpu, world });
    }
    let guest = xen.pv_guest(build, model::PvImage::default());
    let vcpu = guest.vcpu(0);
    let day = guest.start_of_day().context("no start of day")?;
    let start = pv::Start::read(&vcpu, day.start_info, day.virt_base).map_err(|e| error(&e))?;
    let boot = start.boot_pages();
    let padding = pv::start::PADDING_PAGES;
    let root = start.info.mfn_list + (start.info.pt_base - day.virt_base) / 4096 * 8;
    let root = vcpu.read64(root).map_err(|e| error(&e))?;
    let pool = Extent::new(boot, padding);
    let mut space = pv::AddressSpace::new(&start, root, boot + padding, pool);
    let scratch = day.virt_base + 4096;
    let frame = start.info.shared_info / 4096;
    let table = hypercall::setup_grant_table(&vcpu, scratch).map_err(|e| error(&e))?;
    space
        .map_frames(&vcpu, SHARED_INFO, &[frame, table], true)
        .map_err(|e| error(&e))?;
    let places = PvPlaces {
        shared_info_frame: frame,
        shared_info: SHARED_INFO,
        grants: GRANTS,
        scratch,
    };
    let world = World::pv(&vcpu, &mut space, &mut free, places).map_err(|e| error(&e))?;
    Ok(ModelWorld { vcpu, world })
}

/// Runs the cases on the model.
pub(crate) fn on_model(cases: Cases) -> Result<Digests> {
    let ModelWorld { vcpu, mut world } = model_world(cases)?;
    let mut digests = Digests::default();
    for number in cases.first..cases.first + cases.count {
        let ops = generate::case(cases.kind, cases.seed, number);
        let mut digest = Digest::default();
        let mut fold = |_: usize, outcome: &Outcome| outcome.fold(&mut digest);
        digests.calls += run_case(&vcpu, &mut world, &ops, &|_| true, &mut fold);
        digests.by_case.insert(number, digest.0);
    }
    Ok(digests)
}

/// Runs some steps of one case on the model; outcomes by step.
pub(crate) fn steps_on_model(cases: Cases, keep: u128) -> Result<BTreeMap<usize, Values>> {
    let ModelWorld { vcpu, mut world } = model_world(cases)?;
    let ops = generate::case(cases.kind, cases.seed, cases.first);
    let mut steps = BTreeMap::new();
    let kept = |n: usize| n < 128 && keep >> n & 1 == 1;
    run_case(&vcpu, &mut world, &ops, &kept, &mut |n, outcome| {
        let mut values = outcome.results.clone();
        values.push(u64::MAX);
        values.extend(&outcome.seen);
        steps.insert(n, values);
    });
    Ok(steps)
}

/// What Xen said meanwhile, by the model, of some steps of one case.
pub(crate) fn model_log(cases: Cases, keep: u128) -> Result<Vec<String>> {
    let ModelWorld { vcpu, mut world } = model_world(cases)?;
    let ops = generate::case(cases.kind, cases.seed, cases.first);
    let kept = |n: usize| n < 128 && keep >> n & 1 == 1;
    let _ = vcpu.xen().take_log();
    run_case(&vcpu, &mut world, &ops, &kept, &mut |_, _| {});
    Ok(vcpu.xen().take_log())
}

/// Real guests that run cases.
pub(crate) struct Real {
    bench: Bench,
    image: PathBuf,
    runs: u32,
}

impl Real {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            bench: Bench::new(&[], false)?,
            image: build::image(Variant::Lab)?.stripped,
            runs: 0,
        })
    }

    fn run(&mut self, cases: Cases, keep: Option<u128>) -> Result<Run> {
        self.runs += 1;
        let Cases {
            seed, first, count, ..
        } = cases;
        let keep = keep.map_or(String::new(), |bits| format!(",{bits:x}"));
        let mode = match cases.kind {
            Kind::Pv => Mode::Pv,
            Kind::Pvh => Mode::Pvh,
        };
        let guest = Guest {
            cmdline: format!("kexen.differential={seed},{first},{count}{keep}"),
            memory: MEMORY,
            timeout: Duration::from_secs(400),
            ..Guest::new(
                format!("diff-{}-{}", mode.name(), self.runs),
                mode,
                self.image.clone(),
            )
        };
        let run = self.bench.run_guest(cases.xen, &guest)?;
        let failed = run
            .lines
            .iter()
            .find(|line| line.text.contains("kexen-diff: failed"));
        if let Some(line) = failed {
            bail!("{}", line.text);
        }
        Ok(run)
    }

    /// Runs the cases in a guest.
    pub(crate) fn digests(&mut self, cases: Cases) -> Result<Digests> {
        let run = self.run(cases, None)?;
        let mut digests = Digests::default();
        let mut done = false;
        for text in answers(&run) {
            if let Some(calls) = text.strip_prefix("done calls=") {
                digests.calls = calls.trim().parse().context("the count of calls")?;
                done = true;
                continue;
            }
            let mut words = text.split_whitespace();
            let first: u64 = words
                .next()
                .unwrap_or("")
                .parse()
                .context("a case's number")?;
            for (number, word) in (first..).zip(words) {
                let digest = u64::from_str_radix(word, 16).context("a digest")?;
                digests.by_case.insert(number, digest);
            }
        }
        if !done {
            let last = digests.by_case.keys().next_back();
            digests.ended_after = Some(last.map_or(cases.first, |last| last + 1));
        }
        Ok(digests)
    }

    /// Runs some steps of one case; outcomes by step, as far as it came.
    pub(crate) fn steps(&mut self, cases: Cases, keep: u128) -> Result<BTreeMap<usize, Values>> {
        let run = self.run(Cases { count: 1, ..cases }, Some(keep))?;
        let mut steps = BTreeMap::new();
        for text in answers(&run) {
            let Some(step) = text.strip_prefix("step ") else {
                continue;
            };
            let mut parts = step.split_whitespace();
            let number = parts
                .next()
                .unwrap_or("")
                .parse()
                .context("a step's number")?;
            let mut list = |key: &str| -> Result<Values> {
                let part = parts.next().and_then(|part| part.strip_prefix(key));
                let part = part.with_context(|| format!("no {key} in {text:?}"))?;
                part.split(',')
                    .filter(|word| !word.is_empty())
                    .map(|word| Ok(u64::from_str_radix(word, 16)?))
                    .collect()
            };
            let mut values = list("results=")?;
            values.push(u64::MAX);
            values.extend(list("seen=")?);
            steps.insert(number, values);
        }
        if !matches!(run.end, End::Shutdown(0)) {
            // It ended in the middle: that is a difference as well.
            steps.insert(usize::MAX, vec![]);
        }
        Ok(steps)
    }
}

fn answers(run: &Run) -> impl Iterator<Item = &str> {
    let lines = run.lines.iter();
    lines.filter_map(|line| line.text.trim().strip_prefix("kexen-diff: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(xen: Xen, kind: Kind, seed: u64) -> Cases {
        Cases {
            xen,
            kind,
            seed,
            first: 0,
            count: 120,
        }
    }

    #[test]
    fn a_case_means_the_same_each_time() {
        for kind in [Kind::Pv, Kind::Pvh] {
            let first = on_model(cases(Xen::V4_20, kind, 5)).unwrap();
            let again = on_model(cases(Xen::V4_20, kind, 5)).unwrap();
            assert_eq!(first.by_case, again.by_case);
            assert_eq!(first.by_case.len(), 120);
            let other = on_model(cases(Xen::V4_20, kind, 6)).unwrap();
            assert_ne!(first.by_case, other.by_case);
        }
    }

    #[test]
    fn two_releases_that_differ_are_told_apart() {
        for kind in [Kind::Pv, Kind::Pvh] {
            let old = on_model(cases(Xen::V4_17, kind, 1)).unwrap();
            let new = on_model(cases(Xen::V4_20, kind, 1)).unwrap();
            let differ = |(case, digest): &(&u64, &u64)| new.by_case.get(case) != Some(digest);
            let differ = old.by_case.iter().filter(differ).count();
            assert!(differ > 0 && differ < 120, "{differ} of 120 cases differ");
        }
    }

    #[test]
    fn every_case_ends_where_it_began() {
        // A case alone comes out as it does after others.
        for kind in [Kind::Pv, Kind::Pvh] {
            let all = on_model(cases(Xen::V4_17, kind, 9)).unwrap();
            for first in [17, 60, 119] {
                let one = Cases {
                    first,
                    count: 1,
                    ..cases(Xen::V4_17, kind, 9)
                };
                let alone = on_model(one).unwrap();
                assert_eq!(alone.by_case.get(&first), all.by_case.get(&first));
            }
        }
    }

    #[test]
    fn steps_are_chosen_by_their_bits() {
        let one = Cases {
            count: 1,
            ..cases(Xen::V4_20, Kind::Pv, 3)
        };
        let steps = steps_on_model(one, 0b1001).unwrap();
        let kept: Vec<usize> = steps.keys().copied().collect();
        let ops = generate::case(Kind::Pv, 3, 0).len();
        assert_eq!(kept, [0, 3, ops]);
    }
}
