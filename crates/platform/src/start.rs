//! How a kernel finds itself started, and its end where nothing else is left.

use kexen_abi::sched::SHUTDOWN_CRASH;
use kexen_guest::{hvm, hypercall, pv};

use crate::{
    arch::{Xen, machine},
    crash, guest,
    native::Native as _,
    pv_guest, pvh_guest, report,
};

/// A PV guest on the real machine.
pub type PvGuest = pv_guest::PvGuest<Xen>;
/// A PVH or HVM guest on the real machine.
pub type PvhGuest = pvh_guest::PvhGuest<Xen>;

/// How this kernel was started, and the machine it runs on.
#[derive(Clone, Copy, Debug)]
pub enum Boot {
    /// Paravirtualised; the virtual address of `start_info`.
    Pv(&'static Xen, u64),
    /// PVH; the physical address of `hvm_start_info`.
    Pvh(&'static Xen, u64),
    /// HVM; the physical address of the setup header, with the memory map.
    Hvm(&'static Xen, u64),
}

impl Boot {
    /// The hypervisor and memory.
    #[must_use]
    pub const fn machine(&self) -> &'static Xen {
        match self {
            Self::Pv(m, _) | Self::Pvh(m, _) | Self::Hvm(m, _) => m,
        }
    }
}

/// A kernel that runs in a guest of any type.
pub trait Kernel {
    /// Runs to a hand-off, or to the guest's end.
    fn run<G: guest::Guest<M = Xen>>(guest: &mut G) -> !;
}

/// A guest whose start of day has been read.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, on the stack")]
pub enum Started {
    /// A PV guest.
    Pv(PvGuest),
    /// A PVH or HVM guest.
    Translated(PvhGuest),
}

impl Boot {
    /// The guest's own command line; none where the start of day is none.
    #[cfg(feature = "omission")]
    #[must_use]
    pub fn command_line(self) -> alloc::string::String {
        match self {
            Self::Pv(m, at) => pv::Start::read(m, at, pv_guest::VIRT_BASE)
                .map(|start| start.command_line())
                .unwrap_or_default(),
            Self::Pvh(m, at) => hvm::Start::read(m, at, m.scratch())
                .map(|start| start.command_line)
                .unwrap_or_default(),
            Self::Hvm(m, at) => hvm::Start::from_boot_params(m, at)
                .map(|start| start.command_line)
                .unwrap_or_default(),
        }
    }

    /// Takes stock of the guest. If the start of day is none, the guest ends,
    /// with the reason on Xen's console.
    #[must_use]
    pub fn guest(self) -> Started {
        let started = match self {
            Self::Pv(m, at) => pv::Start::read(m, at, pv_guest::VIRT_BASE)
                .map_err(Into::into)
                .and_then(|start| PvGuest::new(m, start))
                .map(Started::Pv),
            Self::Pvh(m, at) => hvm::Start::read(m, at, m.scratch())
                .map_err(Into::into)
                .and_then(|start| PvhGuest::new(m, start))
                .map(Started::Translated),
            Self::Hvm(m, at) => hvm::Start::from_boot_params(m, at)
                .map_err(Into::into)
                .and_then(|start| PvhGuest::hvm(m, start))
                .map(Started::Translated),
        };
        match started {
            Ok(guest) => guest,
            Err(error) => give_up(self.machine(), format_args!("start of day: {error}")),
        }
    }

    /// Takes stock of the guest and runs a kernel in it.
    pub fn run<K: Kernel>(self) -> ! {
        match self.guest() {
            Started::Pv(mut guest) => K::run(&mut guest),
            Started::Translated(mut guest) => K::run(&mut guest),
        }
    }
}

/// Ends the guest where not even a console is known.
pub fn give_up(m: &Xen, why: core::fmt::Arguments<'_>) -> ! {
    report::panic(m, format_args!("error: {why}"));
    loop {
        let _ = hypercall::shutdown(m, SHUTDOWN_CRASH);
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crash::take(machine::in_panic());
    give_up(machine::in_panic(), format_args!("panic: {info}"))
}
