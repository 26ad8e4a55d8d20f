//! A block device whose backend is none of Linux's: scripts for dom0's shell
//! that put it into the store, and have `lab/backend` serve its ring.
//!
//! Order of steps: both ends' folders of the store; when the frontend has
//! granted its ring (state 3), the backend's answer; state 4; when the
//! frontend closes (state 5), the backend lets go, or does not.

use super::meanwhile::BACKEND;

/// What a backend does that is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hostile {
    /// What it says of itself cannot be.
    Store,
    /// It never connects.
    Deaf,
    /// It has the ring, and never says that it is connected.
    Mute,
    /// It connects, and answers nothing.
    Silent,
    /// It answers each request with an error.
    Errors,
    /// It answers requests that nobody made.
    WrongIds,
    /// It answers each request twice.
    Twice,
    /// It says that it has answered more than was asked.
    Ahead,
    /// It fills the ring with nonsense.
    Garbage,
    /// It answers that all went well, with whatever was in the pages.
    Nothing,
    /// It goes away after its first answer.
    Vanishes,
    /// It answers with errors, and lets nothing go at the end.
    Keeps,
    /// It closes as it should but keeps the ring and writes to it. When the device
    /// is opened once more it does all as it should, and in the end lets go of
    /// what it kept, too.
    Hoards,
}

impl Hostile {
    /// All that let go at the end.
    pub(crate) const THAT_LET_GO: [Self; 11] = [
        Self::Store,
        Self::Deaf,
        Self::Silent,
        Self::Errors,
        Self::WrongIds,
        Self::Twice,
        Self::Ahead,
        Self::Garbage,
        Self::Nothing,
        Self::Vanishes,
        Self::Mute,
    ];

    /// How `lab/backend` serves the ring; none if it never comes to that.
    const fn service(self) -> Option<&'static str> {
        match self {
            Self::Store | Self::Deaf => None,
            Self::Silent | Self::Mute => Some("silent"),
            Self::Errors | Self::Keeps => Some("errors"),
            Self::WrongIds => Some("ids"),
            Self::Twice => Some("twice"),
            Self::Ahead => Some("ahead"),
            Self::Garbage | Self::Hoards => Some("garbage"),
            Self::Nothing => Some("nothing"),
            Self::Vanishes => Some("vanish"),
        }
    }

    /// What dom0 does before the guest runs; the disk is the one of that number,
    /// `xvde` and so on.
    fn before(self, name: &str, number: u32) -> String {
        let serve = match self.service() {
            _ if self == Self::Store => GARBAGE_IN_STORE.to_owned(),
            None => String::new(),
            Some(how) => {
                let connected = if self == Self::Mute { "" } else { CONNECTED };
                format!("{NODES}{}{connected}", ring(how))
            }
        };
        let again = if self == Self::Hoards {
            format!("{CLOSED}{}{CONNECTED}{LET_GO}", ring("errors"))
        } else {
            String::new()
        };
        let close = if self == Self::Keeps {
            ""
        } else {
            // Gone from the store too: the next kernel need not wait for it.
            "state_is '[!34]'\n\
             touch $stop\n\
             until ! [ -s $log ] || grep -q done= $log; do sleep 0.1; done\n\
             xenstore-write $back/state 6\n\
             sleep 1\n\
             xenstore-rm $front\n\
             xenstore-rm $back\n"
        };
        device(name, number, &format!("{serve}{again}{close}"))
    }
}

/// What dom0 does before a guest with all of these runs.
pub(crate) fn before(name: &str, all: &[Hostile]) -> String {
    let numbered = (0..).zip(all);
    numbered
        .map(|(number, hostile)| hostile.before(name, number))
        .collect()
}

/// Tells the backends to let go and end.
pub(crate) fn afterwards(name: &str, all: &[Hostile]) -> String {
    let stop = |number: usize| format!("touch /run/stop-{name}-{number}\n");
    (0..all.len()).map(stop).collect()
}

/// What a backend answers that makes no sense: its nodes of the store.
const GARBAGE_IN_STORE: &str = "\
    xenstore-write $back/sectors 2^64 $back/sector-size 0 $back/info '' $back/state 4\n";
/// Nodes that make sense.
const NODES: &str = "xenstore-write $back/sectors 2048 $back/sector-size 512 $back/info 0\n";
/// It has closed, and has let nothing go. Opened again, it says so in a file of its
/// own.
const CLOSED: &str = "state_is '[!34]'\n\
    xenstore-write $back/state 6\n\
    state_is 1\n\
    xenstore-write $back/state 2\n\
    state_is 3\n\
    stop=$stop.again\n\
    log=$log.again\n\
    : > $log\n";
/// When it is closed again, the first ring is let go.
const LET_GO: &str = "state_is '[!34]'\n\
    touch ${stop%.again}\n\
    until grep -q done= ${log%.again}; do sleep 0.1; done\n";
/// Until the backend has the ring.
const MAPPED: &str = "until grep -q mapped= $log; do sleep 0.1; done\n";
const CONNECTED: &str = "xenstore-write $back/state 4\n";

/// The ring served in this way, once it is mapped.
fn ring(how: &str) -> String {
    format!(
        "$backend block $domid $(xenstore-read $front/ring-ref) \
             $(xenstore-read $front/event-channel) {how} $stop >> $log 2>&1 &\n\
         {MAPPED}"
    )
}

/// A block device of whose backend the store has nonsense.
pub(super) fn garbage_in_store(name: &str) -> String {
    device(name, 0, GARBAGE_IN_STORE)
}

/// A block device whose nodes make sense, but whose ring does not.
pub(super) fn garbage_in_ring(name: &str) -> String {
    let garbage = format!(
        "{NODES}\
         $backend garbage $domid $(xenstore-read $front/ring-ref) 1 $stop >> $log 2>&1 &\n\
         {MAPPED}{CONNECTED}"
    );
    device(name, 0, &garbage)
}

/// A block device, `xvde` or one of those behind it, of whose backend only the
/// store knows: no driver looks below that name. The node `go` tells the guest
/// that it is complete.
fn device(name: &str, number: u32, answer: &str) -> String {
    let vdev = 51776 + 16 * number;
    // The first one's files are where `meanwhile::afterwards` looks.
    let own = if number == 0 {
        name.to_owned()
    } else {
        format!("{name}-{number}")
    };
    format!(
        "domid=$(xl domid {name}) || exit\n\
         front=/local/domain/$domid/device/vbd/{vdev}\n\
         back=/local/domain/0/backend/garbage/$domid/{vdev}\n\
         backend=/run/backend-{own}\n\
         stop=/run/stop-{own}\n\
         log=/lab/log/backend-{own}.log\n\
         rm -f $stop\n\
         [ ! -e /lab/img/{BACKEND} ] || {{ cp /lab/img/{BACKEND} $backend && chmod 755 $backend; }} || exit\n\
         : > $log\n\
         xenstore-write $back '' && xenstore-chmod $back n0 r$domid || exit\n\
         xenstore-write $back/frontend $front $back/frontend-id $domid $back/state 2 || exit\n\
         xenstore-write $front '' && xenstore-chmod $front n$domid r0 || exit\n\
         xenstore-write $front/backend $back $front/backend-id 0 $front/virtual-device {vdev} \
             $front/device-type disk $front/state 1 || exit\n\
         xenstore-write $front/go 1 || exit\n\
         (\n\
         # Until the frontend's state is like this, or the frontend is gone.\n\
         state_is() {{\n\
             while xenstore-exists $front; do\n\
                 case \"$(xenstore-read $front/state)\" in $1) return ;; esac\n\
                 timeout 8 xenstore-watch -n 2 $front/state > /dev/null\n\
             done\n\
             exit\n\
         }}\n\
         state_is 3\n\
         {answer}\
         ) > $log.sh 2>&1 &\n"
    )
}
