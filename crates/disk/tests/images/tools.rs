//! Running the tools that make images.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Which package of Debian has a tool.
fn package(tool: &str) -> &'static str {
    match tool {
        "mke2fs" | "debugfs" | "e2fsck" => "e2fsprogs",
        "mkfs.vfat" | "fsck.vfat" => "dosfstools",
        "mcopy" | "mdel" | "mdir" | "mmd" => "mtools",
        "mkfs.xfs" | "xfs_admin" | "xfs_db" => "xfsprogs",
        "mkfs.btrfs" => "btrfs-progs",
        "xorriso" => "xorriso",
        "genisoimage" => "genisoimage",
        "sgdisk" => "gdisk",
        "fdisk" | "sfdisk" => "fdisk",
        "blkid" | "partx" | "mkswap" | "mkfs.minix" => "util-linux",
        "zstd" => "zstd",
        _ => "(unknown)",
    }
}

/// Runs a tool with something on its standard input; what it printed.
#[track_caller]
pub(crate) fn run_with(tool: &str, args: &[&str], input: &str) -> String {
    let mut command = Command::new(tool);
    // Where `mkfs` is for those who are not root.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.env("PATH", &path).env("MTOOLS_SKIP_CHECK", "1");
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    let found = std::env::split_paths(&path).any(|dir| dir.join(tool).exists());
    assert!(
        found,
        "`{tool}` is missing: install the package {}",
        package(tool)
    );
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    // One that does not read it is free not to.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{tool} {args:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Runs a tool; what it printed.
#[track_caller]
pub(crate) fn run(tool: &str, args: &[&str]) -> String {
    run_with(tool, args, "")
}

/// A file or directory that goes away with this.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    fn path() -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{next}", std::process::id());
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
    }

    /// A sparse file of a size.
    pub(crate) fn file(bytes: u64) -> Self {
        let path = Self::path();
        std::fs::File::create(&path)
            .and_then(|file| file.set_len(bytes))
            .unwrap();
        Self(path)
    }

    pub(crate) fn directory() -> Self {
        let path = Self::path();
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.0.is_dir() {
            let _ = std::fs::remove_dir_all(&self.0);
        } else {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// What `blkid` prints for an image: type, label, UUID.
#[track_caller]
pub(crate) fn blkid(image: &Temporary) -> [String; 3] {
    let text = run("blkid", &["-p", "-o", "export", image.as_str()]);
    ["TYPE", "LABEL", "UUID"].map(|key| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}=")));
        // `export` quotes for a shell.
        line.unwrap_or_default().replace('\\', "")
    })
}
