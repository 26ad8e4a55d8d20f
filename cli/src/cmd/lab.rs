//! `lab`: the lab with a shell in dom0.

use std::fs;

use anyhow::Result;

use crate::host::tools;
use crate::lab::artefacts::{Flavour, Kernel, Xen};
use crate::lab::build::{self, Variant};
use crate::lab::example::Toolstack;
use crate::lab::{dom0, dom0_image, payload, qemu};

/// Options of `lab`.
#[derive(Debug, clap::Args)]
pub(crate) struct LabArgs {
    /// Version of Xen
    #[arg(long, value_enum, default_value = "4.17")]
    xen: Xen,
    /// The most memory that guests will get
    #[arg(long, value_name = "MiB", default_value_t = 2048)]
    memory: u64,
}

/// Boots the lab on this terminal.
pub(crate) fn run(args: &LabArgs) -> Result<()> {
    tools::require_lab()?;
    let (dom0_kernel, dom0_initrd) = dom0_image::get(args.xen, Toolstack::Xl)?;
    let dir = qemu::run_dir(&format!("lab-{}", args.xen.version()))?;
    let share = dir.join("share");
    fs::create_dir_all(&share)?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let initrd = kernel.test_initrd(0, "")?;
    fs::copy(&kernel.image, share.join("vmlinuz"))?;
    fs::copy(&initrd, share.join("initrd.cpio"))?;
    payload::write(
        &share.join("module"),
        &kernel.image,
        Some(&initrd),
        "console=hvc0",
    )?;
    match build::image(Variant::Normal) {
        Ok(image) => {
            fs::copy(image.stripped, share.join("kexen.elf"))?;
        }
        // The lab is where one finds out why.
        Err(error) => eprintln!("no boot image in the lab: {error:#}"),
    }
    for mode in ["pv", "pvh"] {
        for (name, kernel, module, cmdline) in [
            (mode.to_owned(), "kexen.elf", "module", ""),
            (
                format!("{mode}-direct"),
                "vmlinuz",
                "initrd.cpio",
                "console=hvc0",
            ),
        ] {
            let text = format!(
                "name = \"{name}\"\ntype = \"{mode}\"\nkernel = \"/lab/{kernel}\"\n\
                 ramdisk = \"/lab/{module}\"\ncmdline = \"{cmdline}\"\nmemory = 512\nvcpus = 1\ncpus = \"{}\"\n",
                dom0::GUEST_CPUS
            );
            fs::write(share.join(format!("{name}.cfg")), text)?;
        }
    }
    eprintln!(
        "The folder {} is /lab in dom0. Once the shell is there:\n  \
         xl create -c pv.cfg         a PV guest through Kexen (pvh.cfg: PVH)\n  \
         xl create -c pv-direct.cfg  the same without Kexen\n  \
         poweroff                    leaves the lab (as does Ctrl-A X)",
        share.display()
    );
    qemu::Machine {
        xen: args.xen,
        xen_options: dom0::xen_options(),
        kernel: &dom0_kernel.image,
        cmdline: format!("{} kexen.shell", dom0::DOM0_CMDLINE),
        module: &dom0_initrd,
        memory: dom0::machine_memory(args.memory),
        cpus: 2,
        share: Some(share),
    }
    .interactive(&dir)?;
    Ok(())
}
