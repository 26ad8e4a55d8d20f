//! Which file system is on a disk.
//!
//! By magic numbers, as `blkid` does. A number left over from an earlier file
//! system may stand beside the present one's; what `mkfs` of each overwrites
//! decides the order (all but ext and FAT clear the first 64 KiB or more), and
//! one that does not open gives way to the next.

use alloc::{boxed::Box, rc::Rc};

use super::{FileSystem, FsError, Problem};
use crate::BlockSource;

type Open = fn(Rc<dyn BlockSource>) -> Result<Box<dyn FileSystem>, FsError>;

/// A file system, where its magic number is, and what that is.
struct Magic {
    at: u64,
    magic: &'static [u8],
    open: Open,
}

#[cfg(feature = "fat")]
fn fat(source: Rc<dyn BlockSource>) -> Result<Box<dyn FileSystem>, FsError> {
    Ok(Box::new(super::fat::Fat::open(source)?))
}

const MAGICS: &[Magic] = &[
    #[cfg(feature = "xfs")]
    Magic {
        at: 0,
        magic: b"XFSB",
        open: |source| Ok(Box::new(super::xfs::Xfs::open(source)?)),
    },
    #[cfg(feature = "ext4")]
    Magic {
        at: 0x438,
        magic: &[0x53, 0xef],
        open: |source| Ok(Box::new(super::ext4::Ext4::open(source)?)),
    },
    #[cfg(feature = "iso9660")]
    Magic {
        at: 0x8001,
        magic: b"CD001",
        open: |source| Ok(Box::new(super::iso9660::Iso9660::open(source)?)),
    },
    #[cfg(feature = "btrfs")]
    Magic {
        at: 0x1_0040,
        magic: b"_BHRfS_M",
        open: |source| Ok(Box::new(super::btrfs::Btrfs::open(source)?)),
    },
    // No more than a boot sector's signature: the reader looks closer.
    #[cfg(feature = "fat")]
    Magic {
        at: 0x1fe,
        magic: &[0x55, 0xaa],
        open: fat,
    },
    // Linux does not ask for that.
    #[cfg(feature = "fat")]
    Magic {
        at: 0x52,
        magic: b"FAT32   ",
        open: fat,
    },
    #[cfg(feature = "fat")]
    Magic {
        at: 0x36,
        magic: b"FAT16   ",
        open: fat,
    },
    #[cfg(feature = "fat")]
    Magic {
        at: 0x36,
        magic: b"FAT12   ",
        open: fat,
    },
];

/// What is not read here: what it is called, where its magic number is, and
/// what that is, as `libblkid` has them. What holds other things comes first;
/// short numbers, which other bytes may be too, come last.
const FOREIGN: &[(&str, u64, &[u8])] = &[
    ("LVM", 0x218, b"LVM2 001"),
    ("LVM", 0x18, b"LVM2 001"),
    ("LVM", 0x418, b"LVM2 001"),
    ("LVM", 0x618, b"LVM2 001"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("Linux RAID", 0, b"\xfc\x4e\x2b\xa9"),
    ("Linux RAID", 0x1000, b"\xfc\x4e\x2b\xa9"),
    ("Stratis", 0x204, b"!Stra0tis"),
    ("VDO", 0, b"dmvdo001"),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("bcache", 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("bcachefs", 0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9"),
    // The first name in the list that begins a label.
    ("ZFS", 0x4018, b"version\0"),
    ("squashfs", 0, b"hsqs"),
    ("erofs", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("cramfs", 0, b"\x45\x3d\xcd\x28"),
    ("romfs", 0, b"-rom1fs-"),
    ("f2fs", 0x400, b"\x10\x20\xf5\xf2"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("ReFS", 3, b"ReFS\0\0\0\0"),
    ("ReiserFS", 0x1_0034, b"ReIsErFs"),
    ("ReiserFS", 0x1_0034, b"ReIsEr2F"),
    ("ReiserFS", 0x1_0034, b"ReIsEr3F"),
    ("ReiserFS", 0x2034, b"ReIsErFs"),
    ("Reiser4", 0x1_0000, b"ReIsEr4"),
    ("JFS", 0x8000, b"JFS1"),
    ("UFS2", 0x1_055c, b"\x19\x01\x54\x19"),
    ("UFS2", 0x255c, b"\x19\x01\x54\x19"),
    ("UFS", 0x255c, b"\x54\x19\x01\x00"),
    ("GFS2", 0x1_0000, b"\x01\x16\x19\x70"),
    ("OCFS2", 0x2000, b"OCFSV2"),
    ("OCFS2", 0x1000, b"OCFSV2"),
    ("APFS", 0x20, b"NXSB"),
    ("UDF", 0x8001, b"BEA01"),
    ("swap", 0xff6, b"SWAPSPAC"),
    ("a qcow2 image", 0, b"QFI\xfb"),
    ("a VHD image", 0, b"conectix"),
    ("a VHDX image", 0, b"vhdxfile"),
    ("a VMDK image", 0, b"KDMV"),
    ("NILFS2", 0x406, b"\x34\x34"),
    ("HFS+", 0x400, b"H+"),
    ("HFS+", 0x400, b"HX"),
    ("Minix", 0x410, b"\x7f\x13"),
    ("Minix", 0x410, b"\x8f\x13"),
    ("Minix", 0x410, b"\x68\x24"),
    ("Minix", 0x410, b"\x78\x24"),
    ("Minix", 0x418, b"\x5a\x4d"),
];

/// What is on a disk or partition on which there is nothing that is read here,
/// if that is known by its magic number.
#[must_use]
pub fn foreign(source: &dyn BlockSource) -> Option<&'static str> {
    let is_there = |at: u64, magic: &[u8]| {
        let mut bytes = [0; 16];
        let bytes = bytes.get_mut(..magic.len());
        // One that ends before it has none there.
        bytes.is_some_and(|bytes| source.read_at(at, bytes).is_ok() && bytes == magic)
    };
    let found = FOREIGN.iter().find(|(_, at, magic)| is_there(*at, magic));
    found.map(|(name, ..)| *name)
}

/// Opens the file system on a disk or partition; nothing if there is none that
/// is known here.
///
/// # Errors
/// If the disk cannot be read, or what is on it looks like a file system but
/// cannot be opened.
pub fn probe(source: Rc<dyn BlockSource>) -> Result<Option<Box<dyn FileSystem>>, FsError> {
    let mut first = None;
    for known in MAGICS {
        let mut bytes = [0; 8];
        let Some(bytes) = bytes.get_mut(..known.magic.len()) else {
            continue;
        };
        let end = known
            .at
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        if end > source.bytes() {
            continue;
        }
        source.read_at(known.at, bytes).map_err(|error| FsError {
            path: "".into(),
            problem: Problem::Read(error),
        })?;
        if bytes != known.magic {
            continue;
        }
        match (known.open)(source.clone()) {
            Ok(found) => return Ok(Some(found)),
            // A boot sector that is not FAT's.
            Err(FsError {
                problem: Problem::Missing,
                ..
            }) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;

    #[test]
    fn what_is_not_read_has_a_name() {
        for (name, at, magic) in FOREIGN {
            let at = usize::try_from(*at).unwrap();
            let mut bytes = alloc::vec![0; 0x1_1000];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            let disk = MemoryDisk::new("xvda1", bytes);
            assert_eq!(foreign(&disk), Some(*name));
            assert!(probe(Rc::new(disk)).unwrap().is_none());
        }
        for bytes in [0, 100, 0x2000] {
            let disk = MemoryDisk::new("xvda1", alloc::vec![0; bytes]);
            assert_eq!(foreign(&disk), None);
        }
    }
}
