"""What TCP connections carry: the kernel's own counters of every socket, read when they are asked for, and when one is closed."""

from bpf2py.lang import *
from bpf2py.lang.kernel import inet_sock, sock
from bpf2py.lang.kernel import tcp_sock as tcp_socket

from .whom import *
from .whom_of_task import has_cgroup, has_comm, task_is_wanted

AF_INET = 2
SOCK_DONE = 1
IPPROTO_TCP = 6


class Owner(Struct):
    cgroup: u64
    pid: u32
    wanted: u32
    comm: char[16]


class Traffic(Struct):
    sent: u64  # bytes the other side has acknowledged
    received: u64
    base_sent: u64  # of these before the tool began; of a connection opened here the SYN, which counts as a byte
    base_received: u64
    family: u16
    local_port: u16
    remote_port: u16
    closed: u16
    fin: u32  # whether this side has sent one
    unused: u32
    local: array[u8, 16]
    remote: array[u8, 16]


traffic = Hash[u64, Traffic](max_entries=65_536)  # by the sockets' cookies
owners = LruHash[u64, Owner](max_entries=65_536)
began: u32 = 0  # until then, what is there was there before
lost: u64 = 0


def totals(found: Ptr[Traffic], tcp: Ptr[tcp_socket]) -> int:
    """A FIN counts as a byte; one of the other side is known by a flag."""
    fin = found.fin != 0 and tcp.snd_una == tcp.write_seq
    found.sent = tcp.bytes_acked - (1 if fin else 0)
    found.received = tcp.bytes_received - (u64(Ptr[sock](u64(tcp)).__sk_common.skc_flags) >> SOCK_DONE & 1)
    return 0


def named(found: Ptr[Traffic], sk: Ptr[sock]) -> int:
    found.family = sk.__sk_common.skc_family
    found.local_port = ntohs(Ptr[inet_sock](u64(sk)).inet_sport)
    found.remote_port = ntohs(sk.__sk_common.skc_dport)
    if found.family == AF_INET:
        read_kernel(found.local, 4, addr(sk.__sk_common.skc_rcv_saddr))
        read_kernel(found.remote, 4, addr(sk.__sk_common.skc_daddr))
    else:
        read_kernel(found.local, 16, addr(sk.__sk_common.skc_v6_rcv_saddr))
        read_kernel(found.remote, 16, addr(sk.__sk_common.skc_v6_daddr))
    return 0


def owned(cookie: u64) -> int:
    """These changes happen in calls of the process that has the socket."""
    owner = Owner(pid=current_tgid(), cgroup=get_current_cgroup_id(), wanted=u32(is_wanted()))
    current_comm(owner.comm)
    owners[cookie] = owner
    return 0


@tp_btf("inet_sock_set_state")
def on_state(sk: Ptr[sock], old: s32, new: s32) -> int:
    if sk.sk_protocol != IPPROTO_TCP:
        return 0
    cookie = get_socket_cookie(sk)
    if new == TCP_SYN_SENT:
        fresh = Traffic(base_sent=1)
        if traffic.put(cookie, fresh) < 0:
            atomic_add(addr(lost), 1)
        return owned(cookie)
    if new in (TCP_FIN_WAIT1, TCP_LAST_ACK):
        leaving = traffic.setdefault(cookie)
        if leaving is not None:
            leaving.fin = 1
        return owned(cookie)
    if new == TCP_ESTABLISHED:
        established = traffic.setdefault(cookie)
        if established is None:
            atomic_add(addr(lost), 1)
            return 0
        return named(established, sk)
    if new == TCP_CLOSE:
        found = traffic.get(cookie)
        if found is not None:
            named(found, sk)
            totals(found, Ptr[tcp_socket](u64(sk)))
            found.closed = 1
    return 0


@iter("tcp")
def on_socket(ctx: IterContext) -> int:
    common = ctx.sk_common
    if not common:
        return 0
    tcp = skc_to_tcp_sock(common)
    if tcp is None or common.skc_state == TCP_LISTEN:
        return 0
    cookie = get_socket_cookie(common)
    known = traffic.get(cookie)
    found = traffic.setdefault(cookie)
    if found is None:
        atomic_add(addr(lost), 1)
        return 0
    named(found, Ptr[sock](u64(tcp)))
    totals(found, Ptr[tcp_socket](u64(tcp)))
    if known is None and not began:
        found.base_sent = found.sent
        found.base_received = found.received
    return 0


@iter("task_file")
def on_file(ctx: IterContext) -> int:
    task = ctx.task
    which = ctx.file
    if not task or not which:
        return 0
    socket = sock_from_file(which)
    if socket is None:
        return 0
    sk = socket.sk
    if u64(sk) == 0 or sk.sk_protocol != IPPROTO_TCP:
        return 0
    cookie = get_socket_cookie(sk)
    owner = Owner(pid=task.tgid, cgroup=task.cgroups.dfl_cgrp.kn.id)
    read_kernel_str(owner.comm, task.comm)
    wanted = task_is_wanted(task) and (not only_comm[0] or has_comm(task)) and (not only_cgroup or has_cgroup(task))
    owner.wanted = u32(wanted)
    owners.put(cookie, owner, BPF_NOEXIST)
    return 0
