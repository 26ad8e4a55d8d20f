//! A domain's life: shutdown, soft reset, HVM parameters, what it registers
//! for upcalls, Xen's version and features.
//!
//! Rules: `do_sched_op` in Xen's `common/sched/core.c`, `domain_soft_reset`
//! in `common/domain.c`, `hvm_allow_set_param`, `hvm_allow_get_param`,
//! `hvmop_set_evtchn_upcall_vector` in `arch/x86/hvm/hvm.c`,
//! `hvm_set_callback_via` in `arch/x86/hvm/irq.c`, `do_xen_version` in
//! `common/kernel.c`.

pub(crate) mod callbacks;

use std::collections::BTreeMap;

use kexen_abi::errno::Errno;
use kexen_abi::features::{XENVER_GET_FEATURES, XENVER_VERSION, XenFeatureInfo};
use kexen_abi::hvm::{
    HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN, HVMOP_GET_PARAM, HVMOP_SET_EVTCHN_UPCALL_VECTOR,
    HVMOP_SET_PARAM, HvmParam,
};
use kexen_abi::sched::{
    SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SHUTDOWN_SOFT_RESET, SchedPoll,
    SchedShutdown,
};

pub(crate) use self::callbacks::upcalls;
use crate::call::{Answer, Call};
use crate::state::{Kind, Version};

/// Ports that one poll may name.
const POLL_PORTS: u32 = 128;
/// Parameters of an HVM domain (`HVM_NR_PARAMS`).
const PARAMS: u32 = 39;
/// Parameters that a guest may set of itself (`hvm_allow_set_param`).
const SETTABLE: [u32; 8] = [0, 2, 15, 18, 19, 34, 36, 37];
/// Parameters that exist no more.
const DEPRECATED: [u32; 10] = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];
/// The kind of a callback: by vector.
const VIA_VECTOR: u64 = 2;

/// What a domain has set up, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// Why the domain has stopped, if it has.
    pub(crate) shutdown: Option<u32>,
    /// Why Xen ended it, if it did (`domain_crash`).
    pub(crate) crashed: Option<String>,
    /// HVM parameters.
    pub(crate) params: BTreeMap<u32, u64>,
    /// Upcall vectors by vCPU: they can be changed, never unset.
    pub(crate) upcall_vectors: BTreeMap<u32, u8>,
    /// Why it would stop, if it did (`SCHEDOP_shutdown_code`).
    pub(crate) code: Option<u8>,
    /// `VMASST_TYPE_*`, a bitmap.
    pub(crate) vm_assist: u64,
}

impl Life {
    /// Whether no vCPU runs any more.
    pub(crate) const fn ended(&self) -> bool {
        self.shutdown.is_some() || self.crashed.is_some()
    }

    /// The kind of callback that is set: 0 a GSI (0: none), 1 PCI, 2 vector.
    fn via(&self) -> u64 {
        self.params
            .get(&HVM_PARAM_CALLBACK_IRQ)
            .copied()
            .unwrap_or(0)
            >> 56
    }

    /// Whether events come by a vector.
    pub(crate) fn has_vector_callback(&self) -> bool {
        self.via() == VIA_VECTOR
    }
}

/// `HYPERVISOR_sched_op`.
pub(crate) fn sched_op(call: &mut Call<'_, '_, '_>) -> Answer {
    match call.value(0) {
        SCHEDOP_YIELD | SCHEDOP_BLOCK => Ok(0),
        SCHEDOP_SHUTDOWN => {
            let arg: SchedShutdown = call.read(1, 0)?;
            let domain = call.who.domain;
            let [reason, ..] = arg.reason.to_le_bytes();
            call.state.shut_down(domain, reason);
            Ok(0)
        }
        SCHEDOP_POLL => {
            let arg: SchedPoll = call.read(1, 0)?;
            if arg.nr_ports > POLL_PORTS {
                return Err(Errno::EINVAL);
            }
            let who = call.who;
            for n in 0..u64::from(arg.nr_ports) {
                let mut port = [0; 4];
                let at = arg.ports.wrapping_add(n * 4);
                call.state.copy_from_guest(who, at, &mut port)?;
                let events = &call.state.domains[who.domain].events;
                if events.port(u32::from_le_bytes(port)).is_none() {
                    return Err(Errno::EINVAL);
                }
            }
            // Whether one is pending, or the time is over, is the guest's to
            // find out.
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// `HYPERVISOR_hvm_op`.
pub(crate) fn hvm_op(call: &mut Call<'_, '_, '_>) -> Answer {
    let domain = call.who.domain;
    match call.value(0) {
        HVMOP_GET_PARAM | HVMOP_SET_PARAM => param(call),
        HVMOP_SET_EVTCHN_UPCALL_VECTOR => {
            if !call.state.domains[domain].kind.translated() {
                return Err(Errno::EINVAL);
            }
            // vCPU, vector.
            let mut arg = [0; 5];
            call.read_bytes(1, 0, &mut arg)?;
            let vcpu = u32::from_le_bytes([arg[0], arg[1], arg[2], arg[3]]);
            if arg[4] < 0x10 {
                return Err(Errno::EINVAL);
            }
            let count = call.state.domains[domain].vcpus.len();
            if usize::try_from(vcpu).map_or(true, |vcpu| vcpu >= count) {
                return Err(Errno::ENOENT);
            }
            call.state.domains[domain]
                .life
                .upcall_vectors
                .insert(vcpu, arg[4]);
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn param(call: &mut Call<'_, '_, '_>) -> Answer {
    let mut arg: HvmParam = call.read(1, 0)?;
    if arg.index >= PARAMS {
        return Err(Errno::EINVAL);
    }
    let domain = call.state.resolve(call.who, arg.domid)?;
    let kind = call.state.domains[domain].kind;
    if !kind.translated() {
        return Err(Errno::EINVAL);
    }
    if domain != call.who.domain {
        return Err(Errno::EPERM);
    }
    if DEPRECATED.contains(&arg.index) {
        return Err(Errno::EINVAL);
    }
    if call.value(0) == HVMOP_GET_PARAM {
        let also = [HVM_PARAM_STORE_PFN, HVM_PARAM_CONSOLE_PFN, 35];
        if !SETTABLE.contains(&arg.index) && !also.contains(&arg.index) {
            return Err(Errno::EPERM);
        }
        let life = &call.state.domains[domain].life;
        arg.value = life.params.get(&arg.index).copied().unwrap_or(0);
        call.write(1, 0, &arg)?;
        return Ok(0);
    }
    if !SETTABLE.contains(&arg.index) {
        return Err(Errno::EPERM);
    }
    // Without the PC's interrupt controllers only a vector can be set: what
    // is there stays.
    let stays =
        arg.index == HVM_PARAM_CALLBACK_IRQ && kind == Kind::Pvh && arg.value >> 56 != VIA_VECTOR;
    if !stays {
        let life = &mut call.state.domains[domain].life;
        life.params.insert(arg.index, arg.value);
    }
    Ok(0)
}

/// `HYPERVISOR_xen_version`.
pub(crate) fn xen_version(call: &mut Call<'_, '_, '_>) -> Answer {
    let minor = match call.state.version {
        Version::Xen4_17 => 17,
        Version::Xen4_20 => 20,
    };
    match call.value(0) {
        XENVER_VERSION => Ok(4 << 16 | minor),
        XENVER_GET_FEATURES => {
            let mut arg: XenFeatureInfo = call.read(1, 0)?;
            if arg.submap_idx != 0 {
                return Err(Errno::EINVAL);
            }
            arg.submap = match call.state.domain(call.who).kind {
                // Linux's names: pae_pgdir_above_4gb, mmu_pt_update_preserve_ad,
                // highmem_assist, gnttab_map_avail_bits, vcpu_time areas.
                Kind::Pv => 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7,
                // writable_page_tables, auto_translated_physmap,
                // supervisor_mode_kernel, pae, preserve_ad, hvm_callback_vector,
                // hvm_safe_pvclock, memory_op_vnode.
                Kind::Pvh | Kind::Hvm => 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 9,
            };
            call.write(1, 0, &arg)?;
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// `HYPERVISOR_console_io`: a domU may not, in a release build.
pub(crate) const fn console_io(_call: &mut Call<'_, '_, '_>) -> Answer {
    Err(Errno::EPERM)
}

impl crate::state::State {
    /// `domain_shutdown`: the first reason counts.
    pub(crate) fn shut_down(&mut self, domain: usize, reason: u8) {
        let life = &mut self.domains[domain].life;
        let reason = *life.code.get_or_insert(reason);
        life.shutdown.get_or_insert(u32::from(reason));
    }
}

impl crate::xen::Guest {
    /// Why the domain stopped, if it did.
    #[must_use]
    pub fn shutdown_reason(&self) -> Option<u32> {
        self.xen().state().domains[self.index()].life.shutdown
    }

    /// Why Xen ended the domain, if it did.
    #[must_use]
    pub fn crashed(&self) -> Option<String> {
        self.xen().state().domains[self.index()]
            .life
            .crashed
            .clone()
    }

    /// The toolstack's answer to a shutdown for a soft reset. libxl does it
    /// for HVM alone; a PVH or PV domain is lost.
    ///
    /// # Errors
    /// The toolstack's refusal, in words.
    pub fn soft_reset(&self) -> Result<(), &'static str> {
        let mut state = self.xen().state();
        let domain = self.index();
        if state.domains[domain].life.shutdown != Some(SHUTDOWN_SOFT_RESET) {
            return Err("the domain has not asked for it");
        }
        if state.domains[domain].kind != Kind::Hvm {
            return Err("libxl resets HVM domains alone (ERROR_INVAL); xl destroys the domain");
        }
        state.reset_events(domain);
        state.forget_areas(domain);
        state.domains[domain].pirqs = crate::pirqs::Pirqs {
            enabled: state.domains[domain].pirqs.enabled,
            ..Default::default()
        };
        for vcpu in 1..state.domains[domain].vcpus.len() {
            state.init(crate::state::Who { domain, vcpu });
        }
        // A fresh shared info page at the same place: no hole remains.
        let (id, old) = (state.domains[domain].id, state.domains[domain].shared_info);
        let gfn = state.at(old).m2p;
        if gfn != crate::frame::INVALID_M2P {
            let fresh = state
                .allocate(id)
                .ok_or("no frame for the page below shared info")?;
            state.physmap_remove(domain, gfn);
            state
                .physmap_add(domain, gfn, fresh)
                .map_err(|_| "the page cannot be placed")?;
        }
        let ports = [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN];
        state.domains[domain].events.kept.clear();
        for param in ports {
            let port = state
                .open_unbound(domain, 0)
                .map_err(|_| "no port is free")?;
            state.domains[domain].events.kept.push(port);
            state.domains[domain]
                .life
                .params
                .insert(param, u64::from(port));
        }
        state.domains[domain].life.shutdown = None;
        state.domains[domain].life.code = None;
        Ok(())
    }
}
