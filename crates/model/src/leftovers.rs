//! What the parts of Xen still hold, for the check after a hand-off.

use crate::check::Violation;
use crate::domain::hvm::Via;
use crate::physmap::Entry;
use crate::pirqs::Source;
use crate::state::State;

impl State {
    /// Who but page tables and descriptor tables holds a frame.
    pub(crate) fn other_holders(&self, domain: usize, mfn: u64) -> Vec<String> {
        let mut holders = Vec::new();
        let this = &self.domains[domain];
        for (number, vcpu) in this.vcpus.iter().enumerate() {
            for (frame, what) in vcpu.areas.held() {
                if frame == mfn {
                    holders.push(format!("{what} of vCPU {number}"));
                }
            }
        }
        if this
            .events
            .fifo
            .as_ref()
            .is_some_and(|fifo| fifo.holds(mfn))
        {
            holders.push("the event FIFO".into());
        }
        if this.pirqs.eoi_map == Some(mfn) {
            holders.push("the bitmap of PIRQs".into());
        }
        for (reference, grantee) in this.grants.of_frame(mfn) {
            holders.push(format!("grant {reference}, mapped by domain {grantee}"));
        }
        for other in &self.domains {
            let foreign = other.physmap.entries.values().any(
                |entry| matches!(entry, Entry::Foreign { owner, mfn: at } if *at == mfn && *owner == this.id),
            );
            if foreign {
                holders.push(format!("a foreign mapping of domain {}", other.id));
            }
        }
        holders
    }

    /// Areas of vCPUs that are registered.
    pub(crate) fn check_areas(&self, domain: usize, found: &mut Vec<Violation>) {
        for (number, vcpu) in self.domains[domain].vcpus.iter().enumerate() {
            let mut left = |what: String| found.push(Violation::VcpuState { vcpu: number, what });
            for (_, what) in vcpu.areas.held() {
                left(format!("{what} is registered"));
            }
            let by_address = [
                ("runstate", vcpu.areas.runstate_va),
                ("time", vcpu.areas.time_va),
            ];
            for (what, at) in by_address.iter().filter(|(_, at)| *at != 0) {
                left(format!("Xen writes {what} to address {at:#x}"));
            }
            for what in vcpu.areas.callbacks.set() {
                left(format!("Xen would call the old kernel: {what}"));
            }
            if number > 0 && vcpu.initialised {
                left("is initialised: the new kernel cannot start it afresh".into());
            }
        }
    }

    /// Ports that are open, but console and store.
    pub(crate) fn check_ports(&self, domain: usize, found: &mut Vec<Violation>) {
        let events = &self.domains[domain].events;
        for (number, port) in events.open() {
            if !events.kept.contains(&number) && !port.xen {
                let state = port.binding.to_string();
                found.push(Violation::Port {
                    port: number,
                    state,
                });
            }
        }
        let open = |port: &u32| events.open().any(|(number, _)| number == *port);
        for kept in events.kept.iter().filter(|port| !open(port)) {
            let what = format!("port {kept} of store or console is closed");
            found.push(Violation::Domain { what });
        }
        if events.fifo.is_some() {
            let what = "events go through the FIFO interface".into();
            found.push(Violation::Domain { what });
        }
    }

    /// PIRQs, callbacks, mappings of other domains' frames.
    pub(crate) fn check_domain(&self, domain: usize, found: &mut Vec<Violation>) {
        let this = &self.domains[domain];
        let mut left = |what: String| found.push(Violation::Domain { what });
        for (pirq, known) in &this.pirqs.known {
            match known.emulated {
                Some(Source::Gsi(gsi)) => left(format!("PIRQ {pirq} is mapped to GSI {gsi}")),
                Some(Source::Msi) => left(format!("PIRQ {pirq} is mapped to a message")),
                Some(Source::Device) | None => {}
            }
            if known.handed_out {
                left(format!("PIRQ {pirq} is handed out for an MSI"));
            }
        }
        match this.life.via {
            Via::None => {}
            Via::Vector(vector) => left(format!("an event callback vector is set, {vector:#x}")),
            via => left(format!("an event callback is set, {via:?}")),
        }
        for (number, due) in this.life.watchdogs.iter().enumerate() {
            if due.is_some() {
                left(format!("watchdog {} will end the domain", number + 1));
            }
        }
        for (vcpu, vector) in &this.life.upcall_vectors {
            left(format!("upcall vector {vector:#x} is set on vCPU {vcpu}"));
        }
        for (gfn, entry) in &this.physmap.entries {
            match entry {
                Entry::Grant { .. } => left(format!("a grant is mapped at page {gfn:#x}")),
                Entry::Foreign { owner, .. } => {
                    left(format!(
                        "a frame of domain {owner} is mapped at page {gfn:#x}"
                    ));
                }
                _ => {}
            }
        }
        if let Some(why) = &this.life.crashed {
            left(format!("Xen ended the domain: {why}"));
        }
    }
}
