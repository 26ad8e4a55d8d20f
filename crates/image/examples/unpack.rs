//! Unpacks a payload of a kernel a few times over, and says how many
//! nanoseconds the fastest took: `unpack FILE BYTES [TIMES]`, of which there are so
//! many when it is unpacked. Not at all is what all but unpacking takes.
//!
//! `cargo kexen bench --peers` builds it as the boot image is built, for the
//! host, and runs it beside GRUB's own.

use std::process::ExitCode;
use std::time::Instant;

const TIMES: usize = 7;

fn main() -> ExitCode {
    match run() {
        Ok(nanoseconds) => {
            println!("{nanoseconds}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u128, String> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(bytes)) = (args.next(), args.next()) else {
        return Err("unpack FILE BYTES [TIMES]".into());
    };
    let times = args.next().map_or(Ok(TIMES), |times| times.parse());
    let times = times.map_err(|error| format!("TIMES: {error}"))?;
    let packed = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
    let bytes: usize = bytes.parse().map_err(|error| format!("{bytes}: {error}"))?;
    let mut out = vec![0; bytes];
    let mut fastest = u128::MAX;
    for _ in 0..times {
        let start = Instant::now();
        let written = kexen_image::unpack(&packed, &mut out).map_err(|error| error.to_string())?;
        fastest = fastest.min(start.elapsed().as_nanos());
        if written != bytes {
            return Err(format!("{file}: {written} bytes, not {bytes}"));
        }
    }
    Ok(fastest)
}
