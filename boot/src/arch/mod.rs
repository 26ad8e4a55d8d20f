//! What only an x86-64 guest under Xen can say: entry points, the real
//! [`Machine`](kexen_guest::Machine), the last instructions before a jump.

pub(crate) mod entry;
