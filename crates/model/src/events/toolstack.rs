//! The ports that a toolstack opens before a guest starts.
//!
//! Order of steps, as libxl's: store first, console next
//! (`libxl__build_pre` in `tools/libs/light/libxl_dom.c`), so that they are
//! ports 1 and 2: the builder opens them. Then the device model, for an HVM guest alone, whose
//! ioreq server gets a Xen-attached port for each vCPU and one for
//! buffered requests (`arch/x86/hvm/ioreq.c`, `common/ioreq.c`).

use super::Binding;
use crate::frame::DomId;
use crate::xen::Guest;

impl Guest {
    /// The ports of store and console: 1 and 2 of a domain that is new.
    ///
    /// # Panics
    /// If they are not known.
    #[must_use]
    pub fn store_and_console(&self) -> (u32, u32) {
        let state = self.xen().state();
        match state.domains[self.index()].events.kept[..] {
            [store, console] => (store, console),
            _ => panic!("store and console have no ports"),
        }
    }

    /// Opens the ports of a device model's ioreq server: Xen-attached, so
    /// the guest can neither close nor use them. The first one.
    ///
    /// # Panics
    /// If the domain has no port left.
    #[must_use]
    pub fn attach_ioreq_server(&self) -> u32 {
        let mut state = self.xen().state();
        let domain = self.index();
        let mut first = None;
        for vcpu in 0..state.domains[domain].vcpus.len() {
            // vCPU 0 has one more, for buffered requests.
            for _ in 0..1 + u32::from(vcpu == 0) {
                let port = state
                    .open_unbound(domain, 0)
                    .expect("the domain has no port left");
                if let Some(channel) = state.domains[domain].events.port_mut(port) {
                    channel.xen = true;
                    channel.vcpu = vcpu;
                }
                first.get_or_insert(port);
            }
        }
        first.unwrap_or(0)
    }

    /// The largest port that the domain may have, `max_event_channels`.
    pub fn set_max_port(&self, port: u32) {
        let limit = u32::try_from(i32::MAX).unwrap_or(u32::MAX);
        self.xen().state().domains[self.index()].events.max_port = port.min(limit);
    }

    /// A daemon in a domain that the model has not, domain 0 as a rule,
    /// binds its end of an unbound port. Whether it could.
    #[must_use]
    pub fn peer_binds(&self, port: u32, remote_port: u32) -> bool {
        self.xen().step();
        let mut state = self.xen().state();
        let Some(channel) = state.domains[self.index()].events.port_mut(port) else {
            return false;
        };
        let Binding::Unbound(remote) = channel.binding else {
            return false;
        };
        channel.binding = Binding::Interdomain {
            remote,
            port: remote_port,
        };
        true
    }

    /// The far end of a port, in a domain that the model has not, is closed:
    /// this end waits again. Whether there was one.
    #[must_use]
    pub fn peer_closes(&self, port: u32) -> bool {
        self.xen().step();
        let mut state = self.xen().state();
        let Some((remote, _)) = state.far_end(self.index(), port) else {
            return false;
        };
        if state.index_of(remote).is_some() {
            return false;
        }
        if let Some(channel) = state.domains[self.index()].events.port_mut(port) {
            channel.binding = Binding::Unbound(remote);
        }
        true
    }

    /// How often the guest has notified the far end of a port.
    #[must_use]
    pub fn sent(&self, port: u32) -> u64 {
        let state = self.xen().state();
        let channel = state.domains[self.index()].events.port(port);
        channel.map_or(0, |channel| channel.sent)
    }
}

impl crate::state::State {
    /// Domain and port at the other end of a port, if there is one.
    pub(crate) fn far_end(&self, domain: usize, port: u32) -> Option<(DomId, u32)> {
        match self.domains[domain].events.port(port)?.binding {
            Binding::Interdomain { remote, port } => Some((remote, port)),
            _ => None,
        }
    }
}
