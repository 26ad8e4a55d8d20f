//! `inspect`: what a kernel image or boot module is, or what would boot from a
//! disk.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kexen_bootconfig::{entry::plain, module::Module};
use kexen_image::{
    CannotStart, Compression, GuestType, Kernel, Plan, Segment, XenNotes, plan, unpack,
};
use serde::Serialize;

use super::inspect_disk;

/// Options of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing but the file is needed. Example:
  cargo kexen inspect /boot/vmlinuz-6.1.0-18-amd64
  cargo kexen inspect --guest pvh DISK.img")]
pub(crate) struct InspectArgs {
    /// A kernel image (bzImage or ELF), a boot module, or the raw image of a
    /// disk
    file: PathBuf,
    /// The guest that a disk's configurations are read for
    #[arg(long, value_enum, default_value_t)]
    guest: inspect_disk::GuestKind,
    /// Print one JSON document on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Report {
    Kernel(Box<KernelReport>),
    Module(ModuleReport),
    Disk(inspect_disk::DiskReport),
}

#[derive(Debug, Serialize)]
struct ModuleReport {
    compression: &'static str,
    entries: Vec<EntryReport>,
    ignored: Vec<String>,
}

#[derive(Debug, Serialize)]
struct EntryReport {
    name: String,
    kernel: KernelReport,
    initrd_bytes: Option<usize>,
    /// Whether the initrd can be handed over without a copy.
    initrd_aligned: Option<bool>,
    cmdline: Option<String>,
}

#[derive(Debug, Serialize)]
struct KernelReport {
    format: &'static str,
    version: Option<String>,
    protocol: Option<String>,
    compression: &'static str,
    packed_bytes: usize,
    unpacked_bytes: u64,
    decompressor_bytes: usize,
    entry: String,
    segments: Vec<SegmentReport>,
    memory: String,
    notes: Vec<(&'static str, String)>,
    starts: Vec<StartReport>,
}

#[derive(Debug, Serialize)]
struct SegmentReport {
    offset: String,
    vaddr: String,
    paddr: String,
    file_bytes: u64,
    memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct StartReport {
    guest: &'static str,
    can_start: bool,
    /// Where it is entered: by virtual address in PV.
    entry: Option<String>,
    why_not: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &InspectArgs) -> Result<()> {
    let name = args.file.display();
    let cannot = || format!("cannot read {name}");
    let report = match inspect_disk::report(&args.file, args.guest).with_context(cannot)? {
        Some(disk) => Report::Disk(disk),
        None => {
            let file = fs::read(&args.file).with_context(cannot)?;
            report(&file).with_context(|| format!("{name}"))?
        }
    };
    let text = if args.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        // Names, labels and titles are anybody's.
        plain(&render(&report)?)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn report(file: &[u8]) -> Result<Report> {
    let compression = Compression::detect(file);
    if compression == Compression::None && !file.starts_with(b"0707") {
        return Ok(Report::Kernel(Box::new(kernel(file)?)));
    }
    let unpacked;
    let archive = if compression == Compression::None {
        file
    } else {
        unpacked = unpack_whole(file)?;
        &unpacked
    };
    if !archive.starts_with(b"0707") {
        // Packed or not, it is what it would be in a boot module.
        return Ok(Report::Kernel(Box::new(kernel(file)?)));
    }
    let module = Module::parse(archive)?;
    let mut entries = Vec::new();
    for entry in module.entries() {
        let bytes = &archive[entry.kernel.clone()];
        let kernel = kernel(bytes).with_context(|| format!("{}kernel", entry.prefix()))?;
        entries.push(EntryReport {
            name: entry.name().into(),
            kernel,
            initrd_bytes: entry.initrd.as_ref().map(ExactSizeIterator::len),
            initrd_aligned: entry
                .initrd
                .as_ref()
                .map(|range| range.start.is_multiple_of(4096)),
            cmdline: entry.cmdline.clone(),
        });
    }
    Ok(Report::Module(ModuleReport {
        compression: compression.name(),
        entries,
        ignored: module.ignored().to_vec(),
    }))
}

/// Unpacks a file of unknown size: more room until it fits.
fn unpack_whole(file: &[u8]) -> Result<Vec<u8>> {
    let mut room = file.len() * 4 + (1 << 20);
    loop {
        let mut out = vec![0; room];
        match unpack(file, &mut out) {
            Ok(len) => {
                out.truncate(len);
                return Ok(out);
            }
            Err(error) if error.is_full() && room < 16 << 30 => room *= 4,
            Err(error) => return Err(error.into()),
        }
    }
}

fn kernel(file: &[u8]) -> Result<KernelReport> {
    let kernel = Kernel::parse(file)?;
    let payload = kernel.payload();
    let mut whole = vec![0; usize::try_from(payload.size)?];
    payload.decompress(&mut whole)?;
    let elf = kernel.elf(&whole)?;
    let notes = elf.notes(&whole)?;
    let (format, version, protocol) = match &kernel {
        Kernel::BzImage(image) => (
            "bzImage",
            image.version.map(String::from),
            Some(format!(
                "{}.{:02}",
                image.protocol >> 8,
                image.protocol & 0xff
            )),
        ),
        Kernel::Elf(_) => ("ELF", None, None),
    };
    let hex = |value: u64| format!("{value:#x}");
    let segments = elf.segments();
    let memory = match (segments.first(), segments.last()) {
        (Some(first), Some(last)) => {
            format!("{:#x}-{:#x}", first.paddr, last.paddr + last.memsz)
        }
        _ => String::new(),
    };
    let segment = |s: &Segment| SegmentReport {
        offset: hex(s.offset),
        vaddr: hex(s.vaddr),
        paddr: hex(s.paddr),
        file_bytes: s.filesz,
        memory_bytes: s.memsz,
    };
    Ok(KernelReport {
        format,
        version,
        protocol,
        compression: payload.compression.name(),
        packed_bytes: payload.bytes.len(),
        unpacked_bytes: payload.size,
        decompressor_bytes: payload.scratch()?,
        entry: hex(elf.entry),
        segments: segments.iter().map(segment).collect(),
        memory,
        notes: note_list(&notes),
        starts: starts(|guest| plan(&elf, &notes, &whole, guest)),
    })
}

/// What becomes of it in each guest; in a dom0 where that is another matter.
fn starts(plan: impl Fn(GuestType) -> Result<Plan, CannotStart>) -> Vec<StartReport> {
    let of = |guest: GuestType, name| {
        let (entry, why_not) = match plan(guest) {
            Ok(plan) => (Some(format!("{:#x}", plan.entry)), None),
            Err(why) => (None, Some(why.to_string())),
        };
        StartReport {
            guest: name,
            can_start: entry.is_some(),
            entry,
            why_not,
        }
    };
    let mut all = vec![
        of(GuestType::Pv, "PV (64-bit)"),
        of(GuestType::Pvh, "PVH"),
        of(GuestType::Hvm, "HVM"),
    ];
    for (dom0, like) in [(GuestType::Dom0Pv, 0), (GuestType::Dom0Pvh, 1)] {
        let report = of(dom0, dom0.name());
        if report.why_not != all[like].why_not {
            all.push(report);
        }
    }
    all
}

/// The notes that are there, by Xen's names.
fn note_list(notes: &XenNotes) -> Vec<(&'static str, String)> {
    let number = |value: &Option<u64>| value.map(|value| format!("{value:#x}"));
    let all = [
        ("GUEST_OS", notes.guest_os.clone()),
        ("GUEST_VERSION", notes.guest_version.clone()),
        ("XEN_VERSION", notes.xen_version.clone()),
        ("LOADER", notes.loader.clone()),
        ("ENTRY", number(&notes.entry)),
        ("HYPERCALL_PAGE", number(&notes.hypercall_page)),
        ("VIRT_BASE", number(&notes.virt_base)),
        ("PADDR_OFFSET", number(&notes.paddr_offset)),
        ("INIT_P2M", number(&notes.init_p2m)),
        ("HV_START_LOW", number(&notes.hv_start_low)),
        ("PAE_MODE", notes.pae_mode.clone()),
        ("FEATURES", notes.features.clone()),
        (
            "SUPPORTED_FEATURES",
            notes.supported_features.map(|bits| format!("{bits:#x}")),
        ),
        ("BSD_SYMTAB", notes.bsd_symtab.clone()),
        ("SUSPEND_CANCEL", number(&notes.suspend_cancel)),
        (
            "MOD_START_PFN",
            notes.mod_start_pfn.then(|| String::from("1")),
        ),
        ("PHYS32_ENTRY", number(&notes.phys32_entry)),
        (
            "PHYS32_RELOC",
            notes.phys32_reloc.map(|reloc| {
                let align = reloc.align.map(|align| format!("aligned to {align:#x}, "));
                let (min, max) = (reloc.min, reloc.max);
                format!("{}from {min:#x} to {max:#x}", align.unwrap_or_default())
            }),
        ),
    ];
    all.into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
}

fn render(report: &Report) -> Result<String> {
    let mut out = String::new();
    match report {
        Report::Kernel(kernel) => render_kernel(&mut out, "", kernel)?,
        Report::Module(module) => {
            writeln!(out, "boot module, compression {}", module.compression)?;
            for entry in &module.entries {
                writeln!(out, "entry {}", entry.name)?;
                if let Some(text) = &entry.cmdline {
                    writeln!(out, "  cmdline      {text}")?;
                }
                if let (Some(bytes), Some(aligned)) = (entry.initrd_bytes, entry.initrd_aligned) {
                    let how = if aligned {
                        "handed over without a copy"
                    } else {
                        "has to be copied: not page-aligned in the module"
                    };
                    writeln!(out, "  initrd       {bytes} bytes, {how}")?;
                }
                render_kernel(&mut out, "  ", &entry.kernel)?;
            }
            for name in &module.ignored {
                writeln!(out, "not used: {name}")?;
            }
        }
        Report::Disk(disk) => write!(out, "{disk}")?,
    }
    Ok(out)
}

fn render_kernel(out: &mut String, indent: &str, k: &KernelReport) -> Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{indent}{name:<12} {value}");
    let protocol = k.protocol.as_ref();
    let protocol = protocol.map_or(String::new(), |p| format!(", boot protocol {p}"));
    line("format", &format!("{}{protocol}", k.format))?;
    if let Some(version) = &k.version {
        line("version", version)?;
    }
    line(
        "payload",
        &format!(
            "{}, {} bytes, {} unpacked (decompressor: at most {} bytes of memory)",
            k.compression, k.packed_bytes, k.unpacked_bytes, k.decompressor_bytes
        ),
    )?;
    line("memory", &k.memory)?;
    line("ELF entry", &k.entry)?;
    for s in &k.segments {
        let text = format!(
            "file {} ({} bytes) -> virtual {}, physical {} ({} bytes)",
            s.offset, s.file_bytes, s.vaddr, s.paddr, s.memory_bytes
        );
        line("segment", &text)?;
    }
    for (name, value) in &k.notes {
        line("note", &format!("{name} = {value}"))?;
    }
    for start in &k.starts {
        let text = match (&start.entry, &start.why_not) {
            (_, Some(why)) => format!("{}: cannot start: {why}", start.guest),
            (Some(entry), None) => format!("{}: can start, at {entry}", start.guest),
            (None, None) => format!("{}: can start", start.guest),
        };
        line("guest", &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_an_error_that_says_so() {
        let error = report(b"#!/bin/sh\n").unwrap_err();
        assert!(error.to_string().contains("neither a bzImage nor an ELF"));
        assert!(report(b"").unwrap_err().to_string().contains("empty"));
    }
}
