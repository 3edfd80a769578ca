"""CGROUP_STORAGE on both backends: a value for each cgroup a program is attached to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py import MapType
from bpf2py.engine import Engine
from bpf2py.kernel.syscall import older_than

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE); __type(key, struct bpf_cgroup_storage_key); __type(value, __u64); }
    sent SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE); __type(key, __u64); __type(value, __u64); } bytes SEC(".maps");
SEC("cgroup_skb/egress") int count(struct __sk_buff *skb)
{
    __u64 *packets = bpf_get_local_storage(&sent, 0), *size = bpf_get_local_storage(&bytes, 0);

    __sync_fetch_and_add(packets, 1);
    *size += skb->len;
    return 1;
}
char LICENSE[] SEC("license") = "GPL";
"""
PACKET = bytes([0x45]) + bytes(8) + b"\x11" + bytes(10 + 8 + 4)
BACKENDS = ["engine", pytest.param("kernel", marks=pytest.mark.kernel)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.kernel  # the cgroup is a real one
def test_a_value_for_each_cgroup(compile_bpf: Callable[[str], bytes], backend: str, cgroup: str) -> None:
    engine = Engine()
    with bpf2py.load(compile_bpf(SOURCE), engine if backend == "engine" else "kernel") as obj:
        sent: Any = obj.maps["sent"]
        size: Any = obj.maps["bytes"]
        assert list(sent) == []
        obj.programs["count"].attach(cgroup=cgroup)
        inode = os.stat(cgroup).st_ino
        (key,) = sent
        assert (key["cgroup_inode_id"], key["attach_type"]) == (inode, 1)
        assert list(size) == [inode]
        for _ in range(3):
            if backend == "engine":
                engine.fire(f"cgroup_skb/{cgroup}", data=bytes(14) + PACKET)
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.sendto(b"four", ("127.0.0.1", 9))
        assert sent[key] == 3
        assert size[inode].sum() == 3 * len(PACKET)
        sent[key] = 10
        assert sent[key] == 10
        # test_run is not in a cgroup: its value is new each time
        assert obj.programs["count"].test_run(data=bytes(14) + PACKET).return_value == 1
        assert sent[key] == 10
        with pytest.raises(KeyError):
            sent[{"cgroup_inode_id": 1, "attach_type": 1}]
        with pytest.raises(KeyError):
            sent[{"cgroup_inode_id": 1, "attach_type": 1}] = 4
        with pytest.raises(bpf2py.NotSupported) as caught:
            del sent[key]
        assert caught.value.errno == 22


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_commands_answer(backend: str) -> None:
    where: Any = Engine() if backend == "engine" else "kernel"
    for kind, key_size in ((MapType.CGROUP_STORAGE, 16), (MapType.PERCPU_CGROUP_STORAGE, 8)):
        with bpf2py.Map.create(kind, key_size, 8, 0, backend=where) as made:
            slot = made._slot()
            answers = [slot.lookup(), slot.lookup(1), slot.lookup(4), slot.lookup_and_delete(), slot.delete()]
            answers += [slot.update(flags) for flags in (0, 1, 2, 3, 4, 6, 8, 1 << 40)]
            answers += [slot.get_next_key(True), slot.get_next_key(False)]
            per_cpu = kind == MapType.PERCPU_CGROUP_STORAGE
            one_cpu = (
                -2 if per_cpu and backend == "kernel" and not older_than("7.0") else -22
            )  # flag 8 is BPF_F_CPU there
            assert answers == [
                -2, -22, -22, -524, -22,
                -2, -22, -2, -22, -22, -22, one_cpu, -22,
                -2, -2,
            ], per_cpu  # fmt: skip


@pytest.mark.kernel
def test_the_values_of_one_cpu(compile_bpf: Callable[[str], bytes], cgroup: str) -> None:
    """BPF_F_CPU and BPF_F_ALL_CPUS (Linux 7.0), and other flags: as the running kernel answers, on the engine of its version."""
    found = {}
    with bpf2py.load(compile_bpf(SOURCE)) as obj:
        cpus = obj.maps["bytes"].possible_cpus
    for backend in ("kernel", Engine(kernel=os.uname().release, possible_cpus=cpus)):
        with bpf2py.load(compile_bpf(SOURCE), backend) as obj:
            obj.programs["count"].attach(cgroup=cgroup)
            size: Any = obj.maps["bytes"]
            inode = os.stat(cgroup).st_ino
            answers: list[Any] = []
            for flags in (0, 1, 2, 3, 4, 8, 9, 10, 12, 16, 17, 18, 24, 32, 1 << 32, 8 | 1 << 20 << 32, 16 | 1 << 32):
                size[inode] = [*range(1, cpus + 1)]
                slot = size._slot()
                slot.key[:] = inode.to_bytes(8, "little")
                slot.value[:] = bytes(len(slot.value))
                answers.append((flags, slot.lookup(flags), bytes(slot.value)))
                slot.value[:] = b"\x05".ljust(8, b"\0") * cpus
                answers.append((flags, slot.update(flags), list(size[inode])))
            if not older_than("7.0"):
                size.on_cpu(0)[inode] = 77
                answers.append((0, size.on_cpu(0)[inode], list(size[inode])))
            found[type(backend)] = answers
    assert found[str] == found[Engine]
