"""TCP connections by the state they enter, and each one that is closed as an event."""

from bpf2py.lang import *
from bpf2py.lang.kernel import sock


class Closed(Struct):
    local_port: u16
    remote_port: u16
    remote_ip: be32


entered = Array[u32, u64](max_entries=16)
closed = RingBuf[Closed](size=1 << 16)


@tp_btf("inet_sock_set_state")
def on_state(sk: Ptr[sock], old: s32, new: s32) -> int:
    slot = entered.get(u32(new))
    if slot is None:
        return 0
    atomic_add(slot, 1)
    if new != TCP_CLOSE:
        return 0
    record = closed.reserve()
    if not record:
        return 0
    record.local_port = sk.__sk_common.skc_num
    record.remote_port = ntohs(sk.__sk_common.skc_dport)
    record.remote_ip = sk.__sk_common.skc_daddr
    closed.submit(record)
    return 0
