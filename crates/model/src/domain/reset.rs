//! Soft reset: the toolstack's answer to a shutdown for one.
//!
//! Rules: `domain_soft_reset` in Xen's `common/domain.c`,
//! `arch_domain_soft_reset` in `arch/x86/domain.c`; around it libxl's
//! `libxl_create.c`, which refuses all but HVM. Order of steps: the device
//! model goes, and its ports; Xen closes all ports, gives up areas, unmaps
//! emulated PIRQs, puts a fresh page where shared info was mapped; the
//! toolstack opens store and console anew; a new device model comes.
//! What is not reset: grants and mapped grant frames, contexts of vCPUs and
//! whether they were initialised, upcall vectors and callback, watchdogs,
//! memory; time areas by address, if shared info was never mapped.

use kexen_abi::hvm::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN};
use kexen_abi::sched::SHUTDOWN_SOFT_RESET;

use crate::frame::INVALID_M2P;
use crate::state::{Kind, State, Who};
use crate::vcpus::areas::Which;
use crate::xen::Guest;

impl State {
    /// `domain_soft_reset`, which the domain may not survive.
    fn reset_domain(&mut self, domain: usize) -> Result<(), &'static str> {
        self.reset_events(domain);
        self.forget_areas(domain);
        self.unmap_emulated_pirqs(domain);
        self.replace_shared_info(domain).inspect_err(|why| {
            self.crash(domain, (*why).into());
        })
    }

    /// A fresh page where the shared info page is mapped: no hole remains.
    fn replace_shared_info(&mut self, domain: usize) -> Result<(), &'static str> {
        let owner = &self.domains[domain];
        let (id, shared_info) = (owner.id, owner.shared_info);
        let full = owner.tot_pages >= owner.max_pages;
        let gfn = self.at(shared_info).m2p;
        if gfn == INVALID_M2P {
            return Ok(());
        }
        let fresh = if full { None } else { self.allocate(id) };
        let fresh = fresh.ok_or("no page to replace shared info with")?;
        self.physmap_remove(domain, gfn);
        self.physmap_add(domain, gfn, fresh)
            .map_err(|_| "the page for shared info cannot be placed")?;
        for vcpu in 0..self.domains[domain].vcpus.len() {
            let target = Who { domain, vcpu };
            self.unmap_area(target, Which::Time);
            self.vcpu(target).areas.time_va = 0;
        }
        Ok(())
    }

    /// Ports that are Xen's own: the device model's.
    fn close_xens_ports(&mut self, domain: usize) -> bool {
        let ports = self.domains[domain].events.open();
        let xens: Vec<u32> = ports.filter(|(_, c)| c.xen).map(|(port, _)| port).collect();
        for port in &xens {
            let _open = self.close_port(domain, *port, false);
        }
        !xens.is_empty()
    }
}

impl Guest {
    /// The toolstack's answer to a shutdown for a soft reset. libxl does it
    /// for HVM alone; a PVH or PV domain is lost.
    ///
    /// # Errors
    /// The toolstack's refusal, or Xen's, in words.
    pub fn soft_reset(&self) -> Result<(), &'static str> {
        let mut state = self.xen().state();
        let domain = self.index();
        if state.domains[domain].life.shutdown != Some(SHUTDOWN_SOFT_RESET) {
            return Err("the domain has not asked for it");
        }
        if state.domains[domain].kind != Kind::Hvm {
            return Err("libxl resets HVM domains alone (ERROR_INVAL); xl destroys the domain");
        }
        let device_model = state.close_xens_ports(domain);
        state.reset_domain(domain)?;
        state.domains[domain].events.kept.clear();
        for param in [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN] {
            let port = state
                .open_unbound(domain, 0)
                .map_err(|_| "no port is free")?;
            let owner = &mut state.domains[domain];
            owner.events.kept.push(port);
            owner.life.params.insert(param, u64::from(port));
        }
        state.resume(domain);
        drop(state);
        if device_model {
            let _first = self.attach_ioreq_server();
        }
        Ok(())
    }
}
