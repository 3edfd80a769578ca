"""Helpers of SEC("cgroup/sysctl") programs (Linux 5.2): kernel/bpf/cgroup.c.

The engine has no /proc/sys. What is read or written is given when the program runs: ``program.run(write=1,
name="net/ipv4/ip_forward", current="0\\n", new="1\\n")``; a new value the program sets is the result's `data`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.uapi.errno import E2BIG, EINVAL

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


BASE_NAME = 1  # BPF_F_SYSCTL_BASE_NAME
MOST = 4095  # bytes of a value


def sysctl_get_name(engine: Machine, _context: int, buffer: int, size: int, flags: int, *_: int) -> int:
    """The name, or its last part; its length, -E2BIG where it was cut."""
    if flags & ~BASE_NAME:
        return -EINVAL
    name = engine.current.sysctl.name
    text = name.rpartition("/")[2] if flags else name
    return _terminated(engine, buffer, engine.length(size), text.encode())


def _terminated(engine: Machine, buffer: int, size: int, text: bytes) -> int:
    if not size:
        return -E2BIG
    kept = text[: size - 1]
    engine.write(buffer, kept + b"\0")
    return len(kept) if len(kept) == len(text) else -E2BIG


def _copy(engine: Machine, buffer: int, size: int, value: bytes) -> int:
    if not size:
        return -E2BIG
    if not value:
        engine.write(buffer, bytes(size))
        return -EINVAL
    if size > len(value):
        engine.write(buffer, value.ljust(size, b"\0"))
        return len(value)
    engine.write(buffer, value[: size - 1] + b"\0")
    return -E2BIG


def sysctl_get_current_value(engine: Machine, _context: int, buffer: int, size: int, *_: int) -> int:
    """The value before, with its line end; its length."""
    return _copy(engine, buffer, engine.length(size), engine.current.sysctl.current)


def _writes(engine: Machine) -> bool:
    return engine.read(engine.current.context, 4) != bytes(4)  # struct bpf_sysctl: write


def sysctl_get_new_value(engine: Machine, _context: int, buffer: int, size: int, *_: int) -> int:
    """The value that is being written; -EINVAL while reading."""
    size = engine.length(size)
    if not _writes(engine):
        engine.write(buffer, bytes(size))
        return -EINVAL
    return _copy(engine, buffer, size, engine.current.sysctl.new)


def sysctl_set_new_value(engine: Machine, _context: int, buffer: int, size: int, *_: int) -> int:
    """Write another value instead."""
    size, run = engine.length(size), engine.current
    if not _writes(engine) or not run.sysctl.new or not size:
        return -EINVAL
    if size > MOST:
        return -E2BIG
    value = engine.read(buffer, size)
    run.sysctl = run.sysctl._replace(new=value)
    run.output[:] = value
    return 0
