//! Files made by minisign 0.11: a key, a file, and its signature in both forms.

extern crate std;

use std::{format, string::String, vec::Vec};

use proptest::prelude::*;

use super::*;

const KEY: &str = "untrusted comment: minisign public key B16B01F136E325AF\n\
                   RWSvJeM28QFrscEuQui3/KXu9W5/WHpyT3PFS2I2MwZSTXiP9mCWoDKg\n";
const FILE: &[u8] = b"a kernel of few words\n";
/// Over the file's sum.
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RUSvJeM28QFrsfv07RGqz7ayFYT7rBxmqgKO2xwQj40tKHr+HxJGBFw6Sq4IVMNxUs07LsB1gAz+x/q1UpnoVNqhgWYeEeRa8gA=\n\
    trusted comment: version 1\n\
    HyoNwE9MOwnSZzwy4veu5a2BcRyP2z7L5T6W6kQA3XNz//La2QYthKUAo1echQrXkap2Ba7zcuNlZZRfhK5qAw==\n";
/// Over the file.
const OLD: &str = "untrusted comment: signature from minisign secret key\n\
    RWSvJeM28QFrsSvmXAZwrPFyrpdY4lV8PKQKKzwxnJNrd/6ofWqGqd6DQLK7fNNQmmnEGeCpiVHwN7j2jKRa5mYdHNwMugFm9wo=\n\
    trusted comment: version 1\n\
    vOIgOiSNRGIBYefl0wK+xW9LsE/pw8GjmUomsyjeQ/3wtgMNF43/22j/9zlYeNE5x1NQsFUibKE7WWYgQ65hDw==\n";

fn keys() -> Keys {
    Keys::parse(KEY).unwrap()
}

#[test]
fn what_minisign_signs_is_good() {
    for signature in [SIGNATURE, OLD] {
        let signed = keys().check(FILE, signature).unwrap();
        assert_eq!(format!("{}", signed.key), "B16B01F136E325AF");
        assert_eq!(signed.trusted_comment, "version 1");
    }
    let windows = SIGNATURE.replace('\n', "\r\n");
    assert!(keys().check(FILE, &windows).is_ok());
}

#[test]
fn what_was_changed_is_not() {
    for signature in [SIGNATURE, OLD] {
        for n in 0..FILE.len() {
            let mut other = FILE.to_vec();
            other[n] ^= 1;
            let checked = keys().check(&other, signature);
            assert_eq!(checked, Err(TrustError::Wrong), "byte {n}");
        }
        assert_eq!(keys().check(b"", signature), Err(TrustError::Wrong));
        let comment = signature.replace("version 1", "version 2");
        let checked = keys().check(FILE, &comment);
        assert_eq!(checked, Err(TrustError::WrongComment));
    }
    // The other form's comment does not fit.
    let half: Vec<&str> = SIGNATURE.lines().take(2).collect();
    let rest: Vec<&str> = OLD.lines().skip(2).collect();
    let mixed = format!("{}\n{}\n", half.join("\n"), rest.join("\n"));
    assert_eq!(keys().check(FILE, &mixed), Err(TrustError::WrongComment));
}

#[test]
fn others_keys_are_named() {
    let other = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let keys = Keys::parse(&format!("# somebody else's\n{other}\n\n")).unwrap();
    let error = keys.check(FILE, SIGNATURE).unwrap_err();
    assert_eq!(
        format!("{error}"),
        "signed by key B16B01F136E325AF, which is none of those here"
    );
    let both = Keys::parse(&format!("{other}\n{KEY}")).unwrap();
    assert_eq!(both.ids().count(), 2);
    assert!(both.check(FILE, SIGNATURE).is_ok());
}

#[test]
fn what_is_no_key_is_named_by_its_line() {
    for (text, error) in [
        ("", TrustError::NoKeys),
        ("# nothing\nuntrusted comment: x\n", TrustError::NoKeys),
        (
            "\nRWSvJeM28QFr",
            TrustError::Line {
                line: 2,
                expected: "a public key of minisign's",
            },
        ),
    ] {
        assert_eq!(Keys::parse(text).unwrap_err(), error);
    }
    // A key of small order: everything is signed by it.
    let mut weak = Vec::from(*b"Ed");
    weak.extend([0; 8]);
    weak.push(1);
    weak.extend([0; 31]);
    let mut text = [0; 64];
    let text = <base64ct::Base64 as base64ct::Encoding>::encode(&weak, &mut text).unwrap();
    assert!(matches!(
        Keys::parse(text),
        Err(TrustError::Line { line: 1, .. })
    ));
    let many: String = (0..=keys::MAX_KEYS).map(|_| KEY).collect();
    assert_eq!(Keys::parse(&many).unwrap_err(), TrustError::TooManyKeys);
}

#[test]
fn what_is_no_signature_is_named_by_its_line() {
    for line in 1..=4 {
        let lines = SIGNATURE.lines().take(line - 1);
        let cut: Vec<&str> = lines.collect();
        let checked = keys().check(FILE, &cut.join("\n"));
        assert!(
            matches!(checked, Err(TrustError::Line { line: l, .. }) if l == line),
            "{line}: {checked:?}"
        );
    }
}

proptest! {
    #[test]
    fn nothing_else_is_good(changes in proptest::collection::vec((0..400_usize, 0..128_u8), 1..4)) {
        let mut bytes = SIGNATURE.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let text = String::from_utf8(bytes).unwrap();
        if let Ok(signed) = keys().check(FILE, &text) {
            // What is not signed: the first line, and how lines end.
            prop_assert_eq!(signed.trusted_comment.trim_end(), "version 1");
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,300}") {
        let _ = Keys::parse(&text);
        let _ = keys().check(FILE, &text);
    }
}
