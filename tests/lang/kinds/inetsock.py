from bpf2py.lang import *


@kprobe("tcp_connect")
def f(sk: Ptr["sock"]) -> int:
    print(f"{sk.__sk_common.skc_dport} {sk.__sk_common.skc_daddr:x}")
    return 0


@kretprobe("tcp_connect")
def g(ret: int) -> int:
    return 0


@uprobe("/bin/sh:main")
def u(ctx: KprobeContext) -> int:
    a = PT_REGS_PARM1(ctx)
    b = char[64]()
    n = read_user_str(b, a)
    if n < 0:
        return 0
    return 0
