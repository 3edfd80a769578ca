from bpf2py.lang import *

from bpf2py.lang.kernel import ethhdr, iphdr, tcphdr


@xdp
def f(ctx: XdpContext) -> int:
    eth = Ptr[ethhdr](ctx.data)
    if u64(eth + 1) > ctx.data_end:
        return XDP_PASS
    ip = (eth + 1).cast(iphdr)
    if u64(ip + 1) > ctx.data_end:
        return XDP_PASS
    if ip.protocol == 6 and ip.ihl == 5:
        ip.ttl -= 1
        return XDP_DROP
    return XDP_PASS


@tc
def g(ctx: SkbContext) -> int:
    off = sizeof(ethhdr)
    ip = ctx.packet(iphdr, off)
    if ip is None:
        return TC_ACT_OK
    hl = u32(ip.ihl) * 4
    tcp = ctx.packet(tcphdr, off + hl)
    if tcp is None:
        return TC_ACT_OK
    port = ntohs(tcp.dest)
    if tcp.syn and not tcp.ack and port == 80:
        return TC_ACT_SHOT
    b = ctx.packet(u8, 20)
    if b and b.value == 3:
        b.value = 4
    payload = ctx.packet(array[u8, 4], 30)
    if payload:
        payload[2] = 1
    return TC_ACT_OK
