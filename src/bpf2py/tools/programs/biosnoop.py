"""Requests to disks: who made them, where, how large, and how long they took."""

from bpf2py.lang import *
from bpf2py.lang.kernel import request

from .log2 import log2
from .whom import *

SLOTS = 27


class Request(Struct):
    time_ns: u64
    cgroup: u64
    queued_ns: u64  # from its beginning until the driver had it
    took_ns: u64  # from then until it was done
    sector: u64
    bytes: u32
    operation: u32  # enum req_op
    error: s32
    pid: u32
    comm: char[16]
    disk: char[32]


class Begun(Struct):
    begin_ns: u64
    cgroup: u64
    issue_ns: u64
    bytes: u32
    wanted: u32
    pid: u32
    unused: u32
    comm: char[16]


class Disk(Struct):
    name: char[32]


class Latency(Struct):
    slots: array[u64, SLOTS]


begun = Hash[u64, Begun](max_entries=16_384)
events = RingBuf[Request](size=1 << 20)
waits = Hash[Disk, Latency](max_entries=256)  # histograms instead of events
histograms: Const[u32] = 0
lost: u64 = 0
endless: u64 = 0  # requests whose end the kernel did not report


def begins(rq: Ptr[request]) -> int:
    former = begun.get(u64(rq))
    if former is not None and former.wanted and former.issue_ns:
        atomic_add(addr(endless), 1)  # its memory is another one's by now
    found = Begun(begin_ns=ktime_get_ns(), pid=current_tgid(), wanted=u32(is_wanted()))
    found.cgroup = get_current_cgroup_id()
    current_comm(found.comm)
    if begun.put(u64(rq), found) < 0:
        atomic_add(addr(lost), 1)
    return 0


@tp_btf("block_io_start")
def on_start(rq: Ptr[request]) -> int:
    """Linux 6.5; in the context of the process that waits for it, where there is one."""
    return begins(rq)


@tp_btf("block_rq_issue")
def on_issue(rq: Ptr[request]) -> int:
    if u64(rq) not in begun:
        begins(rq)
    found = begun.get(u64(rq))
    if found is not None:
        found.issue_ns = ktime_get_ns()
        found.bytes = rq.__data_len
    return 0


@tp_btf("block_rq_complete")
def on_complete(rq: Ptr[request], error: s32, nr_bytes: u32) -> int:
    now = ktime_get_ns()
    found = begun.get(u64(rq))
    if found is None:
        return 0
    if nr_bytes < rq.__data_len and not error:
        return 0  # a part of it
    if not found.wanted or found.issue_ns == 0:
        begun.delete(u64(rq))
        return 0
    if histograms:
        disk = Disk()
        read_kernel_str(disk.name, rq.q.disk.disk_name)
        latency = waits.setdefault(disk)
        if latency is None:
            atomic_add(addr(lost), 1)
        else:
            took = now - found.begin_ns
            atomic_add(addr(latency.slots[min(log2(took // 1000), SLOTS - 1)]), 1)
        begun.delete(u64(rq))
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        begun.delete(u64(rq))
        return 0
    event.time_ns = now
    event.cgroup = found.cgroup
    event.queued_ns = found.issue_ns - found.begin_ns
    event.took_ns = now - found.issue_ns
    event.sector = rq.__sector
    event.bytes = found.bytes
    event.operation = rq.cmd_flags & 0xFF
    event.error = error
    event.pid = found.pid
    event.comm = found.comm
    read_kernel_str(event.disk, rq.q.disk.disk_name)
    begun.delete(u64(rq))
    events.submit(event)
    return 0
