from bpf2py.lang import *

CONFIG_HZ: Kconfig[u32]
LINUX_KERNEL_VERSION: Kconfig[u32]
bpf_prog_active: Ksym[s32]


@syscall
def f(ctx: Context) -> int:
    return s32(CONFIG_HZ)
