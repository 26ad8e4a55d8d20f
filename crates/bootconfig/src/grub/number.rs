//! Numbers as GRUB reads them: `grub_strtoull` and `grub_strtol` of
//! `grub-core/kern/misc.c` in GRUB 2.14.

/// GRUB's number of the error of what is no number (`include/grub/err.h`).
pub(super) const BAD_NUMBER: u32 = 10;
/// Of one that is too large.
pub(super) const OUT_OF_RANGE: u32 = 11;

/// The number that a text begins with, and what is behind it; with base 0 it may
/// begin with `0x` or `0`.
pub(super) fn unsigned(text: &str, base: u32) -> Result<(u64, &str), u32> {
    let text = text.trim_ascii_start();
    let (text, base) = match text.as_bytes() {
        [b'0', b'x', ..] if matches!(base, 0 | 16) => (text.get(2..).unwrap_or_default(), 16),
        [b'0', b'0'..=b'7', ..] if base == 0 => (text, 8),
        _ if base == 0 => (text, 10),
        _ => (text, base),
    };
    let end = text.find(|c: char| !c.is_digit(base)).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if digits.is_empty() {
        return Err(BAD_NUMBER);
    }
    match u64::from_str_radix(digits, base) {
        Ok(number) => Ok((number, rest)),
        Err(_) => Err(OUT_OF_RANGE),
    }
}

/// The same with a sign before it: 0 if it is none, the largest if it is larger.
pub(super) fn signed(text: &str) -> i64 {
    let text = text.trim_ascii_start();
    let (digits, is_negative) = match text.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let number = match unsigned(digits, 0) {
        Ok((number, _)) => i64::try_from(number).ok(),
        Err(BAD_NUMBER) => Some(0),
        Err(_) => None,
    };
    match (number, is_negative) {
        (Some(number), false) => number,
        (Some(number), true) => number.saturating_neg(),
        (None, false) => i64::MAX,
        (None, true) => i64::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        for (text, base, want) in [
            ("12", 0, Ok((12, ""))),
            (" 12 x", 0, Ok((12, " x"))),
            ("1>0", 0, Ok((1, ">0"))),
            ("010", 0, Ok((8, ""))),
            ("08", 0, Ok((8, ""))),
            ("08", 10, Ok((8, ""))),
            ("0x1fg", 0, Ok((31, "g"))),
            ("0X10", 0, Ok((0, "X10"))),
            ("0x1", 10, Ok((0, "x1"))),
            ("-1", 0, Err(BAD_NUMBER)),
            ("", 0, Err(BAD_NUMBER)),
            ("0x", 0, Err(BAD_NUMBER)),
            ("99999999999999999999", 0, Err(OUT_OF_RANGE)),
        ] {
            assert_eq!(unsigned(text, base), want, "{text}");
        }
        assert_eq!((signed("-5x"), signed("x"), signed("-")), (-5, 0, 0));
        assert_eq!(signed("-99999999999999999999"), i64::MIN);
        assert_eq!(signed("9223372036854775808"), i64::MAX);
    }
}
