//! `test`: to come.

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {}

/// Runs it.
pub(crate) fn run(_args: &TestArgs) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
