//! The parser of the store's messages, with anything.

use kexen_abi::io::xs_wire::{MessageType, PAYLOAD_MAX};
use kexen_guest::xenstore::wire::{Assembler, encode, path_is_good, printable, strings};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    /// Whatever arrives, in whatever pieces, it never wants more than a
    /// message may have, and what it gives is as long as it says.
    #[test]
    fn any_bytes_in_any_pieces(pieces in vec(vec(any::<u8>(), 0..200), 0..40)) {
        let mut one = Assembler::default();
        for piece in pieces {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let Ok(wants) = one.wants() else { return Ok(()) };
                prop_assert!(wants <= PAYLOAD_MAX);
                let n = wants.min(rest.len());
                one.push(&rest[..n]).ok();
                rest = &rest[n..];
                if let Ok(Some(message)) = one.take() {
                    prop_assert_eq!(message.payload.len(), message.header.len as usize);
                    prop_assert!(message.payload.len() <= PAYLOAD_MAX);
                }
            }
        }
    }

    /// A message that was encoded comes back, wherever it is cut.
    #[test]
    fn what_is_encoded_comes_back(
        kind in 0..27_u32,
        id in any::<u32>(),
        tx in any::<u32>(),
        payload in vec(any::<u8>(), 0..=PAYLOAD_MAX),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(MessageType(kind), id, tx, &[&payload]).unwrap();
        let (a, b) = bytes.split_at(cut.index(bytes.len()));
        let mut one = Assembler::default();
        let mut given = None;
        for mut part in [a, b] {
            while !part.is_empty() {
                let n = one.wants().unwrap().min(part.len());
                one.push(&part[..n]).unwrap();
                part = &part[n..];
            }
            given = given.or(one.take().unwrap());
        }
        let message = given.unwrap();
        prop_assert_eq!((message.header.req_id, message.header.tx_id), (id, tx));
        prop_assert_eq!(message.payload, payload);
    }

    /// Too long a payload is no message.
    #[test]
    fn too_long_is_refused(extra in 1..5000_usize) {
        let payload = vec![0; PAYLOAD_MAX + extra];
        prop_assert!(encode(MessageType::WRITE, 1, 0, &[&payload]).is_none());
    }

    /// Strings never hold a zero, and together are no longer than the whole.
    #[test]
    fn strings_of_any_bytes(payload in vec(any::<u8>(), 0..500)) {
        let mut sum = 0;
        for string in strings(&payload) {
            prop_assert!(!string.contains(&0));
            sum += string.len();
        }
        prop_assert!(sum <= payload.len());
    }

    /// What people are shown is one line of bounded length.
    #[test]
    fn text_for_people(bytes in vec(any::<u8>(), 0..5000)) {
        let text = printable(&bytes);
        prop_assert!(text.len() <= 4 * 120 + 3);
        prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }

    /// A path that is taken has no byte that means something else.
    #[test]
    fn paths(path in ".{0,40}") {
        if path_is_good(&path) {
            prop_assert!(!path.is_empty() && !path.contains('\0') && !path.contains("//"));
        }
    }
}
