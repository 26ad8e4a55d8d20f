//! Kexen's options: the `kexen.*` words of the guest's own command line.
//!
//! All other words are the kernel's. Words end at ASCII white space; double
//! quotes protect it, as on Linux's command line.
//!
//! What is booted, in this order:
//!
//! 1. `kexen.boot=module` or `=disk` says where from; without it, from the
//!    boot module if there is one, or else from the disks.
//! 2. `kexen.entry=` says which entry: of the boot module by its name, of the
//!    disks by its id or title ([`crate::entry::find`]).
//! 3. `kexen.timeout=` says how long to wait for a choice; without it, what
//!    the configuration on the disk says.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::entry::Timeout;

/// What to do when something cannot be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Ask on the console.
    #[default]
    Prompt,
    /// Power the guest off.
    PowerOff,
    /// End with a crash code, which a toolstack sees.
    Crash,
}

/// What the guest's own words do to the entry's `cmdline`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CmdlineMode {
    /// They are added to it.
    #[default]
    Append,
    /// They replace it, if there are any.
    Replace,
    /// They are left out: a toolstack puts words there that are meant for a
    /// kernel of its own.
    Ignore,
}

/// Where what is booted comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFrom {
    /// The boot module.
    Module,
    /// The guest's own disks.
    Disk,
}

/// What the stage before left in memory: pages, and a sum over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// How many pages.
    pub pages: u64,
    /// The sum.
    pub checksum: u64,
}

/// A question to Xen, instead of starting anything.
#[cfg(feature = "probe")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Takes pages back that a backend has mapped.
    Abandon,
    /// Just uses such a page: the backend's writes are seen.
    AbandonOmit,
}

/// Which cases of the differential test to run, instead of starting anything.
#[cfg(feature = "probe")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differential {
    /// The seed that cases are made from.
    pub seed: u64,
    /// The first case.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Which steps of it (one bit each); if given, every outcome is printed.
    pub keep: Option<u128>,
}

#[cfg(feature = "probe")]
impl Differential {
    /// `SEED,FIRST,COUNT[,KEEP]`, the last in hexadecimal.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut number = || parts.next()?.parse().ok();
        let (seed, first, count) = (number()?, number()?, number()?);
        let keep = match parts.next() {
            Some(bits) => Some(u128::from_str_radix(bits, 16).ok()?),
            None => None,
        };
        parts.next().is_none().then_some(Self {
            seed,
            first,
            count,
            keep,
        })
    }
}

/// Kexen's options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `kexen.entry`: which entry, by its name in the boot module, or by id or
    /// title on the disks.
    pub entry: Option<String>,
    /// `kexen.boot`
    pub boot: Option<BootFrom>,
    /// `kexen.timeout`
    pub timeout: Option<Timeout>,
    /// `kexen.cmdline`
    pub cmdline: CmdlineMode,
    /// `kexen.on-error`
    pub on_error: OnError,
    /// `kexen.stats`: print figures before the jump.
    pub stats: bool,
    /// `kexen.quiet`: print errors alone.
    pub quiet: bool,
    /// `kexen.chain`: how often to start the entry `kexen` before.
    pub chain: u32,
    /// `kexen.verify-memory`: mark free memory before the jump.
    pub verify_memory: bool,
    /// `kexen.marker`: what the stage before marked.
    pub marker: Option<Marker>,
    /// `kexen.module`: physical address and bytes of a boot module that is in
    /// memory already (HVM).
    pub module: Option<(u64, u64)>,
    /// `kexen.omit`
    #[cfg(feature = "omission")]
    pub omit: Option<String>,
    /// `kexen.probe`
    #[cfg(feature = "probe")]
    pub probe: Option<Probe>,
    /// `kexen.differential`
    #[cfg(feature = "probe")]
    pub differential: Option<Differential>,
}

/// The options, each with a line of help.
pub const HELP: &[(&str, &str)] = &[
    (
        "kexen.entry=NAME",
        "start this entry: a name in the boot module, an id or title on the disks",
    ),
    (
        "kexen.boot=module|disk",
        "where to boot from (default: the boot module, if there is one)",
    ),
    (
        "kexen.timeout=SECONDS",
        "how long to wait for a choice (0: not at all, -1: for ever)",
    ),
    (
        "kexen.cmdline=append|replace|ignore",
        "what the other words here do to the entry's cmdline (default append)",
    ),
    (
        "kexen.on-error=prompt|poweroff|crash",
        "what to do when something cannot be started (default prompt)",
    ),
    ("kexen.stats", "print figures before the jump"),
    ("kexen.quiet", "print errors alone"),
    (
        "kexen.chain=N",
        "start the entry `kexen` N times first, handing the boot module on",
    ),
    (
        "kexen.verify-memory",
        "mark all free memory before the jump, for the next stage to check",
    ),
    (
        "kexen.module=ADDRESS:BYTES",
        "a boot module that the device model has put into memory (HVM)",
    ),
    (
        "kexen.marker=PAGES:CHECKSUM",
        "what the stage before marked (set by Kexen itself)",
    ),
    #[cfg(feature = "omission")]
    ("kexen.omit=DEFENCE", "leave a defence out (tests alone)"),
    #[cfg(feature = "probe")]
    (
        "kexen.probe=abandon|abandon-omit",
        "ask Xen a question instead (lab alone)",
    ),
    #[cfg(feature = "probe")]
    (
        "kexen.differential=SEED,FIRST,COUNT[,KEEP]",
        "run cases of the differential test instead (lab alone)",
    ),
];

/// How often a chain can go on.
const MAX_CHAIN: u32 = 1000;

/// A word that is not an option as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// No option of that name.
    Unknown {
        /// The word.
        word: String,
    },
    /// A value that the option does not take.
    Value {
        /// The word.
        word: String,
        /// What it takes.
        want: &'static str,
    },
}

impl core::fmt::Display for OptionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown { word } => {
                write!(f, "unknown option {word:?}; there are:")?;
                for (option, _) in HELP {
                    write!(f, " {option}")?;
                }
                Ok(())
            }
            Self::Value { word, want } => write!(f, "{word:?}: the value must be {want}"),
        }
    }
}

impl core::error::Error for OptionError {}

/// Splits a command line at ASCII white space outside double quotes.
fn words(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    })
    .filter(|word| !word.is_empty())
    .collect()
}

/// A word without the quotes around all of it.
fn unquoted(word: &str) -> &str {
    word.strip_prefix('"')
        .and_then(|word| word.strip_suffix('"'))
        .unwrap_or(word)
}

/// `0xADDRESS:BYTES`
fn range(text: &str) -> Option<(u64, u64)> {
    let (address, bytes) = text.split_once(':')?;
    let digits = address.strip_prefix("0x")?;
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let address = u64::from_str_radix(digits, 16)
        .ok()
        .filter(|_| hexadecimal)?;
    let bytes: u64 = decimal(bytes)?;
    address.checked_add(bytes)?;
    Some((address, bytes))
}

/// A decimal number, of digits alone.
fn decimal<T: core::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl Options {
    /// Takes Kexen's options out of a command line; the rest of the words,
    /// as they are, are the kernel's.
    pub fn parse(text: &str) -> Result<(Self, String), OptionError> {
        let mut options = Self::default();
        let mut rest: Vec<&str> = Vec::new();
        for word in words(text) {
            if unquoted(word).starts_with("kexen.") {
                options.set(unquoted(word))?;
            } else {
                rest.push(word);
            }
        }
        Ok((options, rest.join(" ")))
    }

    fn set(&mut self, word: &str) -> Result<(), OptionError> {
        let bad = |want| {
            Err(OptionError::Value {
                word: word.to_string(),
                want,
            })
        };
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.trim_matches('"'))),
            None => (word, None),
        };
        match (name, value) {
            ("kexen.entry", Some(name)) if !name.is_empty() => self.entry = Some(name.to_string()),
            ("kexen.entry", _) => return bad("the name of an entry"),
            ("kexen.boot", Some("module")) => self.boot = Some(BootFrom::Module),
            ("kexen.boot", Some("disk")) => self.boot = Some(BootFrom::Disk),
            ("kexen.boot", _) => return bad("module or disk"),
            ("kexen.timeout", value) => match value.and_then(timeout) {
                Some(timeout) => self.timeout = Some(timeout),
                None => return bad("seconds, 0 or -1"),
            },
            ("kexen.cmdline", Some("append")) => self.cmdline = CmdlineMode::Append,
            ("kexen.cmdline", Some("replace")) => self.cmdline = CmdlineMode::Replace,
            ("kexen.cmdline", Some("ignore")) => self.cmdline = CmdlineMode::Ignore,
            ("kexen.cmdline", _) => return bad("append, replace or ignore"),
            ("kexen.on-error", value) => match value.and_then(on_error) {
                Some(what) => self.on_error = what,
                None => return bad("prompt, poweroff or crash"),
            },
            ("kexen.stats", None) => self.stats = true,
            ("kexen.quiet", None) => self.quiet = true,
            ("kexen.verify-memory", None) => self.verify_memory = true,
            ("kexen.stats" | "kexen.quiet" | "kexen.verify-memory", Some(_)) => {
                return bad("left out");
            }
            ("kexen.chain", value) => match value.and_then(decimal).filter(|n| *n <= MAX_CHAIN) {
                Some(n) => self.chain = n,
                None => return bad("a number from 0 to 1000"),
            },
            ("kexen.marker", value) => match value.and_then(marker) {
                Some(marker) => self.marker = Some(marker),
                None => return bad("PAGES:CHECKSUM, a number and 16 hexadecimal digits"),
            },
            ("kexen.module", value) => match value.and_then(range) {
                Some(range) => self.module = Some(range),
                None => return bad("ADDRESS:BYTES, the address as 0x and hexadecimal digits"),
            },
            #[cfg(feature = "omission")]
            ("kexen.omit", value) => {
                let Some(value) = value else {
                    return bad("the name of a defence");
                };
                self.omit = Some(value.into());
            }
            #[cfg(feature = "probe")]
            ("kexen.probe", value) => {
                self.probe = Some(match value {
                    Some("abandon") => Probe::Abandon,
                    Some("abandon-omit") => Probe::AbandonOmit,
                    _ => return bad("abandon or abandon-omit"),
                });
            }
            #[cfg(feature = "probe")]
            ("kexen.differential", value) => {
                let Some(cases) = value.and_then(Differential::parse) else {
                    return bad("SEED,FIRST,COUNT or SEED,FIRST,COUNT,KEEP");
                };
                self.differential = Some(cases);
            }
            _ => {
                return Err(OptionError::Unknown {
                    word: word.to_string(),
                });
            }
        }
        Ok(())
    }

    /// `kexen.module` alone, out of a command line whose other words may be
    /// another program's.
    #[must_use]
    pub fn module_of(text: &str) -> Option<(u64, u64)> {
        words(text)
            .into_iter()
            .rev()
            .filter_map(|word| word.strip_prefix("kexen.module="))
            .find_map(range)
    }

    /// `kexen.on-error` alone, out of a command line that may be wrong
    /// elsewhere: the last that is right.
    #[must_use]
    pub fn on_error_of(text: &str) -> OnError {
        words(text)
            .into_iter()
            .rev()
            .filter_map(|word| word.strip_prefix("kexen.on-error="))
            .find_map(|value| on_error(value.trim_matches('"')))
            .unwrap_or_default()
    }

    /// The guest's command line for the next stage of a chain: the count
    /// one less, the marker another one, all else as it is.
    #[must_use]
    pub fn next_chain_command_line(&self, text: &str, marker: Option<&str>) -> String {
        let mut next: Vec<String> = Vec::new();
        for word in words(text) {
            if word.starts_with("kexen.chain=") {
                next.push(format!("kexen.chain={}", self.chain.saturating_sub(1)));
            } else if !word.starts_with("kexen.marker=") {
                next.push(word.to_string());
            }
        }
        if let Some(marker) = marker {
            next.push(format!("kexen.marker={marker}"));
        }
        next.join(" ")
    }
}

fn on_error(value: &str) -> Option<OnError> {
    match value {
        "prompt" => Some(OnError::Prompt),
        "poweroff" => Some(OnError::PowerOff),
        "crash" => Some(OnError::Crash),
        _ => None,
    }
}

/// Seconds, or -1 for ever.
fn timeout(value: &str) -> Option<Timeout> {
    if value == "-1" {
        return Some(Timeout::Forever);
    }
    decimal(value)
        .filter(|_| !value.is_empty())
        .map(Timeout::Seconds)
}

fn marker(value: &str) -> Option<Marker> {
    let (pages, sum) = value.split_once(':')?;
    if sum.len() != 16 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(Marker {
        pages: decimal(pages)?,
        checksum: u64::from_str_radix(sum, 16).ok()?,
    })
}

#[cfg(test)]
mod tests;
