//! The boot image starts what is on the guest's own disk, by the
//! configuration that is there.

use super::{Case, Expect};
use crate::lab::{
    artefacts::Xen,
    boot_disk::{DiskLayout, Signing},
    build::Variant,
    distro::Distro,
    example::Toolstack,
    guest::{Attach, Mode},
    hostile::Hostile,
    talk::{Talk, TalkEnd},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, layout) in DiskLayout::ALL.into_iter().enumerate() {
        // Each layout once, in turn on each Xen and in each type of guest.
        let xen = if n % 2 == 0 { Xen::V4_17 } else { Xen::V4_20 };
        let mode = if n / 2 % 2 == 0 { Mode::Pvh } else { Mode::Pv };
        cases.push(case(xen, mode, layout));
    }
    cases.extend(chosen());
    cases.extend(signed());
    cases.extend(attached());
    cases.extend(at_the_console());
    cases.extend(hostile());
    cases.extend(examples());
    cases.extend(distributions());
    cases
}

/// The configuration's own default starts, where it is not the first: each
/// layout on each Xen, in one type of guest and the other.
fn chosen() -> Vec<Case> {
    static WANTED: Talk = Talk {
        turns: &[],
        lines: &[&["kexen-lab: cmdline=", "lab.wanted"]],
        end: TalkEnd::Userspace,
    };
    let mut cases = Vec::new();
    for (n, layout) in DiskLayout::CHOOSERS.into_iter().enumerate() {
        for (m, xen) in Xen::ALL.into_iter().enumerate() {
            let mode = [Mode::Pvh, Mode::Pv][(n + m) % 2];
            let mut case = case(xen, mode, layout).expect(Expect::Talk(&WANTED));
            // As its configuration says: not at all.
            case.options = "".into();
            cases.push(case);
        }
    }
    cases
}

/// What is not signed, or not as it was signed, does not start.
fn signed() -> [Case; 3] {
    use Signing::{All, Changed, KernelAlone};
    let case = |xen, mode, name: &str, signing| {
        let mut case = case(xen, mode, DiskLayout::BlsExt4);
        case.name = format!("disk-{name}");
        case.signing = Some(signing);
        case
    };
    const REFUSED: &str = "not started, since keys are asked for";
    [
        case(Xen::V4_17, Mode::Pv, "signed", All),
        case(Xen::V4_17, Mode::Pvh, "signed-in-part", KernelAlone).expect(Expect::Ends(
            &["/boot/initrd", REFUSED, "no such file or directory"],
            3,
        )),
        case(Xen::V4_20, Mode::Pvh, "signed-and-changed", Changed).expect(Expect::Ends(
            &["/boot/initrd", REFUSED, "the signature does not fit"],
            3,
        )),
    ]
}

/// Other disks than ordinary ones, and the guest's own boot loader.
fn attached() -> Vec<Case> {
    use Attach::{Cd, Disk, LargeSectors, Partition, Qdisk};
    use DiskLayout::{BlsExt4, BlsLarge, Chain, ExtlinuxExt4, GrubIso};
    use Xen::{V4_17, V4_20};
    let mut cases: Vec<Case> = [
        (V4_17, Mode::Pvh, "large-sectors", BlsLarge, LargeSectors),
        (V4_20, Mode::Pv, "partition", ExtlinuxExt4, Partition),
        (V4_20, Mode::Pvh, "cd", GrubIso, Cd),
        (V4_17, Mode::Pv, "qdisk", BlsExt4, Qdisk),
        (V4_20, Mode::Pvh, "qdisk", BlsExt4, Qdisk),
        (V4_17, Mode::Hvm, "hvm", BlsExt4, Disk),
    ]
    .into_iter()
    .map(|(xen, mode, name, layout, attach)| {
        let mut case = case(xen, mode, layout);
        case.name = format!("disk-{name}");
        case.attach = attach;
        case
    })
    .collect();
    static CHAINED: Talk = Talk {
        turns: &[],
        lines: &[
            &["kexen: starting xvdc5:/boot/xen/pvboot-x86_64.elf"],
            &["kexen: starting xvdc5:/boot/vmlinuz"],
        ],
        end: TalkEnd::Userspace,
    };
    cases.push(
        case(V4_17, Mode::Pv, Chain)
            .options("kexen.timeout=0 kexen.entry=pvboot")
            .expect(Expect::Talk(&CHAINED)),
    );
    cases
}

/// Somebody at the console: looks around, starts by hand, edits.
fn at_the_console() -> Vec<Case> {
    const UP: &str = "\u{1b}[A";
    const DOWN: &str = "\u{1b}[B";
    static EDIT: Talk = Talk {
        turns: &[
            ("The lab's Linux", DOWN),
            ("The lab's Linux", UP),
            ("The lab's Linux", "e"),
            ("console=hvc0", " lab.typed\r"),
        ],
        lines: &[&["kexen-lab: cmdline=", "console=hvc0", "lab.typed"]],
        end: TalkEnd::Userspace,
    };
    static LOOK: Talk = Talk {
        turns: &[
            ("The lab's Linux", "c"),
            ("kexen> ", "disks\r"),
            ("xvdc1", "ls xvdc1:/boot\r"),
            ("vmlinuz", "cat xvdc1:/loader/entries/lab.conf\r"),
            (
                "title The lab",
                "linux xvdc1:/boot/vmlinuz xvdc1:/boot/initrd -- console=hvc0 lab.disks lab.byhand\r",
            ),
        ],
        lines: &[
            &["xvdc1", "ext4"],
            &["machine-id 0123456789abcdef0123456789abcdef"],
            &["kexen-lab: cmdline=console=hvc0 lab.disks lab.byhand"],
        ],
        end: TalkEnd::Userspace,
    };
    static FALL_BACK: Talk = Talk {
        turns: &[],
        lines: &[
            &["error: ", "/boot/damaged"],
            // Without what a terminal obeys.
            &["error: ", "/boot/miss?[7ming"],
            &["kexen-lab: cmdline=", "lab.good"],
        ],
        end: TalkEnd::Userspace,
    };
    let mut fall_back = case(Xen::V4_17, Mode::Pv, DiskLayout::GrubFallback);
    // The configuration's own second.
    fall_back.options = "".into();
    // Which entry the toolstack asks for: by its id; one that is not there; one
    // that asks for what Kexen cannot do. Then the third of the menu.
    static GOOD: Talk = Talk {
        turns: &[],
        lines: &[&["kexen-lab: cmdline=", "lab.good"]],
        end: TalkEnd::Userspace,
    };
    static NOT_THERE: Talk = Talk {
        turns: &[
            ("Press Enter", "\r"),
            ("Under a hypervisor", DOWN),
            ("Missing", DOWN),
            ("Good", "\r"),
        ],
        lines: &[
            &[
                "error: ",
                "disks",
                "\"other\"",
                "\"Damaged\", \"Missing\", \"Good\"",
            ],
            &["kexen-lab: cmdline=", "lab.good"],
        ],
        end: TalkEnd::Userspace,
    };
    // The menu begins at what was asked for, its last.
    static CANNOT: Talk = Talk {
        turns: &[
            ("Press Enter", "\r"),
            ("Under a hypervisor", UP),
            ("Good", "\r"),
        ],
        lines: &[
            &["error: ", "Under a hypervisor", "xen_hypervisor"],
            &["kexen-lab: cmdline=", "lab.good"],
        ],
        end: TalkEnd::Userspace,
    };
    let asked = |xen, mode, name: &str, entry: &str, talk| {
        let mut case = case(xen, mode, DiskLayout::GrubFallback).expect(Expect::Talk(talk));
        case.name = format!("disk-entry-{name}");
        case.options = format!("kexen.timeout=0 kexen.entry={entry}").into();
        case
    };
    let by_id = asked(Xen::V4_20, Mode::Pvh, "by-id", "good-one", &GOOD);
    let not_there = asked(Xen::V4_17, Mode::Pvh, "not-there", "other", &NOT_THERE);
    let cannot = asked(Xen::V4_20, Mode::Pv, "that-cannot", "above", &CANNOT);
    let mut edit = case(Xen::V4_17, Mode::Pvh, DiskLayout::BlsExt4).options("kexen.timeout=60");
    edit.name = "disk-menu-edit".to_owned();
    let mut look = case(Xen::V4_20, Mode::Pv, DiskLayout::BlsExt4).options("kexen.timeout=60");
    look.name = "disk-menu-look".to_owned();
    vec![
        fall_back.expect(Expect::Talk(&FALL_BACK)),
        by_id,
        not_there,
        cannot,
        edit.expect(Expect::Talk(&EDIT)),
        look.expect(Expect::Talk(&LOOK)),
    ]
}

/// More disks whose backends are not to be trusted: each is named, and the good
/// disk's system starts; unless a backend lets nothing go.
fn hostile() -> Vec<Case> {
    static NAMED: Talk = Talk {
        turns: &[],
        lines: &[
            &["error: ", "device/vbd/51776", "cannot be \"2^64\""],
            &["error: ", "device/vbd/51792", "in time"],
            &["error: ", "xvdg", "in time"],
            &["error: ", "xvdh", "input or output error"],
            &["error: ", "xvdi", "not in flight"],
            // By how many requests it has seen when it answers.
            &["error: ", "xvdj", "the ring cannot be|not in flight"],
            &["error: ", "xvdk", "the ring cannot be"],
            &["error: ", "xvdl", "the ring cannot be"],
            &["xvdm: 1.0 MiB"],
            &["error: ", "xvdn", "in time"],
            &["error: ", "device/vbd/51936", "in time"],
        ],
        end: TalkEnd::Userspace,
    };
    static KEPT: Talk = Talk {
        turns: &[("Press Enter", "\r"), ("The lab's Linux", "c")],
        lines: &[&["error: ", "vbd/51776: domain 0 keeps grant"]],
        end: TalkEnd::Says("kexen> "),
    };
    let case = |xen, mode, name: &str, hostile: &'static [Hostile], talk| {
        let mut case = case(xen, mode, DiskLayout::BlsExt4);
        case.name = format!("disk-{name}");
        case.hostile = hostile;
        case.expect(Expect::Talk(talk))
    };
    const ALL: &[Hostile] = &Hostile::THAT_LET_GO;
    // It lets go when it is told to; here it is not.
    static NOT_TOLD: Talk = Talk {
        turns: &[("Press Enter", "\r"), ("The lab's Linux", "c")],
        lines: &[
            &["error: ", "device/vbd/51776", "in time"],
            &["error: ", "grant"],
        ],
        end: TalkEnd::Says("kexen> "),
    };
    let mut not_told = case(
        Xen::V4_17,
        Mode::Pvh,
        "backend-mute-omit",
        &[Hostile::Mute],
        &NOT_TOLD,
    );
    not_told.image = Variant::Lab;
    not_told.options.to_mut().push_str(" kexen.omit=late");
    // What is kept of one try is in the way of the next, which goes well itself,
    // and no longer in the way when the backend has let go.
    static HOARDED: Talk = Talk {
        turns: &[
            ("Press Enter", "\r"),
            ("The lab's Linux", "\r"),
            ("Press Enter", "\r"),
            ("The lab's Linux", "\r"),
        ],
        lines: &[
            &["error: ", "vbd/51776: domain 0 keeps grant"],
            &["error: ", "domain 0 writes grant"],
        ],
        end: TalkEnd::Userspace,
    };
    // Forgotten, the next kernel has a page that the backend writes to.
    static HOARDED_OMIT: Talk = Talk {
        turns: &[("Press Enter", "\r"), ("The lab's Linux", "\r")],
        lines: &[&["error: ", "vbd/51776: domain 0 keeps grant"]],
        end: TalkEnd::Says("Linux version"),
    };
    let hoards = |xen, mode, name, talk| case(xen, mode, name, &[Hostile::Hoards], talk);
    let mut forgets = hoards(Xen::V4_17, Mode::Pvh, "backend-hoards-omit", &HOARDED_OMIT);
    forgets.image = Variant::Lab;
    forgets.options.to_mut().push_str(" kexen.omit=kept");
    static NO_ROOM: Talk = Talk {
        turns: &[],
        lines: &[&["error: ", "xvdd16", "more memory than is set aside"]],
        end: TalkEnd::Userspace,
    };
    let mut greedy = case(Xen::V4_20, Mode::Pv, "greedy", &[], &NO_ROOM);
    greedy.greedy = true;
    // Without the limit the heap is used up, which ends Kexen.
    let mut forgotten = case(Xen::V4_20, Mode::Pvh, "greedy-omit", &[], &NO_ROOM);
    forgotten.greedy = true;
    forgotten.image = Variant::Lab;
    forgotten.options.to_mut().push_str(" kexen.omit=room");
    let forgotten = forgotten.expect(Expect::Ends(
        &["kexen: error: panic: ", "library/alloc/"],
        3,
    ));
    vec![
        greedy,
        forgotten,
        case(Xen::V4_17, Mode::Pv, "backends-lie", ALL, &NAMED),
        case(Xen::V4_20, Mode::Pvh, "backends-lie", ALL, &NAMED),
        case(
            Xen::V4_17,
            Mode::Pvh,
            "backend-keeps",
            &[Hostile::Keeps],
            &KEPT,
        ),
        not_told,
        hoards(Xen::V4_17, Mode::Pvh, "backend-hoards", &HOARDED),
        hoards(Xen::V4_20, Mode::Pv, "backend-hoards", &HOARDED),
        forgets,
    ]
}

/// The package's examples, as they are.
fn examples() -> Vec<Case> {
    use Toolstack::{Libvirt, Xl};
    let example = |(xen, mode, toolstack, name): (_, Mode, Toolstack, &'static str)| {
        let mut case = case(xen, mode, DiskLayout::GrubExt4).memory(1024);
        let how = name.strip_prefix(mode.name()).unwrap_or_default();
        case.name = format!("example-{}{how}", toolstack.name());
        case.expect(Expect::Example(toolstack, name))
    };
    [
        (Xen::V4_20, Mode::Pv, Xl, "pv"),
        (Xen::V4_20, Mode::Pvh, Xl, "pvh"),
        (Xen::V4_17, Mode::Hvm, Xl, "hvm"),
        (Xen::V4_17, Mode::Pv, Xl, "pv-firmware"),
        (Xen::V4_17, Mode::Pvh, Xl, "pvh-firmware"),
        (Xen::V4_20, Mode::Pv, Xl, "pv-firmware"),
        (Xen::V4_20, Mode::Pvh, Xl, "pvh-firmware"),
        (Xen::V4_17, Mode::Pv, Libvirt, "pv"),
        (Xen::V4_17, Mode::Pvh, Libvirt, "pvh"),
    ]
    .map(example)
    .into()
}

fn case(xen: Xen, mode: Mode, layout: DiskLayout) -> Case {
    let mut case = Case::new(xen, mode, format!("disk-{}", layout.name()));
    case.disk = Some(layout);
    case.memory = 384;
    case.options("kexen.timeout=0 kexen.stats")
        .expect(Expect::Userspace)
}

/// Distributions' images, as they are: their own, or laid out as theirs.
fn distributions() -> Vec<Case> {
    let mut cases = Vec::new();
    // Emulated nested paging is slow: a system of dracut's did not come up in 400 seconds
    // in PVH, and took 240 in PV. What is read from the disk is the same.
    for (distro, xen, mode) in [
        (Distro::Debian12, Xen::V4_17, Mode::Pvh),
        (Distro::Debian12, Xen::V4_20, Mode::Pv),
        (Distro::Debian13, Xen::V4_20, Mode::Pvh),
        (Distro::Debian13, Xen::V4_17, Mode::Pv),
        (Distro::Fedora, Xen::V4_17, Mode::Pv),
        (Distro::RhelXfs, Xen::V4_20, Mode::Pv),
        (Distro::OpenSuse, Xen::V4_17, Mode::Pv),
        (Distro::Alpine, Xen::V4_20, Mode::Pv),
        (Distro::ArchSystemdBoot, Xen::V4_17, Mode::Pv),
        (Distro::ArchUki, Xen::V4_20, Mode::Pv),
    ] {
        let mut case = Case::new(xen, mode, format!("disk-{}", distro.name()));
        case.distro = Some(distro);
        case.memory = 512;
        cases.push(case.expect(Expect::System));
    }
    cases
}
