"""Every hook: attached, and proved to have fired by a counter the program moves."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.attach.conftest import Loader

import bpf2py
from bpf2py.kernel import cgroups
from bpf2py.kernel.syscall import older_than

pytestmark = pytest.mark.kernel

SLOTS = {
    name: number
    for number, name in enumerate(
        "TRACEPOINT RAW_TP TP_BTF XDP TCX_INGRESS TCX_EGRESS CGROUP_SKB CONNECT4 BIND4 SOCK SOCKOPS SOCKOPT SYSCTL DEVICE "
        "SK_LOOKUP SK_MSG SK_SKB SOCKET NETFILTER PERF UPROBE URETPROBE UPROBE_MULTI KPROBE KRETPROBE KSYSCALL KPROBE_MULTI "
        "FENTRY FEXIT LSM ITER COOKIE REUSEPORT FLOW".split()
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


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair over the loopback device."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=10)
        accepted, _ = server.accept()
    accepted.settimeout(10)
    return client, accepted


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[str]:
    """A cgroup of its own that this process is moved into while the test runs."""
    root = cgroups.mount_point()
    mounted = None
    if root is None:
        mounted = tmp_path / "cgroup2"
        mounted.mkdir()
        subprocess.run(["mount", "-t", "cgroup2", "none", str(mounted)], check=True)
        root = str(mounted)
    with open("/proc/self/cgroup") as file:
        home = next(line.split(":", 2)[2].strip() for line in file if line.startswith("0:"))
    path = os.path.join(root, f"bpf2py-test-{os.getpid()}")
    os.mkdir(path)
    procs = "cgroup.procs"
    try:
        Path(path, procs).write_text(str(os.getpid()))
        yield path
    finally:
        Path(root + home, procs).write_text(str(os.getpid()))
        os.rmdir(path)
        if mounted is not None:
            subprocess.run(["umount", str(mounted)], check=True)


def needs(version: str) -> None:
    """Skip on kernels older than the feature; younger ones must have it."""
    if older_than(version):
        pytest.skip(f"needs Linux {version}")


def test_tracepoint(load_only: Loader, tracefs: Any) -> None:
    obj = load_only("on_tracepoint")
    before = runs(obj, "TRACEPOINT")
    with obj.programs["on_tracepoint"].attach() as link:
        libc.getppid()
        after = runs(obj, "TRACEPOINT")
        assert after > before
        assert link.hook == "tracepoint/syscalls/sys_enter_getppid"
    libc.getppid()
    settled = runs(obj, "TRACEPOINT")
    libc.getppid()
    assert runs(obj, "TRACEPOINT") == settled, "closing the link detaches"


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


def test_xdp_generic_on_loopback(load_only: Loader) -> None:
    obj = load_only("on_xdp")
    with obj.programs["on_xdp"].attach(device="lo", mode="generic"):
        udp_to_self()
        assert runs(obj, "XDP") >= 1
        with pytest.raises(bpf2py.AttachError, match="already"):
            obj.programs["on_xdp"].attach(device="lo", mode="generic")


def test_xdp_test_run_returns_packet_and_verdict(load_only: Loader) -> None:
    obj = load_only("on_xdp")
    result = obj.programs["on_xdp"].test_run(data=bytes(64), repeat=3)
    assert (result.return_value, len(result.data)) == (2, 64)
    assert runs(obj, "XDP") == 3


def test_unknown_device_names_the_ones_there_are(load_only: Loader) -> None:
    obj = load_only("on_xdp")
    with pytest.raises(bpf2py.AttachError, match=r"there is no network device 'loo'; there are: lo"):
        obj.programs["on_xdp"].attach(device="loo")


def test_tcx_both_directions_with_anchor(load_only: Loader) -> None:
    needs("6.6")
    obj, other = load_only("on_tcx_ingress", "on_tc"), load_only("on_tcx_ingress")
    with (
        obj.programs["on_tcx_ingress"].attach(device="lo") as first,
        other.programs["on_tcx_ingress"].attach(device="lo", before=first),
        obj.programs["on_tc"].attach(device="lo", direction="egress"),
    ):
        udp_to_self()
        assert runs(obj, "TCX_INGRESS") >= 1
        assert runs(other, "TCX_INGRESS") >= 1, "both programs of the chain ran"
        with pytest.raises(bpf2py.AttachError, match="attached there already"):
            obj.programs["on_tcx_ingress"].attach(device="lo")
        assert runs(obj, "TCX_EGRESS") >= 1


@pytest.mark.parametrize(
    ("program", "slot"),
    [
        ("on_cgroup_skb", "CGROUP_SKB"),
        ("on_connect4", "CONNECT4"),
        ("on_bind4", "BIND4"),
        ("on_sock_create", "SOCK"),
        ("on_sockops", "SOCKOPS"),
    ],
)
def test_cgroup_sockets(load_only: Loader, cgroup: str, program: str, slot: str) -> None:
    obj = load_only(program)
    with obj.programs[program].attach(cgroup=cgroup):
        for sock in tcp_pair():
            sock.close()
        assert runs(obj, slot) >= 1


def test_cgroup_getsockopt(load_only: Loader, cgroup: str) -> None:
    obj = load_only("on_getsockopt")
    with obj.programs["on_getsockopt"].attach(cgroup=cgroup), socket.socket() as sock:
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert runs(obj, "SOCKOPT") >= 1


def test_cgroup_sysctl_and_device(load_only: Loader, cgroup: str) -> None:
    obj = load_only("on_sysctl", "on_device")
    with obj.programs["on_sysctl"].attach(cgroup=cgroup), obj.programs["on_device"].attach(cgroup=cgroup):
        Path("/proc/sys/kernel/ostype").read_text()
        Path("/dev/null").read_bytes()
        assert runs(obj, "SYSCTL") >= 1
        assert runs(obj, "DEVICE") >= 1


def test_sk_lookup(load_only: Loader) -> None:
    obj = load_only("on_sk_lookup")
    with obj.programs["on_sk_lookup"].attach():
        for sock in tcp_pair():
            sock.close()
        assert runs(obj, "SK_LOOKUP") >= 1


def test_sk_msg_and_sk_skb(load_only: Loader) -> None:
    obj = load_only("on_sk_msg", "on_sk_skb")
    with (
        obj.programs["on_sk_msg"].attach(map=obj.maps["sockets"]),
        obj.programs["on_sk_skb"].attach(map=obj.maps["sockets"]),
    ):
        client, accepted = tcp_pair()
        with client, accepted:
            obj.maps["sockets"][1] = client
            obj.maps["sockets"][2] = accepted
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
            assert runs(obj, "SK_MSG") >= 1
            assert runs(obj, "SK_SKB") >= 1


def test_socket_filter(load_only: Loader) -> None:
    obj = load_only("on_socket")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        with (
            obj.programs["on_socket"].attach(socket=receiver),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            sender.sendto(b"ping", receiver.getsockname())
            assert receiver.recv(16) == b"ping"
            assert runs(obj, "SOCKET") == 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"pong", receiver.getsockname())
            assert receiver.recv(16) == b"pong"
        assert runs(obj, "SOCKET") == 1, "closing the link takes the filter off"


def test_sk_reuseport(load_only: Loader) -> None:
    obj = load_only("on_reuseport")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        with obj.programs["on_reuseport"].attach(socket=receiver):
            sender.sendto(b"ping", receiver.getsockname())
            assert receiver.recv(16) == b"ping"
            assert runs(obj, "REUSEPORT") >= 1


def test_netfilter(load_only: Loader) -> None:
    needs("6.4")
    obj = load_only("on_netfilter")
    with obj.programs["on_netfilter"].attach(family="ipv4", hook="input", priority=-128):
        udp_to_self()
        assert runs(obj, "NETFILTER") >= 1


def test_perf_event_software_clock(load_only: Loader) -> None:
    obj = load_only("on_perf_event")
    with obj.programs["on_perf_event"].attach(event="page-faults", pid=os.getpid(), period=1):
        memory = bytearray(4 << 20)
        memory[::4096] = b"x" * 1024  # fresh pages fault
        assert runs(obj, "PERF") >= 1


def test_uprobe_by_symbol_and_pid(load_only: Loader) -> None:
    obj = load_only("on_uprobe")
    with obj.programs["on_uprobe"].attach(binary="libc.so.6", symbol="getpgid", pid=os.getpid()):
        os.getpgid(0)
        assert runs(obj, "UPROBE") == 1
    with pytest.raises(bpf2py.AttachError, match="has no function 'getpgidd'"):
        obj.programs["on_uprobe"].attach(binary="libc.so.6", symbol="getpgidd")


def test_uretprobe_by_section_name(load_only: Loader) -> None:
    obj = load_only("on_uretprobe")
    obj.attach()
    os.getpgid(0)
    assert runs(obj, "URETPROBE") >= 1


def test_uprobe_multi(load_only: Loader) -> None:
    needs("6.6")
    obj = load_only("on_uprobe_multi")
    obj.attach()
    os.getpgid(0)
    assert runs(obj, "UPROBE_MULTI") >= 1


@pytest.mark.kprobe
@pytest.mark.parametrize(
    ("program", "slot", "since"),
    [
        ("on_kprobe", "KPROBE", "5.10"),
        ("on_kretprobe", "KRETPROBE", "5.10"),
        ("on_kprobe_multi", "KPROBE_MULTI", "5.18"),
        ("on_fentry", "FENTRY", "5.10"),
        ("on_fexit", "FEXIT", "5.10"),
    ],
)
def test_kernel_function_probes(load_only: Loader, program: str, slot: str, since: str) -> None:
    needs(since)
    obj = load_only(program)
    try:
        obj.attach()
    except bpf2py.AttachError as error:
        if "CONFIG_FPROBE" not in str(error):
            raise
        pytest.skip("the kernel was built without CONFIG_FPROBE, which kprobe.multi needs")
    os.getpgid(0)
    assert runs(obj, slot) >= 1


@pytest.mark.kprobe
def test_ksyscall_reads_its_argument(load_only: Loader) -> None:
    obj = load_only("on_ksyscall")
    obj.attach()
    os.getpgid(os.getpid())
    assert runs(obj, "KSYSCALL") == os.getpid()


@pytest.mark.kprobe
def test_lsm(load_only: Loader) -> None:
    if "bpf" not in Path("/sys/kernel/security/lsm").read_text().split(","):
        pytest.skip("the kernel was not started with lsm=...,bpf")
    obj = load_only("on_lsm")
    obj.attach()
    os.getpgid(os.getpid())
    assert runs(obj, "LSM") >= 1


def test_task_iterator_is_read_as_a_file(load_only: Loader) -> None:
    obj = load_only("on_iter")
    with obj.programs["on_iter"].attach(pid=os.getpid()) as link:
        for _ in range(2):
            with link.open() as file:
                rows = [line.split(None, 1) for line in file.read().decode().splitlines()]
            assert {int(pid) for pid, _ in rows} == {os.getpid()}


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
