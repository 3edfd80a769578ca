"""The kernel's functions by address: its own, those of modules, and the programs that were made native (``[bpf]``)."""

from __future__ import annotations

import time
from bisect import bisect_right

__all__ = ["KernelSymbols"]

FAR = 1 << 20  # no function is as long: the address lies in what was loaded after the table was read
AGAIN = 1.0  # seconds between two readings


class KernelSymbols:
    """/proc/kallsyms, read when first asked, and again for addresses that came later.

    Attributes:
        hidden: whether the kernel shows no addresses (kernel.kptr_restrict, or no right to see them).
    """

    def __init__(self) -> None:
        self.hidden = False
        self._lines: list[
            bytes
        ] = []  # as the kernel writes them: 16 hexadecimal digits, which sort as numbers do, a letter, a name
        self._read_at: float | None = None

    def at(self, address: int) -> tuple[str, str, int] | None:
        """(name, module, bytes from its start) of the function an address lies in."""
        found = self._at(address)
        if found is None and not self.hidden and (self._read_at is None or time.monotonic() - self._read_at > AGAIN):
            self.read()
            found = self._at(address)
        return found

    def _at(self, address: int) -> tuple[str, str, int] | None:
        index = bisect_right(self._lines, b"%016x\xff" % address) - 1
        if index < 0:
            return None
        start, _, name = self._lines[index].split(b" ", 2)
        offset = address - int(start, 16)
        if offset > FAR:
            return None
        function, _, module = name.decode("utf-8", "replace").partition("\t")
        return function, module.strip("[]"), offset

    def read(self) -> None:
        """Read the table."""
        try:
            with open("/proc/kallsyms", "rb") as file:
                lines = [line for line in file.read().split(b"\n") if line[17:18] in (b"t", b"T", b"w", b"W")]
        except OSError:
            lines = []
        lines.sort()
        self.hidden = not lines or not int(lines[-1][:16], 16)
        self._lines = [] if self.hidden else lines
        self._read_at = time.monotonic()
