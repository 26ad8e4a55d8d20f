//! Hypercall numbers (`public/xen.h`, `__HYPERVISOR_*`).

/// A hypercall number. An open set: Xen may know more than are named here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Hypercall(pub u32);

macro_rules! hypercalls {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Hypercall {
            $(#[doc = concat!("`", $text, "`")] pub const $name: Self = Self($number);)*
            /// Xen's name of the call, or `"hypercall"` for an unnamed one.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "hypercall",
                }
            }
        }
    };
}

hypercalls! {
    SET_TRAP_TABLE = 0, "set_trap_table";
    MMU_UPDATE = 1, "mmu_update";
    SET_GDT = 2, "set_gdt";
    SET_CALLBACKS = 4, "set_callbacks";
    UPDATE_DESCRIPTOR = 10, "update_descriptor";
    MEMORY_OP = 12, "memory_op";
    MULTICALL = 13, "multicall";
    UPDATE_VA_MAPPING = 14, "update_va_mapping";
    SET_TIMER_OP = 15, "set_timer_op";
    XEN_VERSION = 17, "xen_version";
    CONSOLE_IO = 18, "console_io";
    GRANT_TABLE_OP = 20, "grant_table_op";
    VM_ASSIST = 21, "vm_assist";
    VCPU_OP = 24, "vcpu_op";
    MMUEXT_OP = 26, "mmuext_op";
    SCHED_OP = 29, "sched_op";
    CALLBACK_OP = 30, "callback_op";
    EVENT_CHANNEL_OP = 32, "event_channel_op";
    PHYSDEV_OP = 33, "physdev_op";
    HVM_OP = 34, "hvm_op";
}

/// One more than the largest number that has a slot in a hypercall page.
pub const HYPERCALL_COUNT: usize = 64;
