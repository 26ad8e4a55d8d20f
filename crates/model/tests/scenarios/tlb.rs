//! Read-only to read-write, and the translation that stays behind.

use kexen_abi::mmu::{MMUEXT_TLB_FLUSH_LOCAL, MmuExtOp, PAGE_RW};
use kexen_abi::{PAGE_SHIFT, PAGE_SIZE};
use kexen_guest::hypercall::mmuext_op;
use kexen_guest::{Defence, Extent, Extents, Machine};
use kexen_model::{Build, TypeLayout};

use crate::{Pv, pv_guest};

/// Xen's start-of-day L4 is replaced by a copy, and let go; then its page is
/// made writable and cleared. Returns what the clearing came to.
fn recycle_start_of_day_table(omit: Option<Defence>) -> (Pv, Result<(), kexen_guest::Fault>) {
    let mut pv = pv_guest(TypeLayout::Current, Build::default());
    let m = pv.m.clone();
    let old_pfn = (pv.start.info.pt_base - pv.start.virt_base) / PAGE_SIZE;
    let old_at = pv.space.address(old_pfn);
    // The copy, in a page of the padding.
    let new_pfn = pv.start.boot_pages() + 9;
    let new = pv.space.mfn(&m, new_pfn).unwrap();
    let mut bytes = [0; 4096];
    m.read(old_at, &mut bytes).unwrap();
    m.write(pv.space.address(new_pfn), &bytes).unwrap();
    let mut pages = Extents::new();
    pages.insert(Extent::new(new_pfn, 1));
    let sealed = pv.space.seal(&m, &pages).unwrap();
    let mut old = Extents::new();
    old.insert(Extent::new(old_pfn, 1));
    let recycled = pv.space.switch(&m, &sealed, new, &old).unwrap();
    assert_eq!((recycled.count(), pv.space.root()), (1, new));
    // The processor has flushed since the old table lost its type, and then
    // looked at the page: its translation is read-only.
    let flush = MmuExtOp {
        cmd: MMUEXT_TLB_FLUSH_LOCAL,
        pad: 0,
        arg1: 0,
        arg2: 0,
    };
    mmuext_op(&m, "flush", &[flush]).unwrap();
    m.read(old_at, &mut bytes).unwrap();
    if let Some(defence) = omit {
        pv.m.xen().omit(defence);
    }
    pv.space.unseal(&m, recycled).unwrap();
    let cleared = m.fill(old_at, PAGE_SIZE, 0);
    (pv, cleared)
}

#[test]
fn a_recycled_table_is_cleared_after_the_flush() {
    let (pv, cleared) = recycle_start_of_day_table(None);
    cleared.unwrap();
    assert_eq!(pv.m.last_fault(), None);
}

#[test]
fn without_the_flush_the_write_faults_though_the_entry_says_writable() {
    let omit = Some(Defence::Flush);
    let (pv, cleared) = recycle_start_of_day_table(omit);
    let error = cleared.unwrap_err();
    assert!(error.why.contains("error code 3"), "{error}");
    let fault = pv.m.last_fault().unwrap();
    assert_eq!(fault.error_code, 3);
    assert_eq!(fault.entry.unwrap() & PAGE_RW, PAGE_RW);
    let log = pv.m.xen().take_log();
    assert!(
        log.iter()
            .any(|line| line.ends_with("unhandled page fault (ec=0003)")),
        "{log:#?}"
    );
    let index = (fault.address >> PAGE_SHIFT) & 511;
    let entry = format!(" L1[0x{index:03x}] = ");
    assert!(log.iter().any(|line| line.starts_with(&entry)), "{log:#?}");
}
