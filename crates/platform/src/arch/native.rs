//! The real machine as the rest of this crate sees it.

use kexen_abi::hypercall::Hypercall;
use kexen_handoff::Released;

use super::{Xen, heap, io, jump, machine};
use crate::{
    native::{Entry, Native, Ports, VcpuError, VcpuMain},
    vcpus,
};

impl Ports for Xen {
    fn port_in(&self, port: u16) -> u32 {
        io::read32(port)
    }

    fn port_out(&self, port: u16, value: u32) {
        io::write32(port, value);
    }
}

impl Native for Xen {
    const IMAGE_ALIGN: u64 = machine::IMAGE_ALIGN;

    fn is_pv(&self) -> bool {
        self.is_pv()
    }

    fn scratch(&self) -> u64 {
        machine::scratch()
    }

    fn image(&self) -> (u64, u64) {
        machine::physical_image()
    }

    fn image_offset(&self) -> u64 {
        machine::image_offset()
    }

    fn root_table(&self) -> u64 {
        machine::boot_l4()
    }

    fn move_image(&self, to: u64) -> bool {
        machine::move_image(to)
    }

    fn give_to_heap(&self, address: u64, len: u64) -> bool {
        self.add_to_heap(address, len)
    }

    fn cut_heap(&self, address: u64, len: u64, spare: u64) -> u64 {
        self.cut(address, len, spare)
    }

    fn lengthen_heap(&self, address: u64, len: u64, new: u64) -> bool {
        self.lengthen(address, len, new)
    }

    fn heap_free() -> u64 {
        heap::free()
    }

    fn hypercall_stubs(&self, into: &mut [u8; 4096]) {
        machine::copy_of_hypercall_page(into);
    }

    fn trampoline(&self, entry: Entry) -> &'static [u8] {
        match entry {
            Entry::Pv => jump::pv_code(),
            Entry::Pvh => jump::pvh_code(),
            Entry::Linux => jump::linux_code(),
        }
    }

    fn jump(&self, released: Released) -> ! {
        released.jump(jump::run)
    }

    fn debug_port(&self, byte: u8) {
        machine::debug_port(byte);
    }

    fn start_vcpu(
        &'static self,
        number: u32,
        root: Option<u64>,
        main: VcpuMain<Self>,
    ) -> Result<(), VcpuError> {
        match root {
            Some(root) => vcpus::start_pv(self, number, root, main),
            None => vcpus::start(self, number, main),
        }
    }

    fn park_vcpus(&self) -> Result<(), VcpuError> {
        vcpus::park(self)
    }

    fn unpark_vcpus(&self) {
        vcpus::unpark(self);
    }

    fn init_vcpu(&self, number: u32) -> bool {
        vcpus::init(self, number)
    }

    fn calls(&self) -> impl Iterator<Item = (Hypercall, u32)> {
        self.counted_calls()
    }

    fn written(&self) -> u64 {
        self.bytes_written()
    }

    fn zeroed(&self) -> u64 {
        self.bytes_zeroed()
    }

    fn count_written(&self, bytes: u64) {
        self.add_written(bytes);
    }
}
