//! The start of day, and the console's ring.

use kexen_guest::{
    console::Console,
    hvm::start::{MOST_PIECES, Start},
    pv,
};

use super::flat::Flat;
use crate::bytes::Bytes;

/// Bytes of memory that there are, at most.
const MEMORY: usize = 16 << 10;

/// A `hvm_start_info`, or (odd switches) the `boot_params` of an HVM guest.
pub fn hvm_start(data: &[u8]) {
    let mut input = Bytes::new(data);
    let (switches, address) = (input.u8(), input.u16());
    let address = if switches & 2 == 0 {
        u64::from(address) & !3
    } else {
        input.u64()
    };
    let mut memory = input.rest().to_vec();
    memory.resize(MEMORY, 0);
    let m = Flat::new(memory, &[]);
    let start = if switches & 1 == 0 {
        Start::read(&m, address, 0)
    } else {
        Start::from_boot_params(&m, address)
    };
    let mut start = match start {
        Ok(start) => start,
        Err(error) => return drop(error.to_string()),
    };
    let _dom0 = start.is_dom0();
    let _ram = start.ram();
    let _hole = start.hole();
    for page in [0, 1, 0x100, 1 << 20] {
        let before = start.memmap.len();
        start.leave_out(page);
        assert!(start.memmap.len() <= before.max(MOST_PIECES));
    }
}

/// A PV guest's `start_info`.
pub fn pv_start(data: &[u8]) {
    let mut input = Bytes::new(data);
    let virt_base = input.u64();
    let mut memory = input.rest().to_vec();
    memory.resize(4096, 0);
    let m = Flat::new(memory, &[]);
    let Ok(start) = pv::start::Start::read(&m, 0, virt_base) else {
        return;
    };
    let _dom0 = start.is_dom0();
    assert!(start.command_line().len() <= 3 * 1024);
    let _pages = start.boot_pages();
    let _module = start.module();
    let _frames = start.p2m_frames();
}

/// The console's ring with a backend that writes anything anywhere in it.
pub fn console(data: &[u8]) {
    let mut input = Bytes::new(data);
    let mut memory = vec![0; 4096];
    memory[3072..3088].copy_from_slice(&{
        let mut words = [0; 16];
        let given = input.take(16);
        words[..given.len()].copy_from_slice(given);
        words
    });
    let text = input.counted();
    let len = usize::from(input.u8());
    let m = Flat::new(memory, input.rest());
    let console = Console::Ring { page: 0, port: 1 };
    let _has = console.has_input(&m);
    let mut into = vec![0; len];
    assert!(console.read(&m, &mut into) <= len);
    // One line: each waits as long for a backend that takes nothing.
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or(text);
    console.write(&m, line);
    console.drain(&m);
    assert!(m.calls.get() < 500_000);
}
