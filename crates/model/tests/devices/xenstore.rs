//! The store's client, with an honest xenstored and with others.

use kexen_abi::io::xs_wire::{
    ERROR, MessageType, REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD,
};
use kexen_guest::xenstore::wire::encode;
use kexen_guest::xenstore::{Ask, StoreError, Why, if_present};
use kexen_model::Machine;

use super::world::{STORE_PAGE, World};
use kexen_model::dom0::StoreFault as Fault;

fn read_domid(world: &World) -> Result<u16, StoreError> {
    let mut time = world.time(500);
    world.store().on(&world.m, &mut time).read_number("domid")
}

#[test]
fn entries_are_written_read_listed_and_removed() {
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(500));
    let mut s = store.on(&world.m, &mut time);
    assert_eq!(s.read_number::<u16>("domid").unwrap(), 1);
    s.write("data/a", b"one").unwrap();
    s.mkdir("data/b").unwrap();
    assert_eq!(s.read("data/a").unwrap(), b"one");
    assert_eq!(s.read_text("data/b").unwrap(), "");
    assert_eq!(s.directory("data").unwrap(), ["a", "b"]);
    s.rm("data").unwrap();
    assert_eq!(if_present(s.read("data/a")).unwrap(), None);
    let error = s.write("/local/domain/0/a", b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "xenstore: write /local/domain/0/a: this domain may not do that (EACCES)"
    );
    s.finish().unwrap();
}

#[test]
fn several_requests_take_the_time_of_one() {
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(5000));
    let mut s = store.on(&world.m, &mut time);
    s.watch("data", "x").unwrap();
    let long = vec![b'x'; 900];
    let asks = [
        Ask::Write("data/a", b"1"),
        Ask::Read("data/a"),
        Ask::Read("data/none"),
        // With this one they are more than the ring holds.
        Ask::Write("data/long", &long),
        Ask::Read("data/long"),
        Ask::Write("/local/domain/0/a", b""),
        Ask::Remove("data/a"),
        Ask::Read("data/a"),
    ];
    let before = world.turned.get();
    let answers = s.together(&asks).unwrap();
    let together = world.turned.get() - before;
    for n in [0, 3, 6] {
        assert_eq!(answers[n].as_deref(), Ok(&[][..]), "{n}");
    }
    assert_eq!(answers[1].as_deref(), Ok(&b"1"[..]));
    assert_eq!(answers[4].as_deref(), Ok(&long[..]));
    assert!(answers[2].as_ref().unwrap_err().is_missing());
    assert!(answers[7].as_ref().unwrap_err().is_missing());
    assert_eq!(
        answers[5].as_ref().unwrap_err().to_string(),
        "xenstore: write /local/domain/0/a: this domain may not do that (EACCES)"
    );
    // What came meanwhile of a watch is there.
    assert!(s.event("x").unwrap().is_some());
    let few = [Ask::Read("domid"); 8];
    let before = world.turned.get();
    s.together(&few).unwrap();
    let eight = world.turned.get() - before;
    s.read("domid").unwrap();
    let one = world.turned.get() - before - eight;
    assert!(
        eight < 2 * one.max(2) && together < 16,
        "{eight}, {one}, {together}"
    );
    assert_eq!(s.together(&[]), Ok(Vec::new()));
    let bad = [Ask::Read("domid"), Ask::Read("a//b")];
    assert_eq!(s.together(&bad).unwrap_err().why, Why::Path);
    s.finish().unwrap();
}

/// In a transaction too; and a store that says nothing is waited for no longer
/// than there is time.
#[test]
fn several_requests_are_part_of_a_transaction_and_have_an_end() {
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(500));
    let mut s = store.on(&world.m, &mut time);
    let failed = s.transaction(|t| {
        let asks = [Ask::Write("data/a", b"1"), Ask::Read("data/none")];
        let answers = t.together(&asks)?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    });
    assert!(failed.unwrap_err().is_missing());
    assert!(s.read("data/a").unwrap_err().is_missing());
    world.peers().daemon.fault = Some(Fault::Silent);
    let late = s.together(&[Ask::Read("domid"), Ask::Read("data")]);
    assert_eq!(late.unwrap_err().why, Why::TimeOver);
}

#[test]
fn values_longer_than_the_ring_go_in_parts() {
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(500));
    let mut s = store.on(&world.m, &mut time);
    let value: Vec<u8> = (0..4000)
        .map(|n| b'a' + u8::try_from(n % 26).unwrap())
        .collect();
    s.write("data/long", &value).unwrap();
    assert_eq!(s.read("data/long").unwrap(), value);
    let error = s.write("data/long", &[0; 4096]).unwrap_err();
    assert_eq!(error.why, Why::RequestTooLong);
    assert_eq!(s.read("data/long").unwrap(), value);
}

#[test]
fn values_are_checked_for_what_they_have_to_be() {
    let world = World::new();
    world.peers().daemon.set("/local/domain/1/n", "65536");
    world.peers().daemon.set("/local/domain/1/t", "a\nb");
    let (mut store, mut time) = (world.store(), world.time(500));
    let mut s = store.on(&world.m, &mut time);
    assert_eq!(s.read_number::<u32>("n").unwrap(), 65536);
    let error = s.read_number::<u16>("n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "xenstore: read n: the value cannot be \"65536\""
    );
    assert_eq!(
        s.read_text("t").unwrap_err().why,
        Why::Value("a\\nb".into())
    );
    for bad in ["", "+1", "-1", "1 ", "0x1", "99999999999999999999"] {
        s.write("n", bad.as_bytes()).unwrap();
        assert!(s.read_number::<u64>("n").is_err(), "{bad}");
    }
    assert_eq!(s.read("a//b").unwrap_err().why, Why::Path);
}

#[test]
fn a_transaction_is_all_or_nothing_and_tried_again() {
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(5000));
    let mut s = store.on(&world.m, &mut time);
    let mut tries = 0;
    world.peers().daemon.fault = Some(Fault::Disturbed(3));
    s.transaction(|t| {
        tries += 1;
        t.write("data/a", b"1")?;
        t.write("data/b", b"2")
    })
    .unwrap();
    assert_eq!(tries, 4);
    assert_eq!(s.directory("data").unwrap(), ["a", "b"]);
    let failed = s.transaction(|t| {
        t.write("data/a", b"3")?;
        t.read("data/none")
    });
    assert!(failed.unwrap_err().is_missing());
    assert_eq!(s.read("data/a").unwrap(), b"1");
    assert_eq!(world.peers().daemon.open(), 0);
    world.peers().daemon.fault = Some(Fault::Disturbed(1000));
    let error = s.transaction(|t| t.write("data/a", b"4")).unwrap_err();
    assert_eq!(error.why, Why::Disturbed(16));
}

#[test]
fn watches_tell_of_what_changes() {
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(500));
    let mut s = store.on(&world.m, &mut time);
    s.watch("data", "x").unwrap();
    assert_eq!(s.wait_event("x").unwrap().path, "data");
    assert_eq!(s.event("x").unwrap(), None);
    world.peers().daemon.set("/local/domain/1/data/a", "1");
    assert_eq!(s.wait_event("x").unwrap().path, "data/a");
    s.unwatch("data", "x").unwrap();
    world.peers().daemon.set("/local/domain/1/data/a", "2");
    assert_eq!(s.wait_event("x").unwrap_err().why, Why::TimeOver);
    assert!(s.watch("data", "two words").is_err());
    // No more than the guest keeps count of.
    let mut time = world.time(5000);
    let mut s = store.on(&world.m, &mut time);
    for n in 0..32 {
        s.watch("data", &format!("{n}")).unwrap();
    }
    assert_eq!(s.watch("data", "one-more").unwrap_err().why, Why::Watches);
    s.reset_watches().unwrap();
    assert!(world.peers().daemon.watches.is_empty());
}

#[test]
fn what_the_last_kernel_left_unread_is_thrown_away() {
    // Whole answers; half of one, the rest of which it had read; both.
    let whole = encode(MessageType::READ, 17, 0, &[b"51712"]).unwrap();
    for left in [
        whole.clone(),
        whole[9..].to_vec(),
        [&whole[18..], &whole].concat(),
    ] {
        let world = World::new();
        world.peers().daemon.send_bytes(&left);
        world.peers().daemon.event("device", "theirs");
        world.peers().daemon.turn();
        assert_eq!(read_domid(&world).unwrap(), 1);
    }
}

#[test]
fn indices_may_stand_anywhere() {
    for start in [0, 1000, u32::MAX - 10] {
        let world = World::new();
        for at in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
            world.peers().daemon.set_word(at, start);
        }
        assert_eq!(read_domid(&world).unwrap(), 1, "{start:#x}");
    }
}

/// The last kernel sent this much of a request.
fn leave_half(world: &World, request: &[u8]) {
    world.m.write(STORE_PAGE * 4096 + REQ, request).unwrap();
    let prod = u32::try_from(request.len()).unwrap();
    world.m.store32(STORE_PAGE * 4096 + REQ_PROD, prod).unwrap();
}

#[test]
fn half_a_request_is_brought_to_an_end() {
    let parts: [&[u8]; 2] = [b"device/vbd/51712/state\0", b"4"];
    let request = encode(MessageType::WRITE, 99, 0, &parts).unwrap();
    for taken in [false, true] {
        for sent in 16..request.len() {
            let world = World::new();
            leave_half(&world, &request[..sent]);
            if taken {
                world.peers().daemon.turn();
            }
            assert_eq!(read_domid(&world).unwrap(), 1, "{sent} bytes sent");
        }
    }
}

#[test]
fn a_store_that_can_begin_anew_is_asked_to() {
    let world = World::new();
    world.peers().daemon.offer_reconnection();
    world
        .peers()
        .daemon
        .watches
        .push(("device".into(), "theirs".into()));
    // Not even a header, which nothing else would get over.
    leave_half(&world, &[11, 0, 0]);
    world.peers().daemon.turn();
    assert_eq!(read_domid(&world).unwrap(), 1);
    assert_eq!(world.peers().daemon.reconnected, 1);
    assert!(world.peers().daemon.watches.is_empty());
}

#[test]
fn indices_that_cannot_be_are_named() {
    for (index, ring) in [(REQ_CONS, "requests"), (RSP_PROD, "answers")] {
        let world = World::new();
        world.peers().daemon.set_word(index, 5000);
        world.peers().daemon.fault = Some(Fault::Dead);
        let said = read_domid(&world).unwrap_err().to_string();
        assert!(said.contains(ring) && said.contains("0x1388"), "{said}");
        // In the middle as well.
        let world = World::new();
        let (mut store, mut time) = (world.store(), world.time(500));
        let mut s = store.on(&world.m, &mut time);
        s.read("domid").unwrap();
        world.peers().daemon.fault = Some(Fault::Dead);
        world.peers().daemon.set_word(index, 0x8000_0000);
        let why = s.read("domid").unwrap_err().why;
        assert!(matches!(why, Why::Index(name, ..) if name == ring), "{why}");
    }
}

#[test]
fn a_dead_or_silent_store_takes_the_time_given() {
    for fault in [Fault::Dead, Fault::Silent] {
        let world = World::new();
        world.peers().daemon.fault = Some(fault);
        let error = read_domid(&world).unwrap_err();
        assert_eq!(
            error.to_string(),
            "xenstore: read domid: no answer in time; is xenstored running?"
        );
    }
    let world = World::new();
    world.peers().daemon.disconnect(3);
    assert_eq!(read_domid(&world).unwrap_err().why, Why::Disconnected(3));
    assert_eq!(world.peers().daemon.word(ERROR), 3);
    // In the middle as well.
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(500));
    let mut s = store.on(&world.m, &mut time);
    s.read("domid").unwrap();
    world.peers().daemon.fault = Some(Fault::Dead);
    world.peers().daemon.disconnect(2);
    let error = s.read("domid").unwrap_err();
    assert_eq!(
        error.to_string(),
        "xenstore: read domid: xenstored has given the connection up (error 2)"
    );
}

#[test]
fn an_answer_that_comes_late_is_not_taken_for_another() {
    let world = World::new();
    let mut store = world.store();
    let mut time = world.time(500);
    store.on(&world.m, &mut time).write("data/a", b"1").unwrap();
    world.peers().daemon.fault = Some(Fault::Dead);
    let mut none = world.time(0);
    let late = store.on(&world.m, &mut none).read("data/a");
    assert_eq!(late.unwrap_err().why, Why::TimeOver);
    world.peers().daemon.fault = None;
    let mut s = store.on(&world.m, &mut time);
    assert_eq!(s.read_number::<u16>("domid").unwrap(), 1);
    s.finish().unwrap();
}

type Check = fn(&Why) -> bool;

#[test]
fn garbage_is_named_and_does_no_harm() {
    let kind = MessageType::DIRECTORY;
    let cases: [(Fault, Check); 6] = [
        (Fault::Kind(kind), |why| {
            *why == Why::Kind(MessageType::DIRECTORY)
        }),
        (Fault::Kind(MessageType(77)), |why| {
            *why == Why::Kind(MessageType(77))
        }),
        (Fault::Kind(MessageType::ERROR), |why| {
            why.to_string().contains("OK")
        }),
        (Fault::Len(4097), |why| *why == Why::TooLong(4097)),
        (Fault::Len(u32::MAX), |why| *why == Why::TooLong(u32::MAX)),
        (Fault::Events, |why| {
            matches!(why, Why::Flood(_) | Why::TimeOver)
        }),
    ];
    for (fault, expected) in cases {
        let world = World::new();
        let (mut store, mut time) = (world.store(), world.time(5000));
        let mut s = store.on(&world.m, &mut time);
        s.read("domid").unwrap();
        world.peers().daemon.fault = Some(fault.clone());
        let why = s.read("domid").unwrap_err().why;
        assert!(expected(&why), "{fault:?}: {why}");
        // And then it is honest again.
        world.peers().daemon.fault = None;
        let mut time = world.time(5000);
        let mut s = store.on(&world.m, &mut time);
        // A flood is got over by and by.
        let after = (0..4).find_map(|_| s.read_number::<u16>("domid").ok());
        assert_eq!(after, Some(1), "{fault:?}");
    }
}

#[test]
fn answers_that_do_not_fit_the_question_are_refused() {
    let world = World::new();
    let (mut store, mut time) = (world.store(), world.time(5000));
    let mut s = store.on(&world.m, &mut time);
    s.read("domid").unwrap();
    world.peers().daemon.fault = Some(Fault::Payload(b"../x\0".to_vec()));
    assert!(matches!(
        s.directory("device").unwrap_err().why,
        Why::Answer(_)
    ));
    assert!(matches!(s.write("a", b"").unwrap_err().why, Why::Answer(_)));
    assert!(matches!(s.reset_watches().unwrap_err().why, Why::Answer(_)));
    let started = s.transaction(|t| t.read("a").map(drop));
    assert!(matches!(started.unwrap_err().why, Why::Answer(_)));
    world.peers().daemon.fault = Some(Fault::Payload(vec![0xff; 4096]));
    assert_eq!(s.read("a").unwrap().len(), 4096);
    assert!(s.read_text("a").is_err());
}

#[test]
fn strangers_answers_are_passed_over() {
    let world = World::new();
    world.peers().daemon.fault = Some(Fault::Strangers);
    assert_eq!(read_domid(&world).unwrap(), 1);
}

#[test]
fn the_connection_is_left_for_the_next_kernel() {
    for fault in [None, Some(Fault::Old)] {
        let world = World::new();
        world.peers().daemon.fault = fault;
        let (mut store, mut time) = (world.store(), world.time(500));
        let mut s = store.on(&world.m, &mut time);
        s.watch("device", "x").unwrap();
        world.peers().daemon.set("/local/domain/1/device/a", "1");
        s.finish().unwrap();
        let peers = world.peers();
        assert_eq!(peers.daemon.word(REQ_PROD), peers.daemon.word(REQ_CONS));
        assert_eq!(peers.daemon.word(RSP_PROD), peers.daemon.word(RSP_CONS));
        drop(peers);
        // One that is as simple as can be: it takes the first bytes that
        // come for its answer.
        let page = STORE_PAGE * 4096;
        let (req, rsp) = (page + REQ_PROD, page + RSP_CONS);
        let (req, rsp) = (world.m.load32(req).unwrap(), world.m.load32(rsp).unwrap());
        let request = encode(MessageType::READ, 7, 0, &[b"domid\0"]).unwrap();
        for (at, byte) in (req..).zip(&request) {
            let at = page + REQ + u64::from(at % 1024);
            world.m.write(at, &[*byte]).unwrap();
        }
        let sent = req + u32::try_from(request.len()).unwrap();
        world.m.store32(page + REQ_PROD, sent).unwrap();
        world.peers().daemon.turn();
        let answer = encode(MessageType::READ, 7, 0, &[b"1"]).unwrap();
        for (at, byte) in (rsp..).zip(&answer) {
            let mut found = [0];
            let at = page + RSP + u64::from(at % 1024);
            world.m.read(at, &mut found).unwrap();
            assert_eq!(found[0], *byte);
        }
    }
}
