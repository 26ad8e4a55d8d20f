//! `bundle`: pack a boot module.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use kexen_bootconfig::module::{self, DEFAULT, Module, NewEntry};
use kexen_image::{GuestType, Kernel, plan};
use kexen_trust::Keys;
use serde::Serialize;

/// Options of `bundle`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo kexen bundle --kernel vmlinuz --initrd initrd.img \\
      --cmdline 'root=/dev/xvda1 ro console=hvc0' -o guest.module
  cargo kexen bundle --kernel vmlinuz-new --add old:kernel=vmlinuz-old \\
      --add old:cmdline='console=hvc0' -o guest.module
  cargo kexen bundle --keys minisign.pub -o guest.module

The guest gets the module as its ramdisk; `kexen.entry=old` on the guest's
command line starts the other entry.")]
pub(crate) struct BundleArgs {
    /// Kernel of the default entry: a bzImage or an ELF file with Xen notes
    #[arg(long, value_name = "FILE", required_unless_present = "keys")]
    kernel: Option<PathBuf>,
    /// Initrd of the default entry
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Command line of the default entry
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<String>,
    /// File or text of another entry: NAME:kernel=FILE, NAME:initrd=FILE or
    /// NAME:cmdline=TEXT
    #[arg(long, value_name = "NAME:PART=VALUE")]
    add: Vec<String>,
    /// Public keys of minisign: without a kernel, the guest boots its own disk,
    /// and starts what is signed by one of them alone
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Compress the module; an initrd then has to be unpacked by Kexen
    #[arg(long, value_enum, default_value_t = Compress::None)]
    compress: Compress,
    /// Where to write the module
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON document on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Compress {
    None,
    Gzip,
    Zstd,
}

/// An entry with its files read.
#[derive(Debug, Default)]
struct Files {
    name: String,
    /// Where the kernel comes from.
    path: PathBuf,
    kernel: Option<Vec<u8>>,
    initrd: Option<Vec<u8>>,
    cmdline: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    path: PathBuf,
    bytes: u64,
    entries: Vec<EntryReport>,
}

#[derive(Debug, Serialize)]
struct EntryReport {
    name: String,
    kernel: String,
    kernel_bytes: usize,
    initrd_bytes: Option<usize>,
    cmdline: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &BundleArgs) -> Result<()> {
    let entries = gather(args)?;
    let mut reports = Vec::new();
    let mut new = Vec::new();
    for entry in &entries {
        let kernel = entry.kernel.as_deref().with_context(|| {
            format!(
                "entry {0}: no kernel; add --add {0}:kernel=FILE",
                entry.name
            )
        })?;
        let what = check_kernel(kernel).with_context(|| entry.path.display().to_string())?;
        reports.push(EntryReport {
            name: entry.name.clone(),
            kernel: what,
            kernel_bytes: kernel.len(),
            initrd_bytes: entry.initrd.as_ref().map(Vec::len),
            cmdline: entry.cmdline.clone(),
        });
        new.push(NewEntry {
            name: &entry.name,
            kernel,
            initrd: entry.initrd.as_deref(),
            cmdline: entry.cmdline.as_deref(),
        });
    }
    let keys = args.keys.as_deref().map(keys).transpose()?;
    let archive = module::write_with_keys(&new, keys.as_deref());
    // What Kexen would say of it, said here.
    Module::parse(&archive).context("the module would be refused")?;
    let bytes = match args.compress {
        Compress::None => archive,
        Compress::Gzip => pipe("gzip", &["-9", "-n"], archive)?,
        Compress::Zstd => pipe("zstd", &["-19", "-q"], archive)?,
    };
    fs::write(&args.output, &bytes)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let report = Report {
        path: args.output.clone(),
        bytes: u64::try_from(bytes.len())?,
        entries: reports,
    };
    print(args, &report)
}

fn print(args: &BundleArgs, report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    writeln!(out, "{} {} bytes", report.path.display(), report.bytes)?;
    for entry in &report.entries {
        write!(
            out,
            "  {}: {}, {} bytes",
            entry.name, entry.kernel, entry.kernel_bytes
        )?;
        if let Some(bytes) = entry.initrd_bytes {
            write!(out, "; initrd {bytes} bytes")?;
        }
        if let Some(text) = &entry.cmdline {
            write!(out, "; {text:?}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        u32::try_from(bytes.len()).is_ok(),
        "{}: a file of a boot module has less than 4 GiB",
        path.display()
    );
    Ok(bytes)
}

/// Reads all files of all entries, the default one first.
fn gather(args: &BundleArgs) -> Result<Vec<Files>> {
    let mut entries = Vec::new();
    match &args.kernel {
        Some(kernel) => entries.push(Files {
            name: DEFAULT.into(),
            path: kernel.clone(),
            kernel: Some(read(kernel)?),
            initrd: args.initrd.as_deref().map(read).transpose()?,
            cmdline: args.cmdline.clone(),
        }),
        None => ensure!(
            args.initrd.is_none() && args.cmdline.is_none(),
            "--initrd and --cmdline belong to a kernel; add --kernel FILE"
        ),
    }
    for add in &args.add {
        let parts = add
            .split_once('=')
            .and_then(|(key, value)| key.split_once(':').map(|(name, part)| (name, part, value)));
        let Some((name, part, value)) = parts else {
            bail!(
                "--add {add}: it must be NAME:kernel=FILE, NAME:initrd=FILE or NAME:cmdline=TEXT"
            );
        };
        ensure!(
            !name.is_empty() && !name.contains('/') && name != DEFAULT && name != ".",
            "--add {add}: {name:?} cannot be the name of another entry"
        );
        let at = entries.iter().position(|entry| entry.name == name);
        let at = at.unwrap_or_else(|| {
            entries.push(Files {
                name: name.into(),
                ..Files::default()
            });
            entries.len() - 1
        });
        let entry = &mut entries[at];
        let twice = match part {
            "kernel" => {
                entry.path = value.into();
                entry.kernel.replace(read(Path::new(value))?).is_some()
            }
            "initrd" => entry.initrd.replace(read(Path::new(value))?).is_some(),
            "cmdline" => entry.cmdline.replace(value.into()).is_some(),
            _ => bail!("--add {add}: {part:?} is none of kernel, initrd, cmdline"),
        };
        ensure!(!twice, "--add {add}: entry {name} has a {part} already");
    }
    Ok(entries)
}

/// Public keys, as they go into the module.
fn keys(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    Keys::parse(&text).with_context(|| file.display().to_string())?;
    Ok(text)
}

/// What a kernel is, if it can start in any type of guest.
fn check_kernel(file: &[u8]) -> Result<String> {
    let kernel = Kernel::parse(file)?;
    let payload = kernel.payload();
    let mut whole = vec![0; usize::try_from(payload.size)?];
    payload.decompress(&mut whole)?;
    let elf = kernel.elf(&whole)?;
    let notes = elf.notes(&whole)?;
    let plan = |guest| plan(&elf, &notes, &whole, guest);
    if let (Err(pv), Err(pvh)) = (plan(GuestType::Pv), plan(GuestType::Pvh)) {
        bail!("it can start in no guest: not in PV: {pv}; not in PVH: {pvh}");
    }
    Ok(kernel.describe())
}

/// Runs bytes through a program.
fn pipe(program: &str, args: &[&str], bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}; install the package {program}"))?;
    let mut stdin = child.stdin.take().context("no pipe")?;
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program} failed");
    writer.join().ok().context("the writer failed")??;
    Ok(output.stdout)
}
