from bpf2py.lang import *


class Key(Struct):
    prefixlen: u32
    addr: u32


blocked = LpmTrie[Key, u64](max_entries=100)
stats = PerCpuArray[u32, u64](max_entries=4)


@xdp
def fw(ctx: XdpContext) -> int:
    eth = ctx.packet(ethhdr)
    if eth is None or eth.h_proto != htons(ETH_P_IP):
        return XDP_PASS
    ip = ctx.packet(iphdr, sizeof(ethhdr))
    if not ip:
        return XDP_PASS
    key = Key(prefixlen=32, addr=ip.saddr)
    hits = blocked.get(key)
    stats[0] += 1
    if hits:
        hits.value += 1
        return XDP_DROP
    return XDP_PASS
