"""Where tools attach that take any function or tracepoint: how people write it, and the programs that count there."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.errors import AttachError, BpfError, NotSupported
from bpf2py.kernel.attach.kprobe import available_functions
from bpf2py.kernel.elf_symbols import find_binary, matching_functions
from bpf2py.kernel.tracefs import Tracefs

if TYPE_CHECKING:
    from bpf2py.object import Object

__all__ = ["PROGRAMS", "Points", "parse"]

# Programs that tools with points have, by the kind of point, for one and for many.
PROGRAMS = {
    "function": ("on_function", "on_functions"),
    "kernel": ("on_kernel_function", "on_kernel_functions"),
    "tracepoint": ("on_tracepoint", "on_tracepoint"),
    "usdt": ("on_usdt", "on_usdt"),
}
HOW = (
    "write BINARY:FUNCTION (libc:malloc, /usr/bin/x:main), tracepoint:CATEGORY:NAME, usdt:BINARY:PROVIDER:NAME, or the name of a "
    "function of the kernel"
)
MOST_ONE_BY_ONE = 1000


class Points(NamedTuple):
    """Functions or tracepoints.

    Attributes:
        text: as it was written.
        kind: ``"function"`` of a program or library, ``"kernel"``, ``"tracepoint"`` or ``"usdt"``.
        names: of the points; the cookie of each is its place here.
        binary: where they are; empty for the kernel's.
        offsets: of functions found by a pattern, else none.
    """

    text: str
    kind: str
    names: list[str]
    binary: str = ""
    offsets: tuple[int, ...] = ()

    @property
    def many(self) -> bool:
        """Whether a pattern found them."""
        return any(character in self.text for character in "*?")

    def autoload(self) -> dict[str, bool]:
        """Which of a tool's programs are needed."""
        one, many = PROGRAMS[self.kind]
        needed = {one, many} if self.kind == "kernel" and self.many else {many if self.many else one}
        return {name: name in needed for pair in PROGRAMS.values() for name in pair}

    def attach(self, obj: Object) -> None:
        """Attach the program to all. Raises AttachError."""
        one, many = PROGRAMS[self.kind]
        programs, cookies = obj.programs, list(range(len(self.names)))
        if self.kind == "usdt":
            programs[one].attach(target=f"{self.binary}:{self.names[0]}")
        elif self.kind == "function" and self.many:
            programs[many].attach(binary=self.binary, offsets=list(self.offsets), cookies=cookies)
        elif self.kind == "function":
            programs[one].attach(target=f"{self.binary}:{self.names[0]}")
        elif self.kind == "kernel" and self.many:
            try:
                programs[many].attach(symbols=self.names, cookies=cookies)
            except BpfError:  # no kprobe.multi (Linux 5.18, CONFIG_FPROBE)
                if len(self.names) > MOST_ONE_BY_ONE:
                    raise
                self._one_by_one(programs[one])
        else:
            self._one_by_one(programs[one])

    def _one_by_one(self, program: Any) -> None:
        attached, error = 0, None
        for cookie, name in enumerate(self.names):
            try:
                program.attach(target=name.replace(":", "/"), cookie=cookie)
                attached += 1
            except AttachError as found:
                error = found
        if not attached and error is not None:
            raise error


def parse(text: str) -> Points:
    """The points a text means. Raises BpfError, AttachError."""
    if text.startswith(("tracepoint:", "t:")):
        return _tracepoints(text)
    if text.startswith(("usdt:", "u:")):
        binary, *probe = text.partition(":")[2].rsplit(":", 2)
        if len(probe) != 2 or not all((binary, *probe)):
            raise BpfError(f"{text!r}: {HOW}")
        return Points(text, "usdt", [":".join(probe)], os.path.abspath(find_binary(text, binary)))
    if ":" not in text:
        return _kernel_functions(text)
    binary, _, name = text.rpartition(":")
    if not binary or not name:
        raise BpfError(f"{text!r}: {HOW}")
    path = find_binary(text, binary)
    if not any(character in name for character in "*?"):
        return Points(text, "function", [name], path)
    found = matching_functions(text, path, name)
    return Points(text, "function", list(found.values()), path, tuple(found))


def _tracepoints(text: str) -> Points:
    _, _, rest = text.partition(":")
    category, colon, name = rest.partition(":")
    if not colon or not category or not name:
        raise BpfError(f"{text!r}: {HOW}")
    if not any(character in rest for character in "*?"):
        return Points(text, "tracepoint", [rest])
    with Tracefs() as tracefs:
        every = [line.strip() for line in tracefs.read("available_events").splitlines()]
    names = sorted(fnmatch.filter(every, rest))
    if not names:
        raise BpfError(f"{text!r}: no tracepoint matches")
    return Points(text, "tracepoint", names)


def _kernel_functions(text: str) -> Points:
    if not re.fullmatch(r"[\w.*?]+", text):
        raise BpfError(f"{text!r}: {HOW}")
    if not os.path.exists("/sys/bus/event_source/devices/kprobe"):
        raise NotSupported(f"{text!r}: this kernel has no kprobes to watch its own functions; {HOW}", feature="kprobe")
    if not any(character in text for character in "*?"):
        return Points(text, "kernel", [text])
    counts = Counter(available_functions())
    names = sorted(name for name in fnmatch.filter(counts, text) if counts[name] == 1)
    if not names:
        raise BpfError(f"{text!r}: no kernel function matches")
    return Points(text, "kernel", names)
