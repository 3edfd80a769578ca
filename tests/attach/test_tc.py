"""Classifiers of a clsact qdisc, each test in a network namespace of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.attach.network import in_new_network

import bpf2py
from bpf2py.kernel import attach as attach_module
from bpf2py.kernel.netlink import Netlink, NetlinkError
from bpf2py.kernel.syscall import older_than

pytestmark = pytest.mark.kernel

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int ingress, egress, second, verdict;
SEC("tc") int count_in(struct __sk_buff *skb) { __sync_fetch_and_add(&ingress, 1); return verdict; }
SEC("classifier") int count_out(struct __sk_buff *skb) { __sync_fetch_and_add(&egress, 1); return verdict; }
SEC("tc") int count_second(struct __sk_buff *skb) { __sync_fetch_and_add(&second, 1); return 0; }
SEC("tc/ingress") int by_section(struct __sk_buff *skb) { __sync_fetch_and_add(&ingress, 100); return 0; }
SEC("tcx/ingress") int for_tcx(struct __sk_buff *skb) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT = -1, 0, 2


def send(arrives: bool = True) -> None:
    """One datagram over the loopback device."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        sender.sendto(b"ping", receiver.getsockname())
        if arrives:
            assert receiver.recv(16) == b"ping"
        else:  # over the loopback device it is there when sendto() returns, or never
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(16)


@pytest.fixture
def obj(compile_bpf: Callable[[str], bytes]) -> Iterator[Any]:
    spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE), "tc")
    spec.variables["verdict"].value = TC_ACT_UNSPEC
    with bpf2py.load(spec) as loaded:
        yield loaded


def value(obj: Any, name: str) -> int:
    return int(obj.variables[name].value)


def test_both_directions_fire_and_detach(obj: Any) -> None:
    def body() -> None:
        with (
            obj.programs["count_in"].attach(device="lo", direction="ingress", qdisc="clsact") as link,
            obj.programs["count_out"].attach(device="lo", direction="egress", qdisc="clsact"),
        ):
            assert link.hook == "tc/ingress/lo"
            send()
            assert (value(obj, "ingress"), value(obj, "egress")) == (1, 1)
            assert link.info["priority"] > 0
        send()
        assert (value(obj, "ingress"), value(obj, "egress")) == (1, 1), "closing the links detaches"

    in_new_network(body)


def test_filters_run_by_priority_until_one_decides(obj: Any) -> None:
    def body() -> None:
        options = {"device": "lo", "direction": "ingress", "qdisc": "clsact"}
        with (
            obj.programs["count_second"].attach(priority=20, **options),
            obj.programs["count_in"].attach(priority=10, **options) as first,
        ):
            assert first.info["priority"] == 10
            send()
            assert (value(obj, "ingress"), value(obj, "second")) == (1, 1)
            obj.variables["verdict"].value = TC_ACT_SHOT
            send(arrives=False)
            assert (value(obj, "ingress"), value(obj, "second")) == (2, 1), "the first one dropped the packet"
            first.close()
            send()
            assert (value(obj, "ingress"), value(obj, "second")) == (2, 2), "the other one is still there"

    in_new_network(body)


def test_update_replaces_the_program(obj: Any) -> None:
    def body() -> None:
        with obj.programs["count_in"].attach(device="lo", direction="ingress", qdisc="clsact") as link:
            link.update(obj.programs["count_second"])
            send()
            assert (value(obj, "ingress"), value(obj, "second")) == (0, 1)
        send()
        assert value(obj, "second") == 1

    in_new_network(body)


def test_a_link_is_closed_from_another_namespace(obj: Any) -> None:
    """The device's index means another device here: the filter must go from the namespace it was put in."""
    links = []

    def body() -> None:
        links.append(obj.programs["count_in"].attach(device="lo", direction="ingress", qdisc="clsact"))
        closer = threading.Thread(target=lambda: in_new_network(links[0].close))
        closer.start()
        closer.join()
        send()
        assert value(obj, "ingress") == 0

    in_new_network(body)


def test_closing_after_the_qdisc_went(obj: Any, assert_no_leaks: Any) -> None:
    def body() -> None:
        with assert_no_leaks():
            link = obj.programs["count_in"].attach(device="lo", direction="ingress", qdisc="clsact")
            netlink = Netlink("test")
            assert not netlink.add_clsact("test", 1)
            netlink.delete_clsact("test", 1)
            with pytest.raises(NetlinkError) as caught:
                netlink.delete_clsact("test", 1)
            assert caught.value.errno is not None
            assert caught.value.command == "RTM_DELQDISC"
            netlink.close()
            link.close()
            link.close()
        send()
        assert value(obj, "ingress") == 0

    in_new_network(body)


def test_kernels_before_tcx_get_a_filter(obj: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_module, "older_than", lambda version: True)

    def body() -> None:
        with obj.programs["count_in"].attach(device="lo", direction="ingress") as link:
            assert link.hook == "tc/ingress/lo"
            send()
            assert value(obj, "ingress") == 1
        with obj.programs["by_section"].attach(device="lo") as link:
            assert link.hook == "tc/ingress/lo"
            send()
            assert value(obj, "ingress") == 101
        if older_than("6.6"):
            with pytest.raises(bpf2py.NotSupported, match=r"needs Linux 6\.6"):
                obj.programs["for_tcx"].attach(device="lo")
            return
        with obj.programs["for_tcx"].attach(device="lo") as link:
            assert link.hook == "tcx/ingress/lo", "whoever asks for tcx is not given something else"

    in_new_network(body)


def test_errors(obj: Any, assert_no_leaks: Any) -> None:
    program = obj.programs["count_in"]

    def body() -> None:
        with assert_no_leaks():
            with pytest.raises(bpf2py.AttachError, match="does not say which way"):
                program.attach(device="lo", qdisc="clsact")
            with pytest.raises(bpf2py.AttachError, match="qdisc must be 'clsact'; is 'fq'"):
                program.attach(device="lo", direction="ingress", qdisc="fq")
            with pytest.raises(bpf2py.AttachError, match="does not take the option colour"):
                program.attach(device="lo", direction="ingress", qdisc="clsact", colour=1)
            with pytest.raises(bpf2py.AttachError, match="priority must be"):
                program.attach(device="lo", direction="ingress", qdisc="clsact", priority=1 << 16)
            with pytest.raises(bpf2py.AttachError, match="ENODEV"):
                program.attach(device=4711, direction="ingress", qdisc="clsact")
            options = {"device": "lo", "direction": "ingress", "qdisc": "clsact", "priority": 7, "handle": 3}
            with (
                program.attach(**options),
                pytest.raises(bpf2py.AttachError, match="priority 7 and handle 0x3 already"),
            ):
                obj.programs["count_second"].attach(**options)
            with program.attach(device="lo", direction="ingress", qdisc="clsact") as link:
                with pytest.raises(bpf2py.BpfOSError, match="pin"):
                    link.pin("/sys/fs/bpf/tc-filters-cannot-be-pinned")
                with pytest.raises(bpf2py.BpfOSError, match="did not take"):
                    link.update(obj.programs["count_second"], old=program)

    in_new_network(body)
