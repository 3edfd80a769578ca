"""System calls, counted by number or by process; with their time, where that is asked for."""

from bpf2py.lang import *
from bpf2py.lang.kernel import pt_regs

from .whom import *


class Key(Struct):
    number: s32  # -1 where calls are counted by process
    pid: u32  # 0 where they are counted by number


class Count(Struct):
    count: u64
    failed: u64
    total_ns: u64
    cgroup: u64
    comm: char[16]


class Call(Struct):
    begin_ns: u64
    number: s64


by_process: Const[u32] = 0
with_result: Const[u32] = 0  # then they are counted when they return
only_failed: Const[u32] = 0
only_errno: Const[s32] = 0
counts = Hash[Key, Count](max_entries=10_240)
started = LruHash[u32, Call](max_entries=65_536)
lost: u64 = 0  # calls that found no room in counts


def count(number: s64, took: u64, failed: bool) -> int:
    key = Key(number=s32(number))
    if by_process:
        key.number = -1
        key.pid = current_tgid()
    found = counts.setdefault(key)
    if found is None:
        atomic_add(addr(lost), 1)
        return 0
    if by_process and not found.count:
        current_comm(found.comm)
        found.cgroup = get_current_cgroup_id()
    atomic_add(addr(found.count), 1)
    atomic_add(addr(found.total_ns), took)
    if failed:
        atomic_add(addr(found.failed), 1)
    return 0


@raw_tp("sys_enter")
def on_enter(regs: Ptr[pt_regs], number: s64) -> int:
    if not is_wanted():
        return 0
    if not with_result:
        return count(number, 0, False)
    started[current_pid()] = Call(begin_ns=ktime_get_ns(), number=number)
    return 0


@raw_tp("sys_exit", autoload=False)
def on_exit(regs: Ptr[pt_regs], result: s64) -> int:
    call = started.get(current_pid())
    if call is None:
        return 0
    took = ktime_get_ns() - call.begin_ns
    number = call.number
    del started[current_pid()]
    failed = -4096 < result < 0
    if (only_failed and not failed) or (only_errno and result != -only_errno):
        return 0
    return count(number, took, failed)
