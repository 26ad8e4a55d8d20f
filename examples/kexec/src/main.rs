//! A kernel of one's own that hands over to the next: the whole of it, for PV,
//! PVH and HVM guests. `docs/kexec-for-your-kernel.md` goes through it.
//!
//! It starts its other vCPUs, opens a port, works for a while, and then hands
//! over to the kernel in its boot module (`kexen bundle` makes one).

#![no_std]
#![no_main]

extern crate alloc;

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::convert::Infallible;

use kexen_abi::sched::SHUTDOWN_CRASH;
use kexen_guest::{events, hypercall, vcpus as xen_vcpus};
use kexen_handoff::{
    Ledger,
    ledger::{Claim, Holder, Kind},
};
use kexen_platform::{
    Boot, Kernel, Xen,
    exec::{self, Swing},
    guest::Guest,
    kernel,
    loan::offset_len,
    module,
    report::Report,
    vcpus,
};

kexen_platform::entry!(start);

/// Where the kernel begins, whichever way it was started.
fn start(boot: Boot) -> ! {
    boot.run::<Example>()
}

struct Example;

impl Kernel for Example {
    fn run<G: Guest<M = Xen>>(guest: &mut G) -> ! {
        let m = guest.machine();
        let report = Report::new(guest.console());
        report.keep_for_panic();
        let Err(why) = work_and_hand_over(guest, &report);
        // The hand-off was refused, or something before it: nothing is lost,
        // this kernel could go on.
        report.line(m, format_args!("error: {why}"));
        report.console().drain(m);
        loop {
            let _ = hypercall::shutdown(m, SHUTDOWN_CRASH);
        }
    }
}

/// What stops for a hand-off, and how it goes on if there is none.
#[derive(Debug)]
struct Stop;

impl Swing<Xen> for Stop {
    fn quiesce(&mut self, m: &'static Xen, _: &mut Ledger) -> Result<(), Vec<String>> {
        // Close your devices here; each that does not close is a blocker.
        vcpus::park(m).map_err(|error| Vec::from([error.to_string()]))
    }

    fn resume(&mut self, m: &'static Xen, _: &mut Ledger) {
        vcpus::unpark(m);
    }
}

fn work_and_hand_over<G: Guest<M = Xen>>(
    guest: &mut G,
    report: &Report,
) -> Result<Infallible, String> {
    let m = guest.machine();
    let text = |error: &dyn core::fmt::Display| format!("{error}");

    // Whatever Xen or another domain holds on to goes into the ledger.
    let port = events::alloc_unbound(m, 0).map_err(|e| text(&e))?;
    let kind = Kind::EventChannel { port };
    guest.ledger().enter(Claim::of(kind, Holder::Domain(0)));

    // A PV guest's vCPUs can never be given back: there, only the first one.
    let count = xen_vcpus::count(m).map_err(|e| text(&e))?;
    for vcpu in (1..count).filter(|_| !m.is_pv()) {
        guest.start_vcpu(vcpu, worker)?;
        let kind = Kind::Vcpu {
            vcpu,
            by_init: true,
        };
        guest.ledger().enter(Claim::of(kind, Holder::Xen));
    }
    report.line(m, format_args!("working on {count} vCPUs"));

    // Is there anything that would stand in the way for certain?
    exec::check(guest, &Stop).map_err(|e| text(&e))?;

    // The next kernel, from the boot module.
    let (at, len) = module::find(guest, report, false).map_err(|e| text(&e))?;
    let archive = module::read(m, at, len).map_err(|e| text(&e))?;
    let entry = module::choose(&archive, None).map_err(|e| text(&e))?;
    let next = kernel::load(guest, report, false, at, entry).map_err(|e| text(&e))?;
    let initrd = entry.initrd.as_ref().map(offset_len);
    let line = entry.cmdline.as_deref().unwrap_or_default();

    report.line(m, format_args!("handing over to {}", next.what));
    report.console().drain(m);
    exec::exec(guest, &mut Stop, &next.ready(initrd, line)).map_err(|e| text(&e))
}

/// What the other vCPUs do: come to the checkpoint often, with no lock held.
fn worker(m: &'static Xen, vcpu: u32) -> ! {
    loop {
        vcpus::checkpoint(m, vcpu);
        let _ = hypercall::sched_yield(m);
    }
}
