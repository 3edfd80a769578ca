"""`Guest`: a virtual machine with a kernel of one's choice, in which this library and one's own programs run.

with Guest("6.12") as guest:
    print(guest.run(["python", "-c", "import os; print(os.uname().release)"]).stdout)
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bpf2py.errors import GuestError
from bpf2py.testing import guest_files
from bpf2py.testing.guest_agent import ACKNOWLEDGED, HEADER, HELLO, PIECE
from bpf2py.testing.guest_debian import python_tree
from bpf2py.testing.guest_kernels import GuestKernel, find_kernel
from bpf2py.testing.verdicts import STATISTICS, ProgramReport, object_of, reports_of

__all__ = ["Guest"]

SHELL = "sh"
FOREIGN_PYTHON = "/usr/bin/python3.11"
# Ends the emulator when the pipe does that this process holds the other end of, however this process ends; and removes the files
# of one that was killed, and could not say that it wants them.
SUPERVISED = """
scratch=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
qemu=$!
{ [ -n "$(cat <&3)" ] || : >"$scratch/orphaned"; kill -9 $qemu; } 2>/dev/null &
wait $qemu
status=$?
kill $! 2>/dev/null
[ ! -e "$scratch/orphaned" ] || rm -rf "$scratch"
exit $status
"""
INIT = "#!{python} -S\nimport sys\nsys.path.insert(0, {site!r})\nfrom bpf2py.testing.guest_agent import main\nmain({line!r})\n"
# One thread for all CPUs: with several, a CPU may run half of an instruction that another one is writing, as kernels do when a
# tracepoint or kprobe is attached, and the guest panics.
EMULATION = "tcg,thread=single"
KVM_BROKEN = "KVM internal error"
KVM_SECONDS = 30  # where KVM works a guest takes a few


class Machine(NamedTuple):
    """How an architecture is emulated.

    Attributes:
        compiled_for: its name for the compiler.
        package: Debian's package of the emulator.
        board: which machine and processor.
        console: where its kernel writes.
        line: the serial device the host talks to, and how the emulator is told to have it.
    """

    compiled_for: str
    package: str
    board: tuple[str, ...]
    console: str
    line: str
    line_options: tuple[str, ...]


MACHINES = {
    "x86_64": Machine("x86", "qemu-system-x86", ("-cpu", "max"), "ttyS0", "/dev/ttyS1", ("-serial", "chardev:line")),
    # Pointer authentication as its own algorithm takes most of the time. Without SVE, of which memcpy() would be made: where its
    # stores replace machine code, QEMU 7.2 goes on running the old. The second serial port is a PCI card.
    "aarch64": Machine(
        "arm64",
        "qemu-system-arm",
        ("-M", "virt", "-cpu", "max,pauth-impdef=on,sve=off"),
        "ttyAMA0",
        "/dev/ttyS0",
        ("-device", "pci-serial,chardev=line"),
    ),
}
_kvm_works: bool | None = None  # found out by the first guest of this process that tries


def compiled_for(arch: str | None) -> str:
    """What the compiler calls an architecture, by default this machine's. Raises GuestError for one there are no guests of."""
    return _machine(arch).compiled_for


def _escaped(path: Path) -> str:
    """A path as a value among an option's others, which commas divide."""
    return str(path).replace(",", ",,")


def _machine(arch: str | None) -> Machine:
    name = arch or platform.machine()
    if name not in MACHINES:
        raise GuestError(f"guest: there are none of {name}: x86_64 or aarch64")
    return MACHINES[name]


class Guest:
    """A running virtual machine; a context manager that ends it.

    All it has lies in its memory: this Python and its standard library, this library, and what was asked for. It sees no disk, no
    network but its own loopback, and nothing of this machine.

    Args:
        kernel: a series such as ``"6.12"``, of which Debian's newest kernel is taken (downloaded once), or the path of an image or
            of a directory with one.
        arch: ``"x86_64"`` or ``"aarch64"``, this machine's if not said. On another one than this machine's the Python is
            Debian 12's, and `programs` cannot be given.
        cpus: its CPUs.
        memory: MiB it has.
        files: files to give it: their paths in the guest, with their contents or where they are here.
        programs: programs of this machine to give it, by name, with their libraries: ``["ip", "ping"]``; ``sh`` is always there.
        packages: installed distributions to give it, with those they need: ``["numpy"]``.
        timeout: seconds until it must have started.
        say: is told what takes long, such as a download.

    KVM is used where it works, else emulation, which takes about ten seconds to start. Needs ``qemu-system-x86``, or
    ``qemu-system-arm`` for aarch64.

    Raises GuestError when there is no such kernel or no emulator, or it does not start.

    Example:
        >>> with Guest("6.1") as guest:                                          # doctest: +SKIP
        ...     guest.call("bpf2py.features:map_type", kind="arena")
        False
    """

    def __init__(
        self,
        kernel: str = "6.12",
        *,
        arch: str | None = None,
        cpus: int = 2,
        memory: int = 1024,
        files: Mapping[str, bytes | Path] | None = None,
        programs: Sequence[str] = (),
        packages: Sequence[str] = (),
        timeout: float = 180,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        own = platform.machine()
        self._machine = _machine(arch)
        self.arch = arch or own
        self._is_foreign = self.arch != own
        self.kernel: GuestKernel = find_kernel(kernel, self.arch, say)
        emulator = f"qemu-system-{self.arch}"
        if shutil.which(emulator) is None:
            raise GuestError(f"guest: {emulator} is not installed; on Debian: apt-get install {self._machine.package}")
        self._scratch = tempfile.TemporaryDirectory(prefix="bpf2py-guest-")
        self._console = Path(self._scratch.name, "console")
        self._memory, self._cpus = memory, cpus
        self._release = ""
        try:
            self._make_archive(files or {}, programs, packages, say)
            say(f"starting Linux {self.kernel.name}")
            self._start(emulator, timeout)
        except BaseException:
            self._scratch.cleanup()
            raise

    # -- what it can do ------------------------------------------------------------------------------------------

    @property
    def release(self) -> str:
        """Its kernel's release, such as ``"6.12.117+deb12-amd64"``."""
        if not self._release:
            self._release = str(self.call("platform:release"))
        return self._release

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float | None = 60,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the guest; ``python`` is this Python with this library.

        Raises:
            GuestError: the guest has no such program, or died.
            TimeoutExpired: it was killed after `timeout` seconds.
            CalledProcessError: `check` is set, and it ended with another status than 0.
        """
        if not argv:
            raise GuestError("guest: run: give a program and its arguments")
        words = [self._python if argv[0] == "python" else argv[0], *argv[1:]]
        message = {
            "do": "run",
            "argv": words,
            "environment": dict(env or {}),
            "timeout": timeout,
        }
        answer, blob = self._ask(message, input.encode())
        first, second = answer["lengths"]
        text = [blob[:first].decode("utf-8", "replace"), blob[first : first + second].decode("utf-8", "replace")]
        if answer["timed_out"]:
            raise subprocess.TimeoutExpired(list(argv), timeout or 0, text[0], text[1])
        done = subprocess.CompletedProcess(list(argv), answer["status"], *text)
        if check:
            done.check_returncode()
        return done

    def call(self, function: str, blob: bytes = b"", /, **arguments: object) -> object:
        """Call ``module:function`` in a process of the guest's, and return what it returns, as JSON knows it.

        Args:
            function: such as ``"bpf2py.features:map_type"``; its module is of this library, of a
                package given, or a file in /opt/bpf2py.
            blob: bytes, passed as ``blob`` unless there are none.
            arguments: anything JSON knows.

        Raises GuestError with the traceback of what the function raises.
        """
        answer, _ = self._ask({"do": "call", "function": function, "arguments": arguments}, blob)
        return answer["result"]

    def verify(
        self, source: str | os.PathLike[str], *, attach: bool = False, log_level: int = STATISTICS
    ) -> list[ProgramReport]:
        """Load every program of an object into the guest's kernel: see `bpf2py.testing.verify`.

        A source is compiled here. Raises CompileError, ObjectError, OSError, or GuestError.
        """
        name, data = object_of(source, self._machine.compiled_for)
        found = self.call("bpf2py.testing.verdicts:reports", data, name=name, attach=attach, log_level=log_level)
        return reports_of(found)

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Put a file into the guest. Raises GuestError."""
        self._ask({"do": "write", "path": path, "mode": mode}, content)

    def read(self, path: str) -> bytes:
        """Contents of a file of the guest. Raises GuestError."""
        return self._ask({"do": "read", "path": path})[1]

    @property
    def console(self) -> str:
        """What its kernel and programs wrote to the console so far."""
        try:
            return self._console.read_text(errors="replace").replace("\r\n", "\n")
        except OSError:
            return ""

    def close(self) -> None:
        """End the virtual machine; closing twice is harmless."""
        self._finalizer()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- how it is made ------------------------------------------------------------------------------------------

    def _make_archive(
        self,
        files: Mapping[str, bytes | Path],
        programs: Sequence[str],
        packages: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        if self._is_foreign:
            if programs:
                raise GuestError(f"guest: programs of this machine do not run on {self.arch}: {', '.join(programs)}")
            self._python = FOREIGN_PYTHON
            base = guest_files.foreign_archive(python_tree(self.arch, say))
        else:
            self._python = str(guest_files.interpreter())
            base = guest_files.python_archive()
            programs = [SHELL, *programs]
        archive = guest_files.Archive()
        init = INIT.format(python=self._python, site=guest_files.SITE, line=self._machine.line)
        archive.add("/init", init.encode(), 0o755)
        archive.device("/dev/console", 5, 1)
        given: dict[str, bytes | Path] = {
            **guest_files.library_files(),
            **guest_files.program_files(programs),
            **(guest_files.distribution_files(packages, self._is_foreign) if packages else {}),
            **files,
        }
        for path, content in given.items():
            archive.add(path, content)
        shell = shutil.which(SHELL)
        if not self._is_foreign and shell is not None and shell != "/bin/sh":
            archive.symlink("/bin/sh", shell)
        with open(Path(self._scratch.name, "initrd"), "wb") as out:
            out.write(base)
            out.write(archive.data())

    def _start(self, emulator: str, timeout: float) -> None:
        global _kvm_works
        ways = [EMULATION]
        if not self._is_foreign and _kvm_works is not False and os.access("/dev/kvm", os.R_OK | os.W_OK):
            ways.insert(0, "kvm")
        deadline = time.monotonic() + timeout
        for way in ways:
            until = min(deadline, time.monotonic() + KVM_SECONDS) if way == "kvm" else deadline
            if self._boot(emulator, way, until):
                _kvm_works = True if way == "kvm" else _kvm_works
                return
            if way == "kvm":
                _kvm_works = False
        shown = "\n".join((self.console + self._errors()).strip().splitlines()[-20:])
        late = f" within {timeout:.0f} s" if time.monotonic() >= deadline else ""
        raise GuestError(
            f"guest: Linux {self.kernel.name} did not start{late}; the end of its console:\n{shown or '(empty)'}"
        )

    def _errors(self) -> str:
        return Path(self._scratch.name, "errors").read_text(errors="replace")

    def _boot(self, emulator: str, way: str, deadline: float) -> bool:
        """Start the emulator and wait for the guest's word; False when it did not come."""
        place = Path(self._scratch.name)
        path = place / f"line-{way[:3]}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            argv = [
                "sh", "-c", SUPERVISED, "sh", str(place), emulator, "-accel", way, *self._machine.board,
                "-smp", str(self._cpus), "-m", str(self._memory), "-display", "none", "-monitor", "none", "-nic", "none",
                "-no-reboot", "-kernel", str(self.kernel.image), "-initrd", str(place / "initrd"),
                "-append", f"console={self._machine.console} quiet rdinit=/init panic=-1",
                "-serial", f"file:{self._console}", "-chardev", f"socket,id=line,path={_escaped(path)}",
                *self._machine.line_options,
            ]  # fmt: skip
            with open(place / "errors", "wb") as errors:
                process = subprocess.Popen(
                    argv, stdin=subprocess.PIPE, stdout=errors, stderr=errors, start_new_session=True
                )
            held: list[socket.socket] = []
            finalizer = weakref.finalize(self, _end, process, self._scratch, held)
            line: socket.socket | None = None
            try:
                listener.settimeout(0.2)
                heard = b""
                while time.monotonic() < deadline and not heard.endswith(HELLO):
                    if line is None:
                        try:
                            line = listener.accept()[0]
                            held.append(line)
                            line.settimeout(0.2)
                        except TimeoutError:
                            if process.poll() is not None:
                                break
                        continue
                    try:
                        data = line.recv(4096)
                    except TimeoutError:
                        if KVM_BROKEN in self._errors():
                            break
                        continue
                    if not data:
                        break
                    heard += data
                if heard.endswith(HELLO) and line is not None:
                    line.settimeout(None)
                    self._line, self._finalizer = line, finalizer
                    return True
            except BaseException:
                finalizer()
                raise
            finalizer.detach()
            _kill(process, held)
            return False

    # -- the line ------------------------------------------------------------------------------------------------

    def _ask(self, message: dict[str, Any], blob: bytes = b"") -> tuple[dict[str, Any], bytes]:
        if not self._finalizer.alive:
            raise GuestError("guest: it was closed")
        try:
            head = json.dumps(message).encode()
            self._line.sendall(HEADER.pack(len(head), len(blob)))
            whole = head + blob
            for at in range(0, len(whole), PIECE):
                self._line.sendall(whole[at : at + PIECE])
                if self._read(1) != ACKNOWLEDGED:
                    raise GuestError("guest: it answered what nobody asked")
            first, second = HEADER.unpack(self._read(HEADER.size))
            answer, more = json.loads(self._read(first)), self._read(second)
        except OSError as error:
            raise GuestError(f"guest: {error}; the end of its console:\n{self._tail()}") from None
        except BaseException:
            self.close()  # half a message was sent or read: nothing on this line can be trusted any more
            raise
        if "error" in answer:
            raise GuestError(f"guest: {answer['error'].strip()}")
        return answer, more

    def _read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            data = self._line.recv(min(size - len(found), 1 << 16))
            if not data:
                raise ConnectionResetError("it died")
            found += data
        return bytes(found)

    def _tail(self) -> str:
        return "\n".join((self.console + self._errors()).strip().splitlines()[-20:]) or "(empty)"


def _kill(process: subprocess.Popen[bytes], held: list[socket.socket]) -> None:
    for line in held:
        line.close()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"keep the files")
            process.stdin.close()  # which ends the supervisor, and with it the emulator
    process.wait()


def _end(
    process: subprocess.Popen[bytes], scratch: tempfile.TemporaryDirectory[str], held: list[socket.socket]
) -> None:
    _kill(process, held)
    scratch.cleanup()
