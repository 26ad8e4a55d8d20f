//! The PV start-of-day structure (`public/xen.h`, `struct start_info`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// The initial control domain.
pub const SIF_INITDOMAIN: u32 = 1 << 1;
/// `mod_start` is a multiboot module list.
pub const SIF_MULTIBOOT_MOD: u32 = 1 << 2;
/// `mod_start` is a pfn.
pub const SIF_MOD_START_PFN: u32 = 1 << 3;
/// The tools understand a virtually mapped p2m list.
pub const SIF_VIRT_P2M_4TOOLS: u32 = 1 << 4;

/// Bytes of a PV command line, the final NUL included.
pub const MAX_GUEST_CMDLINE: usize = 1024;

/// `struct start_info` of a 64-bit guest.
///
/// The console union is kept as its domU view; dom0's `info_off` is the
/// low half of `console_mfn`, its `info_size` the high half.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// `xen-<version>-<platform>`, NUL-terminated.
    pub magic: [u8; 32],
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Machine address of the shared info page.
    pub shared_info: u64,
    /// `SIF_*`
    pub flags: u32,
    /// Padding.
    pub pad0: u32,
    /// Frame of the xenstore ring.
    pub store_mfn: u64,
    /// Port of the xenstore ring.
    pub store_evtchn: u32,
    /// Padding.
    pub pad1: u32,
    /// Frame of the console ring (domU); `info_off`, `info_size` (dom0).
    pub console_mfn: u64,
    /// Port of the console ring (domU).
    pub console_evtchn: u32,
    /// Padding.
    pub pad2: u32,
    /// Virtual address of the page directory.
    pub pt_base: u64,
    /// Bootstrap page-table frames.
    pub nr_pt_frames: u64,
    /// Virtual address of the p2m list.
    pub mfn_list: u64,
    /// Virtual address, or pfn, of the module.
    pub mod_start: u64,
    /// Bytes of the module.
    pub mod_len: u64,
    /// NUL-terminated command line.
    pub cmd_line: [u8; MAX_GUEST_CMDLINE],
    /// First pfn of the p2m list and its tables, if outside the image.
    pub first_p2m_pfn: u64,
    /// Pfns of the p2m list and its tables.
    pub nr_p2m_frames: u64,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<StartInfo>() == 1168);
    assert!(offset_of!(StartInfo, store_mfn) == 56);
    assert!(offset_of!(StartInfo, console_mfn) == 72);
    assert!(offset_of!(StartInfo, pt_base) == 88);
    assert!(offset_of!(StartInfo, cmd_line) == 128);
    assert!(offset_of!(StartInfo, first_p2m_pfn) == 1152);
};
