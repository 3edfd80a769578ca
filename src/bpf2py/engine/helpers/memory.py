"""Helpers that read memory a program cannot: the simulated kernel's, and that of the task it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.memory import PUBLIC

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine

EFAULT, E2BIG = 14, 7
MAX_SIZE = 1 << 29


def _kernel(engine: Machine, address: int, size: int) -> bytes | None:
    if not PUBLIC <= address <= engine.memory.size - size:
        return None
    return engine.memory.read(address, size)


def _user(engine: Machine, address: int, size: int) -> bytes | None:
    task = engine.current.task
    if task.memory is not None:
        return task.memory(address, size)
    return _kernel(engine, address, size)  # without a traced child, what tests put into the engine's memory


def _read(engine: Machine, target: int, size: int, data: bytes | None) -> int:
    size = engine.length(size)
    if data is None:
        engine.write(target, bytes(size))
        return -EFAULT
    engine.write(target, data)
    return 0


def _read_str(engine: Machine, target: int, size: int, source: int, user: bool) -> int:
    """Up to `size` bytes with the NUL they end with: their number; what follows stays as it was."""
    size = engine.length(size)
    if not size:
        return 0
    reader = _user if user else _kernel
    found = bytearray()
    address = source
    while len(found) < size:
        # Not beyond the page: what follows may not be there.
        step = min(size - len(found), 4096 - (address & 4095))
        part = reader(engine, address, step)
        if part is None:
            engine.write(target, bytes(size))
            return -EFAULT
        end = part.find(b"\0")
        if end >= 0:
            found += part[: end + 1]
            engine.write(target, found)
            return len(found)
        found += part
        address += step
    found[-1] = 0
    engine.write(target, found)
    return len(found)


def probe_read_kernel(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """Copy; -EFAULT and zeros where the address is bad."""
    return _read(engine, target, size, _kernel(engine, source, engine.length(size)))


def probe_read_user(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """The same from the task's memory."""
    return _read(engine, target, size, _user(engine, source, engine.length(size)))


def probe_read(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """Kernel memory or the task's, whichever the address is in."""
    size = engine.length(size)
    data = _kernel(engine, source, size)
    return _read(engine, target, size, data if data is not None else _user(engine, source, size))


def probe_read_kernel_str(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """Copy a string: its length with the NUL."""
    return _read_str(engine, target, size, source, False)


def probe_read_user_str(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """The same from the task's memory."""
    return _read_str(engine, target, size, source, True)


def probe_read_str(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """Kernel memory or the task's, whichever the address is in."""
    return _read_str(engine, target, size, source, _kernel(engine, source, 1) is None)


def copy_from_user(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """As `probe_read_user`, for sleepable programs."""
    return probe_read_user(engine, target, size, source)


def copy_from_user_task(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """The same of a task that is given: there is one."""
    return probe_read_user(engine, target, size, source)


def probe_write_user(engine: Machine, target: int, source: int, size: int, *_: int) -> int:
    """Write to the task's memory."""
    data = engine.read(source, engine.length(size))
    task = engine.current.task
    if task.write is not None:
        return 0 if task.write(target, data) else -EFAULT
    if task.memory is not None or _kernel(engine, target, len(data)) is None:
        return -EFAULT
    engine.memory.write(target, data)
    return 0
