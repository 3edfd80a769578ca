from bpf2py.lang import *


@cgroup_sysctl
def a(ctx: SysctlContext) -> int:
    buf = char[32]()
    n = sysctl_get_name(ctx, buf, flags=0)
    return 1 if n > 0 else 0


@cgroup_getsockopt
def b(ctx: SockoptContext) -> int:
    ctx.retval = 0
    return 1


@cgroup_dev
def c(ctx: DeviceContext) -> int:
    return 1 if ctx.major == 1 else 0


@cgroup_sock_create
def d(ctx: SockContext) -> int:
    if ctx.type == SOCK_RAW:
        return 0
    return 1


st = CgroupStorage[u64, u64]()


@cgroup_skb_ingress
def e(ctx: SkbContext) -> int:
    p = st.get()
    p.value += ctx.len
    return 1
