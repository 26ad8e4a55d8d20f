//! xz's filter for x86: targets of calls and jumps, absolute while packed.

/// How many bytes behind an instruction's first a filter looks.
pub(super) const LOOK: usize = 4;
/// Call and jump, but for this bit.
const CALL: u8 = 0xe8;
const JUMP: u8 = 1;
const EACH: u64 = 0x0101_0101_0101_0101;

/// Whether a byte can be the highest of a target.
const fn is_end(byte: u8) -> bool {
    matches!(byte, 0 | 0xff)
}

/// Where the next call or jump is, from here on.
fn next(bytes: &[u8], mut at: usize) -> Option<usize> {
    // Eight at a time: does one of them differ in nothing else?
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*eight);
        let differs = (word | EACH) ^ (EACH * 0xe9);
        let zeroes = differs.wrapping_sub(EACH) & !differs & (EACH << 7);
        if zeroes != 0 {
            // The lowest that is found is right.
            let byte = usize::try_from(zeroes.trailing_zeros() / 8).ok()?;
            return at.checked_add(byte);
        }
        at = at.checked_add(8)?;
    }
    let rest = bytes.get(at..)?;
    let found = rest.iter().position(|byte| byte & !JUMP == CALL)?;
    at.checked_add(found)
}

/// Makes the targets in what was unpacked relative again.
pub(super) fn decode(bytes: &mut [u8]) {
    let Some(end) = bytes.len().checked_sub(LOOK) else {
        return;
    };
    // Which of the three bytes before might have begun an instruction, but did
    // not: bit 0 is the nearest.
    let mut before: u32 = 0;
    let mut last: Option<usize> = None;
    let mut from = 0;
    while let Some(at) = next(bytes, from).filter(|at| *at < end) {
        let gap = last.map_or(at.wrapping_add(1), |last| at.wrapping_sub(last));
        before = match gap {
            1 => before & 7,
            2 => (before << 1) & 7,
            3 => (before << 2) & 7,
            _ => 0,
        };
        last = Some(at);
        from = at.wrapping_add(1);
        let Some(target) = bytes
            .get_mut(from..)
            .and_then(|rest| rest.first_chunk_mut::<LOOK>())
        else {
            return;
        };
        let [.., highest] = *target;
        // What stands where the highest byte of such an instruction's would be.
        let place = match before {
            0 => None,
            1 => Some(2),
            2 => Some(1),
            4 => Some(0),
            _ => {
                before = (before << 1) | 1;
                continue;
            }
        };
        let middle = place.and_then(|place: usize| target.get(place).copied());
        if middle.is_some_and(is_end) || !is_end(highest) {
            before = (before << 1) | 1;
            continue;
        }
        let behind = u32::try_from(at & 0xffff_ffff).unwrap_or(0).wrapping_add(5);
        let mut value = u32::from_le_bytes(*target).wrapping_sub(behind);
        if let Some(place) = place {
            let shift = u32::try_from(place).unwrap_or(0).wrapping_mul(8);
            let [byte, ..] = value.wrapping_shr(shift).to_le_bytes();
            // (Once is enough: what comes of it has the complement of the byte
            // that was there, which is no such byte.)
            if is_end(byte) {
                let low = 0x100_u32.wrapping_shl(shift).wrapping_sub(1);
                value = (value ^ low).wrapping_sub(behind);
            }
        }
        // The highest byte says again whether the target is behind or before.
        value &= 0x01ff_ffff;
        if value & 0x0100_0000 != 0 {
            value |= 0xff00_0000;
        }
        *target = value.to_le_bytes();
        from = from.wrapping_add(LOOK);
    }
}
