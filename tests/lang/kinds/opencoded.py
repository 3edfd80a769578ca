from bpf2py.lang import *

n: u64 = 0


@iter_s("task")
def f(ctx: IterContext) -> int:
    return 0


@syscall
def g(ctx: Context) -> int:
    global n
    bpf_rcu_read_lock()
    for task in bpf_iter_task(None, BPF_TASK_ITER_ALL_PROCS):
        n += 1
        if task.pid == 1:
            break
    bpf_rcu_read_unlock()
    return 0
