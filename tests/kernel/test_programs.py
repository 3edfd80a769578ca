"""Programs and links of the machine: opened by id and pin, detached, counted, looked at."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.kernel.syscall import bpf, older_than
from bpf2py.uapi.commands import Command

pytestmark = pytest.mark.kernel

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 runs;
SEC("tracepoint/syscalls/sys_enter_getppid") int count(void *ctx) { __sync_fetch_and_add(&runs, 1); return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
libc = ctypes.CDLL(None)


@pytest.fixture
def obj(compile_bpf: Callable[[str], bytes], tracefs: Any) -> Any:
    spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE))
    with bpf2py.load(spec) as loaded:
        yield loaded


def test_a_pinned_program_is_opened_again(obj: Any, bpffs: Path) -> None:
    program = obj.programs["count"]
    program.pin(bpffs / "count")
    with pytest.raises(FileExistsError):
        program.pin(bpffs / "count")
    opened = bpf2py.Program.from_pin(bpffs / "count")
    assert (opened.info.id, opened.name, opened.type) == (program.info.id, "count", bpf2py.ProgramType.TRACEPOINT)
    with pytest.raises(bpf2py.AttachError, match="does not know its section"):
        opened.attach()
    opened.close()
    (bpffs / "count").unlink()
    with pytest.raises(bpf2py.BpfOSError, match="ENOENT"):
        bpf2py.Program.from_pin(bpffs / "count")


def test_code_is_shown_as_the_kernel_runs_it(obj: Any) -> None:
    program = bpf2py.Program.from_id(obj.programs["count"].info.id)
    assert len(program.xlated()) == program.info.xlated_len
    assert program.disassemble().splitlines()[-1].endswith("exit")
    program.close()
    with pytest.raises(bpf2py.ClosedError):
        program.xlated()


def test_runs_are_counted_while_statistics_are_on(obj: Any) -> None:
    obj.attach()
    program = obj.programs["count"]
    with bpf2py.enable_stats():
        before = program.info.run_count
        libc.getppid()
        counted = program.info
    assert counted.run_count > before
    assert counted.run_time_ns > 0


def test_a_pinned_link_outlives_its_closing(obj: Any, bpffs: Path) -> None:
    link = obj.programs["count"].attach()
    if not link.info:
        pytest.skip("perf links came with Linux 5.15")
    link.pin(bpffs / "link")
    link.close()
    before = obj.variables["runs"].value
    libc.getppid()
    assert obj.variables["runs"].value > before, "the pin keeps it attached"
    again = bpf2py.Link.from_pin(bpffs / "link")
    assert again.info["prog_id"] == obj.programs["count"].info.id
    assert bpf2py.Link.from_id(again.info["id"]).info == again.info
    (bpffs / "link").unlink()
    again.close()
    libc.getppid()
    settled = obj.variables["runs"].value
    libc.getppid()
    assert obj.variables["runs"].value == settled


WHERE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tracepoint/syscalls/sys_enter_getppid") int classic(void *ctx) { return 0; }
SEC("raw_tp/sys_enter") int raw(void *ctx) { return 0; }
SEC("xdp") int packets(struct xdp_md *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("backend", ["kernel", "engine"])
def test_source_lines(compile_bpf: Callable[[str], bytes], backend: str) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 first, second;
SEC("xdp") int lines(struct xdp_md *ctx)
{
    first += bpf_ktime_get_ns();
    second += first;
    return XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""
    with bpf2py.load(compile_bpf(source), backend=backend) as obj, obj.programs["lines"] as program:
        slots = {text.split(": ", 1)[1]: slot for slot, text in program.source_lines()}
        assert slots["first += bpf_ktime_get_ns();"] < slots["second += first;"] < slots["return XDP_PASS;"]
        text = program.disassemble(source=True).splitlines()
        where = [number for number, line in enumerate(text) if line.endswith("second += first;")]
        assert where and text[where[0]].startswith("; ")  # noqa: PT018
        assert [line for line in text if not line.startswith("; ")] == program.disassemble().splitlines()
    with pytest.raises(bpf2py.ClosedError):
        program.source_lines()


def test_links_say_where_they_are(compile_bpf: Callable[[str], bytes]) -> None:
    with bpf2py.load(compile_bpf(WHERE)) as obj:
        cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("raw", {}, {"type": "raw_tracepoint", "name": "sys_enter"}),
            ("packets", {"device": "lo", "mode": "generic"}, {"type": "xdp", "ifindex": 1}),
            ("classic", {"cookie": 77}, {"type": "perf_event"}),
        ]
        for name, options, wanted in cases:
            if name == "classic" and not older_than("6.6"):
                wanted |= {"event": "tracepoint", "name": "sys_enter_getppid"}
            if name == "classic" and not older_than("6.9"):
                wanted |= {"cookie": 77}
            with obj.programs[name].attach(**options) as link:
                found = link.info
                assert found | wanted == found
                assert found["prog_id"] == obj.programs[name].info.id


def test_detach_takes_an_xdp_link_off_at_once(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
"""
    with bpf2py.load(compile_bpf(source)) as obj, obj.programs["pass"].attach(device="lo", mode="generic") as link:
        bpf2py.Link.from_id(link.info["id"]).detach()
        obj.programs["pass"].attach(device="lo", mode="generic").close()


def test_a_forked_child_detaches_nothing(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_SOCKHASH); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); }
    sockets SEC(".maps");
SEC("sk_msg") int pass(struct sk_msg_md *msg) { return SK_PASS; }
"""
    with bpf2py.load(compile_bpf(source)) as obj:
        link = obj.programs["pass"].attach(map=obj.maps["sockets"])
        child = os.fork()
        if child == 0:
            link.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        attr = struct.pack("<IIII", obj.maps["sockets"].fileno(), obj.programs["pass"].fileno(), 7, 0)
        assert bpf(Command.PROG_DETACH, attr) == 0, "it was still attached after the child had gone"


def test_calls_between_functions_are_shown(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__noinline int twice(int x) { return x + x; }
SEC("syscall") int run(void *ctx) { return twice(bpf_get_prandom_u32()) + twice(3); }
char LICENSE[] SEC("license") = "GPL";
"""
    with bpf2py.load(compile_bpf(source)) as obj:
        text = obj.programs["run"].disassemble()
        assert ".bytes" not in text
        assert text.count("call +") == 2


def test_run_takes_arguments_or_a_packet(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    source = """
    long sum;
    SEC("raw_tp/sched_switch") int add(__u64 *ctx) { sum = ctx[0] + ctx[1]; return 3; }
    SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
    """
    with bpf2py.load(build(source)) as obj:
        obj.programs["add"].run(40, 2)
        assert obj.variables["sum"].value == 42
        obj.programs["add"].run([1, -3])
        assert obj.variables["sum"].value == -2
        assert obj.programs["pass"].run(data=bytes(64)).return_value == 2
        if obj.backend.name == "kernel":
            with pytest.raises(bpf2py.errors.EncodeError, match="are made by the engine"):
                obj.programs["add"].run(pid=3)
