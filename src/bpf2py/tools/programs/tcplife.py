"""TCP connections: opened, closed, and all they carried; by the state changes of their sockets."""

from bpf2py.lang import *
from bpf2py.lang.kernel import inet_sock, sock
from bpf2py.lang.kernel import tcp_sock as tcp_socket

from .whom import *

OPENED = 0
FAILED = 1
CLOSED = 2
AF_INET = 2
SOCK_DONE = 1


IPPROTO_TCP = 6


class Connection(Struct):
    time_ns: u64
    cgroup: u64
    lasted_ns: u64
    sent: u64  # bytes the other side has acknowledged
    received: u64
    kind: u32
    pid: u32  # 0 where nobody knows who has the socket
    family: u16
    local_port: u16
    remote_port: u16
    retransmitted: u16
    local: array[u8, 16]
    remote: array[u8, 16]
    comm: char[16]


class Birth(Struct):
    time_ns: u64
    cgroup: u64
    pid: u32
    opened: u32  # whether this side opened it
    wanted: u32
    fin: u32  # whether this side has sent one
    comm: char[16]


events = RingBuf[Connection](size=1 << 20)
births = LruHash[u64, Birth](max_entries=65_536)
what: Const[u32] = 0  # bits: 1 << OPENED ...
only_port: Const[u32] = 0
all_wanted: Const[u32] = 0  # no filter by process: also sockets of which nobody knows who has them
lost: u64 = 0


def report(sk: Ptr[sock], kind: u32, birth: Ptr[Birth], now: u64) -> int:
    local_port = ntohs(Ptr[inet_sock](u64(sk)).inet_sport)
    remote_port = ntohs(sk.__sk_common.skc_dport)
    if not what >> kind & 1 or not (all_wanted or birth.wanted):
        return 0
    if only_port and local_port != only_port and remote_port != only_port:
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        return 0
    tcp = Ptr[tcp_socket](u64(sk))
    event.time_ns = now
    event.cgroup = birth.cgroup
    event.lasted_ns = now - birth.time_ns
    # A SYN and a FIN count as a byte each; one of the other side is known by a flag.
    fin_acked = birth.fin != 0 and tcp.snd_una == tcp.write_seq
    event.sent = tcp.bytes_acked - u64(birth.opened) - (1 if fin_acked else 0)
    event.received = tcp.bytes_received - (u64(sk.__sk_common.skc_flags) >> SOCK_DONE & 1)
    event.retransmitted = u16(min(tcp.total_retrans, 65535))
    event.kind = kind
    event.pid = birth.pid
    event.comm = birth.comm
    event.family = sk.__sk_common.skc_family
    event.local_port = local_port
    event.remote_port = remote_port
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


def began(sk: Ptr[sock], now: u64, opened: u32) -> int:
    birth = Birth(time_ns=now, opened=opened)
    births[u64(sk)] = birth
    return 0


def owned(sk: Ptr[sock], fin: u32) -> int:
    """These changes happen in calls of the process that has the socket; others wherever a packet comes in."""
    birth = births.get(u64(sk))
    if birth is not None:
        birth.pid = current_tgid()
        birth.cgroup = get_current_cgroup_id()
        current_comm(birth.comm)
        birth.fin = fin
        birth.wanted = u32(is_wanted())
    return 0


@tp_btf("inet_sock_set_state")
def on_state(sk: Ptr[sock], old: s32, new: s32) -> int:
    if sk.sk_protocol != IPPROTO_TCP:
        return 0
    now = ktime_get_ns()
    if new == TCP_SYN_SENT:
        began(sk, now, 1)
        return owned(sk, 0)
    if new in (TCP_FIN_WAIT1, TCP_LAST_ACK):
        return owned(sk, 1)
    birth = births.get(u64(sk))
    if new == TCP_ESTABLISHED:
        if birth is None:
            return began(sk, now, 0)
        report(sk, OPENED, birth, now)
        birth.time_ns = now
    elif new == TCP_CLOSE and birth is not None:
        report(sk, FAILED if old == TCP_SYN_SENT else CLOSED, birth, now)
        births.delete(u64(sk))
    return 0
