"""Connections to one address are redirected to another: a control group's programs on connect()."""

from bpf2py.lang import *


class Endpoint(Struct):
    address: be32
    port: be16


redirects = Hash[Endpoint, Endpoint](max_entries=256)
redirected: u64 = 0


@cgroup_connect4
def on_connect(ctx: SockAddrContext) -> int:
    global redirected
    target = redirects.get(Endpoint(address=ctx.user_ip4, port=u16(ctx.user_port)))
    if target is not None:
        ctx.user_ip4 = target.address
        ctx.user_port = target.port
        redirected += 1
    return 1
