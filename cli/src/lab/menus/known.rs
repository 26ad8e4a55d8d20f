//! Differences that are meant: what Kexen does otherwise than GRUB, and why.

use serde::Serialize;

/// A kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Known {
    /// A short name.
    pub(crate) name: &'static str,
    /// Why it is meant.
    pub(crate) why: &'static str,
}

/// Quotes in a command line.
pub(crate) const QUOTES: Known = Known {
    name: "quotes",
    why: "GRUB's loader puts a backslash before quotes and backslashes of a command line, and \
          quotes around each word with a blank (grub-core/lib/cmdline.c). Linux takes no \
          backslash out again (lib/cmdline.c), so that name=\"a b\" falls apart. Kexen leaves \
          quotes as the configuration has them, puts quotes around a word with a blank that has \
          none, and takes blanks off at both ends",
};

/// The order of files that `blscfg` takes in.
pub(crate) const ORDER: Known = Known {
    name: "order",
    why: "GRUB 2.14 sorts the entries of blscfg as `ls -v` does (filevercmp), Fedora's and Red \
          Hat's GRUB as rpm does, under which 55.9.1.el10_0 is newer than 55.el10. Who has \
          blscfg in a configuration has that GRUB; Kexen sorts as it does",
};

/// All of them.
pub(crate) const KNOWN: &[Known] = &[QUOTES, ORDER];
