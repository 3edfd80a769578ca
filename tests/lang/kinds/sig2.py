from bpf2py.lang import *

from bpf2py.lang.kernel import task_struct, vm_area_struct


class V(Struct):
    stack: array[u64, 32]


st = PerCpuArray[u32, V](max_entries=1)
n: s64 = 0


def on_vma(task: Ptr[task_struct], vma: Ptr[vm_area_struct], ctx: Ptr[u64]) -> int:
    ctx.value = vma.vm_start
    return 0


@raw_tp("sys_enter")
def f(ctx: RawTracepointContext) -> int:
    global n
    v = st.get(0)
    if v is None:
        return 0
    n = get_stack(ctx, v.stack, sizeof(v.stack), BPF_F_USER_STACK)
    start: u64 = 0
    find_vma(get_current_task_btf(), 0x400000, on_vma, addr(start), 0)
    if current_pid() == 1:
        send_signal(SIGUSR1)
    return 0
