//! Which entry comes first, and which is the default.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use core::cmp::Ordering;

use super::{loader_conf::LoaderConf, version};
use crate::entry::{Entry, MAX_ENTRIES, shown};

/// An entry, before it is in the menu.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its file's name without boot counting.
    pub file: String,
    /// Its id as systemd-boot has it: with boot counting.
    pub written: String,
    /// Which profile of its file it is.
    pub profile: usize,
    /// Whether systemd-boot would show it. What it would not show is last,
    /// and never the default while there is anything else.
    pub is_shown: bool,
    /// The entry.
    pub entry: Entry,
}

impl Candidate {
    fn is_bad(&self) -> bool {
        self.entry.tries.is_some_and(|tries| tries.left == 0)
    }

    fn matches(&self, pattern: &str) -> bool {
        version::matches(pattern, &self.entry.id) || version::matches(pattern, &self.written)
    }
}

/// The specification's order: bad entries last; those with a sort key first,
/// by key, machine and version (newest first); all else by file name, newest
/// first, and by profile; then those with more tries left.
///
/// The specification takes the names' suffixes off first; systemd-boot and
/// `bootctl` do not, which is where `arch.conf` is before `arch-lts.conf`
/// instead of behind it. It is as they have it.
#[must_use]
pub fn order(a: &Candidate, b: &Candidate) -> Ordering {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let name = |one: &Candidate| one.file.to_ascii_lowercase();
    let left = |one: &Candidate| one.entry.tries.map(|tries| tries.left);
    let done = |one: &Candidate| one.entry.tries.map(|tries| tries.done);
    let (this, that) = (&a.entry, &b.entry);
    b.is_shown
        .cmp(&a.is_shown)
        .then_with(|| a.is_bad().cmp(&b.is_bad()))
        .then_with(|| that.sort_key.is_some().cmp(&this.sort_key.is_some()))
        .then_with(|| {
            if this.sort_key.is_none() {
                return Ordering::Equal;
            }
            this.sort_key
                .cmp(&that.sort_key)
                .then_with(|| this.machine_id.cmp(&that.machine_id))
                .then_with(|| version::compare(&text(&that.version), &text(&this.version)))
        })
        .then_with(|| version::compare(&name(b), &name(a)))
        .then_with(|| a.profile.cmp(&b.profile))
        .then_with(|| left(b).cmp(&left(a)))
        .then_with(|| done(a).cmp(&done(b)))
}

/// The one that the settings ask for, among those that are in order.
/// `preferred` passes bad ones over; `default` does not.
#[must_use]
pub fn asked(conf: &LoaderConf, all: &[Candidate]) -> Option<usize> {
    let find = |pattern: &Option<String>, bad: bool| {
        let pattern = pattern.as_ref()?;
        all.iter()
            .position(|one| one.is_shown && (bad || !one.is_bad()) && one.matches(pattern))
    };
    find(&conf.preferred, false).or_else(|| find(&conf.default, true))
}

/// Leaves the first ones of so many entries, with the default among them; where
/// that is then, and how many went.
pub fn cut(all: &mut Vec<Candidate>, default: usize) -> (usize, usize) {
    let gone = all.len().saturating_sub(MAX_ENTRIES);
    if gone == 0 {
        return (default, 0);
    }
    let last = MAX_ENTRIES.saturating_sub(1);
    if default > last {
        all.swap(last, default);
    }
    all.truncate(MAX_ENTRIES);
    (default.min(last), gone)
}

/// Adds versions, and if need be machines and ids, to titles that several
/// entries have.
pub fn tell_apart(entries: &mut [Candidate]) {
    for round in 0..3 {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for one in entries.iter() {
            let times = count.entry(one.entry.title.clone()).or_default();
            *times = times.saturating_add(1);
        }
        for one in entries.iter_mut() {
            let entry = &mut one.entry;
            let several = count.get(&entry.title).is_some_and(|times| *times > 1);
            let machine = |id: &String| id.chars().take(8).collect();
            let more = match round {
                0 => entry.version.clone(),
                1 => entry.machine_id.as_ref().map(machine),
                _ => Some(entry.id.clone()),
            };
            if let Some(more) = more.filter(|_| several) {
                entry.title = shown(&format!("{} ({more})", entry.title));
            }
        }
    }
}
