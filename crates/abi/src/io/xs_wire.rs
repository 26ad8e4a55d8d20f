//! The store's messages and its ring (`public/io/xs_wire.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `enum xsd_sockmsg_type`. An open set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct MessageType(pub u32);

macro_rules! types {
    ($($name:ident = $number:literal;)*) => {
        impl MessageType {
            $(#[doc = concat!("`XS_", stringify!($name), "`")] pub const $name: Self = Self($number);)*
            /// Xen's name for it, without `XS_`, if it has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

types! {
    CONTROL = 0;
    DIRECTORY = 1;
    READ = 2;
    GET_PERMS = 3;
    WATCH = 4;
    UNWATCH = 5;
    TRANSACTION_START = 6;
    TRANSACTION_END = 7;
    INTRODUCE = 8;
    RELEASE = 9;
    GET_DOMAIN_PATH = 10;
    WRITE = 11;
    MKDIR = 12;
    RM = 13;
    SET_PERMS = 14;
    WATCH_EVENT = 15;
    ERROR = 16;
    IS_DOMAIN_INTRODUCED = 17;
    RESUME = 18;
    SET_TARGET = 19;
    RESET_WATCHES = 21;
    DIRECTORY_PART = 22;
    GET_FEATURE = 23;
    SET_FEATURE = 24;
    GET_QUOTA = 25;
    SET_QUOTA = 26;
}

/// `struct xsd_sockmsg`: what each message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// What is asked, or answered.
    pub kind: MessageType,
    /// The answer has the request's.
    pub req_id: u32,
    /// The transaction, or 0.
    pub tx_id: u32,
    /// Bytes that follow.
    pub len: u32,
}

/// Bytes of [`Header`].
pub const HEADER_BYTES: usize = 16;
/// `XENSTORE_PAYLOAD_MAX`
pub const PAYLOAD_MAX: usize = 4096;
/// `XENSTORE_ABS_PATH_MAX`
pub const ABS_PATH_MAX: usize = 3072;
/// `XENSTORE_REL_PATH_MAX`
pub const REL_PATH_MAX: usize = 2048;

/// The words of `xsd_errors`: errors travel as text.
pub const ERRORS: [&str; 16] = [
    "EINVAL",
    "EACCES",
    "EEXIST",
    "EISDIR",
    "ENOENT",
    "ENOMEM",
    "ENOSPC",
    "EIO",
    "ENOTEMPTY",
    "ENOSYS",
    "EROFS",
    "EBUSY",
    "EAGAIN",
    "EISCONN",
    "E2BIG",
    "EPERM",
];

/// `XENSTORE_RING_SIZE`: bytes of each direction.
pub const RING_SIZE: u32 = 1024;
/// Offset of `req[]`: from the guest to the store.
pub const REQ: u64 = 0;
/// Offset of `rsp[]`: from the store to the guest.
pub const RSP: u64 = 1024;
/// Offset of `req_cons`, a free-running byte count that the store writes.
pub const REQ_CONS: u64 = 2048;
/// Offset of `req_prod`, that the guest writes.
pub const REQ_PROD: u64 = 2052;
/// Offset of `rsp_cons`, that the guest writes.
pub const RSP_CONS: u64 = 2056;
/// Offset of `rsp_prod`, that the store writes.
pub const RSP_PROD: u64 = 2060;
/// Offset of `server_features`: `SERVER_FEATURE_*`.
pub const SERVER_FEATURES: u64 = 2064;
/// Offset of `connection`.
pub const CONNECTION: u64 = 2068;
/// Offset of `error`: why the store has given the connection up.
pub const ERROR: u64 = 2072;

/// `XENSTORE_SERVER_FEATURE_RECONNECTION`
pub const SERVER_FEATURE_RECONNECTION: u32 = 1;
/// `XENSTORE_SERVER_FEATURE_ERROR`: there is an `error` field.
pub const SERVER_FEATURE_ERROR: u32 = 2;
/// `XENSTORE_CONNECTED`
pub const CONNECTED: u32 = 0;
/// `XENSTORE_RECONNECT`: the guest asks for a new beginning.
pub const RECONNECT: u32 = 1;

const _: () = {
    assert!(size_of::<Header>() == HEADER_BYTES);
    assert!(core::mem::offset_of!(Header, tx_id) == 8);
    assert!(core::mem::offset_of!(Header, len) == 12);
};
