//! Ages a file system: `kexen-lab-ager DIRECTORY SEED MIB [WORD ...]`.
//!
//! Writes about so many MiB below a directory, in the ways that leave traces
//! on a disk: files that grow in turn, every second one deleted, holes, names
//! that come and go. What it does depends on seed and words alone. A full
//! disk is no error: what is there then stays.
//!
//! | word | what it means |
//! |---|---|
//! | `fat` | no links, no holes, no names that differ in case alone |
//! | `iso` | as a tree for an ISO 9660 image: short paths, few files |
//! | `few` | a tenth of the names |
//! | `names` | a directory of 6000 |
//! | `far` | holes so long that ext2 needs blocks of blocks of blocks |
//! | `full` | goes on until there is no room, and gives a little back |
//! | `again` | works on what an earlier run left: for what comes after a snapshot |

mod noise;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;

use steps::Ager;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [directory, seed, mib, words @ ..] = args.as_slice() else {
        eprintln!("usage: kexen-lab-ager DIRECTORY SEED MIB [WORD ...]");
        return ExitCode::FAILURE;
    };
    let (Ok(seed), Ok(mib)) = (seed.parse(), mib.parse()) else {
        eprintln!("kexen-lab-ager: seed and MiB are numbers");
        return ExitCode::FAILURE;
    };
    let mut ager = Ager::new(PathBuf::from(directory), seed, mib, words);
    match ager.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kexen-lab-ager: {error}");
            ExitCode::FAILURE
        }
    }
}
