"""A packet program that jumps to another one for each protocol."""

from bpf2py.lang import *
from bpf2py.lang.kernel import ethhdr, iphdr, udphdr

seen = Array[u32, u64](max_entries=3)


@xdp
def on_udp(ctx: XdpContext) -> int:
    seen[1] += 1
    udp = ctx.packet(udphdr, sizeof(ethhdr) + sizeof(iphdr))
    if udp is not None and udp.dest == htons(9):
        return XDP_DROP
    return XDP_PASS


@xdp
def on_tcp(ctx: XdpContext) -> int:
    seen[2] += 1
    return XDP_PASS


protocols = ProgArray(max_entries=256, values={17: on_udp, 6: on_tcp})


@xdp
def dispatch(ctx: XdpContext) -> int:
    seen[0] += 1
    ip = ctx.packet(iphdr, sizeof(ethhdr))
    if ip is None:
        return XDP_PASS
    protocols.tail_call(ctx, ip.protocol)
    return XDP_PASS  # nobody is there for this protocol
