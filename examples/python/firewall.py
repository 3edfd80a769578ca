"""An XDP firewall: packets from networks in `blocked` are dropped, and counted by the longest prefix that matches."""

from bpf2py.lang import *
from bpf2py.lang.kernel import ethhdr, iphdr


class Network(Struct):
    prefixlen: u32
    address: be32


blocked = LpmTrie[Network, u64](max_entries=10_000)
passed: PerCpu[u64] = 0


@xdp
def firewall(ctx: XdpContext) -> int:
    global passed
    ethernet = ctx.packet(ethhdr)
    if ethernet is None or ethernet.h_proto != htons(ETH_P_IP):
        return XDP_PASS
    ip = ctx.packet(iphdr, sizeof(ethhdr))
    if ip is None:
        return XDP_PASS
    hits = blocked.get(Network(prefixlen=32, address=ip.saddr))
    if hits:
        atomic_add(hits, 1)
        return XDP_DROP
    passed += 1
    return XDP_PASS
