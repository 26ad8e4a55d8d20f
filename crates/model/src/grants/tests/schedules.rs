//! Revocation against a backend that does not stop: every order.
//!
//! Before each step of either side the explorer may switch. What must hold
//! in all orders: the backend never faults; through a mapping it sees what
//! the granter had there, what it wrote itself, or zero, and never another
//! grant's data, what its stand-in held before, or the next kernel's memory;
//! and the next kernel's memory stays what that kernel wrote. A revocation
//! with one part left out must be found out.

use std::sync::atomic::Ordering;

use kexen_abi::PAGE_SHIFT;
use kexen_guest::{Fault, Machine};
use shuttle::sync::atomic::AtomicUsize;
use shuttle::thread;

use super::tools::*;
use crate::{Build, Config, Guest, Kind, Mapping, RevokeHow, Vcpu, Xen};

const GREF: u32 = 8;
const THIRD: u16 = 3;
/// What is in the granters' frames at first, and what the backend writes.
const SECRETS: [u64; 2] = [0xa1a1, 0xb1b1];
const WRITES: [u64; 2] = [0xa2a2, 0xb2b2];
/// What the next kernel keeps in the frame that was granted.
const NEXT: u64 = 0xc3c3;
/// What was in the stand-ins.
const OLD: u64 = 0xd4d4;

/// A backend's view of a granted frame.
enum View {
    Window(Mapping),
    Address(Vcpu, u64),
}

impl View {
    fn read(&self) -> Result<u64, Fault> {
        match self {
            Self::Window(mapping) => {
                let mut bytes = [0; 8];
                mapping.read(0, &mut bytes)?;
                Ok(u64::from_le_bytes(bytes))
            }
            Self::Address(vcpu, at) => vcpu.read64(*at),
        }
    }

    fn write(&self, value: u64) -> Result<(), Fault> {
        match self {
            Self::Window(mapping) => mapping.write(0, &value.to_le_bytes()),
            Self::Address(vcpu, at) => vcpu.write64(*at, value),
        }
    }

    /// A look at mapping `n`, and a judgement of what is seen.
    fn look(&self, n: usize) {
        let seen = self.read();
        let seen = seen.unwrap_or_else(|fault| panic!("the backend faulted: {fault}"));
        assert_ne!(seen, SECRETS[1 - n], "another domain's data");
        assert_ne!(seen, WRITES[1 - n], "another grant's data");
        assert_ne!(seen, NEXT, "the next kernel's memory was read");
        assert_ne!(seen, OLD, "what the stand-in held before");
        assert!([0, SECRETS[n], WRITES[n]].contains(&seen), "{seen:#x}");
    }

    fn put(&self, n: usize) {
        let done = self.write(WRITES[n]);
        done.unwrap_or_else(|fault| panic!("the backend faulted: {fault}"));
    }
}

/// Two granters, and one backend that has a frame of each mapped.
struct Scene {
    xen: Xen,
    granters: [Guest; 2],
    back: Guest,
    /// Of what the backend owns: stand-ins and what is held of them.
    stand_ins: [(u64, (u32, u64)); 2],
}

fn scene(how: RevokeHow) -> Scene {
    let xen = Xen::new(Config {
        frames: 64,
        revocation: true,
        ..Config::default()
    });
    let build = |id| {
        let guest = xen.domain(
            Kind::Pvh,
            Build {
                id,
                pages: 8,
                ..Build::default()
            },
        );
        xen.state().init_table(guest.index());
        guest
    };
    let (front, back, third) = (build(FRONT), build(BACK), build(THIRD));
    prepare(xen, [front, third], back, how)
}

fn prepare(xen: Xen, granters: [Guest; 2], back: Guest, how: RevokeHow) -> Scene {
    for (granter, secret) in granters.iter().zip(SECRETS) {
        granter.revoke_wrongly(how);
        granter.grant(GREF, BACK, 5, false);
        let frame = mfn(granter, 5);
        xen.state().set_word(frame, 0, secret);
    }
    let stand_ins = [6, 7].map(|pfn| {
        let frame = mfn(&back, pfn);
        xen.state().set_word(frame, 0, OLD);
        (frame, counts(&xen, frame))
    });
    Scene {
        xen,
        granters,
        back,
        stand_ins,
    }
}

impl Scene {
    /// The backend's persistent mappings, in the model's own way.
    fn windows(&self) -> [View; 2] {
        [(FRONT, 6), (THIRD, 7)].map(|(of, pfn)| {
            let stand_in = Some(frame_number(&self.back, pfn));
            let mapping = self.back.map_grant_revocably(of, GREF, stand_in);
            View::Window(mapping.expect("the map call"))
        })
    }

    /// The same, by hypercalls and through the backend's own addresses.
    fn addresses(&self) -> ([View; 2], [(u32, u64); 2]) {
        make_room(&self.back, 2);
        let handles = [(FRONT, 6), (THIRD, 7)].map(|(of, pfn)| {
            let at = address(&self.back, pfn - 6);
            let handle = self.back.map_revocable(of, GREF, at, Some(pfn));
            (handle.expect("the map call"), at)
        });
        let views = handles.map(|(_, at)| View::Address(self.back.vcpu(0), at));
        (views, handles)
    }

    /// From here on the explorer may switch before each step: a touch of
    /// one of its own atomics is where it does.
    fn explore(&self) {
        let point = AtomicUsize::new(0);
        self.xen.before_each_step(move || {
            point.fetch_add(1, Ordering::SeqCst);
        });
    }

    /// At the end of a granter: it revokes, and the next kernel uses the
    /// frame.
    fn granter(&self, n: usize) -> impl FnOnce() + use<> {
        let granter = self.granters[n].clone();
        let frame = mfn(&granter, 5);
        let address = 5 << PAGE_SHIFT;
        move || {
            granter.revoke(GREF).expect("the revocation");
            assert_eq!((granter.flags(GREF), granter.pin(GREF)), (0, 0));
            assert_eq!(counts(granter.xen(), frame).0, 1);
            // Whether it stays so is seen at the end.
            granter.vcpu(0).write64(address, NEXT).unwrap();
        }
    }

    /// When all is over: nobody holds anything.
    fn end(&self) {
        for granter in &self.granters {
            assert_eq!((granter.flags(GREF), granter.pin(GREF)), (0, 0));
            let frame = mfn(granter, 5);
            let kept = self.xen.state().word(frame, 0);
            assert_eq!(kept, NEXT, "the next kernel's memory was written");
        }
        for (frame, held) in self.stand_ins {
            assert_eq!(counts(&self.xen, frame), held, "a stand-in is not back");
        }
    }
}

/// One thread of the backend uses both mappings and ends with an unmap;
/// both granters revoke, each in its own time.
fn windows(how: RevokeHow) {
    let scene = scene(how);
    let views = scene.windows();
    let granters = [scene.granter(0), scene.granter(1)];
    scene.explore();
    let granters = granters.map(thread::spawn);
    views[0].put(0);
    views[1].look(1);
    views[1].put(1);
    views[0].look(0);
    for view in views {
        if let View::Window(mapping) = view {
            let undone = mapping.unmap();
            // A handle that was taken by force is gone: the test is about
            // what happens before.
            assert!(undone.is_ok() || how == RevokeHow::Unmap, "the unmap call");
        }
    }
    for granter in granters {
        granter.join().unwrap();
    }
    scene.end();
}

/// As many threads as there are parties.
fn crowd(how: RevokeHow) {
    let scene = scene(how);
    let mut threads = Vec::new();
    let views = scene.windows();
    let granters = [scene.granter(0), scene.granter(1)];
    scene.explore();
    for granter in granters {
        threads.push(thread::spawn(granter));
    }
    for (n, view) in views.into_iter().enumerate() {
        threads.push(thread::spawn(move || {
            for _ in 0..3 {
                view.look(n);
                view.put(n);
            }
            view.look(n);
            if let View::Window(mapping) = view {
                mapping.unmap().expect("the unmap call");
            }
        }));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    scene.end();
}

/// A backend that is a guest, with a TLB and tables of its own.
fn guests(kind: Kind, how: RevokeHow) {
    let xen = Xen::new(Config {
        frames: 3000,
        revocation: true,
        ..Config::default()
    });
    let small = |id| {
        let guest = xen.domain(
            Kind::Pvh,
            Build {
                id,
                pages: 8,
                ..Build::default()
            },
        );
        xen.state().init_table(guest.index());
        guest
    };
    let granters = [small(FRONT), small(THIRD)];
    let back = if kind == Kind::Pv {
        guest(&xen, kind, BACK)
    } else {
        small(BACK)
    };
    let scene = prepare(xen, granters, back, how);
    let (views, handles) = scene.addresses();
    // The translations are in the TLB when it begins.
    for (n, view) in views.iter().enumerate() {
        view.look(n);
        view.put(n);
    }
    let granters = [scene.granter(0), scene.granter(1)];
    scene.explore();
    let granters = thread::spawn(move || {
        for granter in granters {
            granter();
        }
    });
    views[0].put(0);
    views[1].look(1);
    views[0].look(0);
    for (handle, at) in handles {
        assert_eq!(scene.back.unmap(handle, at, 0), 0, "the unmap call");
    }
    granters.join().unwrap();
    scene.end();
}

/// Every schedule of a small scene.
fn all(scene: impl Fn() + Send + Sync + 'static) -> usize {
    let scheduler = shuttle::scheduler::DfsScheduler::new(None, false);
    shuttle::Runner::new(scheduler, shuttle::Config::default()).run(scene)
}

#[test]
fn no_order_of_steps_hurts_anybody() {
    let orders = all(|| windows(RevokeHow::Replace));
    assert!(orders > 10_000, "{orders} are too few to be all");
    println!("{orders} orders");
}

#[test]
fn nor_does_any_of_many_parties() {
    shuttle::check_random(|| crowd(RevokeHow::Replace), 3000);
    shuttle::check_pct(|| crowd(RevokeHow::Replace), 1000, 3);
}

#[test]
fn nor_with_a_guest_as_backend() {
    for kind in KINDS {
        let most = if kind == Kind::Pv { 150 } else { 2000 };
        shuttle::check_random(move || guests(kind, RevokeHow::Replace), most);
    }
}

#[test]
#[should_panic(expected = "the backend faulted")]
fn a_forced_unmap_is_a_fault() {
    all(|| windows(RevokeHow::Unmap));
}

#[test]
#[should_panic(expected = "another grant's data")]
fn a_shared_stand_in_is_a_leak() {
    all(|| windows(RevokeHow::ShareOne));
}

#[test]
#[should_panic(expected = "what the stand-in held before")]
fn a_stand_in_that_is_not_zeroed_is_a_leak() {
    all(|| windows(RevokeHow::KeepContents));
}

#[test]
#[should_panic(expected = "the next kernel's memory was")]
fn a_tlb_that_is_not_flushed_reaches_the_next_kernel() {
    shuttle::check_random(|| guests(Kind::Pv, RevokeHow::NoFlush), 200);
}

/// What Xen offers today: the granter can only wait or give up. It cannot
/// take the reference back while the backend keeps it.
#[test]
fn without_it_the_reference_stays_pinned() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 5, false);
    let mapping = t.back.map_grant(FRONT, GREF, true).unwrap();
    t.front.entry(GREF, 0, 0, 0);
    mapping.write(0, &NEXT.to_le_bytes()).unwrap();
    assert_eq!(t.front.vcpu(0).read64(5 << PAGE_SHIFT), Ok(NEXT));
    assert_eq!(t.front.pin(GREF), 1);
    mapping.unmap().unwrap();
    assert_eq!(t.front.pin(GREF), 0);
}

#[test]
fn a_mapping_is_no_more_than_was_asked_for() {
    let t = pair(Kind::Pvh, Kind::Pvh);
    t.front.grant(GREF, BACK, 5, false);
    let mapping = t.back.map_grant(FRONT, GREF, false).unwrap();
    let mut bytes = [0; 8];
    assert!(mapping.write(0, &bytes).is_err());
    for (offset, len) in [(4089, 8), (4096, 1), (u64::MAX, 8)] {
        assert!(mapping.read(offset, &mut bytes[..len]).is_err());
    }
    assert!(mapping.read(4088, &mut bytes).is_ok());
    // A hypercall has no windows to undo.
    assert_ne!(t.back.unmap(mapping.handle(), 1, 0), 0);
    mapping.unmap().unwrap();
    assert!(t.back.map_grant(FRONT, 9, false).is_err());
}
