//! Where Xen enters a PV guest, and what it is asked to do differently.
//!
//! Rules: `register_guest_callback`, `do_set_trap_table` in
//! `arch/x86/pv/callback.c`; `do_vm_assist` in `common/domain.c`;
//! `do_set_timer_op` in `common/sched/core.c`. All of it belongs to Xen and
//! outlives the kernel that asked: only an NMI callback can be unregistered,
//! the others are overwritten, with 0 at best.

use std::collections::BTreeMap;

use kexen_abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE,
    CALLBACKTYPE_NMI, CALLBACKTYPE_SYSCALL, CALLBACKTYPE_SYSCALL32, CALLBACKTYPE_SYSENTER,
    CallbackRegister, CallbackUnregister, VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_M2P_STRICT,
    VMASST_RUNSTATE_UPDATE_FLAG,
};
use kexen_abi::errno::Errno;
use kexen_abi::hypercall::Hypercall;
use kexen_abi::vcpu::TrapInfo;

use crate::call::{Answer, Call};
use crate::state::{State, Who};

/// The exception that an NMI is.
const TRAP_NMI: u8 = 2;
/// Entries of one `set_trap_table`. Xen has no limit, and goes on for as
/// long as a list does.
const LONGEST_LIST: u64 = 1 << 16;
/// `TI_SET_IF`: events are masked on entry.
const MASK_EVENTS: u8 = 4;
/// `FLAT_KERNEL_CS`
const KERNEL_CS: u16 = 0xe033;

/// Where one vCPU is entered; 0 for nowhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callbacks {
    pub(crate) event: u64,
    pub(crate) failsafe: u64,
    pub(crate) syscall: u64,
    pub(crate) syscall32: u64,
    pub(crate) sysenter: u64,
    /// The trap table, by vector.
    pub(crate) traps: BTreeMap<u8, TrapInfo>,
}

impl Callbacks {
    /// All that is set, in words.
    pub(crate) fn set(&self) -> Vec<String> {
        let places = [
            ("event callback", self.event),
            ("failsafe callback", self.failsafe),
            ("syscall callback", self.syscall),
            ("syscall32 callback", self.syscall32),
            ("sysenter callback", self.sysenter),
        ];
        let mut set: Vec<String> = places
            .iter()
            .filter(|(_, address)| *address != 0)
            .map(|(what, address)| format!("{what} at {address:#x}"))
            .collect();
        if !self.traps.is_empty() {
            set.push(format!("trap table of {} entries", self.traps.len()));
        }
        set
    }
}

/// `is_canonical_address`
pub(crate) fn canonical(address: u64) -> bool {
    matches!(address >> 47, 0 | 0x1_ffff)
}

impl State {
    /// `register_guest_callback`
    fn register_callback(&mut self, who: Who, kind: u16, address: u64) -> Result<(), Errno> {
        if !canonical(address) {
            return Err(Errno::EINVAL);
        }
        let callbacks = &mut self.vcpu(who).areas.callbacks;
        match kind {
            CALLBACKTYPE_EVENT => callbacks.event = address,
            CALLBACKTYPE_FAILSAFE => callbacks.failsafe = address,
            CALLBACKTYPE_SYSCALL => callbacks.syscall = address,
            CALLBACKTYPE_SYSCALL32 => callbacks.syscall32 = address,
            CALLBACKTYPE_SYSENTER => callbacks.sysenter = address,
            CALLBACKTYPE_NMI => {
                let trap = TrapInfo {
                    vector: TRAP_NMI,
                    flags: MASK_EVENTS,
                    cs: KERNEL_CS,
                    address,
                    ..TrapInfo::default()
                };
                callbacks.traps.insert(TRAP_NMI, trap);
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }
}

/// The calls that say where Xen enters a guest, and when.
pub(crate) fn upcalls(call: &mut Call<'_, '_, '_>, number: Hypercall) -> Answer {
    let who = call.who;
    match number {
        Hypercall::VM_ASSIST => return vm_assist(call),
        Hypercall::SET_TIMER_OP => return set_timer(call),
        Hypercall::SET_TRAP_TABLE => return set_trap_table(call),
        Hypercall::SET_CALLBACKS => {
            let kinds = [
                CALLBACKTYPE_EVENT,
                CALLBACKTYPE_FAILSAFE,
                CALLBACKTYPE_SYSCALL,
            ];
            for (n, kind) in kinds.into_iter().enumerate() {
                let address = call.value(n);
                // Xen tells nobody which address was none.
                let _not_canonical = call.state.register_callback(who, kind, address);
            }
        }
        Hypercall::CALLBACK_OP => match call.value(0) & 0xffff_ffff {
            CALLBACKOP_REGISTER => {
                let arg: CallbackRegister = call.read(1, 0)?;
                call.state.register_callback(who, arg.kind, arg.address)?;
            }
            CALLBACKOP_UNREGISTER => {
                let arg: CallbackUnregister = call.read(1, 0)?;
                unregister(call, arg.kind)?;
            }
            _ => return Err(Errno::ENOSYS),
        },
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

fn unregister(call: &mut Call<'_, '_, '_>, kind: u16) -> Result<(), Errno> {
    match kind {
        CALLBACKTYPE_NMI => {
            let who = call.who;
            call.state.vcpu(who).areas.callbacks.traps.remove(&TRAP_NMI);
            Ok(())
        }
        CALLBACKTYPE_EVENT
        | CALLBACKTYPE_FAILSAFE
        | CALLBACKTYPE_SYSCALL
        | CALLBACKTYPE_SYSCALL32
        | CALLBACKTYPE_SYSENTER => Err(Errno::EINVAL),
        _ => Err(Errno::ENOSYS),
    }
}

/// `HYPERVISOR_set_trap_table`: none clears it; entries before a bad one
/// are in force.
fn set_trap_table(call: &mut Call<'_, '_, '_>) -> Answer {
    let who = call.who;
    if call.is_null(0) {
        call.state.vcpu(who).areas.callbacks.traps.clear();
        return Ok(0);
    }
    for n in 0..LONGEST_LIST {
        let trap: TrapInfo = call.read(0, n)?;
        if trap.address == 0 {
            return Ok(0);
        }
        if !canonical(trap.address) {
            return Err(Errno::EINVAL);
        }
        let traps = &mut call.state.vcpu(who).areas.callbacks.traps;
        traps.insert(trap.vector, trap);
    }
    Err(Errno::EFAULT)
}

/// `HYPERVISOR_vm_assist`
fn vm_assist(call: &mut Call<'_, '_, '_>) -> Answer {
    let translated = call.state.domain(call.who).kind.translated();
    let valid = if translated {
        1 << VMASST_RUNSTATE_UPDATE_FLAG
    } else {
        0x3f | 1_u64 << VMASST_M2P_STRICT
    };
    let kind = call.word(1);
    if kind >= 64 || valid & (1 << kind) == 0 {
        return Err(Errno::EINVAL);
    }
    let command = call.value(0) & 0xffff_ffff;
    let assist = &mut call.state.domains[call.who.domain].life.vm_assist;
    match command {
        VMASST_CMD_ENABLE => *assist |= 1 << kind,
        VMASST_CMD_DISABLE => *assist &= !(1 << kind),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// `HYPERVISOR_set_timer_op`: never refused. A time far away, or before the
/// machine started, is taken for one 100 ms from now.
fn set_timer(call: &mut Call<'_, '_, '_>) -> Answer {
    let (timeout, who) = (call.value(0), call.who);
    let now = call.state.now();
    let offset = timeout.cast_signed().wrapping_sub(now.cast_signed());
    let far = timeout.cast_signed() < 0 || offset >= 1 << 50;
    call.state.vcpu(who).areas.singleshot = match timeout {
        0 => None,
        _ if far => Some(now + 100_000_000),
        _ => Some(timeout),
    };
    Ok(0)
}
