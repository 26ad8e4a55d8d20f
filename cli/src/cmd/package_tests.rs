//! Packages of stand-ins for image and tool, installed into roots: by dpkg's and
//! rpm's own programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::package::{Built, Host};
use super::{package_deb, package_rpm};
use crate::host::{command, tools, workspace};

const IMAGE: &str = "/usr/lib/kexen/kexen-x86_64.elf";
const FEDORA: &str = "usr/libexec/xen/boot/pvgrub64.bin";

fn built(folder: &Path) -> Built {
    let file = |name: &str| {
        let path = folder.join(name);
        fs::write(&path, name).unwrap();
        path
    };
    Built {
        image: file("image"),
        hvm: file("hvm"),
        tool: file("tool"),
    }
}

/// Runs the packages' script in that root.
fn link(root: &Path, what: &str) -> String {
    let script = workspace::root().join("packaging/link");
    let mut command = Command::new(script);
    command::text(command.arg(what).env("DPKG_ROOT", root)).unwrap()
}

fn target(root: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(root.join(name)).ok()?;
    Some(target.to_string_lossy().into_owned())
}

#[test]
fn names_are_given_where_nothing_has_them() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let debian = "usr/lib/xen-4.17/boot/pvgrub64.bin";
    let grub = "usr/lib/xen-4.20/boot/pvgrub64.bin";
    for name in [debian, grub, FEDORA] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
    }
    // What somebody else has put there is GRUB's, though its package has gone.
    symlink("/usr/lib/grub-xen/grub-x86_64-xen.bin", root.join(grub)).unwrap();
    // Debian's link to the version in use.
    symlink("xen-4.17", root.join("usr/lib/xen")).unwrap();
    let said = link(root, "add");
    assert!(
        said.contains("/usr/lib/xen-4.20/boot/pvgrub64.bin is there already"),
        "{said}"
    );
    assert_eq!(target(root, debian).as_deref(), Some(IMAGE));
    assert_eq!(target(root, FEDORA).as_deref(), Some(IMAGE));
    assert!(target(root, grub).unwrap().contains("grub"));
    assert_eq!(link(root, "add"), said, "a second time is the same");
    link(root, "remove");
    assert_eq!(target(root, debian), None);
    assert_eq!(target(root, FEDORA), None);
    assert!(target(root, grub).is_some());
}

#[test]
fn kernels_of_qubes_get_its_names() {
    let scratch = tempfile::tempdir().unwrap();
    let kernels = scratch.path().join("var/lib/qubes/vm-kernels");
    for folder in ["kexen", "pvgrub2-pvh"] {
        fs::create_dir_all(kernels.join(folder)).unwrap();
        fs::write(kernels.join(folder).join("vmlinuz"), folder).unwrap();
    }
    let said = link(scratch.path(), "add");
    assert!(said.contains("pvgrub2-pvh is there already"), "{said}");
    let read = |name: &str| fs::read_to_string(kernels.join(name)).ok();
    assert_eq!(read("pvgrub2-pvh/vmlinuz").unwrap(), "pvgrub2-pvh");
    assert_eq!(read("pvgrub2/vmlinuz").unwrap(), "kexen");
    link(scratch.path(), "remove");
    assert_eq!(read("pvgrub2-pvh/vmlinuz").unwrap(), "pvgrub2-pvh");
    assert!(!kernels.join("pvgrub2").exists());
    assert!(read("kexen/vmlinuz").is_some());
}

/// The files in an rpm.
fn files(rpm: &Path) -> BTreeSet<String> {
    let text = command::text(Command::new("rpm").arg("-qlp").arg(rpm)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn deb_and_rpm_have_the_same_files() {
    tools::require(&[tools::DEB, tools::RPM]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let built = built(scratch.path());
    let deb = package_deb::make(&built, scratch.path()).unwrap();
    let rpm = package_rpm::make(&built, None, scratch.path()).unwrap();
    let text = command::text(Command::new("dpkg-deb").arg("-c").arg(&deb)).unwrap();
    let in_deb: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.split_once(" .").map(|(_, name)| name))
        .filter(|name| !name.ends_with('/'))
        .map(str::to_owned)
        .collect();
    let in_rpm = files(&rpm);
    assert!(in_deb.is_subset(&in_rpm), "{in_deb:?} {in_rpm:?}");
    // The rpm names the folders that are its own.
    let folders: Vec<&String> = in_rpm.difference(&in_deb).collect();
    let own = ["", "/examples"].map(|name| format!("/usr/share/doc/kexen{name}"));
    assert_eq!(folders, [&"/usr/lib/kexen".to_owned(), &own[0], &own[1]]);
}

/// A root in which the packages' scripts run: the host's shell, and what they
/// call, with their libraries.
fn root(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    let copy = |file: &str| {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    };
    for program in ["sh", "readlink", "ln", "mkdir", "rm", "rmdir"] {
        let program = format!("/bin/{program}");
        copy(&program);
        let libraries = command::text(Command::new("ldd").arg(&program)).unwrap();
        for word in libraries.split_whitespace() {
            if word.starts_with('/') {
                copy(word);
            }
        }
    }
    fs::create_dir_all(root.join("usr/libexec/xen/boot")).unwrap();
    root
}

/// rpm in that root, as root.
fn rpm(root: &Path, args: &[&str]) -> String {
    let own = fs::metadata("/proc/self").unwrap().uid();
    let mut command = if own == 0 {
        Command::new("rpm")
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "rpm"]);
        command
    };
    // The root has a shell, and no word of it in rpm's lists.
    command.args(["--force-debian", "--nodeps", "--root"]);
    command::text(command.arg(root).args(args)).unwrap()
}

#[test]
fn rpms_come_and_go() {
    tools::require(&[tools::RPM]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let built = built(scratch.path());
    for (host, kernel) in [
        (None, IMAGE),
        (
            Some(Host::Qubes),
            "/var/lib/qubes/vm-kernels/pvgrub2-pvh/vmlinuz",
        ),
        (Some(Host::XcpNg), "/var/lib/xcp/guest/kexen-x86_64.elf"),
    ] {
        let file = package_rpm::make(&built, host, scratch.path()).unwrap();
        let digests = command::text(Command::new("rpm").arg("-K").arg(&file)).unwrap();
        assert!(digests.contains("digests OK"), "{digests}");
        let root = root(scratch.path());
        rpm(&root, &["-i", &file.display().to_string()]);
        assert_eq!(rpm(&root, &["-V", "kexen"]), "", "{host:?}");
        assert_eq!(target(&root, FEDORA).as_deref(), Some(IMAGE));
        let kernel = root.join(kernel.trim_start_matches('/'));
        assert_eq!(fs::read_to_string(&kernel).unwrap(), "image", "{host:?}");
        rpm(&root, &["-e", "kexen"]);
        let find = "-name kexen* -o -name pvgrub*".split(' ');
        let left = command::text(Command::new("find").arg(&root).args(find)).unwrap();
        assert_eq!(left, "", "{host:?}");
        fs::remove_dir_all(&root).unwrap();
    }
}
