"""What perf events count while another program runs."""

from bpf2py.lang import *

MOST = 8  # counters


class Reading(Struct):
    """struct bpf_perf_event_value."""

    counter: u64
    enabled: u64
    running: u64


counters: Const[u32] = 1  # of events
cpus: Const[u32] = 1
events = PerfEventArray(max_entries=1)  # those of the first counter on each CPU, of the second, ...
begun = PerCpuArray[u32, Reading](max_entries=MOST)
started = PerCpuArray[u32, u64](max_entries=1)  # whether the run that ends was seen to begin
totals = PerCpuArray[u32, Reading](max_entries=MOST)
runs = PerCpuArray[u32, u64](max_entries=1)
unread: u64 = 0


@fentry("profiled")
def on_entry() -> int:
    begins = started.get(0)
    if begins is None:
        return 0
    begins.value = 1
    for i in range(MOST):
        if i >= counters:
            break
        reading = begun.get(i)
        if reading is not None and perf_event_read_value(events, i * cpus + get_smp_processor_id(), reading, 24) < 0:
            begins.value = 0
    return 0


@fexit("profiled")
def on_exit() -> int:
    begins = started.get(0)
    if begins is None or begins.value == 0:
        return 0
    begins.value = 0
    now = Reading()
    for i in range(MOST):
        if i >= counters:
            break
        failed = perf_event_read_value(events, i * cpus + get_smp_processor_id(), addr(now), 24) < 0
        before = begun.get(i)
        total = totals.get(i)
        if failed or before is None or total is None:
            atomic_add(addr(unread), 1)
            return 0
        total.counter += now.counter - before.counter
        total.enabled += now.enabled - before.enabled
        total.running += now.running - before.running
    count = runs.get(0)
    if count is not None:
        count.value += 1
    return 0
