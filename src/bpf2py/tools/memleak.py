"""memleak: memory that was allocated and not given back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from bpf2py._typing import Any
from bpf2py.errors import BpfError
from bpf2py.kernel.elf_symbols import find_binary
from bpf2py.symbols.stacks import Stacks
from bpf2py.symbols.symbolizer import Frame
from bpf2py.tools.framework import RETURN_ADDRESS, Column, Filter, Flames, Record, Tool
from bpf2py.tools.stacks import Named

__all__ = ["Memleak"]

ALLOCATE = ("malloc", "calloc", "realloc", "aligned_alloc", "memalign", "posix_memalign")


class Memleak(Tool):
    """Memory that was allocated while the tool ran and is not given back yet, by the stack that asked for it.

    Args:
        wanted: whom to watch: a process, or a command.
        older_ms: only what was allocated so many milliseconds before the end, or earlier.
        least: only allocations of at least so many bytes.
        most: and at most so many; 0 for no limit.
        top: stacks.
        library: what has malloc() and the others.
    """

    program = "memleak"
    optional = tuple(f"{end}_{name}" for end in ("enter", "exit") for name in ALLOCATE[1:])

    def __init__(
        self,
        wanted: Filter,
        *,
        older_ms: float = 0.0,
        least: int = 0,
        most: int = 0,
        top: int = 10,
        library: str = "libc",
    ) -> None:
        if not (wanted.pid or wanted.command or wanted.cgroup or wanted.comm):
            raise BpfError("memleak: say whom to watch: --pid, --comm, --cgroup, --container or a command")
        self._older_ns, self._top = int(older_ms * 1e6), top
        self._library = find_binary("memleak", library)
        self._stopped = 0
        variables = {"least": least, "return_address": RETURN_ADDRESS}
        super().__init__(wanted, variables | ({"most": most} if most else {}))
        self.named = Named(self.obj)

    def attach(self) -> None:
        # What is given back is seen before what is allocated, and of that the end before the beginning.
        ends = [f"exit_{name}" for name in ALLOCATE]
        self._attach_in_turn(["on_exit", "enter_free", *ends, *(f"enter_{name}" for name in ALLOCATE)])

    def _options(self, name: str) -> dict[str, Any]:
        return {} if name == "on_exit" else {"binary": self._library, "symbol": name.partition("_")[2]}

    def stop(self) -> None:
        super().stop()
        self._stopped = self._stopped or time.monotonic_ns()

    def _record(self, event: Any) -> Record | None:
        """A stack that is new: named while its process lives."""
        self.named.user(event.pid, event.stack)
        return None

    def results(self) -> Iterator[Flames]:
        counts: dict[tuple[int, int], list[int]] = {}
        now = self._stopped or time.monotonic_ns()
        found: list[tuple[Any, Any]] = list(self.obj.maps["pieces"].items())
        for piece, allocated in found:
            if now - allocated.time_ns >= self._older_ns:
                sums = counts.setdefault((piece.pid, allocated.stack), [0, 0])
                sums[0] += 1
                sums[1] += allocated.size
        stacks = Stacks("bytes")
        rows: list[Record] = []
        for (pid, number), (count, size) in sorted(counts.items(), key=lambda each: -each[1][1])[: self._top]:
            frames = self.named.user(pid, number)
            stacks.add(frames, size, root=str(pid))
            rows.append(
                {
                    "pid": pid,
                    "count": count,
                    "bytes": size,
                    "where": " < ".join(frame.short for frame in self._own(frames)),
                    "stack": [frame.short for frame in frames],
                }
            )
        columns = [
            Column("pid", "PID", 7, True),
            Column("count", "COUNT", 8, True),
            Column("bytes", "BYTES", 11, True),
            Column("where", "WHERE", 0),
        ]
        yield Flames(stacks, columns, rows)

    def _own(self, frames: list[Frame]) -> list[Frame]:
        """Without the library's, if there are others."""
        library = os.path.basename(os.path.realpath(self._library))
        return [frame for frame in frames if frame.file != library] or frames

    @property
    def problems(self) -> list[str]:
        return [*super().problems, *self.named.problems]
