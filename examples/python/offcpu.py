"""Time that threads wait for a CPU, kept in the threads' own storage."""

from bpf2py.lang import *
from bpf2py.lang.kernel import task_struct


class Wait(Struct):
    since_ns: u64
    total_ns: u64
    times: u64


waits = TaskStorage[Wait]()
longest_ns: u64 = 0


@tp_btf("sched_wakeup")
def on_wakeup(task: Ptr[task_struct]) -> int:
    wait = waits.get(task, create=True)
    if wait is not None:
        wait.since_ns = ktime_get_ns()
    return 0


@tp_btf("sched_switch")
def on_switch(preempt: bool, previous: Ptr[task_struct], following: Ptr[task_struct]) -> int:
    global longest_ns
    wait = waits.get(following)
    if wait is None or wait.since_ns == 0:
        return 0
    waited = ktime_get_ns() - wait.since_ns
    wait.since_ns = 0
    wait.total_ns += waited
    wait.times += 1
    longest_ns = max(longest_ns, waited)
    return 0
