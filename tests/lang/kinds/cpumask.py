from bpf2py.lang import *

from bpf2py.lang.kernel import (
    bpf_cpumask_create,
    bpf_cpumask_release,
    bpf_cpumask_set_cpu,
    bpf_cpumask_test_cpu,
    cpumask,
    task_struct,
)

hit: u64 = 0


@tp_btf("task_newtask")
def f(task: Ptr[task_struct], flags: u64) -> int:
    global hit
    m = bpf_cpumask_create()
    if m is None:
        return 0
    bpf_cpumask_set_cpu(1, m)
    if bpf_cpumask_test_cpu(1, m.cast(cpumask)):
        hit += 1
    bpf_cpumask_release(m)
    return 0
