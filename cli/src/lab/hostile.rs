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
}

impl Hostile {
    /// All there are, with their names in cases.
    pub(crate) const ALL: [(Self, &'static str); 11] = [
        (Self::Store, "store"),
        (Self::Deaf, "deaf"),
        (Self::Silent, "silent"),
        (Self::Errors, "errors"),
        (Self::WrongIds, "wrong-ids"),
        (Self::Twice, "twice"),
        (Self::Ahead, "ahead"),
        (Self::Garbage, "garbage"),
        (Self::Nothing, "nothing"),
        (Self::Vanishes, "vanishes"),
        (Self::Keeps, "keeps"),
    ];

    /// How `lab/backend` serves the ring; none if it never comes to that.
    const fn service(self) -> Option<&'static str> {
        match self {
            Self::Store | Self::Deaf => None,
            Self::Silent => Some("silent"),
            Self::Errors | Self::Keeps => Some("errors"),
            Self::WrongIds => Some("ids"),
            Self::Twice => Some("twice"),
            Self::Ahead => Some("ahead"),
            Self::Garbage => Some("garbage"),
            Self::Nothing => Some("nothing"),
            Self::Vanishes => Some("vanish"),
        }
    }

    /// What dom0 does before the guest runs.
    pub(crate) fn before(self, name: &str) -> String {
        let serve = match self.service() {
            _ if self == Self::Store => GARBAGE_IN_STORE.to_owned(),
            None => String::new(),
            Some(how) => format!(
                "{NODES}\
                 $backend block $domid $(xenstore-read $front/ring-ref) \
                     $(xenstore-read $front/event-channel) {how} $stop >> $log 2>&1 &\n\
                 {MAPPED}"
            ),
        };
        let close = if self == Self::Keeps {
            ""
        } else {
            // Gone from the store too: the next kernel need not wait for it.
            "until [ \"$(xenstore-read $front/state)\" != 4 ] && [ \"$(xenstore-read $front/state)\" != 3 ]; do sleep 0.1; done\n\
             touch $stop\n\
             until ! [ -s $log ] || grep -q done= $log; do sleep 0.1; done\n\
             xenstore-write $back/state 6\n\
             sleep 1\n\
             xenstore-rm $front\n\
             xenstore-rm $back\n"
        };
        device(name, &format!("{serve}{close}"))
    }
}

/// What a backend answers that makes no sense: its nodes of the store.
const GARBAGE_IN_STORE: &str = "\
    xenstore-write $back/sectors 2^64 $back/sector-size 0 $back/info '' $back/state 4\n";
/// Nodes that make sense.
const NODES: &str = "xenstore-write $back/sectors 2048 $back/sector-size 512 $back/info 0\n";
/// The backend has the ring: on with it.
const MAPPED: &str = "\
    until grep -q mapped= $log; do sleep 0.1; done\n\
    xenstore-write $back/state 4\n";

/// A block device of whose backend the store has nonsense.
pub(super) fn garbage_in_store(name: &str) -> String {
    device(name, GARBAGE_IN_STORE)
}

/// A block device whose nodes make sense, but whose ring does not.
pub(super) fn garbage_in_ring(name: &str) -> String {
    let garbage = format!(
        "{NODES}\
         $backend garbage $domid $(xenstore-read $front/ring-ref) 1 $stop >> $log 2>&1 &\n\
         {MAPPED}"
    );
    device(name, &garbage)
}

/// A block device `xvde` of whose backend only the store knows: no driver
/// looks below that name. The node `go` tells the guest that it is complete.
fn device(name: &str, answer: &str) -> String {
    format!(
        "domid=$(xl domid {name}) || exit\n\
         front=/local/domain/$domid/device/vbd/51776\n\
         back=/local/domain/0/backend/garbage/$domid/51776\n\
         backend=/run/backend-{name}\n\
         stop=/run/stop-{name}\n\
         log=/lab/log/backend-{name}.log\n\
         rm -f $stop\n\
         [ ! -e /lab/img/{BACKEND} ] || {{ cp /lab/img/{BACKEND} $backend && chmod 755 $backend; }} || exit\n\
         : > $log\n\
         xenstore-write $back '' && xenstore-chmod $back n0 r$domid || exit\n\
         xenstore-write $back/frontend $front $back/frontend-id $domid $back/state 2 || exit\n\
         xenstore-write $front '' && xenstore-chmod $front n$domid r0 || exit\n\
         xenstore-write $front/backend $back $front/backend-id 0 $front/virtual-device 51776 \
             $front/device-type disk $front/state 1 || exit\n\
         xenstore-write $front/go 1 || exit\n\
         (\n\
         n=0\n\
         until [ \"$(xenstore-read $front/state)\" = 3 ] || [ $n -ge 300 ]; do\n\
             sleep 0.1\n\
             n=$((n + 1))\n\
         done\n\
         {answer}\
         ) > $log.sh 2>&1 &\n"
    )
}
