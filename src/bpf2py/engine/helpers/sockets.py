"""Helpers on sockets, routes and tunnels of a machine that has none but those a test puts into a context.

Looking a socket or a route up finds nothing, which is what the kernel says where there is nothing. Sockets in a context are
structs a test gives; casts take their word for what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.uapi.errno import EINVAL, ENOENT

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


FIB_PARAMS, FIB_FLAGS = 64, 0x3F  # sizeof(struct bpf_fib_lookup), BPF_FIB_LOOKUP_*
FIB_NOT_FORWARDED = 4  # BPF_FIB_LKUP_RET_NOT_FWDED
TUPLES = (12, 36)  # IPv4 and IPv6 in struct bpf_sock_tuple
# struct bpf_sock_ops (include/uapi/linux/bpf.h).
IS_FULLSOCK, CB_FLAGS, ALL_CB_FLAGS = 72, 84, 0x7F


def _no_socket(engine: Machine, _context: int, pair: int, size: int, *_: int) -> int:
    if engine.length(size) in TUPLES:
        engine.read(pair, engine.length(size))
    return 0


sk_lookup_tcp = sk_lookup_udp = skc_lookup_tcp = _no_socket


def _same(_engine: Machine, pointer: int, *_: int) -> int:
    return pointer


sk_fullsock = tcp_sock = get_listener_sock = skc_to_tcp_sock = skc_to_tcp6_sock = skc_to_udp6_sock = _same
skc_to_unix_sock = skc_to_mptcp_sock = skc_to_tcp_timewait_sock = skc_to_tcp_request_sock = _same


def sk_release(_engine: Machine, *_: int) -> int:
    """Nothing is counted."""
    return 0


def fib_lookup(engine: Machine, _context: int, parameters: int, size: int, flags: int, *_: int) -> int:
    """There are no routes: BPF_FIB_LKUP_RET_NOT_FWDED."""
    if engine.length(size) < FIB_PARAMS or flags & ~FIB_FLAGS:
        return -EINVAL
    engine.read(parameters, FIB_PARAMS)
    return FIB_NOT_FORWARDED


def sock_ops_cb_flags_set(engine: Machine, context: int, flags: int, *_: int) -> int:
    """Which callbacks the socket wants: kept in the context; the result is the flags that do not exist."""
    if engine.read(context + IS_FULLSOCK, 4) == bytes(4):
        return -EINVAL
    flags &= 0xFFFFFFFF
    engine.write(context + CB_FLAGS, (flags & ALL_CB_FLAGS).to_bytes(4, "little"))
    return flags & ~ALL_CB_FLAGS


def setsockopt(engine: Machine, _socket: int, level: int, name: int, value: int, size: int) -> int:
    """Kept in `Engine.socket_options`, for tests and for `getsockopt`."""
    engine.socket_options[_signed(level), _signed(name)] = engine.read(value, engine.length(size))
    return 0


def getsockopt(engine: Machine, _socket: int, level: int, name: int, value: int, size: int) -> int:
    """What was set, or what a test put into `Engine.socket_options`; -EINVAL and zeros without."""
    size = engine.length(size)
    found = engine.socket_options.get((_signed(level), _signed(name)))
    engine.write(value, (found or b"")[:size].ljust(size, b"\0"))
    return 0 if found is not None else -EINVAL


def _signed(number: int) -> int:
    return (number & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)


def get_netns_cookie(_engine: Machine, *_: int) -> int:
    """There is one network namespace, the first."""
    return 1


def find_vma(_engine: Machine, *_: int) -> int:
    """Simulated tasks have no memory areas."""
    return -ENOENT


def perf_prog_read_value(engine: Machine, _context: int, buffer: int, size: int, *_: int) -> int:
    """struct bpf_perf_event_value of an event that counted nothing; a wrong size clears the buffer."""
    size = engine.length(size)
    engine.write(buffer, bytes(size))
    return 0 if size == 24 else -EINVAL


def read_branch_records(_engine: Machine, *_: int) -> int:
    """There are no branch records."""
    return -ENOENT
