from bpf2py.lang import *


@tp_btf("task_newtask")
def f(task: Ptr[task_struct], flags: u64) -> int:
    t = bpf_task_acquire(task)
    if t is None:
        return 0
    bpf_task_release(t)
    with bpf_rcu_read_lock():
        x = task.pid
    return 0
