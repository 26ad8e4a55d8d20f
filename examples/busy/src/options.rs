//! What the command line tells the busy guest: words `busy.KEY=VALUE`.
//!
//! | word | what it does |
//! |---|---|
//! | `busy.hold=A,B` | claims to hold, of the names below; `all` |
//! | `busy.omit=A,B` | claims that are forgotten at the hand-off |
//! | `busy.work=MS` | how long to work before the hand-off |
//! | `busy.moves=N` | moves of shared info there and back, meanwhile |
//! | `busy.hops=N` | hand-offs to itself before the one to the next kernel |
//! | `busy.entry=NAME` | the boot module's entry to hand over to |
//! | `busy.backend` | waits until a backend has the granted pages mapped |
//! | `busy.patience=MS` | how long backends may take to let grants go |
//! | `busy.abandon` | abandons pages whose grants stay mapped |
//! | `busy.grants=N`, `busy.ports=N` | how many of these, beside what it needs |
//! | `busy.balloon=N` | how many pages to give back |
//! | `busy.shrink` | waits until the toolstack has lowered the memory limit |
//! | `busy.await=PATH` | waits for this node of the store before it connects |
//! | `busy.late=A` | a claim to take when the next kernel is loaded already |
//! | `busy.soft-reset` | has the toolstack undo what nothing else can (HVM) |
//! | `busy.crash=VCPU` | crashes on that vCPU, with a capture kernel prepared |
//! | `busy.stop=WHAT` | what to do when it is blocked: `poweroff`, `crash` |

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Everything that can be held.
pub(crate) const ALL: &[&str] = &[
    "vcpus",
    "shared-info",
    "ports",
    "areas",
    "grants",
    "balloon",
    "callback",
    "device",
    "pirq-gsi",
    "pirq-msi",
    "foreign",
];
/// What is not part of `all`: what cannot be given up, and shared info over RAM
/// in a PVH guest, which has no need for that.
const BY_NAME: &[&str] = &["vcpu-info", "vector", "pv-vcpus", "early-shared-info"];

/// What can be forgotten beside that: the careful part of a move, the end of
/// other vCPUs, a claim that must block, the capture kernel.
const OMIT_TOO: &[&str] = &["park", "move", "init", "pirqs", "vcpu-info", "capture"];

/// What can be taken late.
const LATE: &[&str] = &["vcpu-info", "vector"];

/// The words.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    hold: Vec<String>,
    late: Vec<String>,
    omit: Vec<String>,
    pub(crate) work_ms: u64,
    pub(crate) moves: u64,
    pub(crate) hops: u64,
    pub(crate) entry: Option<String>,
    pub(crate) crash_when_blocked: bool,
    pub(crate) soft_reset: bool,
    pub(crate) backend: bool,
    pub(crate) abandon: bool,
    pub(crate) patience_ms: u64,
    pub(crate) grants: u64,
    pub(crate) ports: u64,
    pub(crate) balloon: u64,
    pub(crate) shrink: bool,
    pub(crate) await_node: Option<String>,
    /// The vCPU to crash on, instead of a hand-off.
    pub(crate) crash: Option<u32>,
    /// Times of the hand-off that led here, as text.
    pub(crate) times: Option<String>,
    /// What was left in memory for this stage to check.
    pub(crate) marker: Option<String>,
}

impl Options {
    /// Whether a kind of claim is to be held.
    pub(crate) fn holds(&self, what: &str) -> bool {
        let in_all = ALL.contains(&what) && self.hold.iter().any(|held| held == "all");
        in_all || self.hold.iter().any(|held| held == what)
    }

    /// Whether it is to be taken when the next kernel is loaded.
    pub(crate) fn takes_late(&self, what: &str) -> bool {
        self.late.iter().any(|late| late == what)
    }

    /// Whether a kind of claim is forgotten at the hand-off.
    pub(crate) fn omits(&self, what: &str) -> bool {
        self.omit.iter().any(|omitted| omitted == what)
    }

    /// Reads a command line; words of others' are passed over.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let mut options = Self {
            hold: Vec::new(),
            late: Vec::new(),
            omit: Vec::new(),
            work_ms: 300,
            moves: 0,
            hops: 0,
            entry: None,
            crash_when_blocked: false,
            soft_reset: false,
            backend: false,
            abandon: false,
            patience_ms: 0,
            grants: 16,
            ports: 1,
            balloon: 16,
            shrink: false,
            await_node: None,
            crash: None,
            times: None,
            marker: None,
        };
        for word in line.split_ascii_whitespace() {
            let Some(word) = word.strip_prefix("busy.") else {
                continue;
            };
            let bad = |why: &str| format!("command line: busy.{word}: {why}");
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse::<u64>().map_err(|_| bad("not a number"));
            let list = |names: &[&[&str]]| -> Result<Vec<String>, String> {
                let known = |name: &&str| names.iter().any(|list| list.contains(name));
                value
                    .split(',')
                    .map(|name| {
                        known(&name)
                            .then(|| name.to_string())
                            .ok_or_else(|| bad("no such claim"))
                    })
                    .collect()
            };
            match key {
                "hold" => options.hold = list(&[ALL, BY_NAME, &["all"]])?,
                "late" => options.late = list(&[LATE])?,
                "omit" => options.omit = list(&[ALL, OMIT_TOO])?,
                "work" => options.work_ms = number()?,
                "moves" => options.moves = number()?,
                "hops" => options.hops = number()?,
                "entry" => options.entry = Some(value.to_string()),
                "backend" => options.backend = true,
                "abandon" => options.abandon = true,
                "grants" => options.grants = number()?.min(400),
                "ports" => options.ports = number()?.min(1000),
                "balloon" => options.balloon = number()?,
                "shrink" => options.shrink = true,
                "await" => options.await_node = Some(value.to_string()),
                "patience" => options.patience_ms = number()?,
                "soft-reset" => options.soft_reset = true,
                "crash" => options.crash = u32::try_from(number()?).ok(),
                "times" => options.times = Some(value.to_string()),
                "marker" => options.marker = Some(value.to_string()),
                "stop" => {
                    options.crash_when_blocked = match value {
                        "crash" => true,
                        "poweroff" => false,
                        _ => return Err(bad("neither crash nor poweroff")),
                    }
                }
                _ => return Err(bad("no such word")),
            }
        }
        Ok(options)
    }
}
