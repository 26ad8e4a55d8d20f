//! The console ring (`public/io/console.h`, `struct xencons_interface`).

/// Bytes of `in[]`, at offset 0: from the backend to the guest.
pub const IN_BYTES: u32 = 1024;
/// Offset of `out[]`: from the guest to the backend.
pub const OUT: u64 = 1024;
/// Bytes of `out[]`.
pub const OUT_BYTES: u32 = 2048;
/// Offset of `in_cons`, a free-running byte count that the guest writes.
pub const IN_CONS: u64 = 3072;
/// Offset of `in_prod`, that the backend writes.
pub const IN_PROD: u64 = 3076;
/// Offset of `out_cons`, that the backend writes.
pub const OUT_CONS: u64 = 3080;
/// Offset of `out_prod`, that the guest writes.
pub const OUT_PROD: u64 = 3084;

/// `CONSOLEIO_write` of `HYPERVISOR_console_io`.
pub const CONSOLEIO_WRITE: u64 = 0;
/// `CONSOLEIO_read` of `HYPERVISOR_console_io`.
pub const CONSOLEIO_READ: u64 = 1;
