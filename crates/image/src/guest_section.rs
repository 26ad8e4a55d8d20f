//! The section `__xen_guest`: what kernels had before there were notes.
//!
//! One text, `NAME=VALUE,NAME=VALUE,…`, up to its NUL. libelf reads it for PV
//! kernels that have no notes of Xen's (`elf_xen_parse_guest_info`): a name
//! has at most 31 bytes and a value 127, what is longer goes on as the next
//! name; numbers are C's.

use alloc::string::String;

use crate::XenNotes;

const MAX_NAME: usize = 31;
const MAX_VALUE: usize = 127;

/// Reads the text into `notes`.
pub(crate) fn read(text: &[u8], notes: &mut XenNotes) {
    notes.guest_section = true;
    let mut rest = text;
    while !rest.is_empty() {
        let (name, end) = take(&mut rest, MAX_NAME, b",=");
        let value = match end {
            Some(b'=') => take(&mut rest, MAX_VALUE, b",").0,
            _ => &[],
        };
        item(name, value, notes);
    }
    if let (Some(base), Some(page)) = (notes.virt_base, &mut notes.hypercall_page) {
        *page = page.wrapping_add(base);
    }
}

/// Takes at most `limit` bytes up to one of `ends`, and that one too.
fn take<'a>(rest: &mut &'a [u8], limit: usize, ends: &[u8]) -> (&'a [u8], Option<u8>) {
    let found = rest
        .iter()
        .take(limit.saturating_add(1))
        .position(|byte| ends.contains(byte));
    // At the limit the rest is not looked at: there the next name begins.
    let (len, end) = match found.filter(|at| *at < limit) {
        Some(at) => (at, rest.get(at).copied()),
        None => (rest.len().min(limit), None),
    };
    let taken = rest.get(..len).unwrap_or_default();
    let skip = len.saturating_add(usize::from(end.is_some()));
    *rest = rest.get(skip..).unwrap_or_default();
    (taken, end)
}

fn item(name: &[u8], value: &[u8], notes: &mut XenNotes) {
    let text = || -> String { String::from_utf8_lossy(value).into_owned() };
    match name {
        b"LOADER" => notes.loader = Some(text()),
        b"GUEST_OS" => notes.guest_os = Some(text()),
        b"GUEST_VER" => notes.guest_version = Some(text()),
        b"XEN_VER" => notes.xen_version = Some(text()),
        b"PAE" => notes.pae_mode = Some(text()),
        // Whatever its value.
        b"BSD_SYMTAB" => notes.bsd_symtab = Some("yes".into()),
        b"VIRT_BASE" => notes.virt_base = Some(number(value)),
        b"VIRT_ENTRY" => notes.entry = Some(number(value)),
        b"ELF_PADDR_OFFSET" => notes.paddr_offset = Some(number(value)),
        // The number of a page.
        b"HYPERCALL_PAGE" => notes.hypercall_page = Some(number(value).wrapping_shl(12)),
        b"FEATURES" => {
            notes.features = Some(text());
            notes.known.add(&text());
            // Not looked at here, where notes would be refused.
            notes.known.unknown = None;
        }
        _ => {}
    }
}

/// `strtoull` with base 0: what follows the digits is no matter, too large a
/// number is the largest.
fn number(text: &[u8]) -> u64 {
    let text = text.trim_ascii_start();
    let (text, minus) = match text {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] => (rest, false),
        _ => (text, false),
    };
    let (digits, base) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', rest @ ..] => (rest, 8),
        _ => (text, 10),
    };
    let mut value = 0_u64;
    for byte in digits {
        let Some(digit) = char::from(*byte).to_digit(base) else {
            break;
        };
        let next = value
            .checked_mul(base.into())
            .and_then(|value| value.checked_add(digit.into()));
        match next {
            Some(next) => value = next,
            None => return u64::MAX,
        }
    }
    if minus { value.wrapping_neg() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> XenNotes {
        let mut notes = XenNotes::default();
        read(text.as_bytes(), &mut notes);
        notes
    }

    #[test]
    fn names_and_numbers_are_c() {
        let notes = of(
            "GUEST_OS=netbsd,GUEST_VER=3.99,XEN_VER=xen-3.0,LOADER=generic,\
             VIRT_BASE=0xffffffff80000000,ELF_PADDR_OFFSET=010,VIRT_ENTRY=4096 bytes,\
             HYPERCALL_PAGE=0x2,BSD_SYMTAB,PAE=yes[extended-cr3]",
        );
        assert_eq!(notes.virt_base, Some(0xffff_ffff_8000_0000));
        assert_eq!(notes.paddr_offset, Some(8));
        assert_eq!(notes.entry, Some(4096));
        assert_eq!(notes.hypercall_page, Some(0xffff_ffff_8000_2000));
        assert_eq!(notes.bsd_symtab.as_deref(), Some("yes"));
        assert_eq!(notes.loader.as_deref(), Some("generic"));
        assert_eq!(notes.count, 0);
    }

    #[test]
    fn without_a_base_the_page_is_not_moved() {
        assert_eq!(of("HYPERCALL_PAGE=3").hypercall_page, Some(0x3000));
        assert_eq!(of("VIRT_BASE=-1").virt_base, Some(u64::MAX));
        assert_eq!(
            of("VIRT_BASE=99999999999999999999").virt_base,
            Some(u64::MAX)
        );
    }

    #[test]
    fn what_is_too_long_goes_on_as_the_next_name() {
        let name = alloc::format!("{}LOADER=generic", "x".repeat(31));
        assert_eq!(of(&name).loader.as_deref(), Some("generic"));
        let value = alloc::format!("GUEST_OS={}LOADER=generic", "x".repeat(127));
        assert_eq!(of(&value).loader.as_deref(), Some("generic"));
    }
}
