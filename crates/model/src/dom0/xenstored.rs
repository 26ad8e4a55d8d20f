//! A xenstored with as much as frontends need of one, and its faults.

use std::collections::{BTreeMap, VecDeque};

use crate::Mapping;
use kexen_abi::io::xs_wire::{
    CONNECTION, ERROR, Header, MessageType, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD,
    SERVER_FEATURES,
};
use zerocopy::{FromBytes, IntoBytes};

type Tree = BTreeMap<String, Vec<u8>>;

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// It takes requests and does not answer.
    Silent,
    /// It does not look at the ring at all.
    Dead,
    /// The next answers are of this kind.
    Kind(MessageType),
    /// The next answers have this payload.
    Payload(Vec<u8>),
    /// The next answers name this length.
    Len(u32),
    /// It sends events instead of answers.
    Events,
    /// An answer to nobody's question comes before each.
    Strangers,
    /// Commits that fail with `EAGAIN`.
    Disturbed(u32),
    /// It knows no `RESET_WATCHES`.
    Old,
}

#[derive(Debug)]
struct Transaction {
    tree: Tree,
    generation: u64,
    touched: Vec<String>,
}

/// A xenstored, as domain 1 sees it.
#[derive(Debug)]
pub struct Xenstored {
    page: Mapping,
    tree: Tree,
    generation: u64,
    /// The guest's watches: path, token.
    pub watches: Vec<(String, String)>,
    transactions: BTreeMap<u32, Transaction>,
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// What is wrong with it.
    pub fault: Option<StoreFault>,
    /// Requests that it has understood.
    pub asked: Vec<(MessageType, String)>,
    /// How often the guest has begun anew.
    pub reconnected: u32,
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.into()
    } else {
        format!("/local/domain/1/{path}")
    }
}

fn below(path: &str, root: &str) -> bool {
    path == root
        || path
            .strip_prefix(root)
            .is_some_and(|rest| rest.starts_with('/'))
}

impl Xenstored {
    /// On the store's page, granted by the guest.
    #[must_use]
    pub fn new(page: Mapping) -> Self {
        Self {
            page,
            tree: Tree::new(),
            generation: 0,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            input: Vec::new(),
            output: VecDeque::new(),
            fault: None,
            asked: Vec::new(),
            reconnected: 0,
        }
    }

    /// A word of the page.
    #[must_use]
    pub fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.page.read(at, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    }

    /// Writes a word of the page.
    pub fn set_word(&self, at: u64, value: u32) {
        self.page.write(at, &value.to_le_bytes()).unwrap();
    }

    /// It can begin anew.
    pub fn offer_reconnection(&self) {
        self.set_word(SERVER_FEATURES, 1);
    }

    /// It gives the connection up.
    pub fn disconnect(&self, code: u32) {
        self.set_word(SERVER_FEATURES, 2);
        self.set_word(ERROR, code);
    }

    /// The store's content, for backends and toolstack.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<String> {
        let value = self.tree.get(path)?;
        Some(String::from_utf8(value.clone()).unwrap())
    }

    /// The toolstack or a backend writes.
    pub fn set(&mut self, path: &str, value: &str) {
        self.tree.insert(path.into(), value.into());
        self.changed(path);
    }

    /// The same removes, with what is below.
    pub fn remove(&mut self, path: &str) {
        self.tree.retain(|one, _| !below(one, path));
        self.changed(path);
    }

    fn changed(&mut self, path: &str) {
        self.generation += 1;
        for (watched, token) in self.watches.clone() {
            if below(path, &absolute(&watched)) {
                let told = if watched.starts_with('/') {
                    path
                } else {
                    path.strip_prefix("/local/domain/1/").unwrap_or(path)
                };
                self.event(told, &token);
            } else if below(&absolute(&watched), path) {
                self.event(&watched, &token);
            }
        }
    }

    /// A watch fires.
    pub fn event(&mut self, path: &str, token: &str) {
        let payload = format!("{path}\0{token}\0");
        self.send(MessageType::WATCH_EVENT, 0, 0, payload.as_bytes());
    }

    /// Sends a message.
    pub fn send(&mut self, kind: MessageType, req_id: u32, tx_id: u32, payload: &[u8]) {
        let header = Header {
            kind,
            req_id,
            tx_id,
            len: u32::try_from(payload.len()).unwrap(),
        };
        self.send_bytes(header.as_bytes());
        self.send_bytes(payload);
    }

    /// Sends bytes, which need be no message.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }

    /// Takes, answers, and puts what there is room for.
    pub fn turn(&mut self) {
        if self.fault == Some(StoreFault::Dead) {
            return;
        }
        if self.word(SERVER_FEATURES) & 1 != 0 && self.word(CONNECTION) == 1 {
            for at in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION] {
                self.set_word(at, 0);
            }
            self.input.clear();
            self.output.clear();
            self.watches.clear();
            self.transactions.clear();
            self.reconnected += 1;
        }
        let (prod, mut cons) = (self.word(REQ_PROD), self.word(REQ_CONS));
        while cons != prod {
            let mut byte = [0];
            self.page.read(u64::from(cons % 1024), &mut byte).unwrap();
            self.input.push(byte[0]);
            cons = cons.wrapping_add(1);
        }
        self.set_word(REQ_CONS, cons);
        while let Ok((header, rest)) = Header::read_from_prefix(&self.input) {
            let len = usize::try_from(header.len).unwrap();
            assert!(len <= 4096, "the guest broke the protocol: {header:?}");
            if rest.len() < len {
                break;
            }
            let payload = rest[..len].to_vec();
            self.input.drain(..16 + len);
            self.take(&header, &payload);
        }
        let (mut prod, cons) = (self.word(RSP_PROD), self.word(RSP_CONS));
        while prod.wrapping_sub(cons) < 1024 {
            let Some(byte) = self.output.pop_front() else {
                break;
            };
            let at = RSP + u64::from(prod % 1024);
            self.page.write(at, &[byte]).unwrap();
            prod = prod.wrapping_add(1);
        }
        self.set_word(RSP_PROD, prod);
    }

    fn take(&mut self, header: &Header, payload: &[u8]) {
        let path = payload.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = String::from_utf8_lossy(path).into_owned();
        self.asked.push((header.kind, path));
        let (kind, id, tx) = (header.kind, header.req_id, header.tx_id);
        match self.fault.clone() {
            Some(StoreFault::Silent) => return,
            Some(StoreFault::Kind(kind)) => return self.send(kind, id, tx, b"OK\0"),
            Some(StoreFault::Payload(payload)) => return self.send(kind, id, tx, &payload),
            Some(StoreFault::Len(len)) => {
                let header = Header { len, ..*header };
                return self.send_bytes(header.as_bytes());
            }
            Some(StoreFault::Events) => {
                for n in 0..10_000 {
                    self.event(&format!("a/{n}"), "nobody");
                }
                return;
            }
            Some(StoreFault::Strangers) => {
                self.send(kind, id ^ 0x55, tx, b"stranger");
                self.send(MessageType::ERROR, id ^ 0x77, tx, b"EIO\0");
            }
            _ => {}
        }
        match self.answer(kind, tx, payload) {
            Ok(answer) => self.send(kind, id, tx, &answer),
            Err(word) => self.send(MessageType::ERROR, id, tx, format!("{word}\0").as_bytes()),
        }
    }

    fn answer(
        &mut self,
        kind: MessageType,
        tx: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, &'static str> {
        let done = || Ok(b"OK\0".to_vec());
        let zero = payload.iter().position(|byte| *byte == 0).ok_or("EINVAL")?;
        let (first, rest) = (&payload[..zero], &payload[zero + 1..]);
        let first = std::str::from_utf8(first).map_err(|_| "EINVAL")?;
        let path = absolute(first);
        if tx != 0 && !self.transactions.contains_key(&tx) {
            return Err("ENOENT");
        }
        let tree = match self.transactions.get(&tx) {
            Some(transaction) => &transaction.tree,
            None => &self.tree,
        };
        match kind {
            MessageType::READ => {
                if let Some(value) = tree.get(&path) {
                    return Ok(value.clone());
                }
                let there = tree.keys().any(|key| below(key, &path));
                // Whether there is nothing is told those who may read what is
                // above (`errno_from_parents` in xenstored).
                let above = path.rsplit_once('/').map_or("", |(above, _)| above);
                let readable = path.starts_with("/local/domain/1/")
                    || tree.keys().any(|key| below(key, above));
                match (there, readable) {
                    (true, _) => Ok(Vec::new()),
                    (false, true) => Err("ENOENT"),
                    (false, false) => Err("EACCES"),
                }
            }
            MessageType::DIRECTORY => {
                let mut names: Vec<&str> = tree
                    .keys()
                    .filter_map(|key| key.strip_prefix(&path)?.strip_prefix('/'))
                    .map(|rest| rest.split('/').next().unwrap_or(""))
                    .collect();
                names.dedup();
                if names.is_empty() && !tree.contains_key(&path) {
                    return Err("ENOENT");
                }
                Ok(names
                    .iter()
                    .flat_map(|n| format!("{n}\0").into_bytes())
                    .collect())
            }
            MessageType::WRITE | MessageType::MKDIR | MessageType::RM => {
                if first.is_empty() {
                    return Err("EINVAL");
                }
                if !path.starts_with("/local/domain/1/") {
                    return Err("EACCES");
                }
                let value = rest.to_vec();
                let tree = match self.transactions.get_mut(&tx) {
                    Some(transaction) => {
                        transaction.touched.push(path.clone());
                        &mut transaction.tree
                    }
                    None => &mut self.tree,
                };
                match kind {
                    MessageType::WRITE => drop(tree.insert(path.clone(), value)),
                    MessageType::MKDIR => drop(tree.entry(path.clone()).or_default()),
                    _ => tree.retain(|one, _| !below(one, &path)),
                }
                if tx == 0 {
                    self.changed(&path);
                }
                done()
            }
            MessageType::WATCH | MessageType::UNWATCH => {
                let token = rest.strip_suffix(&[0]).ok_or("EINVAL")?;
                let watch = (first.to_owned(), String::from_utf8(token.to_vec()).unwrap());
                if kind == MessageType::UNWATCH {
                    let before = self.watches.len();
                    self.watches.retain(|one| *one != watch);
                    return if self.watches.len() < before {
                        done()
                    } else {
                        Err("ENOENT")
                    };
                }
                self.event(first, &watch.1);
                self.watches.push(watch);
                done()
            }
            MessageType::RESET_WATCHES if self.fault == Some(StoreFault::Old) => Err("EINVAL"),
            MessageType::RESET_WATCHES => {
                self.watches.clear();
                self.transactions.clear();
                done()
            }
            MessageType::TRANSACTION_START => {
                let id = 1 + self.transactions.keys().max().unwrap_or(&0);
                let transaction = Transaction {
                    tree: self.tree.clone(),
                    generation: self.generation,
                    touched: Vec::new(),
                };
                self.transactions.insert(id, transaction);
                Ok(format!("{id}\0").into_bytes())
            }
            MessageType::TRANSACTION_END => self.end(tx, first == "T"),
            _ => Err("ENOSYS"),
        }
    }

    fn end(&mut self, tx: u32, commit: bool) -> Result<Vec<u8>, &'static str> {
        let transaction = self.transactions.remove(&tx).ok_or("ENOENT")?;
        if let Some(StoreFault::Disturbed(left)) = &mut self.fault
            && commit
            && *left > 0
        {
            *left -= 1;
            return Err("EAGAIN");
        }
        if commit && transaction.generation != self.generation {
            return Err("EAGAIN");
        }
        if commit {
            self.tree = transaction.tree;
            for path in transaction.touched {
                self.changed(&path);
            }
        }
        Ok(b"OK\0".to_vec())
    }

    /// How many transactions are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.transactions.len()
    }
}
