//! `image`: build the boot image.

use anyhow::Result;

use crate::lab::build::{self, Variant};

/// Options of `image`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {}

/// Builds the boot image and says where it is.
pub(crate) fn run(_args: &ImageArgs) -> Result<()> {
    let image = build::image(Variant::Normal)?;
    println!("{} {} bytes", image.stripped.display(), image.size);
    println!("{} (the same with symbols)", image.symbols.display());
    Ok(())
}
