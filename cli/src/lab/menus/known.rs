//! Differences that are meant: what Kexen does otherwise than GRUB, and why.

use serde::Serialize;

use super::seen::Difference;

/// A kind of difference.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Known {
    /// A short name.
    pub(crate) name: &'static str,
    /// Why it is meant.
    pub(crate) why: &'static str,
    #[serde(skip)]
    is: fn(&Difference) -> bool,
}

/// All of them.
pub(crate) const KNOWN: &[Known] = &[Known {
    name: "quotes",
    why: "GRUB puts quotes around words of a command line that have blanks, and a backslash \
          before quotes and backslashes, which Linux does not take out again; Kexen leaves \
          quotes as the configuration has them, and adds them only where there are none",
    is: |difference| {
        let plain = |text: &str| text.replace(['"', '\'', '\\'], "");
        difference.what.starts_with("command line")
            && plain(&difference.grub) == plain(&difference.kexen)
    },
}];

/// The kind that a difference is of.
pub(crate) fn known(difference: &Difference) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.is)(difference))
}
