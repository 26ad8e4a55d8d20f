//! `bench --unpack`, and the last part of `bench --peers`: Kexen's decompressors
//! beside GRUB's own code for the same payloads, on the host's processor.
//!
//! GRUB's is in `grub-fstest` (package grub-common), which reads files out of an
//! image as GRUB does and unpacks them on the way. What it takes for the same
//! file unpacked, which is to read and to take a sum, is subtracted. Kexen's is
//! built as the boot image is, for the host. Beside the seconds, which the host's
//! load is in, the instructions, as valgrind counts them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use kexen_image::Compression;
use serde::Serialize;

use crate::host::{command, tools};
use crate::lab::artefacts::Grub;
use crate::lab::{build, repack};
use crate::ui;

/// How often each is run: the fastest counts.
const TIMES: usize = 7;
/// MiB of the image that GRUB reads from.
const IMAGE: u64 = 256;

/// A payload, unpacked by both.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    compression: &'static str,
    packed: usize,
    unpacked: usize,
    kexen_seconds: f64,
    grub_seconds: f64,
    kexen_instructions: u64,
    grub_instructions: u64,
}

/// `bench --unpack`: this part alone.
pub(super) fn alone(json: bool) -> Result<()> {
    let rows = run(&Grub::debian()?)?;
    if json {
        let document = serde_json::json!({ "decompressors": rows });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        show(&rows);
    }
    Ok(())
}

/// What both can unpack, by both.
pub(super) fn run(grub: &Grub) -> Result<Vec<Row>> {
    tools::require(&[tools::REPACK, tools::IMAGES, tools::COUNT])?;
    let scratch = tempfile::tempdir()?;
    let kexen = build::unpacker()?;
    let step = ui::step("unpacking by Kexen and by GRUB on this host");
    let forms = [(Compression::Gzip, "gzip"), (Compression::Xz, "xz")];
    let plain = fs::read(repack::elf()?)?;
    let files = scratch.path().join("files");
    fs::create_dir(&files)?;
    fs::write(files.join("plain"), &plain)?;
    let mut packed = Vec::new();
    for (compression, name) in forms {
        let kernel = fs::read(repack::kernel(compression)?)?;
        let (payload, _) = repack::packed(&kernel)?;
        fs::write(files.join(name), payload)?;
        packed.push((name, payload.len()));
    }
    let image = scratch.path().join("image");
    fs::File::create(&image)?.set_len(IMAGE << 20)?;
    command::run(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .args([&files, &image]),
    )?;
    let grub_runs = |name: &str| count(&mut crc(grub, &image, name), scratch.path());
    let (read, sum) = fastest(|| command::text(&mut crc(grub, &image, "plain")))?;
    let read_runs = grub_runs("plain")?;
    let mut rows = Vec::new();
    for (name, len) in packed {
        let (took, unpacked) = fastest(|| command::text(&mut crc(grub, &image, name)))?;
        ensure!(unpacked == sum, "GRUB unpacks {name} to something else");
        let unpack = || {
            let mut command = Command::new(&kexen);
            command.arg(files.join(name)).arg(plain.len().to_string());
            command
        };
        let own = command::text(&mut unpack())?;
        let own_runs = |times: &str| count(unpack().arg(times), scratch.path());
        let nanoseconds: u32 = own.trim().parse().context("what Kexen's took")?;
        rows.push(Row {
            compression: name,
            packed: len,
            unpacked: plain.len(),
            kexen_seconds: f64::from(nanoseconds) / 1e9,
            grub_seconds: took - read,
            kexen_instructions: own_runs("1")?.saturating_sub(own_runs("0")?),
            grub_instructions: grub_runs(name)?.saturating_sub(read_runs),
        });
    }
    step.done("measured");
    Ok(rows)
}

/// Has GRUB unpack a file and say its sum.
fn crc(grub: &Grub, image: &Path, name: &str) -> Command {
    let mut command = Command::new(&grub.fstest);
    command.arg("--uncompress").arg(image);
    command.args(["crc", &format!("/{name}")]);
    command
}

/// How many instructions a command takes.
fn count(command: &mut Command, scratch: &Path) -> Result<u64> {
    let log = scratch.join("counted");
    let mut counted = Command::new("valgrind");
    counted.args(["--tool=cachegrind", "--cache-sim=no"]);
    counted.arg("--cachegrind-out-file=/dev/null");
    counted.arg(format!("--log-file={}", log.display()));
    counted.arg(command.get_program()).args(command.get_args());
    command::run(&mut counted)?;
    let text = fs::read_to_string(&log)?;
    counted_in(&text).with_context(|| format!("valgrind counts nothing: {text}"))
}

/// The count in what valgrind says: `==7== I   refs:      123,638`.
fn counted_in(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.split_once("refs:"))?.1;
    let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The fastest of some runs in seconds, and what they said.
fn fastest(mut work: impl FnMut() -> Result<String>) -> Result<(f64, String)> {
    let mut best = f64::INFINITY;
    let mut said = String::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        said = work()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok((best, said))
}

/// The table, for people.
#[expect(clippy::cast_precision_loss, reason = "figures for a table")]
pub(super) fn show(rows: &[Row]) {
    println!("\nThe decompressors alone, on this host's processor, the cloud kernel's payload:");
    for row in rows {
        println!(
            "{:<6} {:.1} MiB to {:.1} MiB: Kexen {:.2} s, GRUB {:.2} s, ratio {:.2}; \
             instructions {} and {} million, ratio {:.2}",
            row.compression,
            super::bench_peers::mib(row.packed as u64),
            super::bench_peers::mib(row.unpacked as u64),
            row.kexen_seconds,
            row.grub_seconds,
            row.kexen_seconds / row.grub_seconds,
            row.kexen_instructions / 1_000_000,
            row.grub_instructions / 1_000_000,
            row.kexen_instructions as f64 / row.grub_instructions as f64
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valgrinds_count_is_read() {
        let said =
            "==26966== \n--26966-- warning: L3 cache found\n==26966== I   refs:      1,123,638\n";
        assert_eq!(counted_in(said), Some(1_123_638));
        assert_eq!(counted_in("==1== Command: x"), None);
    }
}
