"""TCP segments that are sent again."""

from bpf2py.lang import *
from bpf2py.lang.kernel import inet_sock, sk_buff, sock
from bpf2py.lang.kernel import tcp_sock as tcp_socket

from .cgroups import is_within

AF_INET = 2
SYN_SENT = 2  # include/net/tcp_states.h


class Again(Struct):
    time_ns: u64
    cgroup: u64
    total: u32  # of the connection, this one included
    state: u32
    family: u16
    local_port: u16
    remote_port: u16
    unused: u16
    size: u32  # bytes of data
    rtt_us: u32
    local: array[u8, 16]
    remote: array[u8, 16]


events = RingBuf[Again](size=1 << 20)
only_port: Const[u32] = 0
lost: u64 = 0


# Whom to watch; no process does this.
only_cgroup: Const[u64] = 0


def has_cgroup(sk: Ptr[sock]) -> bool:
    """The socket's: the one of the process that made it."""
    return is_within(u64(sk.sk_cgrp_data.cgroup), only_cgroup)


@tp_btf("tcp_retransmit_skb")
def on_retransmit(sk: Ptr[sock], skb: Ptr[sk_buff]) -> int:
    local_port = ntohs(Ptr[inet_sock](u64(sk)).inet_sport)
    remote_port = ntohs(sk.__sk_common.skc_dport)
    if only_port and local_port != only_port and remote_port != only_port:
        return 0
    if only_cgroup and not has_cgroup(sk):
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        return 0
    tcp = Ptr[tcp_socket](u64(sk))
    event.time_ns = ktime_get_ns()
    event.cgroup = sk.sk_cgrp_data.cgroup.kn.id
    event.total = tcp.total_retrans
    event.state = sk.__sk_common.skc_state
    event.family = sk.__sk_common.skc_family
    event.local_port = local_port
    event.remote_port = remote_port
    event.unused = 0
    event.size = skb.len
    event.rtt_us = tcp.srtt_us >> 3
    if event.family == AF_INET:
        for i in range(16):
            event.local[i] = 0
            event.remote[i] = 0
        read_kernel(event.local, 4, addr(sk.__sk_common.skc_rcv_saddr))
        read_kernel(event.remote, 4, addr(sk.__sk_common.skc_daddr))
    else:
        read_kernel(event.local, 16, addr(sk.__sk_common.skc_v6_rcv_saddr))
        read_kernel(event.remote, 16, addr(sk.__sk_common.skc_v6_daddr))
    events.submit(event)
    return 0
