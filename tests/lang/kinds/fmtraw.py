from bpf2py.lang import *

buf: char[32] = ""


@raw_tp("sys_enter")
def f(ctx: RawTracepointContext) -> int:
    trace_printk("hi %d", 6, 4)
    x: s64 = 0
    strtol("12", 2, 0, addr(x))
    jiffies = jiffies64()
    r = get_prandom_u32() % 10
    cg = get_current_cgroup_id()
    ns = ktime_get_boot_ns()
    cpu = get_smp_processor_id()
    return s32(r)
