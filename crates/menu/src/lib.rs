//! The boot menu: keys in, screens out, no device and no clock.
//!
//! Protocol: a terminal that knows ECMA-48 as a VT100 does (cursor, reverse
//! video, erase), 80 columns and 24 rows, as every Xen console ends at one.
//!
//! | module | what it is |
//! |---|---|
//! | [`keys`] | bytes of a terminal as keys |
//! | [`list`] | the menu: choose, start, edit, leave for the prompt |
//! | [`edit`] | one line that is edited |
//!
//! Order of steps for the one who shows it: print [`list::Menu::open`]; for
//! each [`keys::Key`] what [`list::Menu::key`] says; each second
//! [`list::Menu::tick`], until one of them has an [`list::Answer`].
//!
//! Titles and command lines come from a guest's disk: what is no printable
//! character is shown as `?`, so that no title speaks to the terminal.

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

pub mod edit;
pub mod keys;
pub mod list;

pub use keys::{Key, Keys};
pub use list::{Answer, Item, Menu, Step};

use alloc::string::String;

/// Columns and rows of the terminal.
pub(crate) const COLUMNS: usize = 80;
pub(crate) const ROWS: usize = 24;

/// Text for a terminal: at most so many characters, nothing that it obeys.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let fine = |c: char| if c.is_control() { '?' } else { c };
    if text.chars().count() <= most {
        return text.chars().map(fine).collect();
    }
    let mut cut: String = text
        .chars()
        .take(most.saturating_sub(1))
        .map(fine)
        .collect();
    cut.push('>');
    cut
}
