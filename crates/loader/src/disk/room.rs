//! The memory that reading disks may take.
//!
//! It is the heap's: file systems' tables, caches, configurations. Where the
//! heap cannot give any more, a kernel ends; so reads fail when two fifths of
//! it are taken, and already at one fifth while file systems are looked for: a
//! disk beside the one that boots must not take what that needs. The rest is
//! for what one read leads to, be it a list that doubles where it was full, and
//! for the configurations, which have bounds of their own.
//!
//! When the files are in memory most of it is given back: unpacking the kernel
//! is where a boot needs the most.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kexen_abi::PAGE_SIZE;
use kexen_bootconfig::disk::Memory;
use kexen_disk::CacheOptions;
use kexen_handoff::HandoffError;
use kexen_platform::{disks::Disks, ground::Ground, native::Native};

/// Bytes of heap that are asked for, and in a guest with more memory to spare
/// than [`PLENTY`].
const LITTLE: u64 = 24 << 20;
const MUCH: u64 = 48 << 20;
/// Bytes for the lists that map so much.
const LISTS: u64 = 2 << 20;
/// Bytes to spare.
const PLENTY: u64 = 224 << 20;

/// Bytes that were free at the beginning, and that reads leave free.
static WHOLE: AtomicU64 = AtomicU64::new(0);
static FLOOR: AtomicU64 = AtomicU64::new(0);

/// Bytes of the heap that are left when the files have been read, beside what is
/// in use then, and how many bytes of initrd one of them is for: lists of its pages,
/// of 8 bytes for each, two at a time, and as much again.
const LEFT: u64 = 1 << 20;
const INITRD: u64 = 128;

/// Gets the heap its memory, and leaves the hand-off its own.
pub(super) fn make<G: Ground>(guest: &mut G) -> Result<(), HandoffError> {
    guest.step_aside();
    guest.set_aside();
    let spare = guest.free().count().saturating_mul(PAGE_SIZE);
    if spare > PLENTY {
        // To map that much takes lists that the first heap has no room for.
        guest.grow_heap(LISTS)?;
        guest.lend_heap(MUCH)?;
    } else {
        guest.lend_heap(LITTLE)?;
    }
    WHOLE.store(G::M::heap_free(), Relaxed);
    leave_fifths(4);
    Ok(())
}

/// Gives back what reading the disks has taken, for the kernel to be unpacked in:
/// there is an initrd of so many bytes in memory.
pub(super) fn give_back<G: Ground>(guest: &mut G, initrd: u64) {
    guest.cut_heap(LEFT + initrd / INITRD);
}

fn leave_fifths(fifths: u64) {
    FLOOR.store(WHOLE.load(Relaxed) / 5 * fifths, Relaxed);
}

/// For an omission test: reads take all there is.
pub(super) fn leave_nothing() {
    WHOLE.store(0, Relaxed);
    leave_fifths(0);
}

/// File systems are there: what is on them may take its part.
pub(super) fn give_the_rest() {
    leave_fifths(3);
}

fn is_left<M: Native>() -> bool {
    M::heap_free() >= FLOOR.load(Relaxed)
}

/// What reading one of these disks may take.
pub(super) fn of_one<M: Native>(disks: &Disks<M>) -> Memory {
    Memory {
        cache: CacheOptions::for_one_of(disks.all().len()),
        has_room: is_left::<M>,
    }
}
