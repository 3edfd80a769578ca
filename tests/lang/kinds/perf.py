from bpf2py.lang import *


class E(Struct):
    pid: u32


ev = PerfEventArray()
st = StackTrace(max_entries=16)


@raw_tp("sys_enter")
def f(ctx: RawTracepointContext) -> int:
    e = E(pid=current_pid())
    ev.output(ctx, e)
    i = st.stackid(ctx, BPF_F_USER_STACK)
    if i < 0:
        return 0
    return 0
