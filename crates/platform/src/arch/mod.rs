//! What only an x86-64 guest under Xen can say: entry points, the real
//! [`Machine`](kexen_guest::Machine), the heap, the last instructions
//! before a jump. All `unsafe` of the boot image is in this folder.

pub mod entry;
pub mod heap;
pub(crate) mod io;
pub mod jump;
pub mod machine;
mod native;
pub mod vcpu;

pub use machine::Xen;
