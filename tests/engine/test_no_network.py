"""Helpers on sockets and routes: the engine has none, and says so as the kernel does where there are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import bpf2py
from bpf2py.engine import Engine

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
long long results[8];
SEC("tc") int lookups(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {.ipv4 = {.saddr = 0x0100007f, .daddr = 0x0100007f, .sport = 1, .dport = 2}};
	struct bpf_fib_lookup route = {.family = 2, .ifindex = 1, .ipv4_dst = 0x01020304};
	struct bpf_sock *found = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	results[0] = found != 0;
	if (found)
		bpf_sk_release(found);
	found = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	results[1] = found != 0;
	if (found)
		bpf_sk_release(found);
	found = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	results[2] = found != 0;
	if (found)
		bpf_sk_release(found);
	results[3] = bpf_fib_lookup(skb, &route, 4, 0);
	results[4] = bpf_fib_lookup(skb, &route, sizeof(route), 1 << 30);
	return 0;
}
SEC("sockops") int callbacks(struct bpf_sock_ops *ctx)
{
	int value = 7, got = 0;
	results[0] = bpf_sock_ops_cb_flags_set(ctx, 0x105);
	results[1] = ctx->bpf_sock_ops_cb_flags;
	results[2] = bpf_setsockopt(ctx, 6, 1, &value, sizeof(value));
	results[3] = bpf_getsockopt(ctx, 6, 1, &got, sizeof(got));
	results[4] = got;
	results[5] = bpf_getsockopt(ctx, 6, 99, &got, sizeof(got));
	return 1;
}
"""
FRAME = bytes.fromhex(
    "ffffffffffff0000000000010800450000280001000040067ccd7f0000017f0000010001000200000000000000005002ffff00000000"
)


@pytest.mark.parametrize("backend", [pytest.param("kernel", marks=pytest.mark.kernel), "engine"])
def test_nothing_is_found(compile_bpf: Callable[[str], bytes], backend: str) -> None:
    spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE))
    spec.programs["callbacks"].autoload = False
    with bpf2py.load(spec, backend=backend) as obj:
        obj.programs["lookups"].test_run(data=FRAME)
        assert list(obj.variables["results"].value)[:5] == [0, 0, 0, -22, -22]


def test_callbacks_and_options(compile_bpf: Callable[[str], bytes]) -> None:
    engine = Engine()
    engine.socket_options[6, 99] = b"\x05\0\0\0"
    with bpf2py.load(compile_bpf(SOURCE), backend=engine) as obj:
        obj.programs["callbacks"].run(op=1, is_fullsock=1)
        assert list(obj.variables["results"].value)[:6] == [0x100, 5, 0, 0, 7, 0]
        assert engine.socket_options[6, 1] == b"\x07\0\0\0"
        obj.programs["callbacks"].run(op=1)
        assert obj.variables["results"].value[0] == -22
