//! `inspect`: to come.

/// Options of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {}

/// Runs it.
pub(crate) fn run(_args: &InspectArgs) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
