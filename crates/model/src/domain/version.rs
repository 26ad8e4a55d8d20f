//! Xen's version and features, and its console.
//!
//! Rules: `do_xen_version` in Xen's `common/kernel.c`, `xenver_varbuf_op`
//! there since 4.18; what is denied, and the console, in
//! `include/xsm/dummy.h`. A release build's console is not for a domU.

use kexen_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use kexen_abi::errno::Errno;
use kexen_abi::features as abi;
use kexen_abi::features::XenFeatureInfo;

use crate::call::{Answer, Call};
use crate::state::{Kind, Version};

/// What `XENVER_extraversion` says.
const EXTRA: &str = ".0";
/// What the machine can run.
const CAPABILITIES: &str = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
/// What a domU is told instead of what it must not know.
const DENIED: &str = "<denied>";
/// Where Xen begins in a PV guest's addresses.
const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// Bytes that one write keeps of what is written.
const LINE: u64 = 1024;
/// `VMASST_TYPE_pae_extended_cr3`
const PAE_EXTENDED: u64 = 1 << 3;

/// `HYPERVISOR_xen_version`
pub(crate) fn xen_version(call: &mut Call<'_, '_, '_>) -> Answer {
    let newer = call.state.version > Version::Xen4_17;
    let privileged = call.state.id(call.who) == 0;
    match call.value(0) & 0xffff_ffff {
        abi::XENVER_VERSION => return Ok(4 << 16 | if newer { 20 } else { 17 }),
        abi::XENVER_EXTRAVERSION => text(call, EXTRA, 16)?,
        abi::XENVER_COMPILE_INFO => {
            call.write_bytes(1, 0, &[0; 144])?;
            // Compiler, who, where, when: at 0, 64, 80, 112.
            call.write_bytes(1, 0, b"gcc")?;
        }
        abi::XENVER_CAPABILITIES => text(call, CAPABILITIES, 1024)?,
        abi::XENVER_CHANGESET => text(call, "", 64)?,
        abi::XENVER_PLATFORM_PARAMETERS => {
            let pv = call.state.domain(call.who).kind == Kind::Pv;
            let start = if pv || !newer {
                HYPERVISOR_VIRT_START
            } else {
                0
            };
            call.write(1, 0, &start)?;
        }
        abi::XENVER_GET_FEATURES => {
            let mut arg: XenFeatureInfo = call.read(1, 0)?;
            if arg.submap_idx != 0 {
                return Err(Errno::EINVAL);
            }
            arg.submap = features(call, newer);
            call.write(1, 0, &arg)?;
        }
        abi::XENVER_PAGESIZE if call.is_null(1) => return Ok(kexen_abi::PAGE_SIZE),
        abi::XENVER_PAGESIZE => return Err(Errno::EINVAL),
        abi::XENVER_GUEST_HANDLE => call.write_bytes(1, 0, &[0; 16])?,
        abi::XENVER_COMMANDLINE if privileged => text(call, "", 1024)?,
        abi::XENVER_COMMANDLINE => text(call, DENIED, DENIED.len() + 1)?,
        // A build without an identifier.
        abi::XENVER_BUILD_ID if privileged => return Err(Errno::ENODATA),
        abi::XENVER_BUILD_ID => return Err(Errno::EPERM),
        number if newer => {
            let text = match number {
                abi::XENVER_EXTRAVERSION2 => EXTRA,
                abi::XENVER_CAPABILITIES2 => CAPABILITIES,
                abi::XENVER_CHANGESET2 => "",
                abi::XENVER_COMMANDLINE2 if privileged => "",
                abi::XENVER_COMMANDLINE2 => return Err(Errno::EPERM),
                _ => return Err(Errno::ENOSYS),
            };
            return counted_text(call, text);
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// A text in a field of `size` bytes, zeroes after it.
fn text(call: &mut Call<'_, '_, '_>, text: &str, size: usize) -> Result<(), Errno> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(size, 0);
    call.write_bytes(1, 0, &bytes)
}

/// A text behind its room, a 32-bit number; its length (`xenver_varbuf_op`).
fn counted_text(call: &mut Call<'_, '_, '_>, text: &str) -> Answer {
    let size = u64::try_from(text.len()).unwrap_or(0);
    if !call.is_null(1) {
        let room: u32 = call.read(1, 0)?;
        if size > u64::from(room) {
            return Err(Errno::ENOBUFS);
        }
        call.write_bytes(1, 4, text.as_bytes())?;
    }
    Ok(size)
}

/// `XENVER_get_features`
fn features(call: &mut Call<'_, '_, '_>, newer: bool) -> u32 {
    let domain = call.who.domain;
    let kind = call.state.domains[domain].kind;
    let mut bits = vec![abi::XENFEAT_MEMORY_OP_VNODE_SUPPORTED];
    if newer {
        bits.extend([
            abi::XENFEAT_RUNSTATE_PHYS_AREA,
            abi::XENFEAT_VCPU_TIME_PHYS_AREA,
            abi::XENFEAT_DM_MSIX_ALL_WRITES,
        ]);
    }
    if call.state.domains[domain].life.vm_assist & PAE_EXTENDED != 0 {
        bits.push(abi::XENFEAT_PAE_PGDIR_ABOVE_4GB);
    }
    if call.state.id(call.who) == 0 {
        bits.push(abi::XENFEAT_DOM0);
    }
    if kind.translated() {
        bits.extend([
            abi::XENFEAT_WRITABLE_PAGE_TABLES,
            abi::XENFEAT_AUTO_TRANSLATED_PHYSMAP,
            abi::XENFEAT_HVM_SAFE_PVCLOCK,
            abi::XENFEAT_HVM_CALLBACK_VECTOR,
            abi::XENFEAT_NOT_DIRECT_MAPPED,
        ]);
    } else {
        bits.extend([
            abi::XENFEAT_MMU_PT_UPDATE_PRESERVE_AD,
            abi::XENFEAT_HIGHMEM_ASSIST,
            abi::XENFEAT_GNTTAB_MAP_AVAIL_BITS,
            abi::XENFEAT_DIRECT_MAPPED,
        ]);
    }
    if call.state.has_pirqs(domain) {
        bits.push(abi::XENFEAT_HVM_PIRQS);
    }
    bits.into_iter().fold(0, |submap, bit| submap | 1 << bit)
}

/// `HYPERVISOR_console_io`. What is written goes to Xen's log, cut short.
pub(crate) fn console_io(call: &mut Call<'_, '_, '_>) -> Answer {
    let id = call.state.id(call.who);
    if id != 0 && !call.state.domain(call.who).life.console {
        return Err(Errno::EPERM);
    }
    match call.value(0) & 0xffff_ffff {
        CONSOLEIO_WRITE => {
            let count = u64::from(call.word(1)).min(LINE);
            let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
            call.read_bytes(2, 0, &mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            call.state.say(format!("(d{id}) {}", text.trim_end()));
        }
        // Nobody types.
        CONSOLEIO_READ => {}
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}
