//! Random numbers in every field of the calls on events, vCPUs, PIRQs and a
//! domain's life: no panic, no call that does not end, and after a reset no
//! page that events still hold.

use kexen_abi::hypercall::Hypercall;
use kexen_guest::{Arg, Machine};
use kexen_model::{Build, Config, Guest, Kind, PvImage, Version, Xen};

/// A generator of numbers, the same ones each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Small numbers, limits, addresses, and anything.
    fn field(&mut self) -> u32 {
        let any = u32::try_from(self.next() >> 32).unwrap_or(0);
        match any % 8 {
            0 => 0,
            1..=3 => any >> 28,
            4 => 0x7ff0,
            5 => u32::MAX - (any >> 28),
            6 => (any >> 20) & !7,
            _ => any,
        }
    }
}

fn guest(version: Version, kind: Kind) -> Guest {
    let xen = Xen::new(Config {
        version,
        ..Config::default()
    });
    let build = Build {
        vcpus: 3,
        ..Build::default()
    };
    if kind == Kind::Pv {
        xen.pv_guest(build, PvImage::default())
    } else {
        xen.domain(kind, build)
    }
}

#[test]
fn random_calls() {
    let calls = [
        Hypercall::EVENT_CHANNEL_OP,
        Hypercall::EVENT_CHANNEL_OP,
        Hypercall::VCPU_OP,
        Hypercall::PHYSDEV_OP,
        Hypercall::HVM_OP,
        Hypercall::XEN_VERSION,
        Hypercall::CALLBACK_OP,
        Hypercall::VM_ASSIST,
        Hypercall::SET_TIMER_OP,
        Hypercall::SET_CALLBACKS,
        Hypercall::SET_TRAP_TABLE,
        Hypercall::SCHED_OP,
        Hypercall::CONSOLE_IO,
    ];
    for (seed, version) in [Version::Xen4_17, Version::Xen4_20].into_iter().enumerate() {
        for kind in [Kind::Pv, Kind::Pvh, Kind::Hvm] {
            let mut guest = guest(version, kind);
            let mut succeeded = 0;
            let mut numbers = Numbers(0x9e37_79b9 + u64::try_from(seed).unwrap());
            for _ in 0..20_000 {
                let m = guest.vcpu(0);
                let call = calls[usize::try_from(numbers.next() % 13).unwrap()];
                let mut bytes = [0; 128];
                for word in bytes.chunks_exact_mut(4) {
                    word.copy_from_slice(&numbers.field().to_le_bytes());
                }
                let command = Arg::Value(u64::from(numbers.field() % 36));
                let value = Arg::Value(u64::from(numbers.field()));
                let mut args = match (call, numbers.next() % 4) {
                    (Hypercall::VCPU_OP, 0) => [command, Arg::Value(0), value],
                    (Hypercall::VCPU_OP, n) => [command, Arg::Value(n % 3), Arg::InOut(&mut bytes)],
                    (_, 0) => [command, value, Arg::Value(0)],
                    _ => [command, Arg::InOut(&mut bytes), Arg::Value(0)],
                };
                succeeded += u32::from(m.hypercall(call, &mut args) >= 0);
                match numbers.next() % 16 {
                    0 => guest.xen_schedules(usize::try_from(numbers.next() % 3).unwrap()),
                    1 => guest.time_passes(numbers.next() >> 30),
                    2 => guest.pirq_fires(numbers.field()),
                    3 => drop(guest.peer_binds(numbers.field(), numbers.field())),
                    4 => drop(guest.peer_notifies(numbers.field())),
                    5 => drop(guest.gsi_fires(numbers.field())),
                    6 => m.send_init(usize::try_from(numbers.next() % 4).unwrap(), true),
                    _ => {}
                }
                // One that has ended itself is resumed, or made anew.
                guest.resume();
                if guest.crashed().is_some() {
                    guest = self::guest(version, kind);
                }
            }
            // Not all of it was refused.
            assert!(succeeded > 1000, "{succeeded}");
            let m = guest.vcpu(0);
            let mut own = 0x7ff0_u16.to_le_bytes();
            let mut args = [Arg::Value(10), Arg::InOut(&mut own)];
            assert_eq!(m.hypercall(Hypercall::EVENT_CHANNEL_OP, &mut args), 0);
            let none: Vec<u32> = (0..64).filter(|port| guest.peer_notifies(*port)).collect();
            assert_eq!(none, []);
        }
    }
}
