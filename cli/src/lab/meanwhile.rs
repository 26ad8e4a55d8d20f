//! What dom0 does while the busy guest runs: scripts for its shell.
//!
//! `lab/backend` maps what the guest grants and holds on to it; its lines are
//! in `log/backend-GUEST.log` of the shared folder.

use super::guest::Reply;
use super::hostile;

/// The backend's name in `/lab/img`.
pub(crate) const BACKEND: &str = "kexen-lab-backend";

/// Stops the backend, if one has said anything, and keeps what dom0's Linux had to
/// say meanwhile.
pub(crate) fn afterwards(name: &str) -> String {
    format!(
        "if [ -s /lab/log/backend-{name}.log ]; then\n\
             touch /run/stop-{name}\n\
             n=0\n\
             until grep -q done= /lab/log/backend-{name}.log || [ $n -ge 300 ]; do\n\
                 sleep 0.1\n\
                 n=$((n + 1))\n\
             done\n\
             dmesg > /lab/log/dmesg-{name}.log\n\
         fi\n"
    )
}

/// Has dom0 start a backend that maps and writes what the guest says.
pub(super) fn start_script(name: &str) -> String {
    let backend = format!("/run/backend-{name}");
    // Run from dom0's own memory: the shared folder is not for that.
    format!(
        "cp /lab/img/{BACKEND} {backend} && chmod 755 {backend} && dmesg --clear || exit\n\
         rm -f /run/stop-{name}\n\
         setsid {backend} write $(xl domid {name}) $value /run/stop-{name} \
         > /lab/log/backend-{name}.log 2>&1 &\n"
    )
}

/// What dom0 does while the busy guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    /// A backend maps all grants and never lets go.
    Keeps,
    /// It lets go some seconds after the hand-off has begun.
    Late,
    /// It is killed when the hand-off has begun.
    Dies,
    /// A block device more, whose backend has nonsense in xenstore.
    GarbageInStore,
    /// A block device more, whose backend fills its ring with nonsense.
    GarbageInRing,
    /// The toolstack takes back what the guest has ballooned out.
    Shrinks,
}

impl Meanwhile {
    /// Whether it needs the backend.
    pub(crate) const fn has_backend(self) -> bool {
        !matches!(self, Self::Shrinks | Self::GarbageInStore)
    }
}

/// MiB that the toolstack takes back: what `busy.balloon=2048` gives up.
const SHRINK_BY: u64 = 8;

/// What dom0 does for the busy guest: after which of its lines, and how.
pub(crate) fn replies(what: Meanwhile, name: &str, memory: u64) -> Vec<(String, Reply)> {
    let start = ("refs=", start_script(name));
    let replies = match what {
        Meanwhile::Keeps => vec![start],
        Meanwhile::Late => vec![
            start,
            ("exec=", format!("sleep 3\ntouch /run/stop-{name}\n")),
        ],
        Meanwhile::Dies => vec![
            start,
            (
                "exec=",
                format!("sleep 1\npkill -9 -f backend-{name} || killall -9 backend-{name}\ntrue\n"),
            ),
        ],
        Meanwhile::GarbageInStore => {
            vec![("started=", hostile::garbage_in_store(name))]
        }
        Meanwhile::GarbageInRing => vec![("started=", hostile::garbage_in_ring(name))],
        Meanwhile::Shrinks => vec![(
            "ask=shrink",
            format!("xl mem-set {name} {}m\n", memory - SHRINK_BY),
        )],
    };
    replies
        .into_iter()
        .map(|(key, script)| (format!("kexen-busy: {key}"), Reply::Dom0(script)))
        .collect()
}
