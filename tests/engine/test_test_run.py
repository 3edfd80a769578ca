"""BPF_PROG_TEST_RUN: what the kernel takes and refuses, and every member of every context it shows, on kernel and engine."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.errors import BpfError
from bpf2py.uapi.cpus import possible_cpus

pytestmark = [pytest.mark.kernel, pytest.mark.since("6.18")]

PROGRAMS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct bpf_nf_ctx;
SEC("?tc") int p_tc(struct __sk_buff *skb) { return skb->len; }
SEC("?cgroup_skb/ingress") int p_cgroup(struct __sk_buff *skb) { return 1; }
SEC("?socket") int p_socket(struct __sk_buff *skb) { return skb->len; }
SEC("?lwt_in") int p_lwt(struct __sk_buff *skb) { return 0; }
SEC("?lwt_seg6local") int p_seg6(struct __sk_buff *skb) { return 0; }
SEC("?xdp") int p_xdp(struct xdp_md *xdp) { return xdp->data_end - xdp->data; }
SEC("?xdp.frags") int p_xdp_frags(struct xdp_md *xdp) { return bpf_xdp_get_buff_len(xdp); }
SEC("?xdp/devmap") int p_xdp_devmap(struct xdp_md *xdp) { return 2; }
SEC("?raw_tp/x") int p_raw(__u64 *ctx) { return ctx[1]; }
SEC("?raw_tp.w/x") int p_raw_writable(__u64 *ctx) { return 0; }
SEC("?syscall") int p_syscall(__u64 *ctx) { return ctx[2]; }
SEC("?syscall") int p_syscall_part(__u64 *ctx) { ctx += 3; return *(__u32 *)ctx; }
SEC("?syscall") int p_syscall_none(void *ctx) { return 7; }
SEC("?sk_lookup") int p_lookup(struct bpf_sk_lookup *ctx) { return ctx->family == 10; }
SEC("?flow_dissector") int p_flow(struct __sk_buff *skb)
{
	struct bpf_flow_keys *keys = skb->flow_keys;

	keys->thoff += 2000;
	keys->ip_proto = keys->n_proto >> 8;
	keys->sport = (long)skb->data_end - (long)skb->data;
	return 0;
}
SEC("?netfilter") int p_netfilter(struct bpf_nf_ctx *ctx) { return 1; }
SEC("?sk_msg") int p_message(struct sk_msg_md *ctx) { return 1; }
SEC("?sockops") int p_sockops(struct bpf_sock_ops *ctx) { return 1; }
SEC("?kprobe/x") int p_kprobe(void *ctx) { return 1; }
SEC("?perf_event") int p_perf(void *ctx) { return 1; }
char LICENSE[] SEC("license") = "GPL";
"""
NAMES = (
    "tc cgroup socket lwt seg6 xdp xdp_frags xdp_devmap raw raw_writable syscall syscall_part syscall_none lookup flow netfilter"
    " message sockops kprobe perf"
).split()
IP4, IP6, ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
SKB = {
    "len": 0, "pkt_type": 4, "mark": 8, "queue_mapping": 12, "vlan_proto": 28, "priority": 32, "ingress_ifindex": 36, "ifindex": 40,
    "cb": 48, "hash": 68, "family": 88, "tstamp": 152, "wire_len": 160, "gso_segs": 164, "gso_size": 176, "tstamp_type": 180,
    "hwtstamp": 184,
}  # fmt: skip


def packet(size: int, ethertype: bytes = IP4) -> bytes:
    return (bytes(12) + ethertype + bytes(max(0, size - 14)))[:size]


def skb(**members: int) -> bytes:
    raw = bytearray(192)
    for name, value in members.items():
        struct.pack_into("<I", raw, SKB[name], value)
    return bytes(raw)


def xdp_md(*numbers: int) -> bytes:
    return struct.pack("<6I", *numbers)


def sk_lookup(sk: int = 0, family: int = 2, remote_port: int = 0, local_port: int = 0, ingress: int = 0) -> bytes:
    return struct.pack("<QII20xI20xII4x", sk, family, 6, remote_port, local_port, ingress)


SIZES = [
    0,
    1,
    13,
    14,
    15,
    33,
    34,
    53,
    54,
    60,
    1514,
    3519,
    3520,
    3521,
    3712,
    3713,
    4096,
    4097,
    9000,
    65536,
    73152,
    73153,
]
OPTIONS: list[dict[str, Any]] = [
    {"repeat": 0}, {"repeat": 3}, {"cpu": 0}, {"cpu": 100_000}, {"flags": 1}, {"flags": 4}, {"flags": 8},
]  # fmt: skip
SKB_CONTEXTS = [
    skb(), skb(mark=1), skb(len=1), skb(pkt_type=1), skb(queue_mapping=1), skb(vlan_proto=1), skb(priority=3), skb(ifindex=1),
    skb(ifindex=9999), skb(ingress_ifindex=9999), skb(cb=7), skb(hash=1), skb(family=2), skb(tstamp=8), skb(wire_len=1),
    skb(wire_len=46), skb(wire_len=60), skb(wire_len=65536), skb(wire_len=65537), skb(gso_segs=65535), skb(gso_segs=65536),
    skb(gso_size=70000), skb(tstamp_type=1), skb(hwtstamp=4), skb()[:8], skb(mark=3)[:12], skb()[:48], bytes(193),
    bytes(192) + b"\1", bytes(4096), bytes(5000),
]  # fmt: skip
XDP_CONTEXTS = [
    xdp_md(0, 60, 0, 0, 0, 0), xdp_md(4, 60, 0, 0, 0, 0), xdp_md(4, 60, 4, 0, 0, 0), xdp_md(2, 60, 0, 0, 0, 0),
    xdp_md(0, 61, 0, 0, 0, 0), xdp_md(0, 59, 0, 0, 0, 0), xdp_md(0, 10, 0, 0, 0, 0), xdp_md(32, 60, 0, 0, 0, 0),
    xdp_md(36, 60, 0, 0, 0, 0), xdp_md(44, 60, 0, 0, 0, 0), xdp_md(48, 60, 0, 0, 0, 0), xdp_md(64, 60, 0, 0, 0, 0),
    xdp_md(0, 60, 0, 1, 0, 0), xdp_md(0, 60, 0, 1, 1, 0), xdp_md(0, 60, 0, 0, 1, 0), xdp_md(0, 60, 0, 9999, 0, 0),
    xdp_md(0, 60, 0, 1, 9999, 0), xdp_md(0, 60, 0, 0, 0, 1), xdp_md(0, 60, 0, 0, 0, 0)[:12], bytes(4),
    xdp_md(0, 60, 0, 0, 0, 0) + bytes(8), xdp_md(0, 60, 0, 0, 0, 0) + b"\1",
]  # fmt: skip
LOOKUPS = [
    sk_lookup(), sk_lookup(sk=1), sk_lookup(family=10), sk_lookup(family=0), sk_lookup(family=65538), sk_lookup(local_port=65535),
    sk_lookup(local_port=65536), sk_lookup(ingress=1), sk_lookup(remote_port=5), sk_lookup()[:60], sk_lookup()[:12],
    sk_lookup() + bytes(8), sk_lookup() + b"\1", b"",
]  # fmt: skip


def requests(name: str) -> Iterator[dict[str, Any]]:
    """What is asked of a program, and more or less fits it."""
    if name in ("tc", "cgroup", "socket", "lwt", "seg6"):
        yield from ({"data": packet(size, kind)} for size in SIZES for kind in (IP4, IP6, ARP))
        yield from ({"data": packet(60), "context": context} for context in SKB_CONTEXTS)
        yield from ({"data": packet(60), **option} for option in OPTIONS)
    elif name.startswith("xdp"):
        yield from ({"data": packet(size)} for size in SIZES)
        yield from ({"data": packet(60), "context": context} for context in XDP_CONTEXTS)
        yield from ({"data": packet(60), **option} for option in OPTIONS)
    elif name == "lookup":
        yield from ({"context": context} for context in LOOKUPS)
        yield from ({"context": sk_lookup(), **option} for option in OPTIONS)
        yield {"context": sk_lookup(), "data": packet(60)}
    elif name in ("flow", "netfilter"):
        yield from ({"data": packet(size, kind)} for size in SIZES for kind in (IP4, IP6, ARP))
        yield from ({"data": packet(60), **option} for option in OPTIONS)
        for context in (
            bytes(56),
            bytes(40),
            bytes(48) + b"\1" + bytes(7),
            b"\1" + bytes(55),
            bytes(8),
            bytes(57),
            bytes(56) + b"\1",
        ):
            yield {"data": packet(60), "context": context}
        for hook in range(7):
            for family in (0, 2, 10):
                for kind in (IP4, IP6, ARP):
                    for size in (20, 33, 34, 53, 54):
                        yield {"data": packet(size, kind), "context": bytes([hook, family]) + bytes(46)}
    else:
        yield from ({"context": bytes(size)} for size in (0, 8, 15, 16, 23, 24, 27, 28, 32, 95, 96, 97, 65535, 65536))
        yield from ({"context": bytes(32), **option} for option in OPTIONS)
        yield {"context": bytes(32), "data": packet(60)}


def answer(program: Any, request: dict[str, Any]) -> object:
    """What a test run gives: result, data and context; or an errno."""
    try:
        result = program.test_run(**request)
    except BpfError as error:
        return f"errno {error.errno}"
    return result.return_value, result.data.hex(), result.context.hex()


def both(code: bytes, name: str) -> Iterator[Any]:
    """The program alone, loaded by the kernel and by the engine; nothing where the kernel refuses it."""
    spec = bpf2py.ObjectSpec.from_bytes(code)
    for program in spec.programs.values():
        program.autoload = program.name == name
    try:
        kernel = bpf2py.load(spec)
    except BpfError:
        return
    with kernel, bpf2py.load(spec, backend=Engine(possible_cpus=possible_cpus())) as engine:
        yield from (kernel, engine)


@pytest.mark.parametrize("name", NAMES)
def test_requests(compile_bpf: Callable[[str], bytes], name: str) -> None:
    asked = list(requests(name))
    found = [
        [answer(obj.programs[f"p_{name}"], request) for request in asked]
        for obj in both(compile_bpf(PROGRAMS), f"p_{name}")
    ]
    assert len(found) == 2
    for request, kernel, engine in zip(asked, *found, strict=True):
        assert engine == kernel, {
            key: value[:30] if isinstance(value, bytes) else value for key, value in request.items()
        }


SKB_SECTIONS = ["tc", "cgroup_skb/ingress", "cgroup_skb/egress", "socket", "lwt_in", "lwt_out", "lwt_xmit", "action"]
SKB_MEMBERS = {
    **{
        name: f"skb->{name}"
        for name in (
            "len pkt_type mark queue_mapping protocol vlan_present vlan_tci vlan_proto priority ingress_ifindex ifindex tc_index"
            " cb[0] cb[4] hash tc_classid napi_id family remote_ip4 local_ip4 remote_ip6[0] remote_ip6[3] local_ip6[0] local_ip6[3]"
            " remote_port local_port tstamp wire_len gso_segs tstamp_type gso_size hwtstamp"
        ).split()
    },
    "data": "(long)skb->data_end - (long)skb->data",
    "metadata": "(long)skb->data - (long)skb->data_meta",
    "sk": "skb->sk != 0",
    **{
        f"sk {name}": f"({{ struct bpf_sock *sk = skb->sk; sk ? ((sk = bpf_sk_fullsock(sk)) ? (long)sk->{name} : -2) : -1; }})"
        for name in (
            "bound_dev_if family type protocol mark priority src_ip4 src_port dst_port dst_ip4 state rx_queue_mapping"
        ).split()
    },
    **{
        f"sk common {name}": f"({{ struct bpf_sock *sk = skb->sk; sk ? (long)sk->{name} : -1; }})"
        for name in ("family", "src_ip4", "dst_ip4", "src_port", "dst_port", "state")
    },
}


def ip4(size: int = 60) -> bytes:
    return struct.pack(">BBHHHBBHII", 0x45, 0, size, 7, 0, 64, 17, 0x1234, 0x7F000001, 0x7F000002) + bytes(size - 20)


def ip6(size: int = 60) -> bytes:
    return (
        struct.pack(">IHBB", 0x60000000, size - 40, 17, 64) + bytes(range(16)) + bytes(range(16, 32)) + bytes(size - 40)
    )


def ethernet(destination: bytes, ethertype: bytes, payload: bytes) -> bytes:
    return destination + bytes(range(6, 12)) + ethertype + payload


PACKETS = [
    ethernet(bytes(6), IP4, ip4()), ethernet(b"\1" + bytes(5), IP4, ip4()), ethernet(b"\xff" * 6, IP4, ip4()),
    ethernet(b"\2" * 6, IP4, ip4()), ethernet(bytes(6), IP6, ip6()), ethernet(bytes(6), ARP, bytes(40)),
    ethernet(bytes(6), b"\x81\x00", b"\0\5\x08\0" + ip4()), ethernet(bytes(6), b"\x88\xb5", b""),
    ethernet(bytes(6), b"\0\x10", bytes(9)),
    ethernet(bytes(6), b"\0\x20", b"\xaa\xaa\3\0\0\0\x08\0" + bytes(30)), ethernet(bytes(6), b"\0\x20", b"\xff\xff" + bytes(30)),
]  # fmt: skip
FULL = skb(mark=5, priority=6, ifindex=1, tstamp=7777, wire_len=200, gso_segs=3, gso_size=10, cb=9, hwtstamp=55)


@pytest.mark.parametrize("section", SKB_SECTIONS)
def test_members_of_sk_buff(compile_bpf: Callable[[str], bytes], section: str) -> None:
    """Each member that programs of this type may read at all, of packets of many kinds."""
    source = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nlong out;\n"
    for number, expression in enumerate(SKB_MEMBERS.values()):
        source += f'SEC("?{section}") int p{number}(struct __sk_buff *skb) {{ out = {expression}; return 0; }}\n'
    code, compared = compile_bpf(source + 'char LICENSE[] SEC("license") = "GPL";'), 0
    for number, name in enumerate(SKB_MEMBERS):
        found = []
        for obj in both(code, f"p{number}"):
            answers = []
            for data in PACKETS:
                for context in (b"", FULL):
                    given = answer(obj.programs[f"p{number}"], {"data": data, "context": context})
                    answers.append((obj.variables["out"].value, given))
            found.append(answers)
        if found:
            assert found[1] == found[0], name
            compared += 1
    assert compared > 20
