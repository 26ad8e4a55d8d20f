//! `bundle`: to come.

/// Options of `bundle`.
#[derive(Debug, clap::Args)]
pub(crate) struct BundleArgs {}

/// Runs it.
pub(crate) fn run(_args: &BundleArgs) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
