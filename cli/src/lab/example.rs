//! The package's examples of guests, as they are, started by their toolstack.
//!
//! Order of steps in dom0: the package is installed; `/dev/vg/guest`, which the
//! examples name, becomes a link to the disk; the toolstack starts the example;
//! the guest's kernel comes up on its disk, and powers off; the toolstack knows;
//! the package goes, and leaves nothing.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::dom0::{Dom0, GUEST_CPUS};
use crate::host::command;

/// How long a guest may take from its start to its end.
const LIMIT: Duration = Duration::from_secs(240);

/// What starts guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolstack {
    /// Xen's own.
    Xl,
    /// libvirt's driver for Xen.
    Libvirt,
}

impl Toolstack {
    /// Its name, in those of runs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xl => "xl",
            Self::Libvirt => "libvirt",
        }
    }

    /// Debian's packages that dom0 needs for it, beside Xen's own.
    pub(crate) const fn packages(self) -> &'static str {
        match self {
            Self::Xl => "",
            Self::Libvirt => "libvirt-daemon,libvirt-daemon-driver-xen,libvirt-clients",
        }
    }

    const fn ending(self) -> &'static str {
        match self {
            Self::Xl => "cfg",
            Self::Libvirt => "xml",
        }
    }

    /// Has it make the guest, which waits.
    fn create(self, file: &str) -> String {
        match self {
            Self::Xl => format!("xl create -p {file}\n"),
            Self::Libvirt => format!(
                "mkdir -p /run/libvirt /var/lib/libvirt /var/log/libvirt\n\
                 # It starts on processors that it knows alone, all of which have\n\
                 # VME: QEMU's emulation has none.\n\
                 sed -i /vme/d /usr/share/libvirt/cpu_map/x86_486.xml\n\
                 # It ends if one driver does: no user for the one of QEMU here.\n\
                 rm -f /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so\n\
                 if [ ! -e /run/libvirt/libvirt-sock ]; then\n\
                     LIBVIRT_LOG_OUTPUTS=2:file:/lab/log/libvirtd.log setsid libvirtd > /lab/log/libvirtd.out 2>&1 &\n\
                 fi\n\
                 n=0\n\
                 until timeout 10 virsh -c xen:///system version > /lab/log/virsh.log 2>&1 || [ $n -ge 60 ]; do\n\
                     sleep 0.5\n\
                     n=$((n + 1))\n\
                 done\n\
                 timeout 90 virsh -c xen:///system create --paused {file}\n"
            ),
        }
    }

    const fn resume(self) -> &'static str {
        match self {
            Self::Xl => "xl unpause guest",
            Self::Libvirt => "virsh -c xen:///system resume guest",
        }
    }

    /// Says that it knows of no guest.
    const fn gone(self) -> &'static str {
        match self {
            Self::Xl => "! xl list guest > /dev/null 2>&1",
            Self::Libvirt => {
                "! virsh -c xen:///system domstate guest > /dev/null 2>&1 && \
                 virsh -c xen:///system list --all | grep -q Name"
            }
        }
    }
}

/// Installs the package. dom0's image has none of dpkg's lists.
const INSTALL: &str = "mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers && \
     touch /var/lib/dpkg/status && dpkg -i";

/// Takes it away, and says what it has left. The folder stays: the lab has dom0's
/// modules in it.
const REMOVE: &str = "dpkg --purge kexen > /dev/null 2>&1 || echo dpkg failed
     find /usr -name kexen-x86_64* -o -name pvgrub64.bin -o -path /usr/bin/kexen
     true
";

/// Starts the example of that name, and waits for its end.
pub(crate) fn run(
    dom0: &mut Dom0,
    toolstack: Toolstack,
    name: &str,
    package: &Path,
    disk: &Path,
) -> Result<()> {
    let (package, disk) = (dom0.share_image(package)?, dom0.share_image(disk)?);
    let example = format!(
        "/usr/share/doc/kexen/examples/{name}.{}",
        toolstack.ending()
    );
    let (create, resume, gone) = (
        toolstack.create(&example),
        toolstack.resume(),
        toolstack.gone(),
    );
    let log = dom0.log("guest-guest.log");
    fs::remove_file(&log).ok();
    let said = dom0.run(&format!(
        "{INSTALL} {package} && kexen --version || exit\n\
         losetup /dev/loop2 {disk} && mkdir -p /dev/vg && ln -sf /dev/loop2 /dev/vg/guest || exit\n\
         {create}\
         [ $? = 0 ] || exit\n\
         xl vcpu-pin guest all {} && {resume} || exit\n",
        GUEST_CPUS
    ))?;
    let look = format!(
        "if {gone}; then\n\
             echo gone\n\
         elif grep -q ask=line /lab/log/guest-guest.log && [ ! -e /run/told ]; then\n\
             touch /run/told\n\
             printf 'hello\\n' > $(xenstore-read /local/domain/$(xl domid guest)/console/tty)\n\
         fi\n\
         true\n"
    );
    let start = Instant::now();
    let mut ended = false;
    while !ended && start.elapsed() < LIMIT {
        ended = dom0.run(&look)?.trim() == "gone";
        thread::sleep(Duration::from_millis(200));
    }
    dom0.run("rm -f /run/told\nxl destroy guest 2>/dev/null\nlosetup -d /dev/loop2\ntrue\n")?;
    let console = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let complaint = || format!("{said}the guest said: {}", command::tail(&console, 12));
    for text in ["kexen: Kexen ", "kexen-lab: done=ok"] {
        ensure!(console.contains(text), "no {text:?}: {}", complaint());
    }
    ensure!(ended, "the toolstack still has it: {}", complaint());
    let left = dom0.run(REMOVE)?;
    ensure!(left.trim().is_empty(), "the package left {left}");
    Ok(())
}
