from bpf2py.lang import *

from bpf2py.lang.kernel import task_struct, bpf_task_acquire, bpf_task_release


class V(Struct):
    task: Ptr[task_struct] | None


m = Array[u32, V](max_entries=1)


@tp_btf("task_newtask")
def f(task: Ptr[task_struct], flags: u64) -> int:
    v = m.get(0)
    if v is None:
        return 0
    t = bpf_task_acquire(task)
    if t is None:
        return 0
    old = kptr_xchg(addr(v.task), t)
    if old is not None:
        bpf_task_release(old)
    return 0
