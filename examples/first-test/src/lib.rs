//! Guest code of one's own, tested against Xen's rules.
//!
//! What this shows, in the order in which a test of yours would grow:
//! 1. your code takes a [`Machine`]: raw hypercalls and guest memory;
//! 2. a test makes a machine with Xen on it and a guest
//!    ([`kexen_model::Xen`]), and hands your code the guest's vCPU;
//! 3. when Xen would have refused, the model's log says why, in Xen's words;
//! 4. the check after a hand-off names what your code left behind.
//!
//! The only dependency is `kexen-model`; it has the interface's types
//! ([`kexen_model::abi`]) and the trait with it.

use kexen_model::abi::errno::Errno;
use kexen_model::abi::hypercall::Hypercall;
use kexen_model::{Arg, Machine};

/// Has Xen pin a page as an L1 table: `mfn` is its frame.
///
/// # Errors
/// Xen's: `EINVAL` while the page is mapped writable anywhere.
pub fn pin_l1<M: Machine>(m: &M, mfn: u64) -> Result<(), Errno> {
    // struct mmuext_op: command and padding, then two arguments.
    let mut op = [0; 24];
    op[8..16].copy_from_slice(&mfn.to_le_bytes());
    let mut args = [
        Arg::In(&op),
        Arg::Value(1),
        Arg::Value(0),
        Arg::Value(u64::from(kexen_model::abi::DOMID_SELF)),
    ];
    match m.hypercall(Hypercall::MMUEXT_OP, &mut args) {
        0 => Ok(()),
        error => Err(Errno(u32::try_from(-error).unwrap_or(u32::MAX))),
    }
}

/// Registers a page for Xen to write vCPU 0's runstate into, by address.
///
/// # Errors
/// Xen's.
pub fn register_runstate<M: Machine>(m: &M, address: u64) -> Result<(), Errno> {
    let address = address.to_le_bytes();
    let mut args = [Arg::Value(5), Arg::Value(0), Arg::In(&address)];
    match m.hypercall(Hypercall::VCPU_OP, &mut args) {
        0 => Ok(()),
        error => Err(Errno(u32::try_from(-error).unwrap_or(u32::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use kexen_model::check::NewKernel;
    use kexen_model::{Build, Kind, PvImage, Xen};

    use super::*;

    /// The frame of a PV guest's page, from the p2m list behind the image.
    fn frame(m: &impl Machine, virt_base: u64, image_pages: u64, pfn: u64) -> u64 {
        m.read64(virt_base + image_pages * 4096 + pfn * 8).unwrap()
    }

    #[test]
    fn a_page_that_is_mapped_nowhere_becomes_a_table() {
        let image = PvImage::default();
        let guest = Xen::default().pv_guest(Build::default(), image);
        let m = guest.vcpu(0);
        let mfn = frame(&m, image.virt_base, image.pages, 1500);
        assert_eq!(pin_l1(&m, mfn), Ok(()));
    }

    #[test]
    fn a_page_that_is_mapped_writable_does_not() {
        let image = PvImage::default();
        let guest = Xen::default().pv_guest(Build::default(), image);
        let m = guest.vcpu(0);
        let mfn = frame(&m, image.virt_base, image.pages, 3);
        assert_eq!(pin_l1(&m, mfn), Err(Errno::EINVAL));
        // Why, as a debug build of Xen would have said it.
        let log = guest.xen().take_log();
        let words = "Bad type (saw e400000000000001 != exp 2000000000000000)";
        assert!(log[0].starts_with(words), "{log:?}");
    }

    #[test]
    fn what_is_left_behind_is_named() {
        let build = Build {
            pages: 64,
            ..Build::default()
        };
        let guest = Xen::default().domain(Kind::Pvh, build);
        let m = guest.vcpu(0);
        register_runstate(&m, 0x5000).unwrap();
        // A new kernel has the page now, and Xen goes on.
        m.fill(0x5000, 4096, 0).unwrap();
        guest.xen_schedules(0);
        assert_ne!(m.read64(0x5008), Ok(0));
        let found = guest.check(&NewKernel::Translated(vec![(0, 64)]), &[]);
        let said = found[0].to_string();
        assert_eq!(said, "vCPU 0: Xen writes runstate to address 0x5000");
    }
}
