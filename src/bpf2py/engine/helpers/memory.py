"""Helpers that read memory a program cannot: the simulated kernel's, and that of the task it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.memory import PUBLIC
from bpf2py.uapi.errno import EFAULT, ERANGE

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


USER_END = 1 << 47  # TASK_SIZE_MAX, a page more
KERNEL_HALF = 0xFFFF8000_0000_0000  # addresses from here on are the kernel's; others it does not even try


def _kernel(engine: Machine, address: int, size: int) -> bytes | None:
    if not size and address >= KERNEL_HALF:
        return b""
    if not PUBLIC <= address <= engine.memory.size - size:
        return None
    return engine.memory.read(address, size)


def kernel_error(address: int) -> int:
    """What reading the kernel's memory at a bad address gives."""
    return -EFAULT if address >= KERNEL_HALF else -ERANGE


def _user_error(_address: int) -> int:
    return -EFAULT


def _user(engine: Machine, address: int, size: int) -> bytes | None:
    if not size and address < USER_END:
        return b""
    task = engine.current.task
    if task.memory is not None:
        return task.memory(address, size)
    # Without a traced child, what tests put into the engine's memory.
    return _kernel(engine, address, size) if address < USER_END else None


def _read(engine: Machine, target: int, size: int, data: bytes | None, error: int) -> int:
    size = engine.length(size)
    if data is None:
        engine.write(target, bytes(size))
        return error
    engine.write(target, data)
    return 0


def _read_str(engine: Machine, target: int, size: int, source: int, user: bool) -> int:
    """Up to `size` bytes with the NUL they end with: their number; what follows stays as it was."""
    size = engine.length(size)
    if not size:
        return 0
    reader, error = (_user, _user_error) if user else (_kernel, kernel_error)
    found = bytearray()
    address = source
    while len(found) < size:
        # Not beyond the page: what follows may not be there.
        step = min(size - len(found), 4096 - (address & 4095))
        part = reader(engine, address, step)
        if part is None:
            engine.write(target, bytes(size))
            return error(source)
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
    """Copy; -ERANGE or -EFAULT, and zeros, where the address is bad."""
    return _read(engine, target, size, _kernel(engine, source, engine.length(size)), kernel_error(source))


def probe_read_user(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """The same from the task's memory."""
    return _read(engine, target, size, _user(engine, source, engine.length(size)), -EFAULT)


def probe_read(engine: Machine, target: int, size: int, source: int, *_: int) -> int:
    """Kernel memory or the task's, whichever the address is in."""
    size = engine.length(size)
    data = _kernel(engine, source, size)
    return _read(engine, target, size, data if data is not None else _user(engine, source, size), -EFAULT)


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
    if not size & 0xFFFFFFFF:
        return 0
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
