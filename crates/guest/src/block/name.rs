//! What a block device is called, by its number.
//!
//! Specification: `docs/man/xen-vbd-interface.7.pandoc`.

use alloc::{format, string::String};

/// The disk that a device's number names, and the partition if the device is
/// one by itself: `("xvda", Some(1))` is `xvda1`, which has no table.
#[must_use]
pub fn name(number: u32) -> (String, Option<u32>) {
    const EXTENDED: u32 = 1 << 28;
    let [low, high, ..] = number.to_le_bytes();
    let (low, major) = (u32::from(low), u32::from(high));
    let (class, disk, partition) = if number & EXTENDED != 0 && number >> 29 == 0 {
        ("xvd", (number & !EXTENDED) >> 8, low)
    } else if number >> 16 != 0 {
        return (format!("vbd{number}-"), None);
    } else {
        match major {
            202 => ("xvd", low >> 4, low & 15),
            8 => ("sd", low >> 4, low & 15),
            3 => ("hd", low >> 6, low & 63),
            22 => ("hd", 2 + (low >> 6), low & 63),
            _ => return (format!("vbd{number}-"), None),
        }
    };
    (
        format!("{class}{}", letters(disk)),
        (partition != 0).then_some(partition),
    )
}

/// `a` to `z`, `aa`, `ab` and so on.
fn letters(mut n: u32) -> String {
    let mut text = String::new();
    loop {
        let letter = u8::try_from(n % 26).unwrap_or(0);
        text.insert(0, char::from(b'a'.saturating_add(letter)));
        if n < 26 {
            return text;
        }
        n = n / 26 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_of_the_interface() {
        for (number, disk, partition) in [
            (51712, "xvda", None),
            (51713, "xvda", Some(1)),
            (51728, "xvdb", None),
            (51952, "xvdp", None),
            ((1 << 28) | (16 << 8), "xvdq", None),
            ((1 << 28) | (26 << 8) | 3, "xvdaa", Some(3)),
            (768, "hda", None),
            (769 + 64, "hdb", Some(1)),
            (5632, "hdc", None),
            (2048, "sda", None),
            (2048 + 17, "sdb", Some(1)),
            (77, "vbd77-", None),
            (u32::MAX, "vbd4294967295-", None),
        ] {
            assert_eq!(name(number), (disk.into(), partition), "{number}");
        }
    }
}
