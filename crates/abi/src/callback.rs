//! Where Xen enters a PV guest (`public/callback.h`; `VMASST_*`:
//! `public/xen.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `CALLBACKOP_register`
pub const CALLBACKOP_REGISTER: u64 = 0;
/// `CALLBACKOP_unregister`
pub const CALLBACKOP_UNREGISTER: u64 = 1;

/// `CALLBACKTYPE_event`
pub const CALLBACKTYPE_EVENT: u16 = 0;
/// `CALLBACKTYPE_failsafe`
pub const CALLBACKTYPE_FAILSAFE: u16 = 1;
/// `CALLBACKTYPE_syscall`
pub const CALLBACKTYPE_SYSCALL: u16 = 2;
/// `CALLBACKTYPE_nmi`
pub const CALLBACKTYPE_NMI: u16 = 4;
/// `CALLBACKTYPE_sysenter`
pub const CALLBACKTYPE_SYSENTER: u16 = 5;
/// `CALLBACKTYPE_syscall32`
pub const CALLBACKTYPE_SYSCALL32: u16 = 7;

/// `struct callback_register`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallbackRegister {
    /// `CALLBACKTYPE_*`
    pub kind: u16,
    /// Bit 0: events are masked on entry.
    pub flags: u16,
    /// Padding.
    pub pad: u32,
    /// Where.
    pub address: u64,
}

/// `struct callback_unregister`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallbackUnregister {
    /// `CALLBACKTYPE_*`
    pub kind: u16,
    /// Zero.
    pub unused: u16,
}

/// `VMASST_CMD_enable`
pub const VMASST_CMD_ENABLE: u64 = 0;
/// `VMASST_CMD_disable`
pub const VMASST_CMD_DISABLE: u64 = 1;
/// `VMASST_TYPE_pae_extended_cr3`
pub const VMASST_PAE_EXTENDED_CR3: u32 = 3;
/// `VMASST_TYPE_runstate_update_flag`
pub const VMASST_RUNSTATE_UPDATE_FLAG: u32 = 5;
/// `VMASST_TYPE_m2p_strict`
pub const VMASST_M2P_STRICT: u32 = 32;
