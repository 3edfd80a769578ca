"""Each program of pairs.py does what its twin in C does: results, maps, records and packets, on the kernel and an engine."""

from __future__ import annotations

import socket
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import bpf2py

HERE = Path(__file__).parent
NOT_ON_THE_ENGINE: set[str] = set()
ADDRESSES = socket.inet_aton("10.1.2.3") + socket.inet_aton("10.9.8.7")
UDP = struct.pack(">HHHH", 4000, 53, 30, 0x1234) + bytes(range(22))
IP = struct.pack(">BBHHHBBH", 0x45, 0, 50, 7, 0, 64, 17, 0x55AA) + ADDRESSES
PACKET = bytes(range(12)) + b"\x08\x00" + IP + UDP
REQUEST = struct.pack("<QII", 12, 7, 0)


@cache
def specs() -> tuple[Any, Any]:
    sources = HERE / "pairs" / "pairs.py", HERE / "pairs" / "pairs.bpf.c"
    ours, theirs = (bpf2py.ObjectSpec.from_bytes(bpf2py.compile(path), "pairs") for path in sources)
    return ours, theirs


def run(program: Any) -> tuple[Any, ...]:
    kind = program.type.name
    if kind == "SYSCALL":
        result = program.test_run(context=REQUEST if program.name == "arguments" else b"")
        return result.return_value, result.context
    if kind == "SK_LOOKUP":
        return (program.test_run(context=struct.pack("<QII20xI20xII4x", 0, 2, 6, 9, 80, 0)).return_value,)
    result = program.test_run(PACKET)
    return result.return_value, result.data


def observed(spec: Any, backend: str, left_out: set[str]) -> dict[str, Any]:
    spec = spec.copy()
    for name, program in spec.programs.items():
        program.autoload = name not in left_out
    found: dict[str, Any] = {}
    with bpf2py.load(spec, backend) as obj:
        for name in sorted(spec.programs):
            if name not in left_out:
                found[name] = run(obj.programs[name])
        for name in ("out", "table", "recent", "routes", "small", "other", "buckets", "scratch"):
            found[f"{name}[]"] = {str(key).lower(): str(value).lower() for key, value in obj.maps[name].items()}
        with bpf2py.RingReader(obj.maps["records"], type="u64[3]") as reader:
            found["records[]"] = [list(each) for batch in reader.flush() for each in batch]
    return found


def compared(backend: str, left_out: set[str]) -> None:
    ours, theirs = specs()
    assert set(ours.programs) == set(theirs.programs)
    assert len(set(ours.programs) - left_out) >= 30
    mine, reference = observed(ours, backend, left_out), observed(theirs, backend, left_out)
    for name, value in reference.items():
        assert mine[name] == value, name
    assert len(mine["records[]"]) == 5


def test_python_and_c_do_the_same_on_the_engine() -> None:
    compared("engine", NOT_ON_THE_ENGINE)


@pytest.mark.kernel
@pytest.mark.since("6.17")
def test_python_and_c_do_the_same_on_the_kernel() -> None:
    compared("kernel", set())
