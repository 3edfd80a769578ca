"""What the page shows of the machine as a whole: programs by CPU, maps by pressure; little work for many of them."""

from __future__ import annotations

import time
from typing import NamedTuple

from bpf2py.errors import BpfError, NotSupported
from bpf2py.kernel import inspect
from bpf2py.kernel.objects import ids, map_info, open_id
from bpf2py.kernel.syscall import Fd
from bpf2py.maps.base import Map
from bpf2py.maps.mapping import MappingMap
from bpf2py.seam.info import MapInfo, ProgramInfo
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import type_info, type_name
from bpf2py.uapi.program_types import program_type_name

__all__ = ["Machine", "MapRow", "ProgramRow", "Sample"]

COUNTING_SECONDS = 0.06  # of a reading go to counting elements, at most; a map whose count takes longer ends the turn
COUNTING_SHARE = 50  # a map that took t to count is not counted again before 50 t


class ProgramRow(NamedTuple):
    """A program.

    Attributes:
        runs, run_time_ns: ever, while run statistics were enabled.
        runs_per_second, cpu_percent, ns_per_run: since the last reading; 100 % is one CPU.
        map_ids: the maps it uses.
    """

    id: int
    type: str
    name: str
    cpu_percent: float
    runs_per_second: float
    ns_per_run: float
    runs: int
    run_time_ns: int
    map_ids: tuple[int, ...]


class MapRow(NamedTuple):
    """A map.

    Attributes:
        memory: bytes the kernel accounts to it; None when it is not known yet.
        elements, pressure, growth_per_second: None for maps that are not counted, or have not been yet.
        age: seconds since it was counted.
    """

    id: int
    type: str
    name: str
    pressure: float | None
    growth_per_second: float | None
    elements: int | None
    max_entries: int
    memory: int | None
    age: float | None


class Sample(NamedTuple):
    """The machine at one moment.

    Attributes:
        time: seconds since 1970.
        seconds: since the reading before, which rates are of; 0 at the first.
        programs, maps: the busiest and the fullest, so many at most.
        program_count, map_count: how many there are.
        cpu_percent, runs_per_second: of all programs together.
    """

    time: float
    seconds: float
    cpu_percent: float
    runs_per_second: float
    program_count: int
    map_count: int
    programs: list[ProgramRow]
    maps: list[MapRow]


class _Counted:
    """What is remembered of a map: its facts, which do not change, and the last two counts."""

    __slots__ = ("cost", "counted", "elements", "growth", "info", "memory")

    def __init__(self, info: MapInfo) -> None:
        self.info = info
        self.elements: int | None = None
        self.growth: float | None = None
        self.memory: int | None = None
        self.counted = 0.0  # by the monotonic clock
        self.cost = 0.0


class Machine:
    """Reads programs and maps again and again; not for two threads at once. Needs CAP_SYS_ADMIN.

    The facts of a map are asked for once. Elements are counted in turn, those counted longest ago first, for a bounded time a
    reading: a thousand maps are counted less often than a hundred, not longer.

    Args:
        most: programs, and maps, in a sample.
    """

    def __init__(self, most: int = 500) -> None:
        self._most = most
        self._maps: dict[int, _Counted] = {}
        self._programs: dict[int, ProgramInfo] = {}
        self._then = time.monotonic()
        self._first = True

    def read(self) -> Sample:
        """The machine now. Raises PermissionDenied."""
        current = {info.id: info for info in inspect.programs()}
        now = time.monotonic()
        seconds = max(now - self._then, 1e-3)
        first, self._first = self._first, False
        if first:
            self._programs = current
        rows = [self._program(info, seconds) for info in current.values()]
        self._programs, self._then = current, now
        maps = self._read_maps()
        rows.sort(key=lambda row: (-row.cpu_percent, -row.runs_per_second, row.id))
        maps.sort(key=lambda row: (-(row.pressure or 0), -(row.elements or 0), row.id))
        return Sample(
            round(time.time(), 3),
            0.0 if first else round(seconds, 3),
            round(sum(row.cpu_percent for row in rows), 3),
            round(sum(row.runs_per_second for row in rows), 1),
            len(rows),
            len(maps),
            rows[: self._most],
            maps[: self._most],
        )

    def _program(self, info: ProgramInfo, seconds: float) -> ProgramRow:
        before = self._programs.get(info.id)
        runs, spent = (before.run_count, before.run_time_ns) if before is not None else (0, 0)
        return _program_row(info, info.run_count - runs, info.run_time_ns - spent, seconds)

    def _read_maps(self) -> list[MapRow]:
        there = list(ids(Command.MAP_GET_NEXT_ID))
        self._maps = {ident: known for ident in there if (known := self._maps.get(ident) or _opened(ident)) is not None}
        self._count()
        now = time.monotonic()
        return [_map_row(counted, now) for counted in self._maps.values()]

    def _count(self) -> None:
        start = time.monotonic()
        for counted in sorted(self._maps.values(), key=lambda each: each.counted):
            now = time.monotonic()
            if now - start > COUNTING_SECONDS:
                break
            if counted.counted and now - counted.counted < counted.cost * COUNTING_SHARE:
                continue
            counted.memory = inspect.map_memory(counted.info.id)
            elements = _elements(counted.info)
            after = time.monotonic()
            if elements is not None and counted.elements is not None:
                counted.growth = (elements - counted.elements) / max(after - counted.counted, 1e-3)
            counted.elements, counted.cost, counted.counted = elements, after - now, after


def _opened(ident: int) -> _Counted | None:
    """The facts of a map; None when it is gone."""
    owner = open_id(Command.MAP_GET_FD_BY_ID, ident)
    if not isinstance(owner, Fd):
        return None
    try:
        return _Counted(map_info(owner.number))
    finally:
        owner.close()


def _elements(info: MapInfo) -> int | None:
    """Elements of a map that has some and not others; None for arrays, whose elements are all there, and other kinds."""
    if not info.max_entries or type_info(info.type).key == "index":
        return None
    try:
        with Map.from_id(info.id) as bpf_map:
            return bpf_map.count() if isinstance(bpf_map, MappingMap) else None
    except (NotSupported, BpfError):
        return None  # gone meanwhile, or of a type that cannot be counted


def _program_row(info: ProgramInfo, runs: int, spent: int, seconds: float) -> ProgramRow:
    return ProgramRow(
        info.id,
        program_type_name(info.type),
        info.name,
        round(spent / seconds / 1e7, 3),
        round(runs / seconds, 1),
        round(spent / runs, 1) if runs else 0.0,
        info.run_count,
        info.run_time_ns,
        info.map_ids,
    )


def _map_row(counted: _Counted, now: float) -> MapRow:
    info, elements = counted.info, counted.elements
    known = elements is not None
    return MapRow(
        info.id,
        type_name(info.type),
        info.name,
        round(elements / info.max_entries, 4) if elements is not None else None,
        round(counted.growth, 1) if known and counted.growth is not None else None,
        elements,
        info.max_entries,
        counted.memory,
        round(now - counted.counted, 1) if known else None,
    )
