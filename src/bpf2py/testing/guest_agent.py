"""What runs in a guest as its first process: sets the machine up, then does what it is asked over a serial line.

A message is two lengths of four bytes (little-endian), JSON of the first length, and bytes of the second. To the guest it comes in
pieces of `PIECE` bytes, each of which is acknowledged: the line has no flow control, and the kernel keeps few bytes of it.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import traceback
import tty
from collections.abc import Sequence
from typing import Any

__all__ = ["HEADER", "PIECE", "main"]

HEADER = struct.Struct("<II")
PIECE = 4000
ACKNOWLEDGED = b"+"
HELLO = b"bpf2py guest\n"
POWER_OFF = 0x4321FEDC  # include/uapi/linux/reboot.h: LINUX_REBOOT_CMD_POWER_OFF
MOUNTS = (
    ("proc", "/proc", "proc"),
    ("sysfs", "/sys", "sysfs"),
    ("devtmpfs", "/dev", "devtmpfs"),
    ("tracefs", "/sys/kernel/tracing", "tracefs"),
    ("debugfs", "/sys/kernel/debug", "debugfs"),
    ("securityfs", "/sys/kernel/security", "securityfs"),
    ("bpf", "/sys/fs/bpf", "bpf"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
)
DIRECTORIES = ("/tmp", "/run", "/root")  # all of the root file system is memory
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1  # include/uapi/linux/sockios.h, if.h


def set_up() -> None:
    """Mount what programs expect, and bring the loopback device up. What a kernel lacks is left out."""
    os.environ |= {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": sys.path[0],
        "HOME": "/root",
        "LANG": "C.UTF-8",
    }
    for place in DIRECTORIES:
        os.makedirs(place, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    for source, place, kind in MOUNTS:
        try:
            os.makedirs(place, exist_ok=True)
        except OSError:
            continue
        libc.mount(source.encode(), place.encode(), kind.encode(), 0, None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as each:
        request = bytearray(struct.pack("<16sh14x", b"lo", 0))
        fcntl.ioctl(each, SIOCGIFFLAGS, request)
        struct.pack_into("<h", request, 16, struct.unpack_from("<h", request, 16)[0] | IFF_UP)
        fcntl.ioctl(each, SIOCSIFFLAGS, bytes(request))


class Line:
    """The serial line to the host."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd)
        termios.tcflush(self._fd, termios.TCIFLUSH)
        self._mode = termios.tcgetattr(self._fd)

    def _read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            wanted = min(size - len(found), 255)  # to be woken for more than the few bytes an interrupt brings
            if self._mode[6][termios.VMIN] != wanted:
                self._mode[6][termios.VMIN] = wanted
                termios.tcsetattr(self._fd, termios.TCSANOW, self._mode)
            found += os.read(self._fd, size - len(found))
        return bytes(found)

    def write(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next message."""
        head, blob = HEADER.unpack(self._read(HEADER.size))
        whole = bytearray()
        while len(whole) < head + blob:
            whole += self._read(min(PIECE, head + blob - len(whole)))
            self.write(ACKNOWLEDGED)
        return json.loads(whole[:head]), bytes(whole[head:])

    def send(self, message: dict[str, Any], blob: bytes = b"") -> None:
        """Send a message."""
        head = json.dumps(message).encode()
        self.write(HEADER.pack(len(head), len(blob)) + head + blob)


def run(
    argv: Sequence[str], given: bytes, environment: dict[str, str], timeout: float | None
) -> tuple[dict[str, Any], bytes]:
    """Run a program to its end: (status and the lengths of its two outputs, the outputs)."""
    in_read, in_write = os.pipe()
    pid = -1
    outputs = [os.pipe(), os.pipe()]
    try:
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            os.environ | environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, in_read, 0),
                (os.POSIX_SPAWN_DUP2, outputs[0][1], 1),
                (os.POSIX_SPAWN_DUP2, outputs[1][1], 2),
            ],
            setsid=True,
        )
    except OSError as error:
        return {"error": f"{argv[0]}: {error.strerror}"}, b""
    finally:
        os.close(in_read)
        for _, end in outputs:
            os.close(end)
        if pid < 0:
            os.close(in_write)
    texts, timed_out = _communicate(pid, in_write, [end for end, _ in outputs], given, timeout)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    _reap(-pid if timed_out else -1, 0 if timed_out else os.WNOHANG)
    return {"status": status, "lengths": [len(text) for text in texts], "timed_out": timed_out}, b"".join(texts)


def _reap(which: int, options: int) -> None:
    """Bury what programs left behind, whose parent the first process becomes."""
    try:
        while os.waitpid(which, options)[0]:
            pass
    except ChildProcessError:
        pass


def _communicate(
    pid: int, to: int, outputs: list[int], given: bytes, timeout: float | None
) -> tuple[list[bytes], bool]:
    """Feed a program and collect its outputs until they end, or its time is over and it is killed."""
    texts = {fd: bytearray() for fd in outputs}
    deadline = time.monotonic() + timeout if timeout is not None else None
    os.set_blocking(to, False)
    reading, view, timed_out = set(outputs), memoryview(given), False
    writing = {to}
    while reading:
        if writing and not view:
            os.close(to)
            writing.clear()
        left = max(0.0, deadline - time.monotonic()) if deadline is not None else None
        readable, writable, _ = select.select(reading, writing, [], left)
        if not readable and not writable:
            os.killpg(pid, signal.SIGKILL)
            timed_out = True
            break
        for fd in readable:
            data = os.read(fd, 1 << 16)
            texts[fd] += data
            if not data:
                reading.discard(fd)
        for fd in writable:
            try:
                view = view[os.write(fd, view) :]
            except BrokenPipeError:
                view = view[:0]
    for fd in [*outputs, *writing]:
        os.close(fd)
    return [bytes(texts[fd]) for fd in outputs], timed_out


def call(function: str, arguments: dict[str, Any], blob: bytes) -> dict[str, Any]:
    """Call ``module:function`` in a process of its own; what it returns, or its traceback."""
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)  # here, so that the next call finds it imported
    except Exception:
        return {"error": traceback.format_exc()}
    end, start = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        try:
            answer = {"result": found(**arguments, **({"blob": blob} if blob else {}))}
            text = json.dumps(answer)
        except BaseException:
            text = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(start, "w") as stream:
            stream.write(text)
        os._exit(0)
    os.close(start)
    with os.fdopen(end) as stream:
        text = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not text:
        return {"error": f"{function}: its process ended with status {status} and said nothing"}
    answer = json.loads(text)
    return answer if isinstance(answer, dict) else {"error": text}


def answer(message: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
    """Do what a message asks for."""
    what = message["do"]
    if what == "run":
        return run(message["argv"], blob, message["environment"], message["timeout"])
    if what == "call":
        return call(message["function"], message["arguments"], blob), b""
    try:
        if what == "write":
            os.makedirs(os.path.dirname(message["path"]), exist_ok=True)
            with open(message["path"], "wb") as file:
                file.write(blob)
            os.chmod(message["path"], message["mode"])
            return {}, b""
        if what == "read":
            with open(message["path"], "rb") as file:
                return {}, file.read()
    except OSError as error:
        return {"error": f"{error.filename}: {error.strerror}"}, b""
    return {"error": f"there is no {what!r}"}, b""


def main(path: str) -> None:
    """Serve until the host asks for the end, then power off."""
    try:
        set_up()
        line = Line(path)
        line.write(HELLO)
        while True:
            message, blob = line.receive()
            if message["do"] == "end":
                break
            line.send(*answer(message, blob))
    except BaseException:
        traceback.print_exc()  # to the console, which the host keeps
        sys.stderr.flush()
        time.sleep(0.2)  # the console is slow, and goes with the machine
    ctypes.CDLL(None).reboot(POWER_OFF)
