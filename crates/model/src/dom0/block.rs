//! A block backend, and its faults.

use kexen_abi::io::blkif::{
    BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ, BLKIF_OP_WRITE, BlkifRequest,
    BlkifRequestIndirect, BlkifResponse, BlkifSegment,
};
use kexen_abi::io::ring::{ENTRIES, REQ_PROD, RSP_PROD, entries};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Xenstored, bind, unbind};
use crate::{Guest, Mapping};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFault {
    /// It does not leave its state.
    Still,
    /// It goes to this one instead.
    Goes(u32),
    /// Its directory is removed when the frontend closes.
    Vanishes,
    /// Its directory is removed when it has been told of the ring.
    Leaves,
    /// It has the ring, and never says that it is connected.
    Mute,
    /// It does each thing this many turns later.
    Late(u32),
    /// It answers no request.
    NoAnswer,
    /// It answers each request but the last one of this many.
    Unanswered(u32),
    /// It answers with this number.
    Id(u64),
    /// It answers each request twice.
    Twice,
    /// It answers of another operation.
    Operation,
    /// It answers with this status.
    Status(i16),
    /// It says that this many more responses are there.
    Producer(u32),
    /// It keeps the pages of requests.
    KeepsPages,
    /// It keeps the list of a large request's pages.
    KeepsList,
    /// It keeps the ring.
    KeepsRing,
}

/// A block backend of domain 0's.
#[derive(Debug)]
pub struct BlockBackend {
    dom0: Guest,
    /// The two ends' directories.
    front: String,
    back: String,
    /// Its sectors.
    pub disk: Vec<u8>,
    ring: Option<Vec<Mapping>>,
    port: u32,
    req_cons: u32,
    rsp_prod: u32,
    /// Pages that it has kept.
    pub kept: Vec<Mapping>,
    /// What is wrong with it.
    pub fault: Option<BlockFault>,
    late: u32,
    /// Most requests that it has found in the ring at once.
    pub most: u32,
    /// Whether it answers large requests as such, not as what they are to do.
    pub echoes: bool,
    /// Most segments that it has found in a request.
    pub segments: usize,
}

/// Reads from or writes to a ring of several pages.
fn parts(at: u64, len: usize) -> impl Iterator<Item = (usize, u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let here = at + u64::try_from(done).unwrap();
        let from = done;
        done = len.min(from + usize::try_from(4096 - here % 4096).unwrap());
        (done > from).then_some((
            usize::try_from(here / 4096).unwrap(),
            here % 4096,
            from,
            done,
        ))
    })
}

fn read(ring: &[Mapping], at: u64, bytes: &mut [u8]) {
    for (page, offset, from, to) in parts(at, bytes.len()) {
        ring[page].read(offset, &mut bytes[from..to]).unwrap();
    }
}

fn write(ring: &[Mapping], at: u64, bytes: &[u8]) {
    for (page, offset, from, to) in parts(at, bytes.len()) {
        ring[page].write(offset, &bytes[from..to]).unwrap();
    }
}

impl BlockBackend {
    /// A device by its two ends' directories in the store.
    #[must_use]
    pub fn new(dom0: Guest, front: &str, back: &str, disk: Vec<u8>) -> Self {
        Self {
            dom0,
            front: front.into(),
            back: back.into(),
            disk,
            ring: None,
            port: 0,
            req_cons: 0,
            rsp_prod: 0,
            kept: Vec::new(),
            fault: None,
            late: 0,
            most: 0,
            echoes: false,
            segments: 0,
        }
    }

    /// Goes one state further, if it can, and carries out what is asked.
    pub fn turn(&mut self, store: &mut Xenstored) {
        if let Some(BlockFault::Late(turns)) = self.fault {
            self.late += 1;
            if !self.late.is_multiple_of(turns) {
                return;
            }
        }
        let state = |path: &str| {
            let state = store.get(&format!("{path}/state"));
            state.and_then(|state| state.parse::<u32>().ok())
        };
        let (Some(front), Some(back)) = (state(&self.front), state(&self.back)) else {
            return;
        };
        let next = match (front, back) {
            (1 | 2, 1 | 6) => 2,
            (3 | 4, 2) => 4,
            (5, 1..=4) => 5,
            (6, 1..=5) => 6,
            _ => 0,
        };
        if next != 0 {
            match self.fault {
                Some(BlockFault::Still) => return,
                Some(BlockFault::Goes(other)) => {
                    if back != other {
                        store.set(&format!("{}/state", self.back), &other.to_string());
                    }
                    return;
                }
                Some(BlockFault::Vanishes) if next == 5 => {
                    self.disconnect();
                    return store.remove(&self.back);
                }
                Some(BlockFault::Leaves) if next == 4 => return store.remove(&self.back),
                Some(BlockFault::Mute) if next == 4 => {
                    if self.ring.is_none() {
                        self.connect(store);
                    }
                    return;
                }
                _ => {}
            }
            match next {
                4 => self.connect(store),
                6 => self.disconnect(),
                _ => {}
            }
            store.set(&format!("{}/state", self.back), &next.to_string());
        }
        self.serve();
    }

    /// Maps the ring and binds to the port that the frontend has named.
    pub fn connect(&mut self, store: &mut Xenstored) {
        let number = |name: &str| -> u32 {
            let value = store.get(&format!("{}/{name}", self.front)).unwrap();
            value.parse().unwrap()
        };
        let protocol = store.get(&format!("{}/protocol", self.front));
        assert_eq!(protocol.as_deref(), Some("x86_64-abi"));
        let map = |reference| self.dom0.map_grant(1, reference, true).unwrap();
        let order = store.get(&format!("{}/ring-page-order", self.front));
        self.ring = Some(match order {
            None => vec![map(number("ring-ref"))],
            Some(order) => {
                let pages = 1 << order.parse::<u32>().unwrap();
                let page = |n| map(number(&format!("ring-ref{n}")));
                (0..pages).map(page).collect()
            }
        });
        self.port = bind(&self.dom0, number("event-channel"));
        (self.req_cons, self.rsp_prod) = (0, 0);
        for (name, value) in [
            ("sectors", (self.disk.len() / 512).to_string()),
            ("sector-size", "512".into()),
            ("info", "0".into()),
            ("feature-flush-cache", "1".into()),
            ("max-ring-page-order", "4".into()),
        ] {
            let path = format!("{}/{name}", self.back);
            if store.get(&path).is_none() {
                store.set(&path, &value);
            }
        }
    }

    fn disconnect(&mut self) {
        let Some(ring) = self.ring.take() else {
            return;
        };
        unbind(&self.dom0, self.port);
        if self.fault == Some(BlockFault::KeepsRing) {
            self.kept.extend(ring);
        } else {
            ring.into_iter().for_each(|page| page.unmap().unwrap());
        }
    }

    fn serve(&mut self) {
        let Some(ring) = self.ring.take() else {
            return;
        };
        let size = entries(4096 * u64::try_from(ring.len()).unwrap(), 112);
        let entry = |index: u32| ENTRIES + u64::from(index % size) * 112;
        let mut word = [0; 4];
        read(&ring, REQ_PROD, &mut word);
        let prod = u32::from_le_bytes(word);
        self.most = self.most.max(prod.wrapping_sub(self.req_cons));
        while self.req_cons != prod && self.fault != Some(BlockFault::NoAnswer) {
            let mut request = BlkifRequest::new_zeroed();
            let at = entry(self.req_cons);
            read(&ring, at, request.as_mut_bytes());
            self.req_cons = self.req_cons.wrapping_add(1);
            if let Some(BlockFault::Unanswered(left)) = &mut self.fault {
                *left -= 1;
                if *left == 0 {
                    self.fault = Some(BlockFault::NoAnswer);
                    break;
                }
            }
            let (operation, status) = self.carry_out(&request);
            let mut response = BlkifResponse {
                id: request.id,
                operation: if self.echoes {
                    request.operation
                } else {
                    operation
                },
                status,
                ..BlkifResponse::default()
            };
            match self.fault {
                Some(BlockFault::Id(id)) => response.id = id,
                Some(BlockFault::Operation) => response.operation ^= 1,
                Some(BlockFault::Status(status)) => response.status = status,
                _ => {}
            }
            let times = 1 + u32::from(self.fault == Some(BlockFault::Twice));
            for _ in 0..times {
                write(&ring, entry(self.rsp_prod), response.as_bytes());
                self.rsp_prod = self.rsp_prod.wrapping_add(1);
            }
        }
        let mut said = self.rsp_prod;
        if let Some(BlockFault::Producer(more)) = self.fault {
            said = said.wrapping_add(more);
        }
        write(&ring, RSP_PROD, &said.to_le_bytes());
        self.ring = Some(ring);
    }

    /// Writes what it likes into the ring's page.
    pub fn scribble(&self, at: u64, bytes: &[u8]) {
        write(self.ring.as_ref().unwrap(), at, bytes);
    }

    /// What is to be done, and with which pages.
    fn segments(&mut self, request: &BlkifRequest) -> (u8, Vec<BlkifSegment>) {
        if request.operation != BLKIF_OP_INDIRECT {
            let count = usize::from(request.nr_segments);
            return (request.operation, request.seg[..count].to_vec());
        }
        let bytes = &request.as_bytes()[..size_of::<BlkifRequestIndirect>()];
        let request = BlkifRequestIndirect::read_from_bytes(bytes).unwrap();
        let count = usize::from(request.nr_segments);
        let mut segments = vec![BlkifSegment::default(); count];
        let list = request.indirect_grefs[0];
        if let Ok(mapping) = self.dom0.map_grant(1, list, true) {
            mapping.unmap().unwrap();
            panic!("the list of segments is writable");
        }
        let page = self.dom0.map_grant(1, list, false).unwrap();
        page.read(0, segments.as_mut_bytes()).unwrap();
        if self.fault == Some(BlockFault::KeepsList) {
            self.kept.push(page);
        } else {
            page.unmap().unwrap();
        }
        (request.indirect_op, segments)
    }

    /// What it did, and its status.
    fn carry_out(&mut self, request: &BlkifRequest) -> (u8, i16) {
        let mut at = usize::try_from(request.sector_number).unwrap() * 512;
        let (operation, segments) = self.segments(request);
        self.segments = self.segments.max(segments.len());
        for segment in segments {
            let writable = operation == BLKIF_OP_READ;
            // What is written must not be granted writable.
            if !writable && let Ok(mapping) = self.dom0.map_grant(1, segment.gref, true) {
                mapping.unmap().unwrap();
                panic!("grant {} is writable", segment.gref);
            }
            let page = self.dom0.map_grant(1, segment.gref, writable).unwrap();
            let first = usize::from(segment.first_sect) * 512;
            let len = (usize::from(segment.last_sect) + 1) * 512 - first;
            let offset = u64::try_from(first).unwrap();
            match operation {
                BLKIF_OP_READ => page.write(offset, &self.disk[at..at + len]).unwrap(),
                BLKIF_OP_WRITE => page.read(offset, &mut self.disk[at..at + len]).unwrap(),
                other => panic!("operation {other} has segments"),
            }
            at += len;
            if self.fault == Some(BlockFault::KeepsPages) {
                self.kept.push(page);
            } else {
                page.unmap().unwrap();
            }
        }
        assert!(operation <= BLKIF_OP_FLUSH_DISKCACHE);
        (operation, 0)
    }
}
