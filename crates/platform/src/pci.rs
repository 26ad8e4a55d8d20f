//! The PCI devices that a device model emulates for an HVM guest: found, and
//! their BARs, capabilities and interrupt lines.
//!
//! Specification: PCI Local Bus 3.0; Xen's platform device (vendor 5853,
//! device 0001) has an I/O BAR and a memory BAR of 16 MiB which nothing backs:
//! page numbers that are the guest's to map shared info and grants at. Memory
//! shared with others: none, but the devices' own registers.

use spin::Mutex;

use crate::native::Ports;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// Buses that are looked at: a device model's i440FX or Q35 has no more.
const BUSES: u8 = 4;

/// Xen's platform device.
pub const PLATFORM: (u16, u16) = (0x5853, 0x0001);

const COMMAND: u8 = 0x04;
/// Class and revision.
const CLASS: u8 = 0x08;
/// The class of graphics cards.
const DISPLAY: u32 = 3;
const CAPABILITIES: u8 = 0x34;
const INTERRUPT: u8 = 0x3c;
/// `COMMAND`: I/O, memory, bus master; no interrupt by line.
const DECODE: u32 = 0b111;
const NO_LINE: u32 = 1 << 10;
/// The capability of message signalled interrupts.
const CAP_MSI: u8 = 5;
const MSI_ENABLE: u32 = 1 << 16;
const MSI_64: u32 = 1 << 23;
/// More capabilities than these are not followed.
const MAX_CAPABILITIES: usize = 48;

/// One vCPU at a time selects a register and reads it.
static SELECT: Mutex<()> = Mutex::new(());

/// A function of a device.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    ports: &'static dyn Ports,
    bus: u8,
    slot: u8,
    function: u8,
    /// Vendor and device.
    pub id: (u16, u16),
}

impl Function {
    const fn selector(self, register: u8) -> u32 {
        let place =
            ((self.bus as u32) << 16) | ((self.slot as u32) << 11) | ((self.function as u32) << 8);
        (1 << 31) | place | (register as u32 & 0xfc)
    }

    /// Reads a register, 4-byte aligned.
    #[must_use]
    pub fn read(self, register: u8) -> u32 {
        let _one_at_a_time = SELECT.lock();
        self.ports.port_out(ADDRESS, self.selector(register));
        self.ports.port_in(DATA)
    }

    /// Writes a register, 4-byte aligned.
    pub fn write(self, register: u8, value: u32) {
        let _one_at_a_time = SELECT.lock();
        self.ports.port_out(ADDRESS, self.selector(register));
        self.ports.port_out(DATA, value);
    }

    /// The address of a memory BAR, or the port of an I/O one; 0 if it has
    /// none.
    #[must_use]
    pub fn bar(self, number: u8) -> u64 {
        let low = self.read(0x10 + 4 * number);
        if low & 1 != 0 {
            return u64::from(low & !3);
        }
        let high = if low & 6 == 4 {
            self.read(0x14 + 4 * number)
        } else {
            0
        };
        (u64::from(high) << 32) | u64::from(low & !15)
    }

    /// Whether it is a graphics card.
    #[must_use]
    pub fn is_display(self) -> bool {
        self.read(CLASS) >> 24 == DISPLAY
    }

    /// Bytes of a memory BAR below 4 GiB. The device does not decode it
    /// meanwhile.
    #[must_use]
    pub fn bar_bytes(self, number: u8) -> u64 {
        let register = 0x10 + 4 * number;
        let (command, was) = (self.read(COMMAND), self.read(register));
        self.write(COMMAND, command & !DECODE & 0xffff);
        self.write(register, u32::MAX);
        let mask = self.read(register) & !15;
        self.write(register, was);
        self.write(COMMAND, command & 0xffff);
        u64::from((!mask).wrapping_add(1))
    }

    /// Has the device decode its BARs and reach memory.
    pub fn enable(self) {
        let command = self.read(COMMAND) & 0xffff;
        self.write(COMMAND, (command | DECODE) & !NO_LINE);
    }

    /// The line and pin of its interrupt, as the firmware routed it.
    #[must_use]
    pub fn line(self) -> (u8, u8) {
        let [line, pin, ..] = self.read(INTERRUPT).to_le_bytes();
        (line, pin)
    }

    /// The GSI of its line, by the wiring of Xen's emulated chipset
    /// (`hvm_pci_intx_gsi` in `arch/x86/include/asm/hvm/irq.h`).
    #[must_use]
    pub fn gsi(self) -> Option<u32> {
        let (_, pin) = self.line();
        let pin = u32::from(pin.checked_sub(1)?);
        let slot = u32::from(self.slot);
        Some((((slot << 2) + (slot >> 3) + pin) & 31) + 16)
    }

    fn capability(self, id: u8) -> Option<u8> {
        let [mut at, ..] = self.read(CAPABILITIES).to_le_bytes();
        for _ in 0..MAX_CAPABILITIES {
            if at < 0x40 {
                return None;
            }
            let [found, next, ..] = self.read(at).to_le_bytes();
            if found == id {
                return Some(at);
            }
            at = next;
        }
        None
    }

    /// Whether it can signal by messages.
    #[must_use]
    pub fn has_msi(self) -> bool {
        self.capability(CAP_MSI).is_some()
    }

    /// Has the device signal by this message: address (low, high) and data.
    /// Whether it can.
    #[must_use]
    pub fn set_msi(self, message: (u32, u32, u32)) -> bool {
        let Some(at) = self.capability(CAP_MSI) else {
            return false;
        };
        let control = self.read(at);
        if control & MSI_64 == 0 && message.1 != 0 {
            return false;
        }
        self.write(at + 4, message.0);
        if control & MSI_64 == 0 {
            self.write(at + 8, message.2);
        } else {
            self.write(at + 8, message.1);
            self.write(at + 12, message.2);
        }
        self.write(at, control | MSI_ENABLE);
        true
    }

    /// Has the device signal by messages no more.
    pub fn no_msi(self) {
        if let Some(at) = self.capability(CAP_MSI) {
            let control = self.read(at);
            self.write(at, control & !MSI_ENABLE);
        }
    }
}

/// All functions that there are.
pub fn functions(ports: &'static dyn Ports) -> impl Iterator<Item = Function> {
    (0..BUSES)
        .flat_map(|bus| (0..32).map(move |slot| (bus, slot)))
        .flat_map(|(bus, slot)| (0..8).map(move |function| (bus, slot, function)))
        .filter_map(move |(bus, slot, function)| {
            let mut found = Function {
                ports,
                bus,
                slot,
                function,
                id: (0, 0),
            };
            let word = found.read(0);
            if word & 0xffff == 0xffff {
                return None;
            }
            let [a, b, c, d] = word.to_le_bytes();
            found.id = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            Some(found)
        })
}

/// The page numbers of the platform device's memory, which nothing backs:
/// the first, and how many.
#[must_use]
pub fn platform_pages(ports: &'static dyn Ports) -> Option<(u64, u64)> {
    let device = functions(ports).find(|function| function.id == PLATFORM)?;
    let start = device.bar(1);
    (start != 0).then(|| (start >> 12, device.bar_bytes(1) >> 12))
}
