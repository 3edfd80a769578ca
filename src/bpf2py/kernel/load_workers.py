"""Threads that make BPF_PROG_LOAD calls one after the other, and need no Python for that.

A thread of Python's that loads programs waits for the interpreter's lock after each call, up to 5 ms while another thread prepares
the next ones: nothing would be done at the same time. What these run is machine code, which takes the next attributes, makes the
call and notes what it returned. The kernel verifies programs of several threads side by side.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache

from bpf2py._typing import Any
from bpf2py.kernel.syscall import ATTR_SIZE, Fd, Fresh, quick_libc, syscall_numbers
from bpf2py.machine_code import JB, JMP, JNE, JNS, JS, Assembly, Executable, is_x86_64, keep_forever

__all__ = ["LoadWorkers", "load_workers"]

NAME = "bpf2py loads programs"
MOST = 4  # threads, of which the caller's is the last
_PROG_LOAD = 5
_FUTEX, _WAIT, _WAKE = 202, 128, 129  # futex(2) of x86-64; FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE
# The memory threads share: numbers of 32 bits, addresses, then attributes and results.
_PUBLISHED, _CLAIMED, _FAILED = 0, 1, 2
_RESULTS, _ATTRS, _HEAD = 16, 24, 32
_STRIDE = 192  # bytes from one program's attributes to the next one's
_NO_MORE = 1 << 31  # in _PUBLISHED


def _code() -> bytes:
    """void work(void *shared)."""
    code = Assembly()
    code.put(b"\xf3\x0f\x1e\xfa\x53\x55\x48\x83\xec\x08")  # endbr64; push rbx; push rbp; sub rsp, 8
    code.put(b"\x48\x89\xfb")  # mov rbx, rdi
    code.label("next")
    code.put(b"\xbd\x01\0\0\0\xf0\x0f\xc1\x6b", bytes([_CLAIMED * 4]))  # mov ebp, 1; lock xadd [rbx + ...], ebp
    code.label("look")
    code.put(b"\x83\x7b", bytes([_FAILED * 4, 0]))  # cmp dword [rbx + ...], 0
    code.jump(JNE, "out")
    code.put(b"\x8b\x13\x89\xd1\x81\xe1\xff\xff\xff\x7f")  # mov edx, [rbx]; mov ecx, edx; and ecx, 0x7fffffff
    code.put(b"\x39\xcd")  # cmp ebp, ecx
    code.jump(JB, "load")
    code.put(b"\x85\xd2")  # test edx, edx
    code.jump(JS, "out")
    code.put(
        b"\x48\x89\xdf\xbe", _4(_WAIT), b"\x45\x31\xd2\xb8", _4(_FUTEX), b"\x0f\x05"
    )  # futex(rbx, WAIT, edx, NULL)
    code.jump(JMP, "look")
    code.label("load")
    code.put(
        b"\x48\x89\xee\x48\x69\xf6", _4(_STRIDE), b"\x48\x03\x73", bytes([_ATTRS])
    )  # rsi = [rbx + ...] + rbp * stride
    code.put(b"\xbf", _4(_PROG_LOAD), b"\xba", _4(ATTR_SIZE), b"\xb8", _4(syscall_numbers()[0]), b"\x0f\x05")
    code.put(b"\x48\x8b\x4b", bytes([_RESULTS]), b"\x48\x89\x04\xe9")  # mov rcx, [rbx + ...]; mov [rcx + rbp * 8], rax
    code.put(b"\x85\xc0")  # test eax, eax
    code.jump(JNS, "next")
    code.put(b"\xc7\x43", bytes([_FAILED * 4]), _4(1))  # mov dword [rbx + ...], 1
    code.label("out")
    code.put(b"\x48\x83\xc4\x08\x5d\x5b\xc3")  # add rsp, 8; pop rbp; pop rbx; ret
    return code.assembled()


def _4(number: int) -> bytes:
    return number.to_bytes(4, "little")


@cache
def _work() -> Any:
    """The function, called without the interpreter's lock; None where there is none."""
    if not is_x86_64():
        return None
    try:
        executable = Executable(_code())
    except OSError:
        return None
    keep_forever(executable)
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(executable.address)


class _Shared:
    """The memory, and the descriptors in it that nobody has taken."""

    def __init__(self, most: int) -> None:
        attrs = _HEAD + 8 * most
        memory = bytearray(attrs + _STRIDE * most)
        self._held = ctypes.c_char.from_buffer(memory)
        self.address = ctypes.addressof(self._held)
        view = memoryview(memory)
        self.words = view[:_RESULTS].cast("I")
        self.results = view[_HEAD:attrs].cast("q")
        self.attrs = view[attrs:]
        addresses = view[_RESULTS:_HEAD].cast("Q")
        addresses[0], addresses[1] = self.address + _HEAD, self.address + attrs

    def taken(self, index: int) -> Fd | int:
        """What a call returned: the descriptor's owner, or -errno; 0 where none was made."""
        owner, fresh = Fd(-1), Fresh(-1)
        if self.results[index] <= 0:
            return self.results[index]
        # No signal handler runs between the two assignments, for nothing is called.
        fresh.value, self.results[index] = self.results[index], 0
        owner.adopt(fresh)
        return owner

    def __del__(self) -> None:
        for fd in self.results:
            if fd > 0:
                os.close(fd)


class LoadWorkers:
    """BPF_PROG_LOAD calls of at most `most` programs by several threads; `close` gives what they returned."""

    def __init__(self, work: Callable[[int], None], threads: int, most: int) -> None:
        shared = self._shared = _Shared(most)
        self._work = work
        self._count = 0
        self._threads: list[threading.Thread] = []

        def run() -> None:
            work(shared.address)

        for _ in range(threads):
            thread = threading.Thread(target=run, name=NAME, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # at the limit of threads: `close` does the work
                break
            self._threads.append(thread)

    @property
    def failed(self) -> bool:
        """Whether a call failed: none is made after it."""
        return self._shared.words[_FAILED] != 0

    def put(self, attr: bytes) -> None:
        """Let a worker load a program; what the attributes point to stays where it is until `close` returns."""
        at = self._count * _STRIDE
        self._shared.attrs[at : at + len(attr)] = attr
        self._count += 1
        self._publish(self._count)

    def _publish(self, word: int) -> None:
        self._shared.words[_PUBLISHED] = word
        quick_libc().syscall(_FUTEX, ctypes.c_void_p(self._shared.address), _WAKE, MOST)

    def close(self) -> list[Fd | int]:
        """What each call returned, in order, once all are done: a descriptor's owner or -errno; 0 where none was made."""
        self._publish(self._count | _NO_MORE)
        interrupted: BaseException | None = None
        while True:
            try:
                self._work(self._shared.address)
                for thread in self._threads:
                    thread.join()
                break
            except BaseException as caught:  # a signal handler's: the threads still use what the attributes point to
                self._shared.words[_FAILED] = 1
                interrupted = caught
        if interrupted is not None:
            raise interrupted
        return [self._shared.taken(index) for index in range(self._count)]

    def __del__(self) -> None:
        """End the threads of one that was not closed; the last of them closes what they loaded."""
        self._shared.words[_FAILED] = 1
        self._publish(_NO_MORE)


def load_workers(most: int) -> LoadWorkers | None:
    """Workers for at most so many programs; None where machine code cannot be run, or there is one CPU."""
    threads = min(MOST, len(os.sched_getaffinity(0))) - 1
    work = _work() if threads else None
    return LoadWorkers(work, threads, most) if work is not None else None
