//! What to boot: the entries of a boot module, and Kexen's own options.
//!
//! | module | what it is |
//! |---|---|
//! | [`entry`] | what can be booted from a disk |
//! | [`module`] | the boot module: a newc archive of entries, read and written |
//! | [`disk`] | from a disk to its volumes |
//! | [`volumes`] | the file systems that are looked at, and how they are called |
//! | [`bls`] | Boot Loader Specification entries, and unified kernel images |
//! | [`grub`] | grub.cfg, as GRUB runs it |
//! | [`extlinux`] | extlinux.conf and its relatives |
//! | [`find`] | all of these on all volumes, as one menu |
//! | [`options`] | the `kexen.*` words of the guest's command line |
//!
//! Archives and command lines are hostile: every read is checked, every
//! count bounded, and nothing panics.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

extern crate alloc;

use alloc::{format, string::String};

pub mod bls;
pub mod disk;
pub mod entry;
pub mod extlinux;
pub mod find;
pub mod grub;
pub mod module;
pub mod options;
pub mod volumes;

#[cfg(test)]
mod testfs;

use options::CmdlineMode;

/// The kernel's command line, from the entry's `cmdline` and the words on
/// the guest's own command line that are not Kexen's.
#[must_use]
pub fn compose(entry: &str, words: &str, mode: CmdlineMode) -> String {
    match mode {
        CmdlineMode::Replace if !words.is_empty() => String::from(words),
        CmdlineMode::Append if !words.is_empty() && !entry.is_empty() => {
            format!("{entry} {words}")
        }
        CmdlineMode::Append if entry.is_empty() => String::from(words),
        _ => String::from(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_added_or_replace() {
        assert_eq!(compose("a b", "c", CmdlineMode::Append), "a b c");
        assert_eq!(compose("", "c", CmdlineMode::Append), "c");
        assert_eq!(compose("a b", "", CmdlineMode::Append), "a b");
        assert_eq!(compose("a b", "c", CmdlineMode::Replace), "c");
        assert_eq!(compose("a b", "", CmdlineMode::Replace), "a b");
        assert_eq!(compose("a b", "c", CmdlineMode::Ignore), "a b");
        assert_eq!(compose("", "c", CmdlineMode::Ignore), "");
    }
}
