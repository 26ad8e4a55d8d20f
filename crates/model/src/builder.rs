//! The toolstack: it makes domains.

use crate::frame::{DomId, Frame};
use crate::physmap::{Entry, Physmap};
use crate::state::{Domain, Kind, State, VcpuState};
use crate::xen::{Guest, Xen};

/// libxl's slack above a guest's memory, in pages (`LIBXL_MAXMEM_CONSTANT`).
const SLACK: u64 = 256;
/// e820: RAM.
const E820_RAM: u32 = 1;

/// What domain to make.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The domain's number.
    pub id: DomId,
    /// Pages of memory.
    pub pages: u64,
    /// vCPUs; the first is up.
    pub vcpus: usize,
    /// Pages that the domain may have more than it starts with.
    pub slack: u64,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            id: 1,
            pages: 2048,
            vcpus: 1,
            slack: SLACK,
        }
    }
}

impl Xen {
    /// A domain whose memory is there, and nothing in it: for a PV guest no
    /// page tables either ([`Xen::pv_guest`] makes those).
    ///
    /// # Panics
    /// If the number is taken or the machine has too little memory.
    #[must_use]
    pub fn domain(&self, kind: Kind, build: Build) -> Guest {
        let mut state = self.state();
        assert!(
            state.index_of(build.id).is_none(),
            "domain {} is there already",
            build.id
        );
        let index = state.domains.len();
        state.domains.push(Domain {
            id: build.id,
            kind,
            tot_pages: 0,
            max_pages: build.pages + build.slack,
            vcpus: (0..build.vcpus).map(|_| VcpuState::default()).collect(),
            physmap: Physmap::default(),
            shared_info: 0,
            grants: Default::default(),
            events: Default::default(),
            pirqs: Default::default(),
            life: Default::default(),
            lent: Vec::new(),
            start: None,
        });
        state.numbers.insert(build.id, index);
        state.domains[index].vcpus[0].up = true;
        state.domains[index].vcpus[0].initialised = true;
        // The toolstack opens the ports of store and console for domain 0.
        for _ in 0..2 {
            let port = state.open_port(index, crate::events::Binding::Unbound(0), 0);
            let port = port.expect("a new domain has free ports");
            state.domains[index].events.kept.push(port);
        }
        let shared_info = state
            .allocate_special(build.id)
            .expect("the machine has no frame left");
        state.domains[index].shared_info = shared_info;
        for page in 0..build.pages {
            let mfn = state
                .allocate(build.id)
                .expect("the machine has no frame left");
            state.at(mfn).m2p = page;
            if kind.translated() {
                state.domains[index]
                    .physmap
                    .entries
                    .insert(page, Entry::Ram(mfn));
            }
        }
        if kind.translated() {
            let bytes = build.pages * kexen_abi::PAGE_SIZE;
            state.domains[index].physmap.memory_map = vec![(0, bytes, E820_RAM)];
        }
        drop(state);
        Guest::new(self.clone(), build.id, index)
    }
}

impl Guest {
    /// The toolstack writes into the domain's memory, from this page on.
    ///
    /// # Panics
    /// If the domain has no such page.
    pub fn load(&self, page: u64, bytes: &[u8]) {
        let mut state = self.xen().state();
        let size = usize::try_from(kexen_abi::PAGE_SIZE).unwrap_or(0);
        for (number, part) in (page..).zip(bytes.chunks(size)) {
            let mfn = state.backing(self.index(), number);
            let mfn = mfn.unwrap_or_else(|| panic!("there is no page {number:#x}"));
            state.bytes_mut(mfn)[..part.len()].copy_from_slice(part);
        }
    }
}

impl Guest {
    /// The frame behind a page of the domain's.
    #[must_use]
    pub fn frame(&self, page: u64) -> Option<u64> {
        self.xen().state().backing(self.index(), page)
    }

    /// The toolstack reads a page of the domain's memory.
    ///
    /// # Panics
    /// If the domain has no such page.
    #[must_use]
    pub fn stored(&self, page: u64) -> Vec<u8> {
        let mut state = self.xen().state();
        let mfn = state.backing(self.index(), page);
        let mfn = mfn.unwrap_or_else(|| panic!("there is no page {page:#x}"));
        state.bytes(mfn).to_vec()
    }
}

impl State {
    /// The frame that is a domain's at a page number, by the M2P if it is PV.
    fn backing(&mut self, domain: usize, page: u64) -> Option<u64> {
        if self.domains[domain].kind.translated() {
            return self.populated(domain, page);
        }
        let owner = self.domains[domain].id;
        let is_it =
            |frame: &Frame| frame.owner == Some(owner) && !frame.special && frame.m2p == page;
        let at = self.frames.iter().position(is_it)?;
        u64::try_from(at).ok()
    }
}
