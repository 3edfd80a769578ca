"""Round-trip times of TCP connections, as the kernel has smoothed them, at every packet that comes in."""

from bpf2py.lang import *
from bpf2py.lang.kernel import inet_sock, sk_buff, sock
from bpf2py.lang.kernel import tcp_sock as tcp_socket

from .cgroups import is_within
from .log2 import log2

SLOTS = 27
AF_INET = 2


class Peer(Struct):
    family: u16
    port: u16  # of the local side
    unused: u32
    address: array[u8, 16]


class Times(Struct):
    total_us: u64
    slots: array[u64, SLOTS]


times = Hash[Peer, Times](max_entries=4096)
by_remote: Const[u32] = 0
by_port: Const[u32] = 0
only_port: Const[u32] = 0
lost: u64 = 0


# Whom to watch; no process does this.
only_cgroup: Const[u64] = 0


def has_cgroup(sk: Ptr[sock]) -> bool:
    """The socket's: the one of the process that made it."""
    return is_within(u64(sk.sk_cgrp_data.cgroup), only_cgroup)


@tp_btf("tcp_probe")
def on_packet(sk: Ptr[sock], skb: Ptr[sk_buff]) -> int:
    local_port = ntohs(Ptr[inet_sock](u64(sk)).inet_sport)
    remote_port = ntohs(sk.__sk_common.skc_dport)
    if only_port and local_port != only_port and remote_port != only_port:
        return 0
    if only_cgroup and not has_cgroup(sk):
        return 0
    rtt = u64(Ptr[tcp_socket](u64(sk)).srtt_us >> 3)
    if rtt == 0:
        return 0  # nothing was acknowledged yet
    peer = Peer()
    if by_remote:
        peer.family = sk.__sk_common.skc_family
        if peer.family == AF_INET:
            read_kernel(peer.address, 4, addr(sk.__sk_common.skc_daddr))
        else:
            read_kernel(peer.address, 16, addr(sk.__sk_common.skc_v6_daddr))
    if by_port:
        peer.port = local_port
    found = times.setdefault(peer)
    if found is None:
        atomic_add(addr(lost), 1)
        return 0
    atomic_add(addr(found.total_us), rtt)
    atomic_add(addr(found.slots[min(log2(rtt), SLOTS - 1)]), 1)
    return 0
