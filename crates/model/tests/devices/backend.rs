//! A block backend of a few sectors, and its faults.

use kexen_abi::io::blkif::{
    BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_READ, BLKIF_OP_WRITE, BlkifRequest, BlkifResponse,
};
use kexen_abi::io::ring::{ENTRIES, REQ_PROD, RSP_PROD};
use kexen_model::{Guest, Mapping};
use zerocopy::{FromZeros, IntoBytes};

use super::daemon::Daemon;
use super::world::{BACK, FRONT, bind, unbind};

pub(crate) const SECTORS: usize = 1024;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not leave its state.
    Still,
    /// It goes to this one instead.
    Goes(u32),
    /// Its directory is removed when the frontend closes.
    Vanishes,
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
    /// It keeps the ring.
    KeepsRing,
}

pub(crate) struct Backend {
    dom0: Guest,
    pub(crate) disk: Vec<u8>,
    ring: Option<Mapping>,
    port: u32,
    req_cons: u32,
    rsp_prod: u32,
    pub(crate) kept: Vec<Mapping>,
    pub(crate) fault: Option<Fault>,
    late: u32,
    /// Most requests that it has found in the ring at once.
    pub(crate) most: u32,
}

impl Backend {
    pub(crate) fn new(dom0: Guest) -> Self {
        Self {
            dom0,
            disk: (0..SECTORS * 512)
                .map(|n| u8::try_from((n / 512 + n) % 251).unwrap())
                .collect(),
            ring: None,
            port: 0,
            req_cons: 0,
            rsp_prod: 0,
            kept: Vec::new(),
            fault: None,
            late: 0,
            most: 0,
        }
    }

    pub(crate) fn turn(&mut self, daemon: &mut Daemon) {
        if let Some(Fault::Late(turns)) = self.fault {
            self.late += 1;
            if !self.late.is_multiple_of(turns) {
                return;
            }
        }
        let state = |path: &str| {
            let state = daemon.get(&format!("{path}/state"));
            state.and_then(|state| state.parse::<u32>().ok())
        };
        let (Some(front), Some(back)) = (state(FRONT), state(BACK)) else {
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
                Some(Fault::Still) => return,
                Some(Fault::Goes(other)) => {
                    if back != other {
                        daemon.set(&format!("{BACK}/state"), &other.to_string());
                    }
                    return;
                }
                Some(Fault::Vanishes) if next == 5 => {
                    self.disconnect();
                    return daemon.remove(BACK);
                }
                _ => {}
            }
            match next {
                4 => self.connect(daemon),
                6 => self.disconnect(),
                _ => {}
            }
            daemon.set(&format!("{BACK}/state"), &next.to_string());
        }
        self.serve();
    }

    pub(crate) fn connect(&mut self, daemon: &mut Daemon) {
        let number = |name: &str| -> u32 {
            let value = daemon.get(&format!("{FRONT}/{name}")).unwrap();
            value.parse().unwrap()
        };
        let protocol = daemon.get(&format!("{FRONT}/protocol"));
        assert_eq!(protocol.as_deref(), Some("x86_64-abi"));
        let ring = self.dom0.map_grant(1, number("ring-ref"), true);
        self.ring = Some(ring.unwrap());
        self.port = bind(&self.dom0, number("event-channel"));
        (self.req_cons, self.rsp_prod) = (0, 0);
        for (name, value) in [
            ("sectors", SECTORS.to_string()),
            ("sector-size", "512".into()),
            ("info", "0".into()),
            ("feature-flush-cache", "1".into()),
            ("max-ring-page-order", "4".into()),
        ] {
            let path = format!("{BACK}/{name}");
            if daemon.get(&path).is_none() {
                daemon.set(&path, &value);
            }
        }
    }

    fn disconnect(&mut self) {
        let Some(ring) = self.ring.take() else {
            return;
        };
        unbind(&self.dom0, self.port);
        if self.fault == Some(Fault::KeepsRing) {
            self.kept.push(ring);
        } else {
            ring.unmap().unwrap();
        }
    }

    fn serve(&mut self) {
        let Some(ring) = self.ring.take() else {
            return;
        };
        let mut word = [0; 4];
        ring.read(REQ_PROD, &mut word).unwrap();
        let prod = u32::from_le_bytes(word);
        self.most = self.most.max(prod.wrapping_sub(self.req_cons));
        while self.req_cons != prod && self.fault != Some(Fault::NoAnswer) {
            let mut request = BlkifRequest::new_zeroed();
            let at = ENTRIES + u64::from(self.req_cons % 32) * 112;
            ring.read(at, request.as_mut_bytes()).unwrap();
            self.req_cons = self.req_cons.wrapping_add(1);
            if let Some(Fault::Unanswered(left)) = &mut self.fault {
                *left -= 1;
                if *left == 0 {
                    self.fault = Some(Fault::NoAnswer);
                    break;
                }
            }
            let status = self.carry_out(&request);
            let mut response = BlkifResponse {
                id: request.id,
                operation: request.operation,
                status,
                ..BlkifResponse::default()
            };
            match self.fault {
                Some(Fault::Id(id)) => response.id = id,
                Some(Fault::Operation) => response.operation ^= 1,
                Some(Fault::Status(status)) => response.status = status,
                _ => {}
            }
            let times = 1 + u32::from(self.fault == Some(Fault::Twice));
            for _ in 0..times {
                let at = ENTRIES + u64::from(self.rsp_prod % 32) * 112;
                ring.write(at, response.as_bytes()).unwrap();
                self.rsp_prod = self.rsp_prod.wrapping_add(1);
            }
        }
        let mut said = self.rsp_prod;
        if let Some(Fault::Producer(more)) = self.fault {
            said = said.wrapping_add(more);
        }
        ring.write(RSP_PROD, &said.to_le_bytes()).unwrap();
        self.ring = Some(ring);
    }

    /// Writes what it likes into the ring's page.
    pub(crate) fn scribble(&self, at: u64, bytes: &[u8]) {
        self.ring.as_ref().unwrap().write(at, bytes).unwrap();
    }

    fn carry_out(&mut self, request: &BlkifRequest) -> i16 {
        let mut at = usize::try_from(request.sector_number).unwrap() * 512;
        let segments = &request.seg[..usize::from(request.nr_segments)];
        for segment in segments {
            let writable = request.operation == BLKIF_OP_READ;
            // What is written must not be granted writable.
            if !writable && let Ok(mapping) = self.dom0.map_grant(1, segment.gref, true) {
                mapping.unmap().unwrap();
                panic!("grant {} is writable", segment.gref);
            }
            let page = self.dom0.map_grant(1, segment.gref, writable).unwrap();
            let first = usize::from(segment.first_sect) * 512;
            let len = (usize::from(segment.last_sect) + 1) * 512 - first;
            let offset = u64::try_from(first).unwrap();
            match request.operation {
                BLKIF_OP_READ => page.write(offset, &self.disk[at..at + len]).unwrap(),
                BLKIF_OP_WRITE => page.read(offset, &mut self.disk[at..at + len]).unwrap(),
                other => panic!("operation {other} has segments"),
            }
            at += len;
            if self.fault == Some(Fault::KeepsPages) {
                self.kept.push(page);
            } else {
                page.unmap().unwrap();
            }
        }
        assert!(request.operation <= BLKIF_OP_FLUSH_DISKCACHE);
        0
    }
}
