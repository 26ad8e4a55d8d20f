//! A ring of requests and responses (`public/io/ring.h`).
//!
//! The indices run freely; entry `i` is at `i` modulo the number of
//! entries, which is a power of two.

/// Offset of `req_prod`: requests that the frontend has put.
pub const REQ_PROD: u64 = 0;
/// Offset of `req_event`: the backend wants to be told of this request.
pub const REQ_EVENT: u64 = 4;
/// Offset of `rsp_prod`: responses that the backend has put.
pub const RSP_PROD: u64 = 8;
/// Offset of `rsp_event`: the frontend wants to be told of this response.
pub const RSP_EVENT: u64 = 12;
/// Offset of the first entry.
pub const ENTRIES: u64 = 64;
/// What both `*_event` are in a ring that is new (`SHARED_RING_INIT`).
pub const FIRST_EVENT: u32 = 1;

/// Entries of a ring of `bytes` (`__CONST_RING_SIZE`): as many as fit,
/// rounded down to a power of two.
#[must_use]
pub const fn entries(bytes: u64, entry: u64) -> u32 {
    let Some(room) = bytes.saturating_sub(ENTRIES).checked_div(entry) else {
        return 0;
    };
    match room {
        0 => 0,
        1..0x8000_0000 => 1 << room.ilog2(),
        _ => 0x8000_0000,
    }
}

const _: () = {
    assert!(entries(4096, 112) == 32);
    assert!(entries(2 * 4096, 112) == 64);
    assert!(entries(64, 112) == 0);
    assert!(entries(4096, 0) == 0);
};
