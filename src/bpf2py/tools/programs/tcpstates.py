"""States of TCP connections: each change, and how long the state before lasted."""

from bpf2py.lang import *
from bpf2py.lang.kernel import inet_sock, sock

from .whom import *

AF_INET = 2
IPPROTO_TCP = 6


class Change(Struct):
    time_ns: u64
    cgroup: u64
    lasted_ns: u64  # 0 where its beginning was not seen
    socket: u64
    pid: u32
    old: u32
    new: u32
    family: u16
    local_port: u16
    remote_port: u16
    unused: u16
    unused_too: u32
    local: array[u8, 16]
    remote: array[u8, 16]
    comm: char[16]


class Life(Struct):
    since_ns: u64
    cgroup: u64
    pid: u32  # 0 where nobody knows who has the socket
    wanted: u32
    comm: char[16]


events = RingBuf[Change](size=1 << 20)
lives = LruHash[u64, Life](max_entries=65_536)
only_port: Const[u32] = 0
all_wanted: Const[u32] = 0  # no filter by process: also sockets of which nobody knows who has them
lost: u64 = 0


def report(sk: Ptr[sock], life: Ptr[Life], old: u32, new: u32, now: u64) -> int:
    local_port = ntohs(Ptr[inet_sock](u64(sk)).inet_sport)
    remote_port = ntohs(sk.__sk_common.skc_dport)
    if only_port and local_port != only_port and remote_port != only_port:
        return 0
    event = events.reserve()
    if event is None:
        atomic_add(addr(lost), 1)
        return 0
    event.time_ns = now
    event.cgroup = life.cgroup
    event.lasted_ns = now - life.since_ns if life.since_ns else 0
    event.socket = u64(sk)
    event.pid = life.pid
    event.comm = life.comm
    event.old = old
    event.new = new
    event.family = sk.__sk_common.skc_family
    event.local_port = local_port
    event.remote_port = remote_port
    event.unused = 0
    event.unused_too = 0
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


@tp_btf("inet_sock_set_state")
def on_state(sk: Ptr[sock], old: s32, new: s32) -> int:
    if sk.sk_protocol != IPPROTO_TCP:
        return 0
    now = ktime_get_ns()
    life = lives.setdefault(u64(sk))
    if life is None:
        atomic_add(addr(lost), 1)
        return 0
    # These changes happen in calls of the process that has the socket; others wherever a packet comes in.
    if new in (TCP_SYN_SENT, TCP_LISTEN, TCP_FIN_WAIT1, TCP_LAST_ACK):
        life.pid = current_tgid()
        life.cgroup = get_current_cgroup_id()
        current_comm(life.comm)
        life.wanted = u32(is_wanted())
    if all_wanted or life.wanted:
        report(sk, life, u32(old), u32(new), now)
    life.since_ns = now
    if new == TCP_CLOSE:
        lives.delete(u64(sk))
    return 0
