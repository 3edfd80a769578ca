"""Every row of the table of SEC() names: attached, and proved to have fired by the counter its program moves."""

from __future__ import annotations

import ctypes
import errno
import importlib
import mmap
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.attach.conftest import Fired, case, has_hook, missing
from tests.attach.network import add_pair, in_new_network, send_raw, udp

import bpf2py
from bpf2py.kernel.syscall import older_than
from bpf2py.uapi.sections import SECTIONS

pytestmark = pytest.mark.kernel
Load = Callable[..., Fired]
libc = ctypes.CDLL(None)
TC_ACT_OK = 0
# No test can make these run.
EXEMPT = {
    "lwt_seg6local": "runs for packets with segment routing headers alone",
    "lirc_mode2": "needs an infrared receiver",
    "sk_skb": "does not say what the program does: attach() asks for the longer names",
}


def marked(function: Callable[..., Any]) -> Iterator[str]:
    """The sections a test says it fires, those of its parameters included."""
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "fires":
            yield from mark.args
        elif mark.name == "parametrize":
            for parameter in mark.args[1]:
                yield from (n for each in getattr(parameter, "marks", ()) if each.name == "fires" for n in each.args)


def test_every_section_has_a_firing_test() -> None:
    tested: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        module = importlib.import_module(f"tests.attach.{path.stem}")
        for name, function in vars(module).items():
            if name.startswith("test_"):
                tested.update(marked(function))
    rows = {row.name for row in SECTIONS}
    assert rows - tested - set(EXEMPT) == set()
    assert set(EXEMPT) & tested == set()


@pytest.mark.parametrize("row", [row for row in SECTIONS if missing(row)], ids=lambda row: row.name)
def test_kernels_that_are_too_old_are_told_since_when(row: Any, load: Load, cgroup: str) -> None:
    options: dict[str, Any] = {}
    if row.program_type.name == "SCHED_CLS":
        options = {"device": "lo"}
    elif row.program_type.name.startswith("CGROUP") or row.name == "lsm_cgroup":
        options = {"cgroup": cgroup}
    spec = load().obj.spec
    (name, *_) = [p.name for p in spec.programs.values() if p.definition is row]
    with pytest.raises(bpf2py.NotSupported, match=rf"needs Linux {row.since}") as caught:
        load(name.removeprefix("on_"))[name.removeprefix("on_")].attach(**options)
    assert caught.value.since == row.since


def test_a_kernel_without_a_program_type_is_named(load: Load) -> None:
    """Infrared receivers are not built in here, or the program loads."""
    if bpf2py.features.program_type("LIRC_MODE2"):
        load("lirc")
    else:
        with pytest.raises(bpf2py.NotSupported, match="built without programs of type LIRC_MODE2"):
            load("lirc")


def test_a_bare_sk_skb_is_asked_what_it_does(load: Load) -> None:
    fired = load("skb_bare")
    with pytest.raises(bpf2py.AttachError, match="write SEC"):
        fired["skb_bare"].attach(map=fired.obj.maps["sockets"])


# -- tracepoints, iterators, perf events ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        case("tracepoint", "tracepoint"),
        case("tp", "tp"),
        case("raw_tracepoint", "raw_tracepoint"),
        case("raw_tp", "raw_tp"),
        case("tp_btf", "tp_btf"),
    ],
)
def test_tracepoints(load: Load, name: str) -> None:
    fired = load(name)
    with fired[name].attach():
        libc.getppid()
        assert fired.runs(name) >= 1
    settled = fired.runs(name)
    libc.getppid()
    assert fired.runs(name) == settled, "closing the link detaches"


@pytest.mark.parametrize("name", [case("raw_tracepoint.w", "raw_tracepoint_w"), case("raw_tp.w", "raw_tp_w")])
def test_writable_tracepoints(load: Load, name: str) -> None:
    fired = load(name, "xdp")
    with fired[name].attach():
        fired["xdp"].test_run(data=bytes(64))
        assert fired.runs(name) >= 1  # other processes' test runs fire it as well
    settled = fired.runs(name)
    fired["xdp"].test_run(data=bytes(64))
    assert fired.runs(name) == settled, "closing the link detaches"


@pytest.mark.parametrize("name", [case("iter", "iter"), case("iter.s", "iter_s")])
def test_iterators_of_tasks(load: Load, name: str) -> None:
    fired = load(name)
    with fired[name].attach() as link, link.open() as file:
        assert file.read() == b""
        every = fired.runs(name)
        assert every > 1
    if not older_than("6.1"):
        with fired[name].attach(tid=os.getpid()) as link, link.open() as file:
            file.read()
        assert fired.runs(name) - every == 2, "one task, and the call that says that there are no more"


def test_iterators_of_cgroups(load: Load, cgroup: str) -> None:
    if older_than("6.1"):
        pytest.skip("iter/cgroup needs Linux 6.1")
    os.mkdir(f"{cgroup}/child")
    try:
        fired = load("iter_cgroup")
        orders: list[tuple[Any, int]] = [("self", 1), ("descendants_pre", 2), ("descendants_post", 2)]
        for order, count in orders:
            before = fired.runs("iter_cgroup")
            with fired["iter_cgroup"].attach(cgroup=cgroup, order=order) as link, link.open() as file:
                file.read()
            assert fired.runs("iter_cgroup") - before == count + 1, order
        with pytest.raises(bpf2py.AttachError, match="order must be one of self, descendants_pre"):
            fired["iter_cgroup"].attach(cgroup=cgroup, order="sideways")  # type: ignore[arg-type]
    finally:
        os.rmdir(f"{cgroup}/child")


def test_iterators_of_maps(load: Load) -> None:
    fired = load("iter_map")
    with fired["iter_map"].attach() as link, link.open() as file:
        file.read()
    assert fired.runs("iter_map") > len(fired.obj.maps)


@pytest.mark.usefixtures("element_iterators")
def test_iterators_of_elements(load: Load) -> None:
    fired = load("iter_map_elem")
    with bpf2py.Map.create(bpf2py.MapType.HASH, key="u32", value="u64", max_entries=8) as table:
        table.update({1: 1, 2: 2, 3: 3})
        with fired["iter_map_elem"].attach(map=table) as link, link.open() as file:
            file.read()
    assert fired.runs("iter_map_elem") == 4


@pytest.mark.fires("perf_event")
def test_perf_events(load: Load) -> None:
    fired = load("perf_event")
    with fired["perf_event"].attach(event="page-faults", pid=os.getpid(), period=1):
        with mmap.mmap(-1, 1 << 20) as memory:  # a new mapping, whose pages fault; the allocator may have used ones
            memory[::4096] = b"x" * 256
        assert fired.runs("perf_event") >= 1
    before = fired.runs("perf_event")
    with fired["perf_event"].attach(event="cpu-clock", frequency=1000):
        wait_until(lambda: fired.runs("perf_event") > before)
    with pytest.raises(bpf2py.AttachError, match="unknown event 'cpu-clocks'"):
        fired["perf_event"].attach(event="cpu-clocks")


def test_breakpoints(load: Load) -> None:
    """A debug register watches one variable of this process."""
    fired = load("perf_event")
    watched = ctypes.c_uint64(0)
    with fired["perf_event"].attach(breakpoint=ctypes.addressof(watched), access="w", length=8, pid=os.getpid()):
        assert fired.runs("perf_event") == 0
        watched.value = 1
        watched.value = 2
        assert fired.runs("perf_event") == 2
    watched.value = 3
    assert fired.runs("perf_event") == 2
    with pytest.raises(bpf2py.AttachError, match="access must be"):
        fired["perf_event"].attach(breakpoint=ctypes.addressof(watched), access="all")  # type: ignore[arg-type]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """For what another thread of the kernel does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing happened in {seconds} s"
        os.sched_yield()


# -- user-space probes, kernel functions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        case("uprobe", "uprobe", 1),
        case("uprobe.s", "uprobe_s", 1),
        case("uretprobe", "uretprobe", 1),
        case("uretprobe.s", "uretprobe_s", 1),
        case("uprobe.multi", "uprobe_multi", 1),
        case("uprobe.multi.s", "uprobe_multi_s", 1),
        case("uretprobe.multi", "uretprobe_multi", 1),
        case("uretprobe.multi.s", "uretprobe_multi_s", 1),
        case("uprobe.session", "uprobe_session", 2),
        case("uprobe.session.s", "uprobe_session_s", 2),
    ],
)
def test_user_space_probes(load: Load, name: str, runs: int) -> None:
    fired = load(name)
    with fired[name].attach(pid=os.getpid()):
        os.getpgid(0)
        assert fired.runs(name) == runs
    os.getpgid(0)
    assert fired.runs(name) == runs


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        case("kprobe", "kprobe", 1, kprobe=True),
        case("kretprobe", "kretprobe", 1, kprobe=True),
        case("ksyscall", "ksyscall", 1, kprobe=True),
        case("kretsyscall", "kretsyscall", 1, kprobe=True),
        case("kprobe.multi", "kprobe_multi", 1, kprobe=True),
        case("kretprobe.multi", "kretprobe_multi", 1, kprobe=True),
        case("kprobe.session", "kprobe_session", 2, kprobe=True),
        case("fentry", "fentry", 1, kprobe=True),
        case("fexit", "fexit", 1, kprobe=True),
        case("fsession", "fsession", 2, kprobe=True),
        case("fentry.multi", "fentry_multi", 1, kprobe=True),
        case("fexit.multi", "fexit_multi", 1, kprobe=True),
        case("fsession.multi", "fsession_multi", 2, kprobe=True),
        case("fmod_ret", "fmod_ret", 1, kprobe=True),
    ],
)
def test_kernel_functions(load: Load, name: str, runs: int) -> None:
    fired = load(name)
    try:
        link = fired[name].attach()
    except bpf2py.AttachError as error:
        if "CONFIG_FPROBE" not in str(error):
            raise
        pytest.skip("the kernel was built without CONFIG_FPROBE, which kprobe.multi needs")
    with link:
        before = fired.runs(name)
        os.getpgid(os.getpid())
        assert fired.runs(name) - before >= runs
    settled = fired.runs(name)
    os.getpgid(os.getpid())
    assert fired.runs(name) == settled


@pytest.mark.kprobe
@pytest.mark.since("6.2")  # older ones let such programs sleep only where errors can be injected
@pytest.mark.parametrize(
    ("name", "runs"),
    [
        case("fentry.s", "fentry_s", 1),
        case("fexit.s", "fexit_s", 1),
        case("fsession.s", "fsession_s", 2),
        case("fentry.multi.s", "fentry_multi_s", 1),
        case("fexit.multi.s", "fexit_multi_s", 1),
        case("fsession.multi.s", "fsession_multi_s", 2),
        case("fmod_ret.s", "fmod_ret_s", 1),
    ],
)
def test_kernel_functions_with_programs_that_may_sleep(load: Load, name: str, runs: int) -> None:
    """bpf_fentry_test1() is called by test runs of fentry programs."""
    fired, caller = load(name), load("fentry")
    with fired[name].attach():
        caller["fentry"].test_run()
        assert fired.runs(name) == runs
    caller["fentry"].test_run()
    assert fired.runs(name) == runs


def needs_bpf_lsm() -> None:
    if "bpf" not in Path("/sys/kernel/security/lsm").read_text().split(","):
        pytest.skip("the kernel was not started with lsm=...,bpf")


@pytest.mark.parametrize("name", [case("lsm", "lsm", kprobe=True), case("lsm.s", "lsm_s", kprobe=True)])
def test_security_hooks(load: Load, name: str) -> None:
    needs_bpf_lsm()
    fired = load(name)
    with fired[name].attach():
        os.getpgid(os.getpid())
        Path("/proc/self/comm").read_bytes()
        assert fired.runs(name) >= 1


@pytest.mark.kprobe
@pytest.mark.fires("lsm_cgroup")
def test_security_hooks_of_a_cgroup(load: Load, cgroup: str) -> None:
    needs_bpf_lsm()
    fired = load("lsm_cgroup")
    with fired["lsm_cgroup"].attach(cgroup=cgroup):
        udp()
        assert fired.runs("lsm_cgroup") == 1


@pytest.mark.fires("syscall")
def test_programs_run_by_hand(load: Load) -> None:
    fired = load("syscall_program")
    fired["syscall_program"].test_run()
    assert fired.runs("syscall_program") == 1


@pytest.mark.kprobe
@pytest.mark.fires("freplace")
def test_replaced_functions(load: Load, compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 runs;
int hook(struct xdp_md *ctx) __attribute__((noinline));
int hook(struct xdp_md *ctx) { volatile int answer = 1; return answer; }
SEC("xdp") int entry(struct xdp_md *ctx) { return hook(ctx); }
SEC("?freplace/hook") int replacement(struct xdp_md *ctx) { __sync_fetch_and_add(&runs, 1); return 42; }
char LICENSE[] SEC("license") = "GPL";
"""
    with bpf2py.load(compile_bpf(source)) as base:
        assert base.programs["entry"].test_run(data=bytes(64)).return_value == 1
        spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(source))
        spec.programs["entry"].autoload, spec.programs["replacement"].autoload = False, True
        spec.programs["replacement"].target_program = base.programs["entry"]
        with bpf2py.load(spec) as obj:
            with obj.programs["replacement"].attach():
                assert base.programs["entry"].test_run(data=bytes(64)).return_value == 42
                assert obj.variables["runs"].value == 1
            assert base.programs["entry"].test_run(data=bytes(64)).return_value == 1


# -- network devices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        case("action", "action"),
        case("lwt_in", "lwt_in"),
        case("lwt_out", "lwt_out"),
        case("lwt_xmit", "lwt_xmit"),
    ],
)
def test_programs_routes_and_filters_refer_to(load: Load, name: str) -> None:
    """`ip route` and `tc` bind them, by a pin; here they are run."""
    fired = load(name)
    fired[name].test_run(data=bytes(12) + b"\x08\x00" + bytes(50), repeat=3)
    assert fired.runs(name) == 3
    if not has_hook(fired[name].spec.definition):  # type: ignore[union-attr, arg-type]
        with pytest.raises(bpf2py.NotSupported, match="has no hook"):
            fired[name].attach()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        case("tc", "tc", {"direction": "ingress"}),
        case("classifier", "classifier", {"direction": "egress"}),
        case("tc/ingress", "tc_ingress", {}),
        case("tc/egress", "tc_egress", {}),
        case("tcx/ingress", "tcx_ingress", {}),
        case("tcx/egress", "tcx_egress", {}),
    ],
)
def test_traffic_control(load: Load, name: str, options: dict[str, Any]) -> None:
    fired = load(name)

    def body() -> None:
        with fired[name].attach(device="lo", **options):
            udp()
            assert fired.runs(name) == 1
        udp()
        assert fired.runs(name) == 1, "closing the link detaches"

    in_new_network(body)


def chain(load: Load, name: str, device: str, send: Callable[[], None]) -> None:
    """Programs before and after others, by link and by program: the first one that decides ends the chain."""
    names = ("middle", "first", "second", "last")
    middle, first, second, last = programs = [load(name) for _ in range(4)]

    def counts() -> dict[str, int]:
        before = [each.runs(name) for each in programs]
        send()
        return {label: each.runs(name) - n for label, each, n in zip(names, programs, before, strict=True)}

    with (
        middle[name].attach(device=device) as link,
        second[name].attach(device=device, before=link),
        last[name].attach(device=device, after=middle[name]),
        first[name].attach(device=device, before=second[name]),
    ):
        assert counts() == {"first": 1, "second": 1, "middle": 1, "last": 1}
        middle.obj.variables["tc_verdict"].value = TC_ACT_OK
        assert counts() == {"first": 1, "second": 1, "middle": 1, "last": 0}
        second.obj.variables["tc_verdict"].value = TC_ACT_OK
        assert counts() == {"first": 1, "second": 1, "middle": 0, "last": 0}
        first.obj.variables["tc_verdict"].value = TC_ACT_OK
        assert counts() == {"first": 1, "second": 0, "middle": 0, "last": 0}
        with pytest.raises(bpf2py.AttachError, match="already"):
            middle[name].attach(device=device)
        with pytest.raises(bpf2py.AttachError, match="exclude each other"):
            load(name)[name].attach(device=device, before=link, after=link)
        other = load(name)
        with pytest.raises(bpf2py.AttachError, match="anchor is not attached there"):
            other[name].attach(device=device, before=load(name)[name])


@pytest.mark.fires("tcx/ingress")
def test_chains_of_tcx(load: Load) -> None:
    in_new_network(lambda: chain(load, "tcx_ingress", "lo", udp))


def has_netkit() -> bool:
    try:
        in_new_network(lambda: add_pair("netkit", "nk0", "nk1"))
    except bpf2py.BpfOSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True


@pytest.mark.parametrize(
    ("name", "sender"),
    [case("netkit/primary", "netkit_primary", "nk0"), case("netkit/peer", "netkit_peer", "nk1")],
)
def test_netkit(load: Load, name: str, sender: str) -> None:
    fired = load(name)
    if not has_netkit():
        with pytest.raises(bpf2py.AttachError, match="CONFIG_NETKIT"):
            fired[name].attach(device="lo")
        pytest.skip("the kernel was built without CONFIG_NETKIT")

    def body() -> None:
        add_pair("netkit", "nk0", "nk1")
        with fired[name].attach(device="nk0"):
            before = fired.runs(name)
            send_raw(sender)
            assert fired.runs(name) - before == 1
        chain(load, name, "nk0", lambda: send_raw(sender))
        with pytest.raises(bpf2py.AttachError, match="netkit device"):
            fired[name].attach(device="lo")
        with pytest.raises(bpf2py.AttachError, match="primary"):
            fired[name].attach(device="nk1")

    in_new_network(body)


@pytest.mark.parametrize(
    ("name", "mode"),
    [case("xdp", "xdp", "generic"), case("xdp", "xdp", "native"), case("xdp.frags", "xdp_frags", None)],
)
def test_xdp(load: Load, name: str, mode: Any) -> None:
    fired = load(name)

    def body() -> None:
        add_pair("veth", "left", "right")
        with fired[name].attach(device="left", mode=mode):
            before = fired.runs(name)
            send_raw("right")
            wait_until(lambda: fired.runs(name) > before)
            with pytest.raises(bpf2py.AttachError, match="has an XDP program already"):
                fired[name].attach(device="left", mode=mode)

    in_new_network(body)


def test_xdp_through_netlink(load: Load, assert_no_leaks: Any) -> None:
    """Without a link the program is a property of the device; closing takes it off, unless another one took its place."""
    one, two = load("xdp"), load("xdp")

    def body() -> None:
        add_pair("veth", "left", "right")
        assert one.runs("xdp") == two.runs("xdp") == 0  # maps their variables
        with assert_no_leaks():
            first = one["xdp"].attach(device="left", mode="native", netlink=True)
            with pytest.raises(bpf2py.AttachError, match="has an XDP program already"):
                two["xdp"].attach(device="left", mode="native", netlink=True)
            before = one.runs("xdp")
            send_raw("right")
            wait_until(lambda: one.runs("xdp") > before)
            first.update(two["xdp"], old=one["xdp"])
            send_raw("right")
            wait_until(lambda: two.runs("xdp") > 0)
            with pytest.raises(bpf2py.BpfOSError, match="did not take"):
                first.update(one["xdp"], old=one["xdp"])
            first.close()
            first.close()
            with one["xdp"].attach(device="left", mode="native"):
                pass
        with pytest.raises(bpf2py.AttachError, match="mode='generic'"):
            one["xdp"].attach(device="lo", mode="native", netlink=True)

    in_new_network(body)


@pytest.mark.parametrize(
    ("name", "redirect", "table"),
    [
        case("xdp/devmap", "xdp_devmap", "to_device", "devices"),
        case("xdp.frags/devmap", "xdp_frags_devmap", "frags_to_device", "devices"),
        case("xdp/cpumap", "xdp_cpumap", "to_cpu", "cpus"),
        case("xdp.frags/cpumap", "xdp_frags_cpumap", "frags_to_cpu", "cpus"),
    ],
)
def test_xdp_programs_of_maps(load: Load, name: str, redirect: str, table: str) -> None:
    fired = load(name, redirect)

    def body() -> None:
        add_pair("veth", "left", "right")
        if table == "devices":
            fired.obj.maps["devices"][1] = ("left", fired[name])
        else:
            fired.obj.maps["cpus"][0] = (192, fired[name])
        with pytest.raises(bpf2py.AttachError, match="DEVMAP or CPUMAP"):
            fired[name].attach(device="left")
        with fired[redirect].attach(device="left", mode="generic"):
            before = fired.runs(name)
            send_raw("right")
            wait_until(lambda: fired.runs(name) > before)

    in_new_network(body)


def datagram(port: int) -> bytes:
    """An Ethernet frame with an IPv4 UDP datagram of this machine to itself."""
    ip = bytearray(b"\x45\0\0\x20\0\0\0\0\x40\x11\0\0\x7f\0\0\x01\x7f\0\0\x01")
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    ip[10:12] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
    return (
        bytes(12)
        + b"\x08\x00"
        + bytes(ip)
        + (9).to_bytes(2, "big")
        + port.to_bytes(2, "big")
        + b"\0\x0c\0\0ping"
        + bytes(28)
    )


@pytest.mark.since("5.18")
def test_live_frames_arrive(load: Load) -> None:
    """XDP test runs that pass real frames on: the datagrams in them reach a socket."""
    fired = load("xdp", "tc")

    def body() -> None:
        for option in ("route_localnet", "accept_local"):  # such frames seem to come from another machine
            Path(f"/proc/sys/net/ipv4/conf/lo/{option}").write_text("1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(10)
            frame = datagram(receiver.getsockname()[1])
            result = fired["xdp"].test_run(data=frame, repeat=20, live_frames=True, batch_size=8)
            assert result.data == b""
            assert fired.runs("xdp") == 20
            assert [receiver.recv(16) for _ in range(20)] == [b"ping"] * 20
        with pytest.raises(bpf2py.BpfOSError, match="live frames are for XDP programs"):
            fired["tc"].test_run(data=frame, live_frames=True)

    in_new_network(body)


@pytest.mark.fires("netfilter")
def test_netfilter(load: Load) -> None:
    fired = load("netfilter")

    def body() -> None:
        with fired["netfilter"].attach(family="ipv4", hook="input", priority=-128):
            udp()
            assert fired.runs("netfilter") == 1
            with pytest.raises(bpf2py.AttachError, match="this priority is taken"):
                fired["netfilter"].attach(family="ipv4", hook="input", priority=-128)
        with fired["netfilter"].attach(family="ipv6", hook="output", priority=5):
            udp(socket.AF_INET6)
            assert fired.runs("netfilter") == 2

    in_new_network(body)


@pytest.mark.fires("flow_dissector")
def test_flow_dissector(load: Load) -> None:
    fired = load("dissector")

    def body() -> None:
        with fired["dissector"].attach():
            send_raw("lo")  # packets of packet sockets are dissected when they are sent
            assert fired.runs("dissector") >= 1
            with pytest.raises(bpf2py.AttachError, match="has one already"):
                fired["dissector"].attach()

    # Of the threads' own namespace: /proc/self is the process'.
    in_new_network(body)
    assert fired["dissector"].test_run(data=bytes(64)).return_value == 0
