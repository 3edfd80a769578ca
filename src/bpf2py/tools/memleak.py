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
from bpf2py.tools.framework import CONTAINER, RETURN_ADDRESS, Column, Filter, Flames, Record, Tool
from bpf2py.tools.mappings import Mapping, Mappings
from bpf2py.tools.stacks import Named

__all__ = ["Memleak"]

# What happens to a process's address space; as programs/memleak.py numbers it.
STACK, MAPPED, UNMAPPED, MOVES, MOVED, STAYED = range(6)
MAP = ("mmap", "mremap")
MAPS = [("enter", "munmap"), *((end, name) for end in ("exit", "enter") for name in MAP)]
ALLOCATE = ("malloc", "calloc", "realloc", "aligned_alloc", "memalign", "posix_memalign")


class Memleak(Tool):
    """Memory that was allocated or mapped while the tool ran and is not given back yet, by the stack that asked for it.

    Mapped is what mmap() and mremap() of the C library gave as anonymous memory, but not what malloc() and the others map for
    themselves. What is left of a mapping of which a part was unmapped counts on.

    Args:
        wanted: whom to watch: a process, or a command.
        older_ms: only what was allocated so many milliseconds before the end, or earlier.
        least: only allocations of at least so many bytes.
        most: and at most so many; 0 for no limit.
        top: stacks.
        library: what has malloc() and the others.
        mappings: whether mmap(), mremap() and munmap() are watched.
    """

    program = "memleak"
    optional = tuple(f"{end}_{name}" for end in ("enter", "exit") for name in (*ALLOCATE[1:], *MAP))

    def __init__(
        self,
        wanted: Filter,
        *,
        older_ms: float = 0.0,
        least: int = 0,
        most: int = 0,
        top: int = 10,
        library: str = "libc",
        mappings: bool = True,
    ) -> None:
        if not (wanted.pid or wanted.command or wanted.cgroup or wanted.comm):
            raise BpfError("memleak: say whom to watch: --pid, --comm, --cgroup, --container or a command")
        self._older_ns, self._top = int(older_ms * 1e6), top
        self._library = find_binary("memleak", library)
        self._libc = find_binary("memleak", "libc") if mappings else ""
        self._mappings = Mappings(os.sysconf("SC_PAGE_SIZE"))
        self._moving: dict[int, list[Mapping]] = {}  # by thread: what its mremap() takes away
        self._groups: dict[int, int] = {}
        self._stopped = 0
        variables = {"least": least, "return_address": RETURN_ADDRESS}
        autoload = {} if mappings else {f"{end}_{name}": False for end, name in MAPS}
        super().__init__(wanted, variables | ({"most": most} if most else {}), autoload=autoload)
        self.named = Named(self.obj)

    def attach(self) -> None:
        # What is given back is seen before what is allocated, and of that the end before the beginning.
        ends = [f"exit_{name}" for name in ALLOCATE]
        names = ["on_exit", "enter_free", *ends, *(f"enter_{name}" for name in ALLOCATE)]
        # Last of all: what malloc() maps must not be seen where malloc() is not.
        self._attach_in_turn([*names, *(f"{end}_{name}" for end, name in MAPS if self._libc)])

    def _options(self, name: str) -> dict[str, Any]:
        if name == "on_exit":
            return {}
        end, _, symbol = name.partition("_")
        return {"binary": self._libc if (end, symbol) in MAPS else self._library, "symbol": symbol}

    def stop(self) -> None:
        super().stop()
        self._stopped = self._stopped or time.monotonic_ns()

    def _record(self, event: Any) -> Record | None:
        """A stack that is new, named while its process lives; or what happened to its address space."""
        pid, kind, known = event.pid, event.kind, self._mappings
        self._groups[pid] = event.cgroup
        if kind == STACK:
            self.named.user(pid, event.stack)
        elif kind == MAPPED:
            known.add(pid, event.address, event.size, event.stack, event.time_ns)
        elif kind == UNMAPPED:
            known.remove(pid, event.address, event.size)
        elif kind == MOVES:
            self._moving[event.tid] = known.remove(pid, event.address, event.size)
        elif kind == MOVED:
            # What was mapped before the tool looked is not counted when it moves.
            if self._moving.pop(event.tid, []) and event.stack:
                known.add(pid, event.address, event.size, event.stack, event.time_ns)
            else:
                known.remove(pid, event.address, event.size)
        elif kind == STAYED:
            known.put_back(pid, self._moving.pop(event.tid, []))
        return None

    def results(self) -> Iterator[Flames]:
        for _ in self.records():
            pass
        stacks = Stacks("bytes")
        rows: list[Record] = []
        counted = sorted(self._counted().items(), key=lambda each: -each[1][1])
        for (kind, pid, number), (count, size) in counted[: self._top]:
            frames = self.named.user(pid, number)
            group = self._groups.get(pid, 0)
            stacks.add(frames, size, root=self.root(str(pid), group))
            rows.append(
                {
                    "pid": pid,
                    **self.container(group),
                    "kind": kind,
                    "count": count,
                    "bytes": size,
                    "where": " < ".join(frame.short for frame in self._own(frames)),
                    "stack": [frame.short for frame in frames],
                }
            )
        columns = [
            Column("pid", "PID", 7, True),
            *([CONTAINER] if self.containers is not None else []),
            Column("kind", "KIND", 6),
            Column("count", "COUNT", 8, True),
            Column("bytes", "BYTES", 11, True),
            Column("where", "WHERE", 0),
        ]
        yield Flames(stacks, columns, rows)

    def _counted(self) -> dict[tuple[str, int, int], tuple[int, int]]:
        """(pieces, bytes) by kind, process and stack."""
        counts: dict[tuple[str, int, int], list[int]] = {}
        now = self._stopped or time.monotonic_ns()
        found: list[tuple[Any, Any]] = list(self.obj.maps["pieces"].items())
        for piece, allocated in found:
            if now - allocated.time_ns >= self._older_ns:
                sums = counts.setdefault(("malloc", piece.pid, allocated.stack), [0, 0])
                sums[0] += 1
                sums[1] += allocated.size
        seen: set[int] = set()
        for pid, mapping in self._mappings.items():
            if now - mapping.time_ns >= self._older_ns:
                sums = counts.setdefault(("mmap", pid, mapping.stack), [0, 0])
                sums[0] += mapping.born not in seen  # a part of it may be unmapped
                sums[1] += mapping.end - mapping.start
                seen.add(mapping.born)
        return {whose: (count, size) for whose, (count, size) in counts.items()}

    def _own(self, frames: list[Frame]) -> list[Frame]:
        """Without the library's, if there are others."""
        libraries = {os.path.basename(os.path.realpath(path)) for path in (self._library, self._libc) if path}
        return [frame for frame in frames if frame.file not in libraries] or frames

    @property
    def problems(self) -> list[str]:
        return [*super().problems, *self.named.problems]
