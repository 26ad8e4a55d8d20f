//! Packs an image file for the fuzzers (`images/make.sh`): its length, then
//! each sector that has something in it, with its number.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let path = std::env::args_os().nth(1).unwrap_or_default();
    let image = std::fs::read(path)?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let len = u64::try_from(image.len()).map_err(std::io::Error::other)?;
    out.write_all(&len.to_le_bytes())?;
    for (number, sector) in (0_u32..).zip(image.chunks(512)) {
        if sector.iter().any(|byte| *byte != 0) {
            let mut whole = [0; 512];
            whole[..sector.len()].copy_from_slice(sector);
            out.write_all(&number.to_le_bytes())?;
            out.write_all(&whole)?;
        }
    }
    out.flush()
}
