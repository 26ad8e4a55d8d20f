//! One hypercall: its arguments, and which part of Xen answers it.
//!
//! An argument that points somewhere is either a structure that the guest
//! layer borrowed for the call ([`Arg::In`], [`Arg::InOut`]) or an address
//! in the guest's memory; both are read and written through [`Call`].

use kexen_abi::errno::Errno;
use kexen_abi::hypercall::Hypercall;
use kexen_guest::Arg;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::state::{State, Who};
use crate::{domain, events, grants, physmap, pirqs, pv, vcpus};

/// What a hypercall came to: a number that is not negative, or an error.
pub(crate) type Answer = Result<u64, Errno>;

/// A hypercall under way.
pub(crate) struct Call<'s, 'a, 'b> {
    pub(crate) state: &'s mut State,
    pub(crate) who: Who,
    args: &'a mut [Arg<'b>],
}

impl Call<'_, '_, '_> {
    /// Argument `n` as a number; 0 where there is none. For a structure,
    /// any number but 0: it is not a null pointer.
    pub(crate) fn value(&self, n: usize) -> u64 {
        match self.args.get(n) {
            Some(Arg::Value(value)) => *value,
            Some(_) => u64::MAX,
            None => 0,
        }
    }

    /// Argument `n` as a 32-bit number, as Xen's `unsigned int` takes it.
    pub(crate) fn word(&self, n: usize) -> u32 {
        u32::try_from(self.value(n) & 0xffff_ffff).unwrap_or(0)
    }

    /// Whether argument `n` is a null pointer.
    pub(crate) fn is_null(&self, n: usize) -> bool {
        self.value(n) == 0
    }

    /// Reads from what argument `n` points to, `offset` bytes in.
    pub(crate) fn read_bytes(
        &mut self,
        n: usize,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), Errno> {
        match self.args.get(n) {
            Some(Arg::In(bytes)) => slice_out(bytes, offset, into),
            Some(Arg::InOut(bytes)) => slice_out(bytes, offset, into),
            Some(Arg::Value(address)) => {
                let address = address.wrapping_add(offset);
                self.state.copy_from_guest(self.who, address, into)
            }
            None => Err(Errno::EFAULT),
        }
    }

    /// Writes to what argument `n` points to, `offset` bytes in.
    pub(crate) fn write_bytes(&mut self, n: usize, offset: u64, from: &[u8]) -> Result<(), Errno> {
        match self.args.get_mut(n) {
            Some(Arg::InOut(bytes)) => {
                let start = usize::try_from(offset).map_err(|_| Errno::EFAULT)?;
                let end = start.checked_add(from.len()).ok_or(Errno::EFAULT)?;
                let part = bytes.get_mut(start..end).ok_or(Errno::EFAULT)?;
                part.copy_from_slice(from);
                Ok(())
            }
            Some(Arg::Value(address)) => {
                let address = address.wrapping_add(offset);
                self.state.copy_to_guest(self.who, address, from)
            }
            // A structure that the guest layer said is only read.
            Some(Arg::In(_)) | None => Err(Errno::EFAULT),
        }
    }

    /// Element `index` of the array of structures that argument `n` is.
    pub(crate) fn read<T: FromBytes + IntoBytes>(
        &mut self,
        n: usize,
        index: u64,
    ) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        let size = u64::try_from(size_of::<T>()).unwrap_or(0);
        self.read_bytes(n, index.wrapping_mul(size), value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes element `index` of the array of structures that argument `n` is.
    pub(crate) fn write<T: IntoBytes + Immutable>(
        &mut self,
        n: usize,
        index: u64,
        value: &T,
    ) -> Result<(), Errno> {
        let size = u64::try_from(size_of::<T>()).unwrap_or(0);
        self.write_bytes(n, index.wrapping_mul(size), value.as_bytes())
    }
}

fn slice_out(bytes: &[u8], offset: u64, into: &mut [u8]) -> Result<(), Errno> {
    let start = usize::try_from(offset).map_err(|_| Errno::EFAULT)?;
    let end = start.checked_add(into.len()).ok_or(Errno::EFAULT)?;
    into.copy_from_slice(bytes.get(start..end).ok_or(Errno::EFAULT)?);
    Ok(())
}

/// One entry of `HYPERVISOR_multicall` (`public/xen.h`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MulticallEntry {
    op: u64,
    result: u64,
    args: [u64; 6],
}

/// Calls that only a PV guest has (`include/hypercall-defs.c`).
const PV_ALONE: [Hypercall; 7] = [
    Hypercall::SET_TRAP_TABLE,
    Hypercall::MMU_UPDATE,
    Hypercall::SET_GDT,
    Hypercall::SET_CALLBACKS,
    Hypercall::UPDATE_DESCRIPTOR,
    Hypercall::UPDATE_VA_MAPPING,
    Hypercall::CALLBACK_OP,
];

impl State {
    /// Carries out a hypercall; its result as the guest sees it.
    pub(crate) fn hypercall(&mut self, who: Who, call: Hypercall, args: &mut [Arg<'_>]) -> i64 {
        *self.calls.entry(call.0).or_insert(0) += 1;
        if self.domain(who).life.ended() {
            return -i64::from(Errno::ESRCH.0);
        }
        if self.domain(who).kind.translated() && PV_ALONE.contains(&call) {
            return -i64::from(Errno::ENOSYS.0);
        }
        let call_state = &mut Call {
            state: self,
            who,
            args,
        };
        let answer = match call {
            Hypercall::MULTICALL => multicall(call_state),
            Hypercall::MMU_UPDATE => pv::update::mmu_update(call_state),
            Hypercall::MMUEXT_OP => pv::extended::mmuext_op(call_state),
            Hypercall::UPDATE_VA_MAPPING => pv::update::update_va_mapping(call_state),
            Hypercall::SET_GDT => pv::descriptors::set_gdt(call_state),
            Hypercall::UPDATE_DESCRIPTOR => pv::descriptors::update_descriptor(call_state),
            Hypercall::MEMORY_OP => physmap::memory_op::memory_op(call_state),
            Hypercall::GRANT_TABLE_OP => grants::grant_table_op(call_state),
            Hypercall::EVENT_CHANNEL_OP => events::event_channel_op(call_state),
            Hypercall::PHYSDEV_OP => pirqs::physdev_op(call_state),
            Hypercall::VCPU_OP => vcpus::vcpu_op(call_state),
            Hypercall::SCHED_OP => domain::sched_op(call_state),
            Hypercall::HVM_OP => domain::hvm_op(call_state),
            Hypercall::XEN_VERSION => domain::xen_version(call_state),
            Hypercall::CONSOLE_IO => domain::console_io(call_state),
            Hypercall::SET_TRAP_TABLE
            | Hypercall::SET_CALLBACKS
            | Hypercall::CALLBACK_OP
            | Hypercall::VM_ASSIST
            | Hypercall::SET_TIMER_OP => domain::upcalls(call_state, call),
            _ => Err(Errno::ENOSYS),
        };
        match answer {
            Ok(value) => i64::try_from(value).unwrap_or(i64::MAX),
            Err(errno) => -i64::from(errno.0),
        }
    }
}

/// `HYPERVISOR_multicall`: each entry carried out, its result in its place.
fn multicall(call: &mut Call<'_, '_, '_>) -> Answer {
    for n in 0..u64::from(call.word(1)) {
        let mut entry: MulticallEntry = call.read(0, n)?;
        let number = u32::try_from(entry.op).unwrap_or(u32::MAX);
        let mut args = entry.args.map(Arg::Value);
        let result = if number == Hypercall::MULTICALL.0 {
            -i64::from(Errno::ENOSYS.0)
        } else {
            call.state.hypercall(call.who, Hypercall(number), &mut args)
        };
        entry.result = result.cast_unsigned();
        call.write(0, n, &entry)?;
    }
    Ok(0)
}
