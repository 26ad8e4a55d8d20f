//! Why something could not be started, with the place where it is wrong.

use alloc::string::String;

use kexen_bootconfig::module::ModuleError;
use kexen_guest::Fault;
use kexen_handoff::HandoffError;
use kexen_image::{DecompressError, ImageError};

/// Why something could not be started.
#[derive(Debug)]
pub enum Failure {
    /// There is no boot module.
    NoModule,
    /// The boot module is not an archive that can be used.
    Module(ModuleError),
    /// The boot module could not be decompressed.
    ModuleData(DecompressError),
    /// No entry of that name.
    NoEntry {
        /// The name.
        wanted: String,
        /// The names there are.
        known: String,
    },
    /// The file `kernel` of an entry is not one that can be used.
    Kernel {
        /// The file.
        file: String,
        /// What is wrong with it.
        error: ImageError,
    },
    /// The file `kernel` of an entry could not be decompressed.
    KernelData {
        /// The file.
        file: String,
        /// What is wrong with its data.
        error: DecompressError,
    },
    /// The kernel cannot start in a guest of this type.
    CannotStart {
        /// The file.
        file: String,
        /// The guest's type.
        guest: &'static str,
        /// What the kernel lacks.
        why: String,
    },
    /// Something about the guest's disks, in words.
    Disk(String),
    /// The hand-off stopped.
    Handoff(HandoffError),
    /// What the stage before left in memory is not as it left it.
    Marker {
        /// Pages that carry their marker.
        pages: u64,
        /// The checksum over them.
        sum: u64,
        /// Pages that were marked.
        want_pages: u64,
        /// The checksum over those.
        want_sum: u64,
    },
}

impl From<HandoffError> for Failure {
    fn from(error: HandoffError) -> Self {
        Self::Handoff(error)
    }
}
impl From<Fault> for Failure {
    fn from(error: Fault) -> Self {
        Self::Handoff(error.into())
    }
}
impl From<ModuleError> for Failure {
    fn from(error: ModuleError) -> Self {
        Self::Module(error)
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoModule => f.write_str(
                "there is no boot module: give the guest one as its ramdisk \
                 (make it with `kexen bundle`)",
            ),
            Self::Module(error) => write!(f, "boot module: {error}"),
            Self::ModuleData(error) => write!(f, "boot module: {error}"),
            Self::NoEntry { wanted, known } => {
                write!(f, "boot module: no entry {wanted:?}; there are: {known}")
            }
            Self::Kernel { file, error } => write!(f, "{file}: {error}"),
            Self::KernelData { file, error } => write!(f, "{file}: {error}"),
            Self::CannotStart { file, guest, why } => {
                write!(f, "{file}: cannot start in a {guest}: {why}")
            }
            Self::Disk(what) => f.write_str(what),
            Self::Handoff(error) => error.fmt(f),
            Self::Marker {
                pages,
                sum,
                want_pages,
                want_sum,
            } => write!(
                f,
                "kexen.marker: {pages} pages with checksum {sum:016x} are left of \
                 {want_pages} with {want_sum:016x}: free memory was changed by the hand-off"
            ),
        }
    }
}
