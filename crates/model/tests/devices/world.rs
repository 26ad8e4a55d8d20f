//! A guest with a store and a disk, and domain 0 beside it.

use std::cell::{Cell, RefCell, RefMut};

use kexen_abi::PAGE_SIZE;
use kexen_abi::grant_table::GTF_PERMIT_ACCESS;
use kexen_guest::block::Page;
use kexen_guest::grants::Grants;
use kexen_guest::hypercall;
use kexen_guest::references::References;
use kexen_guest::wait::{TimeOver, Wait};
use kexen_guest::xenstore::Store;
use kexen_model::dom0::{BlockBackend, Xenstored, bind};
use kexen_model::{Build, Guest, Kind, Machine, Vcpu, Xen};

pub(crate) const STORE_PAGE: u64 = 5;
const RING_PAGE: u64 = 6;
const HOLE: u64 = 0x1000;
pub(crate) const FRONT: &str = "/local/domain/1/device/vbd/51712";
pub(crate) const BACK: &str = "/local/domain/0/backend/vbd/1/51712";

pub(crate) struct Peers {
    pub(crate) daemon: Xenstored,
    pub(crate) backend: BlockBackend,
}

pub(crate) struct World {
    pub(crate) guest: Guest,
    pub(crate) m: Vcpu,
    pub(crate) grants: Grants,
    pub(crate) port: u32,
    peers: RefCell<Peers>,
    /// Further devices, whose backends have their turns after the first one's.
    others: RefCell<Vec<BlockBackend>>,
    /// Turns that the peers have had.
    pub(crate) turned: Cell<u32>,
}

pub(crate) const SECTORS: usize = 1024;

/// Sectors that can be told apart.
fn disk() -> Vec<u8> {
    let byte = |n: usize| u8::try_from((n / 512 + n) % 251).unwrap();
    (0..SECTORS * 512).map(byte).collect()
}

/// The directories of a further device's ends.
pub(crate) fn ends(number: u32) -> [String; 2] {
    [
        format!("/local/domain/1/device/vbd/{number}"),
        format!("/local/domain/0/backend/vbd/1/{number}"),
    ]
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_others(&[])
    }

    /// With further devices of these numbers.
    pub(crate) fn with_others(numbers: &[u32]) -> Self {
        let xen = Xen::default();
        let build = |id| Build {
            id,
            pages: 64,
            ..Build::default()
        };
        let dom0 = xen.domain(Kind::Pvh, build(0));
        let guest = xen.domain(Kind::Pvh, build(1));
        let m = guest.vcpu(0);
        hypercall::map_grant_frame(&m, 0, HOLE).unwrap();
        let table = HOLE * PAGE_SIZE;
        // The toolstack's grant of the store's page: reference 1.
        m.store32(table + 8 + 4, u32::try_from(STORE_PAGE).unwrap())
            .unwrap();
        m.store32(table + 8, u32::from(GTF_PERMIT_ACCESS)).unwrap();
        let (port, _) = guest.store_and_console();
        let mut daemon = Xenstored::new(dom0.map_grant(1, 1, true).unwrap());
        daemon.set("/local/domain/1/domid", "1");
        let mut device = |front: &str, back: &str, number: u32| {
            for (path, value) in [
                (format!("{front}/backend"), back.to_owned()),
                (format!("{front}/backend-id"), "0".to_owned()),
                (format!("{front}/state"), "1".to_owned()),
                (format!("{front}/virtual-device"), number.to_string()),
                (format!("{back}/frontend"), front.to_owned()),
                (format!("{back}/state"), "2".to_owned()),
            ] {
                daemon.set(&path, &value);
            }
            BlockBackend::new(dom0.clone(), front, back, disk())
        };
        let backend = device(FRONT, BACK, 51712);
        let others = numbers.iter().map(|number| {
            let [front, back] = ends(*number);
            device(&front, &back, *number)
        });
        let others = RefCell::new(others.collect());
        let _store = bind(&dom0, port);
        Self {
            m,
            guest,
            port,
            grants: Grants::new(table),
            peers: RefCell::new(Peers { daemon, backend }),
            others,
            turned: Cell::new(0),
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(STORE_PAGE * PAGE_SIZE, self.port)
    }

    pub(crate) fn references(&self) -> References {
        References::new(self.grants)
    }

    pub(crate) fn peers(&self) -> RefMut<'_, Peers> {
        self.peers.borrow_mut()
    }

    pub(crate) fn others(&self) -> RefMut<'_, Vec<BlockBackend>> {
        self.others.borrow_mut()
    }

    /// Time for the peers to have this many turns.
    pub(crate) fn time(&self, turns: u32) -> Turns<'_> {
        Turns {
            world: self,
            turns,
            anew: 0,
        }
    }

    pub(crate) fn page(&self, number: u64) -> Page {
        Page {
            number,
            address: number * PAGE_SIZE,
            frame: u32::try_from(number).unwrap(),
        }
    }

    pub(crate) fn ring_page(&self) -> Page {
        self.page(RING_PAGE)
    }
}

/// Whoever waits gives the peers a turn.
pub(crate) struct Turns<'a> {
    world: &'a World,
    pub(crate) turns: u32,
    /// Turns anew after progress; none if it does not count.
    pub(crate) anew: u32,
}

impl Wait for Turns<'_> {
    fn progress(&mut self) {
        self.turns = self.turns.max(self.anew);
    }

    fn wait(&mut self, _: u32) -> Result<(), TimeOver> {
        self.turns = self.turns.checked_sub(1).ok_or(TimeOver)?;
        self.world.turned.update(|turned| turned + 1);
        let mut peers = self.world.peers();
        let Peers { daemon, backend } = &mut *peers;
        backend.turn(daemon);
        for other in &mut *self.world.others() {
            other.turn(daemon);
        }
        daemon.turn();
        Ok(())
    }
}
