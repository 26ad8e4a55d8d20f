//! Devices and their states.

use kexen_abi::io::xs_wire::MessageType;
use kexen_guest::xenbus::{
    Closed, Device, DeviceError, Problem, XenbusState, classes, close, numbers, reset,
};

use super::world::{BACK, FRONT, World};
use kexen_model::dom0::BlockFault as Fault;

fn open(world: &World) -> Result<Device, DeviceError> {
    let (mut store, mut time) = (world.store(), world.time(500));
    Device::open(&mut store.on(&world.m, &mut time), "vbd", 51712)
}

fn set(world: &World, end: &str, name: &str, value: &str) {
    world.peers().daemon.set(&format!("{end}/{name}"), value);
}

fn get(world: &World, end: &str, name: &str) -> Option<String> {
    world.peers().daemon.get(&format!("{end}/{name}"))
}

/// What the frontend's state was set to, in order.
fn states(world: &World) -> usize {
    let peers = world.peers();
    let state = (MessageType::WRITE, "device/vbd/51712/state".to_owned());
    peers
        .daemon
        .asked
        .iter()
        .filter(|one| **one == state)
        .count()
}

#[test]
fn devices_are_found() {
    let world = World::new();
    set(
        &world,
        "/local/domain/1/device/vbd",
        "notanumber/state",
        "1",
    );
    set(&world, "/local/domain/1/device/vbd", "051712/state", "1");
    let (mut store, mut time) = (world.store(), world.time(500));
    let mut s = store.on(&world.m, &mut time);
    assert_eq!(classes(&mut s).unwrap(), ["vbd"]);
    assert_eq!(numbers(&mut s, "vbd").unwrap(), [51712]);
    assert!(numbers(&mut s, "vif").unwrap().is_empty());
    let device = Device::open(&mut s, "vbd", 51712).unwrap();
    assert_eq!(device.backend(), BACK);
    assert_eq!(device.backend_id(), 0);
    assert_eq!(
        device.backend_state(&mut s).unwrap(),
        Some(XenbusState::INIT_WAIT)
    );
}

#[test]
fn a_backend_that_is_not_what_it_says_is_refused() {
    for (end, name, value) in [
        (FRONT, "backend-id", "7"),
        (FRONT, "backend-id", "65536"),
        (FRONT, "backend-id", "0 "),
        (FRONT, "backend", "/local/domain/0/backend/vbd/2/51712"),
        (FRONT, "backend", "/local/domain/0/backend/vbd/1/51713"),
        (FRONT, "backend", "/local/domain/0/backend//1/51712"),
        (FRONT, "backend", "/local/domain/0/backend/a/b/1/51712"),
        (FRONT, "backend", "/local/domain/00/backend/vbd/1/51712"),
        (FRONT, "backend", "device/vbd/51712"),
        (FRONT, "backend", ""),
        (BACK, "frontend", "/local/domain/2/device/vbd/51712"),
    ] {
        let world = World::new();
        assert!(open(&world).is_ok());
        set(&world, end, name, value);
        let error = open(&world).unwrap_err().to_string();
        assert!(
            error.contains(&format!("/{}", name.trim_end_matches("-id")))
                && error.starts_with("device/vbd/51712"),
            "{error}"
        );
    }
    // qemu's are of a class of their own.
    let world = World::new();
    set(
        &world,
        FRONT,
        "backend",
        "/local/domain/0/backend/qdisk/1/51712",
    );
    set(
        &world,
        "/local/domain/0/backend/qdisk/1/51712",
        "frontend",
        FRONT,
    );
    assert!(open(&world).is_ok());
}

/// Somebody's frontend is connected.
fn connected() -> World {
    let world = World::new();
    let m = &world.m;
    let page = world.ring_page();
    assert!(world.grants.grant_access(m, 20, 0, page.frame).unwrap());
    let port = kexen_guest::events::alloc_unbound(m, 0).unwrap();
    set(&world, FRONT, "ring-ref", "20");
    set(&world, FRONT, "event-channel", &port.to_string());
    set(&world, FRONT, "protocol", "x86_64-abi");
    set(&world, FRONT, "feature-persistent", "1");
    set(&world, FRONT, "state", "3");
    let mut peers = world.peers();
    let super::world::Peers { daemon, backend } = &mut *peers;
    backend.turn(daemon);
    drop(peers);
    assert_eq!(get(&world, BACK, "state").as_deref(), Some("4"));
    set(&world, FRONT, "state", "4");
    world
}

fn left_clean(world: &World) {
    assert_eq!(get(world, FRONT, "state").as_deref(), Some("1"));
    assert_eq!(get(world, BACK, "state").as_deref(), Some("2"));
    for name in [
        "ring-ref",
        "event-channel",
        "protocol",
        "feature-persistent",
    ] {
        assert_eq!(get(world, FRONT, name), None, "{name}");
    }
    for name in ["backend", "backend-id", "virtual-device"] {
        assert!(get(world, FRONT, name).is_some(), "{name}");
    }
    let end = world.grants.try_end(&world.m, 20).unwrap();
    assert_eq!(end, kexen_guest::grants::End::Ended);
    assert!(world.peers().daemon.watches.is_empty());
}

#[test]
fn a_frontend_is_closed_step_by_step() {
    for fault in [None, Some(Fault::Late(7))] {
        let world = connected();
        world.peers().backend.fault = fault;
        let device = open(&world).unwrap();
        let (mut store, mut time) = (world.store(), world.time(500));
        let mut s = store.on(&world.m, &mut time);
        assert_eq!(close(&mut s, &device).unwrap(), Closed::Ready);
        assert_eq!(states(&world), 3);
        left_clean(&world);
    }
}

#[test]
fn what_an_earlier_kernel_left_is_reset_from_where_it_is() {
    for (front, back, writes) in [
        ("4", "4", 3),
        ("3", "4", 3),
        ("5", "5", 2),
        ("4", "5", 2),
        ("6", "5", 1),
        ("6", "6", 1),
        ("4", "6", 1),
        ("4", "2", 3),
        ("1", "2", 0),
    ] {
        let world = connected();
        if back != "4" {
            // The backend has let go, or has not begun.
            let mut peers = world.peers();
            let super::world::Peers { daemon, backend } = &mut *peers;
            daemon.set(&format!("{FRONT}/state"), "6");
            backend.turn(daemon);
        }
        set(&world, FRONT, "state", front);
        set(&world, BACK, "state", back);
        let device = open(&world).unwrap();
        let (mut store, mut time) = (world.store(), world.time(500));
        let mut s = store.on(&world.m, &mut time);
        assert_eq!(
            reset(&mut s, &device).unwrap(),
            Closed::Ready,
            "{front} {back}"
        );
        assert_eq!(states(&world), writes, "{front} {back}");
        left_clean(&world);
    }
}

#[test]
fn a_backend_that_stays_is_named() {
    let world = connected();
    world.peers().backend.fault = Some(Fault::Still);
    let device = open(&world).unwrap();
    let (mut store, mut time) = (world.store(), world.time(100));
    let error = close(&mut store.on(&world.m, &mut time), &device).unwrap_err();
    assert_eq!(
        error.to_string(),
        "device/vbd/51712: its backend in domain 0 is Connected (4), \
         and did not come in time to Closing (5) or Closed (6)"
    );
    // Its watch is ended all the same.
    world.peers().daemon.turn();
    assert!(world.peers().daemon.watches.is_empty());
    // It comes to it, and the steps can be taken again.
    world.peers().backend.fault = None;
    let mut time = world.time(500);
    let mut s = store.on(&world.m, &mut time);
    assert_eq!(reset(&mut s, &device).unwrap(), Closed::Ready);
    s.finish().unwrap();
    left_clean(&world);
}

#[test]
fn a_backend_that_hops_about_is_given_up() {
    let world = connected();
    let device = open(&world).unwrap();
    world.peers().backend.fault = Some(Fault::Goes(7));
    let (mut store, mut time) = (world.store(), world.time(100));
    let error = close(&mut store.on(&world.m, &mut time), &device).unwrap_err();
    assert!(matches!(
        error.problem,
        Problem::NotInTime {
            state: Some(XenbusState::RECONFIGURING),
            backend_id: 0,
            ..
        }
    ));
}

#[test]
fn a_backend_that_vanishes_is_closed() {
    let world = connected();
    world.peers().backend.fault = Some(Fault::Vanishes);
    let device = open(&world).unwrap();
    let (mut store, mut time) = (world.store(), world.time(100));
    let mut s = store.on(&world.m, &mut time);
    assert_eq!(close(&mut s, &device).unwrap(), Closed::Gone);
    assert_eq!(reset(&mut s, &device).unwrap(), Closed::Gone);
    assert_eq!(get(&world, FRONT, "ring-ref"), None);
}

#[test]
fn what_the_toolstack_has_removed_is_not_made_again() {
    let world = connected();
    let device = open(&world).unwrap();
    world.peers().daemon.remove(FRONT);
    let (mut store, mut time) = (world.store(), world.time(100));
    let mut s = store.on(&world.m, &mut time);
    let error = device.switch_state(&mut s, XenbusState::CLOSING, &[]);
    assert_eq!(error.unwrap_err().problem, Problem::Removed);
    assert_eq!(close(&mut s, &device).unwrap(), Closed::Gone);
    assert_eq!(get(&world, FRONT, "state"), None);
}

#[test]
fn a_state_that_is_no_number_is_an_error() {
    let world = connected();
    let device = open(&world).unwrap();
    set(&world, BACK, "state", "many");
    let (mut store, mut time) = (world.store(), world.time(100));
    let error = close(&mut store.on(&world.m, &mut time), &device).unwrap_err();
    assert!(
        error.to_string().ends_with("the value cannot be \"many\""),
        "{error}"
    );
}
