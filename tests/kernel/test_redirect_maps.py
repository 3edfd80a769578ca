from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

LOOPBACK = socket.if_nametoindex("lo")
SOURCE = """
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, struct bpf_devmap_val);
} devices SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_CPUMAP);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, __u32);
} sockets SEC(".maps");
SEC("xdp") int redirect(struct xdp_md *ctx) { return bpf_redirect_map(&devices, 1, XDP_DROP); }
SEC("xdp/devmap") int at_device(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp/cpumap") int at_cpu(struct xdp_md *ctx) { return XDP_PASS; }
"""


@pytest.mark.parametrize("kind", [MapType.DEVMAP, MapType.DEVMAP_HASH], ids=lambda kind: kind.name)
def test_devices(kind: MapType, refused: Callable[..., Any]) -> None:
    with Map.create(kind, key="u32", value_size=4, max_entries=4, name="devices") as devices:
        assert not devices
        devices[1] = "lo"
        devices[3] = LOOPBACK
        assert devices[1] == devices.get(3) == LOOPBACK
        assert dict(devices.items()) == {1: LOOPBACK, 3: LOOPBACK}
        assert (list(devices), len(devices), bool(devices)) == ([1, 3], 2, True) or kind == MapType.DEVMAP_HASH
        assert sorted(devices) == [1, 3]
        assert (2 in devices, devices.get(2)) == (False, None)
        with refused(bpf2py.EncodeError, None, "map devices: update: there is no network device 'none0'"):
            devices[0] = "none0"
        with refused(bpf2py.EncodeError, None, "a program needs values of 8 bytes"):
            devices[0] = ("lo", 5)
        with pytest.raises(bpf2py.BpfError, match="map devices: update: there is no network device 99999"):
            devices[0] = 99999
        with pytest.raises(bpf2py.KeyNotFound, match="map devices: lookup: "):
            devices[2]
        with refused(bpf2py.KeyExists, errno.EEXIST):
            devices.put(1, "lo", UpdateFlags.NOEXIST)
        del devices[1]
        assert devices.snapshot() == {3: LOOPBACK}
        devices.clear()
        assert devices.count() == 0


def test_a_devmap_has_a_last_index(refused: Callable[..., Any]) -> None:
    with (
        Map.create("DEVMAP", value_size=4, max_entries=4, name="devices") as devices,
        refused(bpf2py.IndexOutOfRange, errno.E2BIG, "map devices: update: index 4 >= max_entries 4"),
    ):
        devices[4] = "lo"


def test_devices_with_programs(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        devices, program = obj.maps["devices"], obj.programs["at_device"]
        devices[1] = ("lo", program)
        devices[2] = "lo"
        assert dict(devices.items()) == {1: (LOOPBACK, program.info.id), 2: (LOOPBACK, 0)}
        with pytest.raises(bpf2py.BpfError, match="map devices: update: "):
            devices[3] = ("lo", obj.programs["redirect"])


def test_cpus(build: Callable[[str], bpf2py.ObjectSpec], refused: Callable[..., Any]) -> None:
    cpu = min(os.sched_getaffinity(0))
    with bpf2py.load(build(SOURCE)) as obj:
        cpus, program = obj.maps["cpus"], obj.programs["at_cpu"]
        cpus[cpu] = 192
        assert cpus[cpu] == (192, 0)
        cpus[cpu] = (64, program)
        assert cpus.snapshot() == {cpu: (64, program.info.id)}
        with refused(bpf2py.EncodeError, None, "map cpus: update: a queue size is wanted, not 'lo'"):
            cpus[cpu] = "lo"
        with pytest.raises(bpf2py.BpfError, match="map cpus: update: the queue size must be at most 16384"):
            cpus[cpu] = 1 << 20
        del cpus[cpu]
        assert cpu not in cpus


def test_af_xdp_sockets(build: Callable[[str], bpf2py.ObjectSpec], refused: Callable[..., Any]) -> None:
    with (
        bpf2py.load(build(SOURCE)) as obj,
        socket.socket(socket.AF_INET) as stream,
        Map.create("XSKMAP", max_entries=2, name="more") as more,
    ):
        sockets = obj.maps["sockets"]
        for xsks in (sockets, more):
            assert xsks.key_size == xsks.value_size == 4
            with pytest.raises(bpf2py.BpfError, match="update: the value must be an AF_XDP socket"):
                xsks[0] = stream
            with refused(bpf2py.NotSupported, errno.EOPNOTSUPP, "XSKMAP does not support BPF_MAP_LOOKUP_ELEM"):
                xsks[0]
        try:
            xsk = socket.socket(44, socket.SOCK_RAW)  # AF_XDP
        except OSError:
            return  # the kernel is built without
        with xsk:
            refusal = ""
            try:
                sockets[0] = xsk
                del sockets[0]
            except bpf2py.BpfOSError as error:
                refusal = str(error)
            assert refusal == "" or "must be an AF_XDP socket with a receive ring that is bound" in refusal
