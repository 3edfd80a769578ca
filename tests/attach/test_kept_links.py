"""Links nobody keeps: the object keeps them, the program goes on seeing what it was attached to."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import pickle
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attach.conftest import Fired, Loader
from tests.attach.network import in_new_network, udp

import bpf2py
from bpf2py.engine import Engine

Load = Callable[..., Fired]
libc = ctypes.CDLL(None)
EVENTS = 5


def check(fired: Fired, name: str, fire: Callable[[], object], each: int = 1, **options: Any) -> None:
    """Attach without keeping the link; events reach the program until the object is closed, and a link can end it early."""
    fired[name].attach(**options)
    gc.collect()
    before = fired.runs(name)
    for _ in range(EVENTS):
        fire()
    assert fired.runs(name) - before == EVENTS * each
    (link,) = fired.obj.links
    link.close()
    assert fired.obj.links == []
    fire()
    assert fired.runs(name) - before == EVENTS * each, "closing the link detaches at once"
    fired[name].attach(**options)
    variable, backend_still_open = fired.obj.variables[f"runs_{name}"], fired.obj.links
    assert len(backend_still_open) == 1
    fired.obj.close()
    assert all(link.closed for link in backend_still_open)
    with pytest.raises(bpf2py.ClosedError):
        _ = variable.value
    fire()  # nothing is attached that could fault


@pytest.mark.kernel
def test_tracepoint(load: Load) -> None:
    fired = load("tracepoint")
    fired["tracepoint"].attach()
    gc.collect()
    before = fired.runs("tracepoint")
    for _ in range(EVENTS):
        libc.getppid()
    assert fired.runs("tracepoint") - before >= EVENTS
    fired.obj.close()


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["uprobe", pytest.param("uprobe_multi", marks=pytest.mark.since("6.6"))])
def test_uprobe(load: Load, name: str) -> None:
    check(load(name), name, lambda: os.getpgid(0), pid=os.getpid())


@pytest.mark.kernel
def test_perf_event(load: Load) -> None:
    watched = ctypes.c_uint64(0)

    def fire() -> None:
        watched.value += 1

    check(
        load("perf_event"),
        "perf_event",
        fire,
        1,
        breakpoint=ctypes.addressof(watched),
        access="w",
        length=8,
        pid=os.getpid(),
    )


@pytest.mark.kernel
@pytest.mark.parametrize("options", [{}, {"netlink": True}])
def test_xdp(load: Load, options: dict[str, Any]) -> None:
    in_new_network(lambda: check(load("xdp"), "xdp", udp, device="lo", mode="generic", **options))


@pytest.mark.kernel
@pytest.mark.parametrize("options", [{}, {"qdisc": "clsact"}])
def test_tc(load: Load, options: dict[str, Any]) -> None:
    in_new_network(lambda: check(load("tc"), "tc", udp, device="lo", direction="ingress", **options))


@pytest.mark.kernel
def test_cgroup(load: Load, cgroup: str) -> None:
    def connect() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", 9))

    check(load("connect4"), "connect4", connect, cgroup=cgroup)


SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
__u64 runs_tp, runs_xdp;
SEC("tp/sched/sched_process_exit") int on_tp(void *ctx) { __sync_fetch_and_add(&runs_tp, 1); return 0; }
SEC("xdp") int on_xdp(struct xdp_md *ctx) { __sync_fetch_and_add(&runs_xdp, 1); return XDP_PASS; }
"""


@pytest.mark.parametrize(("name", "options"), [("tp", {}), ("xdp", {"device": "lo"})])
def test_on_the_engine(compile_bpf: Callable[[str], bytes], name: str, options: dict[str, Any]) -> None:
    engine = Engine()
    fired = Fired(bpf2py.load(compile_bpf(SOURCE), backend=engine))
    hook = {"tp": "tp/sched/sched_process_exit", "xdp": "xdp/lo"}[name]
    check(fired, name, lambda: engine.fire(hook, **({"data": bytes(64)} if name == "xdp" else {})), **options)


@pytest.fixture
def lonely(compile_bpf: Callable[[str], bytes]) -> bpf2py.Object:
    return bpf2py.load(compile_bpf(SOURCE), backend=Engine())


def test_a_link_whose_object_is_forgotten_is_not_lost_in_silence(compile_bpf: Callable[[str], bytes]) -> None:
    engine = Engine()

    def forget() -> None:
        bpf2py.load(compile_bpf(SOURCE), backend=engine).attach()
        gc.collect()

    with pytest.warns(ResourceWarning, match="Link on_tp at .*was never closed: it is detached now"):
        forget()
    assert engine.hooks == []


def test_objects_that_are_closed_warn_of_nothing(compile_bpf: Callable[[str], bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        obj = bpf2py.load(compile_bpf(SOURCE), backend=Engine())
        obj.attach()
        obj.programs["on_xdp"].attach(device="lo")
        obj.close()
        obj.close()
        del obj
        gc.collect()


def test_attaching_a_closed_object(lonely: bpf2py.Object) -> None:
    program = lonely.programs["on_tp"]
    lonely.close()
    with pytest.raises(bpf2py.ClosedError):
        program.attach()
    with pytest.raises(bpf2py.ClosedError):
        lonely.attach()


@pytest.mark.kernel
def test_pinned_links_stay(load_only: Loader, bpffs: Path) -> None:
    obj = load_only("on_tracepoint")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        link = obj.programs["on_tracepoint"].attach()
        link.pin(bpffs / "link")
        opened = bpf2py.Link.from_pin(bpffs / "link")
        del opened
        gc.collect()
        obj.close()
    with bpf2py.Link.from_pin(bpffs / "link") as again:
        assert again.info["type"] == "perf_event"


@pytest.mark.kernel
def test_a_forked_child_leaves_its_parents_attachments_alone(load: Load) -> None:
    """Also where closing takes more than a descriptor: netlink, BPF_PROG_DETACH, an ioctl."""

    def run() -> None:
        fired, socket_filter = load("xdp", "tc"), load("socket_filter")
        fired["xdp"].attach(device="lo", mode="generic", netlink=True)
        fired["tc"].attach(device="lo", direction="ingress", qdisc="clsact")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            socket_filter["socket_filter"].attach(socket=sock)
            child = os.fork()
            if not child:
                status = 1
                try:
                    fired.obj.close()
                    socket_filter.obj.close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            for _ in range(EVENTS):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"x", sock.getsockname())
            assert fired.runs("xdp") == fired.runs("tc") == EVENTS
            assert socket_filter.runs("socket_filter") == EVENTS

    in_new_network(run)


def owners(obj: bpf2py.Object) -> list[Any]:
    link = obj.programs["on_tp"].attach()
    variable = obj.variables["runs_tp"]
    return [
        obj, link, link._handle, obj.programs["on_tp"], obj.programs["on_tp"]._handle, variable, variable._section,
        *obj.maps.values(), *(bpf_map._handle for bpf_map in obj.maps.values()),
    ]  # fmt: skip


@pytest.mark.parametrize("backend", [pytest.param("kernel", marks=pytest.mark.kernel), "engine"])
def test_what_owns_something_is_not_copied(compile_bpf: Callable[[str], bytes], backend: str) -> None:
    with bpf2py.load(compile_bpf(SOURCE), backend=backend) as obj:
        for owner in owners(obj):
            for make in (copy.copy, copy.deepcopy, pickle.dumps, lambda each: pickle.dumps(each, 0)):
                with pytest.raises(TypeError):
                    make(owner)
        assert obj.links[0].closed is False
