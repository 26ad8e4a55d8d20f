//! In which guest types a kernel can start, how it is loaded and entered
//! there, and why not in the others: what Xen's builders do with its file.
//!
//! | rule | PV | PVH | source |
//! |---|---|---|---|
//! | notes, or the section `__xen_guest` | both | notes alone | `elf_xen_parse` |
//! | a required feature without a number: refused | notes alone | yes | `elf_xen_parse_features` |
//! | `LOADER` begins with `generic`, or `GUEST_OS` with `linux`; `XEN_VERSION` with `xen-3.0` | yes | no | `elf_xen_note_check` |
//! | `PHYS32_ENTRY` | no | yes | `xc_dom_guest_type`, `pvh_load_kernel` |
//! | `PADDR_OFFSET` without `VIRT_BASE`: refused | yes | no | `elf_xen_addr_calc_check` |
//! | `VIRT_BASE` is 0 where it is missing | yes | 0 always | `elf_xen_addr_calc_check` |
//! | `PADDR_OFFSET` is 0 where it is missing, of `__xen_guest` `VIRT_BASE` | yes | 0 always | `elf_xen_addr_calc_check` |
//! | `ENTRY` is `e_entry` where it is missing | yes | no | `elf_xen_addr_calc_check` |
//! | the entry is in the kernel or right behind it | yes | yes | `elf_xen_addr_calc_check` |
//! | `VIRT_BASE` is at most the kernel's first address | yes | no | `elf_xen_addr_calc_check` |
//! | `INIT_P2M` is not in the kernel | yes | yes | `elf_xen_addr_calc_check` |
//! | a value of all ones is none | yes | yes | `UNSET_ADDR` |
//! | `BSD_SYMTAB` is `yes`: the symbols lie behind the kernel, [`crate::symbols`] | yes | yes | `elf_xen_addr_calc_check` |
//! | `e_machine` says the guest's width: i386 is a 32-bit PV guest | yes | no | `xc_dom_guest_type` |
//! | the feature `dom0` required: no domU | yes | yes | `xc_dom_parse_elf_kernel` |
//! | `SUPPORTED_FEATURES` without `dom0`: no dom0 | yes | yes | `initdom_check_parms` |
//! | `auto_translated_physmap` required: no domU | yes | no | `bootearly` |
//! | `supervisor_mode_kernel` required: no dom0 | yes | no | `dom0_construct` (PV) |
//! | `ELFCLASS64` in dom0 | yes | no | `dom0_construct` (PV) |
//! | `HYPERCALL_PAGE` need not begin on a page | yes | no | `setup_hypercall_page` |
//! | `PHYS32_RELOC`: elsewhere where the kernel's place is no RAM | no | yes | `check_and_adjust_load_address`, for dom0; here in each guest |
//!
//! `HV_START_LOW` and `PAE_MODE` are about 32-bit PV kernels, `L1_MFN_VALID`
//! and `SUSPEND_CANCEL` are no matter to a builder. The sources are
//! `xen/common/libelf/libelf-dominfo.c`, `tools/libs/guest/xg_dom_elfloader.c`,
//! `xg_dom_x86.c`, `xg_dom_boot.c`, `xen/arch/x86/dom0_build.c`,
//! `pv/dom0_build.c` and `hvm/dom0_build.c`.
//!
//! Stricter than Xen's builders: `VIRT_BASE` and `PADDR_OFFSET` are those of
//! whole pages, and the hypercall page is one of the kernel's own.
//!
//! An HVM guest is entered by Linux's own boot protocol, which no builder of
//! Xen's has to do with.

use alloc::{format, string::String};

use crate::{
    Elf, ImageError, XenNotes,
    elf::{Class, Processor},
    features::{AUTO_TRANSLATED_PHYSMAP, DOM0, SUPERVISOR_MODE_KERNEL},
    symbols::Symbols,
};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// What a kernel is to run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestType {
    /// A 64-bit PV domU.
    Pv,
    /// A PVH domU.
    Pvh,
    /// An HVM domU.
    Hvm,
    /// A PV dom0.
    Dom0Pv,
    /// A PVH dom0.
    Dom0Pvh,
}

impl GuestType {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pv, Self::Pvh, Self::Hvm, Self::Dom0Pv, Self::Dom0Pvh];

    /// `"PV domU"` and the like.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pv => "PV domU",
            Self::Pvh => "PVH domU",
            Self::Hvm => "HVM domU",
            Self::Dom0Pv => "PV dom0",
            Self::Dom0Pvh => "PVH dom0",
        }
    }

    /// Whether it is the first domain.
    #[must_use]
    pub const fn is_dom0(self) -> bool {
        matches!(self, Self::Dom0Pv | Self::Dom0Pvh)
    }
}

/// Where a kernel can be but at its own place (note `PHYS32_RELOC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// To a multiple of what, if the note says it.
    pub align: Option<u32>,
    /// The lowest address.
    pub min: u32,
    /// The highest address of its last byte.
    pub max: u32,
}

impl Default for Relocation {
    fn default() -> Self {
        Self {
            align: None,
            min: 0,
            max: u32::MAX,
        }
    }
}

/// How a kernel is loaded and entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The entry point: virtual in PV guests, physical in others.
    pub entry: u64,
    /// Virtual address of page 0 (PV).
    pub virt_base: u64,
    /// The `p_paddr` of page 0 (PV).
    pub paddr_offset: u64,
    /// Virtual address of the page for hypercall stubs (PV).
    pub hypercall_page: Option<u64>,
    /// Where it wants its p2m list (PV).
    pub p2m_base: Option<u64>,
    /// Whether it takes its initrd unmapped (PV).
    pub unmapped_initrd: bool,
    /// What comes behind the kernel.
    pub symbols: Option<Symbols>,
    /// Whether, and where, it can be elsewhere (PVH): its alignment is known.
    pub relocation: Option<Relocation>,
}

/// Why a kernel cannot start in a guest of some type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotStart {
    /// It has no Xen notes at all.
    NoNotes,
    /// A note that this type of guest needs is missing.
    Missing(&'static str),
    /// A note with a value that no Xen accepts.
    Note {
        /// Which note.
        note: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        want: &'static str,
    },
    /// A feature that it requires and that this type of guest lacks.
    Feature(String),
    /// It is for a 32-bit PV guest.
    Width,
    /// It is not for a dom0.
    NotDom0,
    /// It is a 32-bit ELF file where a 64-bit one is needed.
    Class,
    /// An HVM guest is entered by Linux's boot protocol, and it is no Linux.
    NotLinux(String),
    /// What its notes ask for is not in the file.
    Image(ImageError),
}

impl core::fmt::Display for CannotStart {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoNotes => f.write_str(
                "it has no Xen ELF notes (a kernel built without Xen support, or no kernel)",
            ),
            Self::Missing(note) => write!(f, "it has no note {note}"),
            Self::Note { note, value, want } => {
                write!(f, "its note {note} is {value:?}, not {want}")
            }
            Self::Feature(name) => write!(f, "it requires the feature {name:?}"),
            Self::Width => f.write_str(
                "it is a 32-bit PV kernel (e_machine 3), and this guest is a 64-bit one, \
                 which stays so: take a 64-bit kernel, or a PVH guest for a kernel with PVH support",
            ),
            Self::NotDom0 => f.write_str("its note SUPPORTED_FEATURES does not name dom0"),
            Self::Class => f.write_str(
                "it is a 32-bit kernel (e_ident[EI_CLASS] is 1): here only a 64-bit one can start",
            ),
            Self::NotLinux(os) => write!(
                f,
                "its note GUEST_OS is {os:?}: an HVM guest can hand over to Linux alone; \
                 take a PVH guest"
            ),
            Self::Image(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for CannotStart {}

/// Decides how a kernel is loaded and entered. `whole` is all of the file.
pub fn plan(
    elf: &Elf,
    notes: &XenNotes,
    whole: &[u8],
    guest: GuestType,
) -> Result<Plan, CannotStart> {
    match guest {
        GuestType::Hvm => hvm(elf, notes),
        GuestType::Pv | GuestType::Dom0Pv => pv(elf, notes, whole, guest),
        GuestType::Pvh | GuestType::Dom0Pvh => pvh(elf, notes, whole, guest),
    }
}

fn symbols(elf: &Elf, notes: &XenNotes, whole: &[u8]) -> Result<Option<Symbols>, CannotStart> {
    if notes.bsd_symtab.as_deref() != Some("yes") {
        return Ok(None);
    }
    elf.symbols(whole).map_err(CannotStart::Image)
}

/// A note whose value is not all ones: by that libelf knows one that is
/// missing (`UNSET_ADDR`).
fn set(note: Option<u64>) -> Option<u64> {
    note.filter(|value| *value != u64::MAX)
}

fn outside(note: &'static str, value: u64, want: &'static str) -> CannotStart {
    CannotStart::Note {
        note,
        value: format!("{value:#x}"),
        want,
    }
}

/// The p2m list is not in the kernel, even where there will be none.
fn check_p2m(notes: &XenNotes, start: u64, end: u64) -> Result<(), CannotStart> {
    match set(notes.init_p2m) {
        Some(base) if (start..end).contains(&base) => {
            Err(outside("INIT_P2M", base, "outside the kernel"))
        }
        _ => Ok(()),
    }
}

/// What is the same for all builders.
fn features(notes: &XenNotes, guest: GuestType) -> Result<(), CannotStart> {
    if let Some(name) = &notes.known.unknown {
        return Err(CannotStart::Feature(name.clone()));
    }
    if !guest.is_dom0() && notes.known.requires(DOM0) {
        return Err(CannotStart::Feature("dom0".into()));
    }
    if guest.is_dom0() && notes.supported_features.is_some() && !notes.known.supports(DOM0) {
        return Err(CannotStart::NotDom0);
    }
    Ok(())
}

fn pv(elf: &Elf, notes: &XenNotes, whole: &[u8], guest: GuestType) -> Result<Plan, CannotStart> {
    if notes.count == 0 && !notes.guest_section {
        return Err(CannotStart::NoNotes);
    }
    features(notes, guest)?;
    let required = |bit| notes.known.requires(bit);
    match guest {
        GuestType::Dom0Pv if required(SUPERVISOR_MODE_KERNEL) => {
            return Err(CannotStart::Feature("supervisor_mode_kernel".into()));
        }
        GuestType::Pv if required(AUTO_TRANSLATED_PHYSMAP) => {
            return Err(CannotStart::Feature("auto_translated_physmap".into()));
        }
        _ => {}
    }
    let begins = |text: &Option<String>, with: &str| {
        text.as_deref().is_some_and(|text| text.starts_with(with))
    };
    if !begins(&notes.loader, "generic") && !begins(&notes.guest_os, "linux") {
        return Err(match &notes.loader {
            None => CannotStart::Missing("LOADER, which PV needs"),
            Some(loader) => CannotStart::Note {
                note: "LOADER",
                value: loader.clone(),
                want: "\"generic\"",
            },
        });
    }
    match &notes.xen_version {
        None => return Err(CannotStart::Missing("XEN_VERSION, which PV needs")),
        Some(version) if !version.starts_with("xen-3.0") => {
            return Err(CannotStart::Note {
                note: "XEN_VERSION",
                value: version.clone(),
                want: "\"xen-3.0\"",
            });
        }
        Some(_) => {}
    }
    if elf.processor == Processor::I386 {
        return Err(CannotStart::Width);
    }
    if guest == GuestType::Dom0Pv && elf.class == Class::Elf32 {
        return Err(CannotStart::Class);
    }
    let (virt_base, paddr_offset) = match (set(notes.virt_base), set(notes.paddr_offset)) {
        (None, Some(_)) => {
            return Err(CannotStart::Missing("VIRT_BASE, but one PADDR_OFFSET"));
        }
        (None, None) => (0, 0),
        (Some(base), Some(offset)) => (base, offset),
        (Some(base), None) if notes.guest_section => (base, base),
        (Some(base), None) => (base, 0),
    };
    let symbols = symbols(elf, notes, whole)?;
    let shift = virt_base.wrapping_sub(paddr_offset);
    let start = elf.start.wrapping_add(shift);
    let end = symbols.as_ref().map_or(elf.end, |symbols| symbols.end);
    let end = end.wrapping_add(shift);
    let (entry, name) = match set(notes.entry) {
        Some(entry) => (entry, "ENTRY"),
        None => (elf.entry, "ENTRY (e_entry)"),
    };
    if start > end || virt_base > start {
        return Err(outside(
            "PADDR_OFFSET",
            paddr_offset,
            "at most the kernel's first p_paddr",
        ));
    }
    if !(start..=end).contains(&entry) {
        return Err(outside(name, entry, "in the kernel"));
    }
    check_p2m(notes, start, end)?;
    for (name, value) in [("VIRT_BASE", virt_base), ("PADDR_OFFSET", paddr_offset)] {
        if !value.is_multiple_of(PAGE) {
            return Err(outside(name, value, "at the start of a page"));
        }
    }
    let page = |address: u64| address & !(PAGE.wrapping_sub(1));
    let hypercall_page = set(notes.hypercall_page).map(page);
    if let Some(at) = hypercall_page.filter(|at| !(page(start)..end).contains(at)) {
        return Err(outside("HYPERCALL_PAGE", at, "in the kernel"));
    }
    Ok(Plan {
        entry,
        virt_base,
        paddr_offset,
        hypercall_page,
        p2m_base: set(notes.init_p2m),
        unmapped_initrd: notes.mod_start_pfn,
        symbols,
        relocation: None,
    })
}

fn pvh(elf: &Elf, notes: &XenNotes, whole: &[u8], guest: GuestType) -> Result<Plan, CannotStart> {
    if notes.count == 0 {
        return Err(CannotStart::NoNotes);
    }
    features(notes, guest)?;
    // As wide as Xen's own field for it.
    let narrow = |entry: &u64| entry & 0xffff_ffff;
    let entry = notes
        .phys32_entry
        .filter(|entry| narrow(entry) != 0xffff_ffff);
    let Some(entry) = entry else {
        return Err(CannotStart::Missing(
            "PHYS32_ENTRY (built without PVH support)",
        ));
    };
    let symbols = symbols(elf, notes, whole)?;
    let end = symbols.as_ref().map_or(elf.end, |symbols| symbols.end);
    if !(elf.start..=end).contains(&narrow(&entry)) {
        return Err(outside("PHYS32_ENTRY", entry, "in the kernel, below 4 GiB"));
    }
    check_p2m(notes, elf.start, end)?;
    Ok(Plan {
        symbols,
        relocation: notes.phys32_reloc.map(|reloc| Relocation {
            align: Some(reloc.align.unwrap_or(alignment(elf))),
            ..reloc
        }),
        ..physical(narrow(&entry))
    })
}

/// A kernel's alignment where its note does not say it: that of its segments,
/// 2 MiB where these have none (`find_kernel_memory`).
fn alignment(elf: &Elf) -> u32 {
    u32::try_from(elf.align)
        .ok()
        .filter(|align| *align >= 4096)
        .unwrap_or(0x20_0000)
}

/// An HVM guest: Linux's 64-bit entry.
fn hvm(elf: &Elf, notes: &XenNotes) -> Result<Plan, CannotStart> {
    if elf.class != Class::Elf64 || elf.processor != Processor::X86_64 {
        return Err(CannotStart::Class);
    }
    if let Some(os) = notes
        .guest_os
        .as_ref()
        .filter(|os| !os.starts_with("linux"))
    {
        return Err(CannotStart::NotLinux(os.clone()));
    }
    // A kernel that says its entry by virtual address is in the top 2 GiB,
    // where physical memory begins at the first byte.
    Ok(physical(elf.entry & 0x7fff_ffff))
}

const fn physical(entry: u64) -> Plan {
    Plan {
        entry,
        virt_base: 0,
        paddr_offset: 0,
        hypercall_page: None,
        p2m_base: None,
        unmapped_initrd: false,
        symbols: None,
        relocation: None,
    }
}
