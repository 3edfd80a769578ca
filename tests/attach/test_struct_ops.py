"""struct_ops: a TCP congestion control in BPF, registered, chosen by a socket, and taken away."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import bpf2py
from bpf2py.kernel.syscall import older_than

pytestmark = pytest.mark.kernel

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
u64 inits;
SEC("struct_ops") void BPF_PROG(cc_init, struct sock *sk) { __sync_fetch_and_add(&inits, 1); }
SEC("struct_ops") u32 BPF_PROG(cc_ssthresh, struct sock *sk) { return 10; }
SEC("struct_ops") u32 BPF_PROG(cc_undo, struct sock *sk) { return 10; }
SEC("struct_ops") void BPF_PROG(cc_avoid, struct sock *sk, u32 ack, u32 acked) { }
SEC("struct_ops") void BPF_PROG(cc_unused, struct sock *sk) { }
SEC("SECTION") struct tcp_congestion_ops cc = {
    .init = (void *)cc_init, .ssthresh = (void *)cc_ssthresh, .undo_cwnd = (void *)cc_undo, .cong_avoid = (void *)cc_avoid,
    .name = "bpf2py_test",
};
char LICENSE[] SEC("license") = "GPL";
"""
AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


@pytest.mark.fires("struct_ops")
@pytest.mark.parametrize(("section", "since"), [(".struct_ops", "5.6"), (".struct_ops.link", "6.4")])
def test_congestion_control(compile_bpf: Callable[[str], bytes], section: str, since: str) -> None:
    if older_than(since):
        pytest.skip(f"{section} needs Linux {since}")
    with bpf2py.load(compile_bpf(SOURCE.replace("SECTION", section))) as obj:
        assert "cc_unused" not in obj.programs, "a program no struct refers to is not loaded"
        obj.attach()
        assert "bpf2py_test" in AVAILABLE.read_text().split()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bpf2py_test")
            client.connect(server.getsockname())
        assert obj.variables["inits"].value >= 1
    assert "bpf2py_test" not in AVAILABLE.read_text().split()


DUMMY = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
u64 plain, sleepable;
SEC("struct_ops") int BPF_PROG(count_plain, struct bpf_dummy_ops_state *state) { plain++; return 7; }
SEC("struct_ops.s") int BPF_PROG(count_sleepable, struct bpf_dummy_ops_state *state) { sleepable++; return 8; }
SEC(".struct_ops") struct bpf_dummy_ops dummy = { .test_1 = (void *)count_plain, .test_sleepable = (void *)count_sleepable };
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.fires("struct_ops", "struct_ops.s")
def test_programs_that_may_sleep(compile_bpf: Callable[[str], bytes]) -> None:
    """The kernel's own interface for tests, which is never registered."""
    if older_than("6.2"):
        pytest.skip("bpf_dummy_ops has a function that may sleep since Linux 6.2")
    with bpf2py.load(compile_bpf(DUMMY)) as obj:
        state = ctypes.create_string_buffer(4)
        context = struct.pack("<Q", ctypes.addressof(state))
        assert obj.programs["count_plain"].test_run(context=context).return_value == 7
        assert obj.programs["count_sleepable"].test_run(context=context).return_value == 8
        assert (obj.variables["plain"].value, obj.variables["sleepable"].value) == (1, 1)


def test_an_interface_the_kernel_lacks_is_named(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct no_such_ops { int (*run)(void); };
SEC("struct_ops/run") int run(void *ctx) { return 0; }
SEC(".struct_ops") struct no_such_ops mine = { .run = (void *)run };
char LICENSE[] SEC("license") = "GPL";
"""
    with pytest.raises(bpf2py.NotSupported, match="no struct_ops interface 'no_such_ops'"):
        bpf2py.load(compile_bpf(source))
