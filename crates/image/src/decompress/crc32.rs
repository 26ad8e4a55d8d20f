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

/// What a byte does to the sum so many bytes further on.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "evaluated at compile time"
)]
const fn further() -> [[u32; 256]; 8] {
    let mut tables = [reflected(); 8];
    let mut step = 1;
    while step < 8 {
        let mut n = 0;
        while n < 256 {
            let value = tables[step - 1][n];
            tables[step][n] = (value >> 8) ^ tables[0][(value & 0xff) as usize];
            n += 1;
        }
        step += 1;
    }
    tables
}

static TABLES: [[u32; 256]; 8] = further();

fn entry(byte: u8) -> u32 {
    let [table, ..] = &TABLES;
    table.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The sum of gzip and xz: eight bytes at a time, each by a table of its own.
pub(super) fn ieee(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let word = u64::from_le_bytes(*eight) ^ u64::from(crc);
        // The last byte is the one that nothing comes after.
        let tables = TABLES.iter().rev().zip(word.to_le_bytes());
        crc = tables.fold(0, |crc, (table, byte)| {
            crc ^ table.get(usize::from(byte)).copied().unwrap_or(0)
        });
    }
    for byte in rest {
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
        // All lengths of a rest.
        let zeroes = [0; 32];
        let by_one = |len| {
            !(0..len).fold(u32::MAX, |c: u32, _| {
                (c >> 8) ^ super::TABLES[0][(c & 0xff) as usize]
            })
        };
        for len in 0..=zeroes.len() {
            assert_eq!(super::ieee(&zeroes[..len]), by_one(len), "{len}");
        }
        assert_eq!(super::ieee(b"123456789"), 0xcbf4_3926);
        let crc = b"123456789"
            .iter()
            .fold(u32::MAX, |c, b| super::bzip2(c, *b));
        assert_eq!(!crc, 0xfc89_1918);
    }
}
