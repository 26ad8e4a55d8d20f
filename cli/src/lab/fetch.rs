//! Fetching what the lab runs, while other work is done.

use std::thread;

use anyhow::{Context as _, Result};

use super::artefacts::{Flavour, Kernel, Xen};
use super::dom0_image;
use super::example::Toolstack;
use crate::host::tools;

/// Does the work while what most runs on this Xen need is fetched and made: that
/// waits for the network and for one processor, mostly.
pub(crate) fn beside<T>(xen: Xen, needs_dom0: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // One after the other here: the host's package manager has one lock.
    tools::require_lab()?;
    thread::scope(|scope| {
        let fetch = scope.spawn(move || -> Result<()> {
            if needs_dom0 {
                dom0_image::get(xen, Toolstack::Xl)?;
            }
            xen.hypervisor()?;
            Kernel::debian(Flavour::Cloud).map(drop)
        });
        let result = work();
        let panicked = |_| anyhow::anyhow!("the thread that fetches panicked");
        fetch
            .join()
            .map_err(panicked)?
            .context("cannot make what the runs on a real Xen need")?;
        result
    })
}
