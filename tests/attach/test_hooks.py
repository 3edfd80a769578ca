"""Hooks whose programs read their context, and what goes wrong with options (each hook's firing: test_every_section.py)."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.attach.conftest import Loader

import bpf2py
from bpf2py.kernel.attach.kprobe import _refusal

pytestmark = pytest.mark.kernel

SLOTS = {
    name: number
    for number, name in enumerate(
        "TRACEPOINT RAW_TP TP_BTF XDP UPROBE KPROBE KRETPROBE KSYSCALL FENTRY FEXIT ITER COOKIE".split()
    )
}
libc = ctypes.CDLL(None)


def runs(obj: Any, slot: str) -> int:
    return int(obj.maps["runs"][SLOTS[slot]])


def udp_to_self() -> None:
    """One UDP datagram over the loopback device, received before this returns."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        sender.sendto(b"x" * 32, receiver.getsockname())
        assert receiver.recv(64) == b"x" * 32


def test_tracepoint_cookie(load_only: Loader) -> None:
    obj = load_only("on_cookie")
    with obj.programs["on_cookie"].attach(cookie=0x1234567890):
        libc.getppid()
        assert runs(obj, "COOKIE") == 0x1234567890


@pytest.mark.parametrize(("program", "slot"), [("on_raw_tp", "RAW_TP"), ("on_tp_btf", "TP_BTF")])
def test_raw_tracepoints(load_only: Loader, program: str, slot: str) -> None:
    obj = load_only(program)
    with obj.programs[program].attach():
        subprocess.run([sys.executable, "-c", ""], check=True)
        assert runs(obj, slot) >= 1


def test_xdp_test_run_returns_packet_and_verdict(load_only: Loader) -> None:
    obj = load_only("on_xdp")
    result = obj.programs["on_xdp"].test_run(data=bytes(64), repeat=3)
    assert (result.return_value, len(result.data)) == (2, 64)
    assert runs(obj, "XDP") == 3


@pytest.mark.parametrize("event", [(0, 0), (3, 0), (4, 0x3C)])  # PERF_TYPE_HARDWARE, HW_CACHE, RAW
def test_an_event_the_machine_does_not_count_is_named(load_only: Loader, event: tuple[int, int]) -> None:
    program = load_only("on_perf_event").programs["on_perf_event"]
    message = ""
    try:
        program.attach(event=event, period=1_000_000).close()
    except bpf2py.NotSupported as error:
        message = str(error)
    if message:  # a machine with such counters attaches
        assert f"this machine does not count that event (type {event[0]}, config {event[1]:#x}): " in message
        assert "hardware counters" in message
    with pytest.raises(bpf2py.BpfOSError, match="perf_event_open failed"):
        program.attach(event=(1, 999))  # none of the kernel's own


def test_unknown_device_names_the_ones_there_are(load_only: Loader) -> None:
    obj = load_only("on_xdp")
    with pytest.raises(bpf2py.AttachError, match=r"there is no network device 'loo'; there are: lo"):
        obj.programs["on_xdp"].attach(device="loo")


def test_uprobe_by_symbol_and_pid(load_only: Loader) -> None:
    obj = load_only("on_uprobe")
    with obj.programs["on_uprobe"].attach(binary="libc.so.6", symbol="getpgid", pid=os.getpid()):
        os.getpgid(0)
        assert runs(obj, "UPROBE") == 1
    with pytest.raises(bpf2py.AttachError, match="has no function 'getpgidd'"):
        obj.programs["on_uprobe"].attach(binary="libc.so.6", symbol="getpgidd")


@pytest.mark.kprobe
@pytest.mark.parametrize("kind", ["kprobe", "kretprobe", "fentry", "fexit"])
def test_kernel_functions_tell_arguments_and_results(load_only: Loader, kind: str) -> None:
    obj = load_only(f"on_{kind}")
    obj.attach()
    group = os.getpgid(os.getpid())
    assert runs(obj, kind.upper()) == (group if kind in ("kretprobe", "fexit") else os.getpid())


@pytest.mark.kprobe
def test_ksyscall_reads_its_argument(load_only: Loader) -> None:
    obj = load_only("on_ksyscall")
    obj.attach()
    os.getpgid(os.getpid())
    assert runs(obj, "KSYSCALL") == os.getpid()


def test_task_iterator_is_read_as_a_file(load_only: Loader) -> None:
    obj = load_only("on_iter")
    with obj.programs["on_iter"].attach(pid=os.getpid()) as link:
        for _ in range(2):
            with link.open() as file:
                rows = [line.split(None, 1) for line in file.read().decode().splitlines()]
            assert {int(pid) for pid, _ in rows} == {os.getpid()}


@pytest.mark.usefixtures("element_iterators")
def test_map_iterator(load_only: Loader) -> None:
    obj = load_only("on_map_elem")
    obj.maps["runs"][3] = 77
    with obj.programs["on_map_elem"].attach(map=obj.maps["runs"]) as link, link.open() as file:
        values = [int(line) for line in file]
    assert len(values) == 64
    assert values[3] == 77


def test_link_update_replaces_the_program(load_only: Loader) -> None:
    obj, other = load_only("on_xdp"), load_only("on_xdp")
    with obj.programs["on_xdp"].attach(device="lo", mode="generic") as link:
        link.update(other.programs["on_xdp"], old=obj.programs["on_xdp"])
        before = runs(obj, "XDP")
        udp_to_self()
        assert runs(obj, "XDP") == before
        assert runs(other, "XDP") >= 1
        with pytest.raises(bpf2py.BpfOSError, match="did not take"):
            link.update(obj.programs["on_xdp"], old=obj.programs["on_xdp"])


def test_options_a_hook_does_not_know_are_refused(load_only: Loader) -> None:
    obj = load_only("on_xdp", "on_tracepoint")
    with pytest.raises(bpf2py.AttachError, match="does not take the option colour"):
        obj.programs["on_tracepoint"].attach(colour=1)
    with pytest.raises(bpf2py.AttachError, match=r"say where: \.attach\(device='eth0'\)"):
        obj.programs["on_xdp"].attach()


@pytest.mark.parametrize("backend", ["kernel", "engine"])
def test_numbers_no_field_holds(backend: str, compile_bpf: Callable[[str], bytes]) -> None:
    data = compile_bpf("""
#define SEC(name) __attribute__((section(name), used))
SEC("tracepoint/syscalls/sys_enter_getppid") int point(void *ctx) { return 0; }
SEC("uprobe") int probe(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
""")
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("point", {"cookie": -1}), ("point", {"cookie": 1 << 64}), ("point", {"cookie": "x"}), ("probe", {"pid": -2}),
        ("probe", {"pid": 1 << 31}), ("probe", {"offset": -1}),
    ]  # fmt: skip
    with bpf2py.load(data, backend) as obj:
        for name, option in wrong:
            with pytest.raises(bpf2py.AttachError, match=f"program {name}: attach: {next(iter(option))} must be"):
                obj.programs[name].attach(**option)


@pytest.mark.parametrize(
    "section",
    [
        "fentry",
        "fexit",
        "fmod_ret",
        "fentry.s",
        "fexit.s",
        "lsm",
        "lsm.s",
        "lsm_cgroup",
        "tp_btf",
        "iter",
        "iter.s",
        "freplace",
    ],
)
def test_a_section_that_names_no_target(section: str, compile_bpf: Callable[[str], bytes]) -> None:
    data = compile_bpf(f'__attribute__((section("{section}"))) int p(void *ctx) {{ return 0; }}\n')
    message = re.escape(f"program p: load: SEC('{section}') names no target; write SEC('{section}/TARGET')")
    with pytest.raises(bpf2py.ObjectError, match=message):
        bpf2py.load(data)


@pytest.mark.kprobe
def test_an_offset_no_probe_can_have(load_only: Loader) -> None:
    obj = load_only("on_kprobe")
    with pytest.raises(bpf2py.AttachError, match=r"the kernel refuses offset 0xfffffff in function 'do_exit'"):
        obj.programs["on_kprobe"].attach(target="do_exit+0xfffffff")
    with pytest.raises(bpf2py.AttachError, match="the kernel has no function 'do_exitt' that can be probed"):
        obj.programs["on_kprobe"].attach(target="do_exitt+4")


def test_a_refused_offset_is_not_a_missing_function() -> None:
    assert "refuses offset 0x4 in function 'do_exit'" in _refusal("do_exit", 4)
    assert "has no function 'do_exitt'" in _refusal("do_exitt", 4)
    assert "has no function 'do_exit'" in _refusal("do_exit", 0)
