"""What the tests of aarch64 do there; a module of that machine."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from itertools import pairwise
from typing import Any

import bpf2py
from bpf2py.engine import Engine
from bpf2py.lab.lru import Setup, predict

CALLS = 7


def hooks(source: str) -> dict[str, Any]:
    """What each hook saw of the system call getpgid() of this process, and of a probe in a library."""
    libc, library = ctypes.CDLL(None), ctypes.CDLL("/root/libprobe.so")
    with bpf2py.load(source) as obj:
        obj.variables["pid"].value = os.getpid()
        obj.attach()
        for _ in range(CALLS):
            libc.getpgid(os.getpid())
            library.call_probe(-3, ctypes.c_long(1 << 40))
        with bpf2py.RingReader(obj.maps["numbers"], type="u64") as reader:
            numbers = list(reader.events(0))
        found = {name: [seen.count, seen.first, seen.second] for name, seen in obj.maps["hooks"].items()}
    return {"hooks": found, "numbers": numbers, "pid": os.getpid(), "group": os.getpgid(0), "warnings": obj.warnings}


def records(source: str, count: int) -> list[int]:
    """Numbers through a ring while another process writes them: how many came, and how many out of order."""
    with (
        bpf2py.load(source, autoload={"by_usdt": False}) as obj,
        bpf2py.RingReader(obj.maps["numbers"], type="u64") as reader,
    ):
        start, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(start, 1)
            libc = ctypes.CDLL(None)
            for _ in range(count):
                libc.getpgid(0)
            os._exit(0)
        obj.variables["pid"].value = child
        link = obj.programs["by_tracepoint"].attach()
        os.write(go, b"x")
        seen: list[int] = []
        while len(seen) < count:
            batch = [int(number) for each in reader.poll(30) for number in each]
            if not batch:
                break
            seen += batch
        os.waitpid(child, 0)
        link.close()
    return [len(seen), sum(1 for one, two in pairwise(seen) if two != one + 1)]


def facts() -> dict[str, Any]:
    """What differs from machine to machine."""
    return {
        "machine": platform.machine(),
        "page": mmap.PAGESIZE,
        "call 172": bpf2py.syscall_name(172),
        "kept": [len(keys) for keys in predict(Setup(1003, 6, "6.1")).kept],
        "translation": Engine().arch,
    }
