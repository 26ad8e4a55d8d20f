//! Two emulated devices whose interrupts the busy guest takes as event
//! channels: an e1000 by its line (GSI), an e1000e by message (MSI).
//!
//! Registers: Intel 8254x and 82574 manuals, "Interrupt Cause". Writing `ICS`
//! raises an interrupt without a network; reading `ICR` ends it. Memory shared
//! with others: the devices' registers alone; no DMA is ever started.

use alloc::{format, string::String};

use kexen_guest::{Machine, hypercall::sched_yield, pirqs};
use kexen_platform::{
    Xen,
    pci::{self, Function},
};

use crate::text;

const E1000: (u16, u16) = (0x8086, 0x100e);
const E1000E: (u16, u16) = (0x8086, 0x10d3);

const ICR: u64 = 0xc0;
const ICS: u64 = 0xc8;
const IMS: u64 = 0xd0;
const IMC: u64 = 0xd8;
/// Link status change: harmless.
const CAUSE: u32 = 1 << 2;
/// Interrupts that are raised to try a port.
const TRIES: u32 = 3;

/// An interrupt of a device as a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupt {
    function: Function,
    registers: u64,
    pub(crate) pirq: u32,
    pub(crate) port: u32,
    msi: bool,
}

fn find(m: &'static Xen, id: (u16, u16)) -> Result<Function, String> {
    let found = pci::functions(m).find(|function| function.id == id);
    let function = found.ok_or_else(|| format!("there is no device {:04x}:{:04x}", id.0, id.1))?;
    function.enable();
    Ok(function)
}

/// Binds the e1000's line.
pub(crate) fn by_line(m: &'static Xen) -> Result<Interrupt, String> {
    let function = find(m, E1000)?;
    let gsi = function.gsi().ok_or("the e1000 has no interrupt pin")?;
    let pirq = pirqs::map_gsi(m, gsi).map_err(text)?;
    let port = pirqs::bind(m, pirq, true).map_err(text)?;
    Ok(Interrupt {
        function,
        registers: function.bar(0),
        pirq,
        port,
        msi: false,
    })
}

/// Binds the e1000e's message.
pub(crate) fn by_message(m: &'static Xen) -> Result<Interrupt, String> {
    let function = find(m, E1000E)?;
    let pirq = pirqs::free_pirq(m).map_err(text)?;
    let port = pirqs::bind(m, pirq, false).map_err(text)?;
    if !function.set_msi(pirqs::message(pirq)) {
        return Err(String::from("the e1000e has no message for its interrupt"));
    }
    Ok(Interrupt {
        function,
        registers: function.bar(0),
        pirq,
        port,
        msi: true,
    })
}

impl Interrupt {
    /// Its kind's name.
    pub(crate) const fn name(&self) -> &'static str {
        if self.msi { "pirq-msi" } else { "pirq-gsi" }
    }

    /// Has the device interrupt a few times; how many events came. `take`
    /// takes the event of a port.
    pub(crate) fn events(
        &self,
        m: &'static Xen,
        mut take: impl FnMut(u32) -> bool,
    ) -> Result<u32, String> {
        let mut came = 0;
        m.store32(self.registers + IMS, CAUSE).map_err(text)?;
        for _ in 0..TRIES {
            m.store32(self.registers + ICS, CAUSE).map_err(text)?;
            let start = m.tsc();
            let mut taken = false;
            while !taken && m.tsc().wrapping_sub(start) < 3_000_000_000 {
                taken = take(self.port);
                let _ = sched_yield(m);
            }
            m.load32(self.registers + ICR).map_err(text)?;
            came += u32::from(taken);
            if !self.msi {
                pirqs::end(m, self.pirq).map_err(text)?;
            }
        }
        Ok(came)
    }

    /// Has the device interrupt no more.
    pub(crate) fn stop(&self, m: &'static Xen) {
        let _ = m.store32(self.registers + IMC, u32::MAX);
        let _ = m.load32(self.registers + ICR);
        if self.msi {
            self.function.no_msi();
        }
    }
}
