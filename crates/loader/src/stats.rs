//! Figures of a run, from inside the guest, as one line of `key=value`.

use alloc::string::String;
use core::fmt::Write;

use kexen_guest::hypercall;

use kexen_platform::{disks::Waits, kernel::Kernel, native::Native, report::Report};

/// Prints the line. Times are those of `VCPUOP_get_runstate_info`, from the
/// vCPU's creation to now: what is left is one hypercall (PV) and the jump.
pub(crate) fn print<M: Native>(
    m: &M,
    report: &Report,
    kernel: &Kernel,
    (exchanged, mapped): (u64, u64),
    waits: Option<Waits>,
) {
    let mut line = String::new();
    if let Ok(info) = hypercall::runstate(m) {
        let [running, runnable, blocked, offline] = info.time;
        let _ = write!(
            line,
            "running_ns={running} runnable_ns={runnable} blocked_ns={blocked} \
             offline_ns={offline} "
        );
    }
    let _ = write!(
        line,
        "payload={} packed={} written={} zeroed={} exchanged={exchanged} mapped={mapped}",
        kernel.buffer_len,
        kernel.packed_len,
        m.written(),
        m.zeroed(),
    );
    if let Some(waits) = waits {
        for (what, waited) in [
            ("connect", waits.connect),
            ("read", waits.read),
            ("close", waits.close),
        ] {
            let (ns, times) = (waited.nanoseconds, waited.times);
            let _ = write!(line, " waited_{what}_ns={ns} waited_{what}={times}");
        }
    }
    let _ = write!(line, " heap_left={}", M::heap_free());
    let mut total = 0;
    let mut kinds = String::new();
    for (call, count) in m.calls() {
        total += count;
        let _ = write!(kinds, " {}={count}", call.name());
    }
    let _ = write!(line, " hypercalls={total}{kinds}");
    report.line(m, format_args!("stats {line}"));
}
