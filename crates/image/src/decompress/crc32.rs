//! CRC-32, in gzip's and in bzip2's bit order.

#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "evaluated at compile time"
)]
const fn reflected() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256_u32 {
        let mut value = n;
        let mut bit = 0;
        while bit < 8 {
            let low = value & 1;
            value >>= 1;
            if low != 0 {
                value ^= 0xedb8_8320;
            }
            bit += 1;
        }
        table[n as usize] = value;
        n += 1;
    }
    table
}

static TABLE: [u32; 256] = reflected();

fn entry(byte: u8) -> u32 {
    TABLE.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The sum of gzip and xz.
pub(super) fn ieee(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        let [low, ..] = crc.to_le_bytes();
        crc = entry(low ^ byte) ^ (crc >> 8);
    }
    !crc
}

/// The sum of bzip2: the same polynomial, most significant bit first.
pub(super) fn bzip2(mut crc: u32, byte: u8) -> u32 {
    // The table of the mirrored order, mirrored: no second table is needed.
    let [high, ..] = crc.to_be_bytes();
    crc = entry((high ^ byte).reverse_bits()).reverse_bits() ^ (crc << 8);
    crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_sums() {
        assert_eq!(super::ieee(b"123456789"), 0xcbf4_3926);
        let crc = b"123456789"
            .iter()
            .fold(u32::MAX, |c, b| super::bzip2(c, *b));
        assert_eq!(!crc, 0xfc89_1918);
    }
}
