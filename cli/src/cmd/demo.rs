//! `demo`: the main job, shown on a real Xen.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::lab::artefacts::{self, Flavour, Kernel, Xen};
use crate::lab::build::{self, Image, Variant};
use crate::lab::dom0::Dom0;
use crate::lab::guest::{self, Guest, Mode, Run};
use crate::lab::{bare, fetch, payload};
use crate::ui;

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Guests to run, separated by commas; `all` adds dom0-pvh on Xen 4.20
    #[arg(long, value_delimiter = ',', default_value = "pv,pvh,dom0-pv")]
    guest: Vec<String>,
    /// Linux kernel to hand over to, instead of Debian's (bzImage or ELF)
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initrd for it, instead of the lab's test userspace
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<String>,
    /// Version of Xen
    #[arg(long, value_enum, default_value = "4.17")]
    xen: Xen,
    /// Memory of each guest
    #[arg(long, value_name = "MiB", default_value_t = 512)]
    memory: u64,
    /// Virtual processors of each guest
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,
    /// Print one JSON document on stdout
    #[arg(long)]
    json: bool,
    /// Leave Kexen out: the toolstack starts the kernel itself, to compare
    #[arg(long)]
    direct: bool,
}

/// Nobody is at the prompt here.
const ON_ERROR: &str = "kexen.on-error=crash";

/// What came of one guest.
#[derive(Debug, Serialize)]
struct Row {
    guest: &'static str,
    xen: &'static str,
    linux: Option<String>,
    userspace: bool,
    passed: bool,
    problem: Option<String>,
    seconds_to_kexen: Option<f64>,
    seconds_to_linux: Option<f64>,
    seconds_to_userspace: Option<f64>,
    console: Option<PathBuf>,
}

/// The guests that the option names.
fn modes(args: &DemoArgs) -> Result<Vec<Mode>> {
    let mut modes = Vec::new();
    for name in &args.guest {
        match name.as_str() {
            "all" => {
                modes.extend([Mode::Pv, Mode::Pvh, Mode::Dom0Pv]);
                if args.xen == Xen::V4_20 {
                    modes.push(Mode::Dom0Pvh);
                }
            }
            name => modes.push(
                <Mode as clap::ValueEnum>::from_str(name, true).map_err(|_| {
                    anyhow::anyhow!("--guest {name}: not one of pv, pvh, dom0-pv, dom0-pvh, all")
                })?,
            ),
        }
    }
    modes.sort();
    modes.dedup();
    if args.xen == Xen::V4_17 && modes.contains(&Mode::Dom0Pvh) {
        bail!("Xen 4.17 starts no PVH dom0 without an IOMMU; add --xen 4.20");
    }
    Ok(modes)
}

/// Memory of a guest, in MiB. Xen 4.20 maps the machine's ACPI tables to a
/// PVH dom0 only where its memory reaches up to them.
fn memory_of(mode: Mode, asked: u64) -> u64 {
    if mode == Mode::Dom0Pvh {
        asked.max(4096)
    } else {
        asked
    }
}

/// Runs the demo; an error if any guest did not reach its userspace.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let modes = modes(args)?;
    let needs_dom0 = modes.iter().any(|mode| !mode.is_dom0());
    let kexen = fetch::beside(args.xen, needs_dom0, || {
        let build = || build::image(Variant::Normal);
        (!args.direct).then(build).transpose()
    })?;
    let scratch = tempfile::tempdir()?;
    let guests: Vec<Guest> = modes
        .into_iter()
        .map(|mode| guest(args, mode, kexen.as_ref(), scratch.path()))
        .collect::<Result<_>>()?;
    let (bare, inside): (Vec<&Guest>, Vec<&Guest>) =
        guests.iter().partition(|guest| guest.mode.is_dom0());
    // A dom0 is a machine of its own: it runs beside the one with guests.
    let mut rows = thread::scope(|scope| -> Result<Vec<Row>> {
        let bare = scope.spawn(|| {
            let run = |guest| one(args, guest, || bare::run_guest(args.xen, guest));
            bare.into_iter().map(run).collect::<Vec<_>>()
        });
        let mut rows = Vec::new();
        if !inside.is_empty() {
            let mut dom0 = Dom0::boot(args.xen, args.memory)?;
            for guest in inside {
                rows.push(one(args, guest, || dom0.run_guest(guest)));
            }
        }
        let bare = bare.join();
        rows.extend(bare.map_err(|_| anyhow::anyhow!("the thread that runs dom0 panicked"))?);
        Ok(rows)
    })?;
    rows.sort_by_key(|row| {
        guests
            .iter()
            .position(|guest| guest.mode.name() == row.guest)
    });
    show(args, &rows)?;
    let missed: Vec<&str> = rows
        .iter()
        .filter(|row| !row.passed)
        .map(|row| row.guest)
        .collect();
    if !missed.is_empty() {
        bail!("not passed: {}", missed.join(", "));
    }
    Ok(())
}

/// A guest, with the files that it starts with.
fn guest(args: &DemoArgs, mode: Mode, kexen: Option<&Image>, scratch: &Path) -> Result<Guest> {
    // The cloud kernel cannot be dom0 (no CONFIG_XEN_DOM0).
    let flavour = if mode.is_dom0() {
        Flavour::Generic
    } else {
        Flavour::Cloud
    };
    let debian = Kernel::debian(flavour)?;
    let kernel = args
        .kernel
        .as_deref()
        .map_or(Ok(debian.image.clone()), artefacts::given)?;
    let initrd = match &args.initrd {
        Some(file) => artefacts::given(file)?,
        None => debian.test_initrd(0, "")?,
    };
    let disks = !mode.is_dom0() && args.initrd.is_none();
    let mut cmdline = String::from(mode.console());
    if disks {
        cmdline.push_str(" lab.disks");
    }
    if let Some(more) = &args.cmdline {
        cmdline.push(' ');
        cmdline.push_str(more);
    }
    let (start, module, outer) = match kexen {
        None => (kernel, initrd, cmdline),
        Some(kexen) => {
            let module = scratch.join(format!("{}.module", mode.name()));
            payload::write(&module, &kernel, Some(&initrd), &cmdline)?;
            let image = match mode {
                Mode::Hvm => &kexen.hvm,
                _ => &kexen.stripped,
            };
            (image.clone(), module, ON_ERROR.to_owned())
        }
    };
    Ok(Guest {
        module: Some(module),
        cmdline: outer,
        memory: memory_of(mode, args.memory),
        vcpus: args.vcpus,
        disks,
        plain: args.direct,
        timeout: Duration::from_secs(300),
        ..Guest::new(format!("demo-{}", mode.name()), mode, start)
    })
}

/// Runs one guest, and says how it went.
fn one(args: &DemoArgs, guest: &Guest, run: impl FnOnce() -> Result<Run>) -> Row {
    let step = ui::step(format!(
        "running the {} guest on Xen {}",
        guest.mode.name(),
        args.xen.version()
    ));
    let row = row(args, guest, run());
    step.done(row.problem.as_deref().unwrap_or("userspace reached"));
    row
}

fn row(args: &DemoArgs, guest: &Guest, run: Result<Run>) -> Row {
    let mut row = Row {
        guest: guest.mode.name(),
        xen: args.xen.version(),
        linux: None,
        userspace: false,
        passed: false,
        problem: None,
        seconds_to_kexen: None,
        seconds_to_linux: None,
        seconds_to_userspace: None,
        console: None,
    };
    match run {
        Err(error) => row.problem = Some(format!("{error:#}")),
        Ok(run) => {
            row.linux = run.said("release").map(str::to_owned);
            row.seconds_to_kexen = run.seconds_to("kexen:");
            row.seconds_to_linux = run.seconds_to("Linux version");
            row.seconds_to_userspace = run.seconds_to("kexen-lab: userspace=");
            row.userspace = row.seconds_to_userspace.is_some();
            // A userspace of the user's own is not ours to judge: its kernel
            // starting it is what can be seen from outside.
            let own = args.initrd.is_some();
            if own && run.saw("Run /init as init process") {
                row.seconds_to_userspace = run.seconds_to("Run /init as init process");
                row.userspace = true;
            }
            let checked = guest::check(guest, &run, None);
            row.passed = if own { row.userspace } else { checked.is_ok() };
            if !row.passed {
                row.problem = checked.err().map(|error| error.to_string());
            }
            row.console = Some(run.log);
        }
    }
    row
}

fn show(args: &DemoArgs, rows: &[Row]) -> Result<()> {
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&serde_json::json!({ "guests": rows }))?
        );
        return Ok(());
    }
    let seconds =
        |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} s"));
    println!(
        "\n{:<9} {:<5} {:<26} {:<10} {:>9} {:>9} {:>13}",
        "guest", "Xen", "Linux", "userspace", "to Kexen", "to Linux", "to userspace"
    );
    for row in rows {
        println!(
            "{:<9} {:<5} {:<26} {:<10} {:>9} {:>9} {:>13}",
            row.guest,
            row.xen,
            row.linux.as_deref().unwrap_or("-"),
            if row.userspace { "reached" } else { "no" },
            seconds(row.seconds_to_kexen),
            seconds(row.seconds_to_linux),
            seconds(row.seconds_to_userspace)
        );
    }
    println!(
        "Times count from the guest's creation (dom0-pv: from QEMU's start, Xen's own boot included)."
    );
    if args.kernel.is_none() && rows.iter().any(|row| row.guest.starts_with("dom0")) {
        println!(
            "dom0 runs Debian's generic kernel: the cloud kernel is built without dom0 support."
        );
    }
    for row in rows {
        if let Some(problem) = &row.problem {
            println!("\n{}: {problem}", row.guest);
        }
    }
    Ok(())
}
