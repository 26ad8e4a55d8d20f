//! Steps on event channels and vCPUs.
//!
//! Ports are compared by their distance from the first that was free.

use kexen_abi::DOMID_SELF;
use kexen_abi::hypercall::Hypercall;
use kexen_abi::shared_info::EVTCHN_MASK;
use kexen_guest::{Arg, Machine};
use zerocopy::IntoBytes;

use super::Outcome;
use crate::generate::PORTS;
use crate::op::Op;
use crate::world::World;

const BIND_INTERDOMAIN: u64 = 0;
const BIND_VIRQ: u64 = 1;
const CLOSE: u64 = 3;
const STATUS: u64 = 5;
const ALLOC_UNBOUND: u64 = 6;
const BIND_IPI: u64 = 7;
const BIND_VCPU: u64 = 8;
const VIRQ_TIMER: u8 = 0;

fn domain(n: u8, own: u16) -> u32 {
    u32::from(match n {
        0 => DOMID_SELF,
        1 => own,
        _ => 999,
    })
}

fn op<M: Machine + ?Sized>(m: &M, op: u64, arg: &mut [u32], out: &mut Outcome) -> i64 {
    let mut args = [Arg::Value(op), Arg::InOut(arg.as_mut_bytes())];
    out.call(m, Hypercall::EVENT_CHANNEL_OP, &mut args)
}

impl World {
    /// The guest's own number, as the status of an unbound port tells it,
    /// and the first port that is free.
    pub(crate) fn find_own<M: Machine + ?Sized>(&self, m: &M) -> Option<(u16, u32)> {
        let mut out = Outcome::default();
        let own = u32::from(DOMID_SELF);
        let mut alloc = [own | (own << 16), 0];
        if op(m, ALLOC_UNBOUND, &mut alloc, &mut out) != 0 {
            return None;
        }
        let port = alloc[1];
        let mut status = [own, port, 0, 0, 0, 0];
        let told = op(m, STATUS, &mut status, &mut out) == 0;
        op(m, CLOSE, &mut [port], &mut out);
        told.then_some((u16::try_from(status[4] & 0xffff).unwrap_or(0), port))
    }

    fn relative(&self, port: u32) -> u64 {
        u64::from(port.wrapping_sub(self.first_port))
    }

    /// Keeps a new port in a slot; without room it is closed again.
    fn keep<M: Machine + ?Sized>(&mut self, m: &M, port: u32, noisy: bool, out: &mut Outcome) {
        out.results.push(self.relative(port));
        match self.ports.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(port);
                if noisy {
                    self.noisy.push(port);
                }
            }
            None => {
                op(m, CLOSE, &mut [port], out);
            }
        }
    }

    /// The port of a slot; one that is not open where there is none.
    fn port(&self, slot: u8) -> u32 {
        self.ports[usize::from(slot % PORTS)].unwrap_or(self.first_port + 100)
    }

    pub(super) fn event_step<M: Machine + ?Sized>(&mut self, m: &M, step: &Op, out: &mut Outcome) {
        match *step {
            Op::AllocUnbound {
                domain: of,
                remote: to,
            } => {
                let word = domain(of, self.own) | (domain(to, self.own) << 16);
                let mut arg = [word, 0];
                if op(m, ALLOC_UNBOUND, &mut arg, out) == 0 {
                    self.keep(m, arg[1], false, out);
                }
            }
            Op::BindInterdomain { remote, port } => {
                let mut arg = [domain(remote, self.own), self.port(port), 0];
                if op(m, BIND_INTERDOMAIN, &mut arg, out) == 0 {
                    self.keep(m, arg[2], false, out);
                }
            }
            Op::BindVirq { virq, vcpu } => {
                let mut arg = [u32::from(virq), u32::from(vcpu), 0];
                if op(m, BIND_VIRQ, &mut arg, out) == 0 {
                    self.keep(m, arg[2], virq == VIRQ_TIMER, out);
                }
            }
            Op::BindIpi(vcpu) => {
                let mut arg = [u32::from(vcpu), 0];
                if op(m, BIND_IPI, &mut arg, out) == 0 {
                    self.keep(m, arg[1], false, out);
                }
            }
            Op::Port { command, port } => self.port_step(m, u64::from(command), port, out),
            Op::BindVcpu { port, vcpu } => {
                let mut arg = [self.port(port), u32::from(vcpu)];
                op(m, BIND_VCPU, &mut arg, out);
            }
            Op::Mask { port, on } => self.mask(m, self.port(port), on),
            Op::Vcpu { command, vcpu } => {
                let arg = [0_u64; 2];
                let mut args = [
                    Arg::Value(u64::from(command)),
                    Arg::Value(u64::from(vcpu)),
                    Arg::In(arg.as_bytes()),
                ];
                out.call(m, Hypercall::VCPU_OP, &mut args);
            }
            _ => {}
        }
    }

    fn port_step<M: Machine + ?Sized>(&mut self, m: &M, command: u64, slot: u8, out: &mut Outcome) {
        let port = self.port(slot);
        if command == STATUS {
            let mut arg = [u32::from(DOMID_SELF), port, 0, 0, 0, 0];
            op(m, STATUS, &mut arg, out);
            out.results.push(u64::from(arg[2]));
            out.results.push(u64::from(arg[3]));
            // Unbound: for whom. Interdomain: with whom, at which port.
            match arg[2] {
                1 => out
                    .results
                    .push(u64::from(arg[4] & 0xffff == u32::from(self.own))),
                2 => {
                    out.results
                        .push(u64::from(arg[4] & 0xffff == u32::from(self.own)));
                    out.results.push(self.relative(arg[5]));
                }
                3..=5 => out.results.push(u64::from(arg[4])),
                _ => {}
            }
            return;
        }
        let closed = op(m, command, &mut [port], out) == 0 && command == CLOSE;
        if closed {
            let n = usize::from(slot % PORTS);
            self.ports[n] = None;
            self.noisy.retain(|noisy| *noisy != port);
        }
    }

    /// Sets or clears a mask bit, where shared info can be reached.
    pub(super) fn mask<M: Machine + ?Sized>(&self, m: &M, port: u32, on: bool) {
        if self.shared_info == 0 || port > 4095 {
            return;
        }
        let at = self.shared_info + EVTCHN_MASK + u64::from(port / 32) * 4;
        let word = m.load32(at).unwrap_or(0);
        let bit = 1 << (port % 32);
        let _ = m.store32(at, if on { word | bit } else { word & !bit });
    }
}
