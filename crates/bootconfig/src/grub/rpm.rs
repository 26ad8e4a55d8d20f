//! The order of names as packages are ordered: NAME-VERSION-RELEASE.
//!
//! Rules: `rpmvercmp` of rpm, as `blscfg` of Fedora and RHEL has them. Names
//! are compared part by part: runs of digits as numbers, runs of letters as
//! text, a number being newer than letters; what is in between does not count.
//! `~` is older than the end, `+` is newer than it and older than all else.

use core::cmp::Ordering;

/// Takes what is neither a digit nor a letter, `~` or `+` off the front.
fn skip(text: &[u8]) -> &[u8] {
    let counts = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'~' | b'+');
    let start = text.iter().position(counts).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Parts a text where this stops to hold.
fn run(text: &[u8], is: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !is(byte));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, &[]))
}

/// Which version is newer.
fn version(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        a = skip(a);
        b = skip(b);
        // Signs that both have are passed over; of one alone, `~` is older than
        // anything, `+` than anything but the end.
        match (a, b) {
            ([b'~', one @ ..], [b'~', two @ ..]) | ([b'+', one @ ..], [b'+', two @ ..]) => {
                (a, b) = (one, two);
                continue;
            }
            ([b'~', ..], _) | ([], [b'+', ..]) => return Ordering::Less,
            (_, [b'~', ..]) | ([b'+', ..], []) => return Ordering::Greater,
            ([b'+', ..], _) => return Ordering::Less,
            (_, [b'+', ..]) => return Ordering::Greater,
            _ => {}
        }
        let (Some(first), Some(_)) = (a.first(), b.first()) else {
            return a.len().min(1).cmp(&b.len().min(1));
        };
        let digits = first.is_ascii_digit();
        let is = if digits {
            u8::is_ascii_digit
        } else {
            u8::is_ascii_alphabetic
        };
        let (one, behind) = run(a, is);
        let (two, other) = run(b, is);
        if two.is_empty() {
            return if digits {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = if digits {
            let zero = |byte: &u8| *byte == b'0';
            let (one, two) = (run(one, zero).1, run(two, zero).1);
            one.len().cmp(&two.len()).then_with(|| one.cmp(two))
        } else {
            one.cmp(two)
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (behind, other);
    }
}

/// Name, version and release: the last two are behind the last two `-`. With
/// fewer of these, what there is counts as name and version.
fn parts(text: &str) -> [&str; 3] {
    match text.rsplit_once('-') {
        None => [text, "", ""],
        Some((rest, release)) => match rest.rsplit_once('-') {
            None => [rest, release, ""],
            Some((name, version)) => [name, version, release],
        },
    }
}

/// Which package is newer.
pub(super) fn by_package(a: &str, b: &str) -> Ordering {
    let pairs = parts(a).into_iter().zip(parts(b));
    pairs.fold(Ordering::Equal, |order, (a, b)| {
        order.then_with(|| version(a, b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_rpm_orders_them() {
        for (older, newer) in [
            ("1.0", "1.1"),
            ("1.9", "1.10"),
            ("1.0", "1.0.1"),
            ("a", "1"),
            ("1.0~rc1", "1.0"),
            ("1.0", "1.0+debug"),
            ("1.0+a", "1.0.1"),
            ("1.0~rc1", "1.0~rc2"),
            ("5", "006"),
            ("fc9", "fc10"),
            ("el8", "el8_4"),
            ("abc", "abd"),
        ] {
            assert_eq!(version(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(version(newer, older), Ordering::Greater, "{newer} {older}");
        }
        for (one, two) in [("1.0", "1_0"), ("1.0", "1.0."), ("", "."), ("01", "1")] {
            assert_eq!(version(one, two), Ordering::Equal, "{one} {two}");
        }
    }

    #[test]
    fn packages_are_parted_at_the_last_two_dashes() {
        let id = "c0ffee";
        for (older, newer) in [
            ("0-rescue", "6.5.9-300.fc39.x86_64"),
            ("6.5.9-300.fc39.x86_64", "6.5.12-300.fc39.x86_64"),
            ("6.5.9-300.fc39.x86_64", "6.5.9-300.fc39.x86_64+debug"),
            ("4.18.0-80.el8.x86_64", "4.18.0-193.el8.x86_64"),
        ] {
            let (older, newer) = (
                alloc::format!("{id}-{older}"),
                alloc::format!("{id}-{newer}"),
            );
            assert_eq!(
                by_package(&older, &newer),
                Ordering::Less,
                "{older} {newer}"
            );
        }
        assert_eq!(by_package("ostree-1", "ostree-2"), Ordering::Less);
        assert_eq!(by_package("a", "b"), Ordering::Less);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(a in "[a-c0-2.~+_-]{0,12}", b in "[a-c0-2.~+_-]{0,12}") {
            let _order = by_package(&a, &b);
            proptest::prop_assert_eq!(by_package(&a, &a), Ordering::Equal);
        }
    }
}
