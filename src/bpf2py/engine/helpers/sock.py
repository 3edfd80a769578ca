"""Helpers for sockets: the engine has no others than those its packets belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


def _none(engine: Machine, *_: int) -> int:
    """There is no such socket: null."""
    return 0


def sk_fullsock(engine: Machine, sock: int, *_: int) -> int:
    """A packet's socket is a full one."""
    return sock


def sk_release(engine: Machine, _sock: int, *_: int) -> int:
    """Nothing is counted."""
    return 0


def get_netns_cookie(engine: Machine, *_: int) -> int:
    """There is one network namespace, the first of a machine."""
    return 1


tcp_sock = get_listener_sock = sk_lookup_tcp = sk_lookup_udp = skc_lookup_tcp = sock_from_file = _none
skc_to_tcp6_sock = skc_to_tcp_sock = skc_to_tcp_timewait_sock = skc_to_tcp_request_sock = skc_to_udp6_sock = _none
skc_to_unix_sock = skc_to_mptcp_sock = sk_cgroup_id = sk_ancestor_cgroup_id = skb_ancestor_cgroup_id = _none
