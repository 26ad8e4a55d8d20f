//! The images: how each is made, what is done to it, and what is expected.

/// Images that are made in one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Some of each kind: those that every `test` makes and reads.
    Often,
    Ext,
    Xfs,
    Btrfs,
    Fat,
    Iso,
}

impl Group {
    pub(crate) const ALL: [Self; 6] = [
        Self::Often,
        Self::Ext,
        Self::Xfs,
        Self::Btrfs,
        Self::Fat,
        Self::Iso,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Often => "often",
            Self::Ext => "ext",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Fat => "fat",
            Self::Iso => "iso",
        }
    }
}

/// What becomes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Aged, and unmounted.
    Aged,
    /// The same, with files that share blocks.
    Reflink,
    /// Aged, written to disk, and never unmounted: what came last is in the
    /// journal alone.
    Crashed,
    /// Aged and written to disk, then changed file by file, each synced by
    /// itself (`fsync`), and never unmounted. It is looked at in another boot,
    /// with these options, which leave the log alone.
    Synced(&'static str),
    /// Aged in a subvolume that is made the default one, with snapshots.
    Subvolumes,
    /// Made of an aged folder by the tool, and looked at with these options.
    Looked,
    /// As `mkfs` left it; for what is refused.
    Untouched,
}

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Everything as Linux reads it.
    Same,
    /// A refusal that has this in it.
    Refused(&'static str),
}

/// An image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) mib: u64,
    /// What makes it; `{}` stands for the file, a further name behind it for a
    /// further file.
    pub(crate) mkfs: &'static str,
    /// Bytes of a sector of the disk.
    pub(crate) sector: u32,
    /// Linux's name of the file system, and how it is mounted.
    pub(crate) mount: (&'static str, &'static str),
    pub(crate) way: Way,
    /// MiB that the ager writes, and its words.
    pub(crate) ager: (u64, &'static str),
    pub(crate) expect: Expect,
    /// What the file system has to say of itself, and must not otherwise.
    pub(crate) note: Option<&'static str>,
}

const fn image(name: &'static str, group: Group, mib: u64, mkfs: &'static str) -> Image {
    let kind = match group {
        // Linux reads all three by the newest's driver.
        Group::Ext | Group::Often => "ext4",
        Group::Xfs => "xfs",
        Group::Btrfs => "btrfs",
        Group::Fat => "vfat",
        Group::Iso => "iso9660",
    };
    Image {
        name,
        group,
        mib,
        mkfs,
        sector: 512,
        mount: (kind, ""),
        way: Way::Aged,
        ager: (32, ""),
        expect: Expect::Same,
        note: None,
    }
}

const fn ext(name: &'static str, mib: u64, mkfs: &'static str) -> Image {
    image(name, Group::Ext, mib, mkfs)
}

const fn xfs(name: &'static str, mkfs: &'static str) -> Image {
    image(name, Group::Xfs, 300, mkfs)
}

const fn btrfs(name: &'static str, mib: u64, mkfs: &'static str) -> Image {
    image(name, Group::Btrfs, mib, mkfs)
}

const fn fat(name: &'static str, mib: u64, mkfs: &'static str) -> Image {
    let mut image = image(name, Group::Fat, mib, mkfs);
    // As distributions mount an ESP, but with all letters.
    image.mount.1 = ",utf8=1";
    image.ager.1 = "fat";
    image
}

/// The size is what the folder comes to.
const fn iso(name: &'static str, mkfs: &'static str, options: &'static str) -> Image {
    let mut image = image(name, Group::Iso, 0, mkfs);
    image.mount.1 = options;
    image.way = Way::Looked;
    image.ager = (12, "iso");
    image
}

impl Image {
    const fn mounted(mut self, options: &'static str) -> Self {
        self.mount.1 = options;
        self
    }

    /// Made and read in every `test`.
    const fn often(mut self) -> Self {
        self.group = Group::Often;
        self
    }

    const fn way(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    const fn aged(mut self, mib: u64, words: &'static str) -> Self {
        self.ager = (mib, words);
        self
    }

    const fn sector(mut self, bytes: u32) -> Self {
        self.sector = bytes;
        self
    }

    const fn noted(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    const fn refused(self, why: &'static str) -> Self {
        self.way(Way::Untouched).but_refused(why)
    }

    /// Refused for what has become of it.
    const fn but_refused(mut self, why: &'static str) -> Self {
        self.expect = Expect::Refused(why);
        self
    }
}

/// All images.
pub(crate) const IMAGES: &[Image] = &[
    ext("ext2", 80, "mke2fs -t ext2 -b 4096 {}").aged(32, "far"),
    ext("ext2-1k", 80, "mke2fs -t ext2 -b 1024 -N 16384 {}")
        .aged(32, "far")
        .often(),
    ext("ext3", 80, "mke2fs -t ext3 -b 1024 -N 16384 {}").aged(32, "far"),
    ext("ext3-crashed", 80, "mke2fs -t ext3 -b 1024 -N 16384 {}")
        .way(Way::Crashed)
        .often(),
    ext("ext4", 80, "mke2fs -t ext4 -b 4096 {}")
        .aged(32, "names")
        .often(),
    ext("ext4-1k", 80, "mke2fs -t ext4 -b 1024 -N 16384 {}").aged(32, "far"),
    ext(
        "ext4-plain",
        80,
        "mke2fs -t ext4 -O ^64bit,^metadata_csum,^flex_bg,^dir_index {}",
    ),
    ext(
        "ext4-pointers",
        80,
        "mke2fs -t ext4 -O ^extent,^64bit -b 2048 {}",
    )
    .aged(32, "far"),
    ext(
        "ext4-new",
        80,
        "mke2fs -t ext4 -O 64bit,metadata_csum,metadata_csum_seed,orphan_file -I 512 {}",
    ),
    ext(
        "ext4-bigalloc",
        96,
        "mke2fs -t ext4 -O bigalloc -C 16384 {}",
    )
    .aged(24, "few"),
    ext("ext4-4k-sector", 80, "mke2fs -t ext4 -b 4096 {}").sector(4096),
    ext("ext4-full", 48, "mke2fs -t ext4 -b 4096 -m 0 -N 16384 {}")
        .aged(20, "full")
        .often(),
    ext("ext4-crashed", 80, "mke2fs -t ext4 -b 1024 -N 16384 {}").way(Way::Crashed),
    ext(
        "ext4-crashed-data",
        80,
        "mke2fs -t ext4 -b 4096 -J size=16 {}",
    )
    .way(Way::Crashed)
    .mounted(",data=journal")
    .often(),
    ext(
        "ext4-crashed-old",
        80,
        "mke2fs -t ext4 -b 4096 -O ^64bit,^metadata_csum {}",
    )
    .way(Way::Crashed),
    ext(
        "ext4-crashed-full",
        48,
        "mke2fs -t ext4 -b 4096 -m 0 -N 16384 {}",
    )
    .way(Way::Crashed)
    .aged(20, "full"),
    ext("ext4-fast-commit", 80, "mke2fs -t ext4 -O fast_commit {}")
        .way(Way::Synced(",norecovery"))
        .but_refused("fast commits"),
    ext("ext4-inline-data", 32, "mke2fs -t ext4 -O inline_data {}")
        .refused("DATA_IN_INODE")
        .often(),
    // 80 groups, whose descriptors are in five places.
    ext(
        "ext4-meta-bg",
        80,
        "mke2fs -t ext4 -b 1024 -g 1024 -N 16384 -O ^resize_inode,meta_bg {}",
    )
    .aged(24, "few"),
    ext("ext4-large-dir", 80, "mke2fs -t ext4 -O large_dir {}").aged(32, "names"),
    ext("ext4-mmp", 80, "mke2fs -t ext4 -O mmp,ea_inode {}").aged(24, "few"),
    xfs("xfs", "mkfs.xfs -f {}")
        .way(Way::Reflink)
        .aged(32, "names")
        .often(),
    xfs(
        "xfs-1k",
        "mkfs.xfs -f -b size=1024 -i size=256 -m crc=0,finobt=0 {}",
    ),
    xfs("xfs-1k-v5", "mkfs.xfs -f -b size=1024 {}")
        .aged(32, "names")
        .often(),
    xfs("xfs-v4", "mkfs.xfs -f -m crc=0 {}"),
    xfs("xfs-v4-no-ftype", "mkfs.xfs -f -m crc=0 -n ftype=0 {}"),
    xfs(
        "xfs-new",
        "mkfs.xfs -f -i nrext64=1,size=1024 -m bigtime=1,rmapbt=1,reflink=1,inobtcount=1 {}",
    )
    .way(Way::Reflink),
    xfs(
        "xfs-big-folders",
        "mkfs.xfs -f -n size=16384 -d agcount=2 {}",
    ),
    xfs("xfs-4k-sector", "mkfs.xfs -f -s size=4096 {}").sector(4096),
    xfs("xfs-full", "mkfs.xfs -f {}").aged(32, "full"),
    xfs("xfs-crashed", "mkfs.xfs -f {}")
        .way(Way::Crashed)
        .often(),
    xfs("xfs-crashed-v4", "mkfs.xfs -f -m crc=0 {}")
        .way(Way::Crashed)
        .but_refused("a log that cannot be replayed"),
    xfs("xfs-log-device", "mkfs.xfs -f -l logdev={}.log,size=64m {}")
        .refused("a log on another disk"),
    xfs("xfs-case", "mkfs.xfs -f -n version=ci {}")
        .refused("feat_ascii_ci")
        .often(),
    btrfs("btrfs", 160, "mkfs.btrfs -f {}")
        .way(Way::Reflink)
        .aged(32, "names"),
    btrfs("btrfs-zlib", 128, "mkfs.btrfs -f -m single {}")
        .mounted(",compress-force=zlib")
        .aged(24, "few"),
    btrfs("btrfs-lzo", 128, "mkfs.btrfs -f -m single {}")
        .mounted(",compress-force=lzo")
        .aged(24, "few"),
    btrfs("btrfs-zstd", 128, "mkfs.btrfs -f -m single {}")
        .mounted(",compress-force=zstd:3")
        .often(),
    btrfs("btrfs-subvolumes", 256, "mkfs.btrfs -f {}")
        .way(Way::Subvolumes)
        .mounted(",compress=zstd")
        .aged(24, "few")
        .often(),
    btrfs("btrfs-4k-nodes", 128, "mkfs.btrfs -f -n 4096 {}").aged(16, "few"),
    btrfs(
        "btrfs-64k-nodes",
        160,
        "mkfs.btrfs -f -n 65536 -O ^no-holes {}",
    )
    .aged(24, "few"),
    btrfs("btrfs-mixed", 96, "mkfs.btrfs -f -M -n 4096 {}").aged(16, "few"),
    btrfs("btrfs-dup", 256, "mkfs.btrfs -f -m dup -d dup {}").aged(24, "few"),
    btrfs("btrfs-no-inline", 160, "mkfs.btrfs -f {}")
        .mounted(",max_inline=0")
        .aged(24, "few"),
    btrfs("btrfs-full", 128, "mkfs.btrfs -f -m single {}").aged(16, "full few"),
    btrfs("btrfs-crashed", 160, "mkfs.btrfs -f {}")
        .way(Way::Crashed)
        .often(),
    // No commit by itself before the crash.
    btrfs("btrfs-synced", 128, "mkfs.btrfs -f {}")
        .way(Way::Synced(",rescue=nologreplay"))
        .mounted(",commit=900")
        .aged(16, "few")
        .noted("its log is not replayed")
        .often(),
    btrfs("btrfs-xxhash", 160, "mkfs.btrfs -f --csum xxhash {}").aged(24, "few"),
    btrfs("btrfs-sha256", 160, "mkfs.btrfs -f --csum sha256 {}").aged(24, "few"),
    btrfs("btrfs-blake2", 160, "mkfs.btrfs -f --csum blake2 {}").aged(24, "few"),
    btrfs(
        "btrfs-raid0",
        128,
        "mkfs.btrfs -f -d raid0 -m raid0 {} {}.2",
    )
    .refused("profile")
    .often(),
    // Its other disk is gone; what is written then has no second copy.
    btrfs(
        "btrfs-raid1-one",
        256,
        "mkfs.btrfs -f -d raid1 -m raid1 {} {}.2",
    )
    .mounted(",degraded")
    .aged(24, "few"),
    btrfs(
        "btrfs-other-disk",
        128,
        "mkfs.btrfs -f -d single -m single {}.1 {}",
    )
    .refused("on another disk"),
    fat("fat12", 8, "mkfs.vfat -F 12 -s 4 {}").aged(4, "fat few"),
    fat("fat16", 80, "mkfs.vfat -F 16 -s 4 {}").often(),
    fat("fat32", 100, "mkfs.vfat -F 32 -s 1 {}").often(),
    fat("fat32-large", 300, "mkfs.vfat -F 32 -s 8 {}"),
    fat("fat16-4k-sector", 128, "mkfs.vfat -F 16 -S 4096 {}").sector(4096),
    fat("fat32-4k-sector", 300, "mkfs.vfat -F 32 -S 4096 -s 1 {}").sector(4096),
    // Of 120 MiB, it says.
    fat("fat32-cut", 100, "mkfs.vfat -F 32 -s 1 {} 122880").noted("it was cut off"),
    fat("fat32-full", 48, "mkfs.vfat -F 32 -s 1 {}").aged(16, "fat full"),
    // Not by genisoimage: with Rock Ridge and links of 500 bytes and more it does
    // not come to an end. `crates/disk/tests` has images of its making.
    iso("iso-rock-ridge", "xorriso -as mkisofs -quiet -R -o {}", "").often(),
    iso(
        "iso-joliet",
        "xorriso -as mkisofs -quiet -J -joliet-long -o {}",
        ",utf8",
    ),
    iso(
        "iso-both",
        "xorriso -as mkisofs -quiet -R -J -joliet-long -o {}",
        "",
    ),
    iso(
        "iso-plain",
        "xorriso -as mkisofs -quiet -iso-level 1 -o {}",
        "",
    ),
];
