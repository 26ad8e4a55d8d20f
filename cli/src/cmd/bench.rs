//! `bench`: to come.

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {}

/// Runs it.
pub(crate) fn run(_args: &BenchArgs) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
