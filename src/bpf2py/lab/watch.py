"""LRU maps of the running kernel: how many elements they evict, and which keys are used, in their order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from bpf2py.errors import BpfError, CompileError, EncodeError, NotSupported
from bpf2py.loading import Source, load
from bpf2py.maps.base import AnyMap, Map
from bpf2py.object import Object
from bpf2py.readers.ring import RingReader
from bpf2py.uapi.map_types import MapType

__all__ = ["PROGRAMS", "Evictions", "Reading", "Use", "Uses"]

PROGRAMS = Path(__file__).parent / "programs" / "lru.bpf.c"
_LRU = (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
_EVICTED, _LOST = 0, 1
_UNUSED_RING = 1 << 16  # bytes: the smallest that is whole pages on every machine


class Reading(NamedTuple):
    """What became of a map since the last reading.

    Attributes:
        seconds: since then.
        elements: in the map now.
        evicted: elements that were evicted.
        how: ``"exactly"`` (Linux with BPF trampolines), ``"at most"`` (with kernel probes, which count attempts), or
            ``"at least"``: the keys that are gone, evicted or deleted, without those that came and went between two readings.
    """

    seconds: float
    elements: int
    evicted: int
    how: str


class Use(NamedTuple):
    """A key that was looked up or updated.

    Attributes:
        key: its bytes as a little-endian number; of keys with more than 8 bytes a number made of their first 64.
        cpu: where.
        is_update: whether it was an update.
    """

    key: int
    cpu: int
    is_update: bool


def _checked(lru: Map[Any, Any]) -> AnyMap:
    if lru.type not in _LRU:
        raise EncodeError(f"map {lru.name}: it is not an LRU_HASH or LRU_PERCPU_HASH map, which alone evict elements")
    return cast("AnyMap", lru)


def _loaded(lru: AnyMap, wanted: tuple[str, ...], source: Source, ring: int | None = None) -> Object:
    constants = {"wanted": lru.info.id, "key_size": lru.info.key_size}
    sizes = {} if ring is None else {"uses": ring}
    return load(source, "kernel", variables=constants, max_entries=sizes, autoload=dict.fromkeys(wanted, True))


class Evictions:
    """Counts what an LRU map evicts; a context manager.

    It counts where the kernel evicts, if programs may be attached there (fexit, else a kprobe), and compares keys where not.

    Args:
        lru: the map.
        source: the program, where it was compiled elsewhere.
        compare: whether keys may be compared, which takes time and memory with every element; else NotSupported is raised
            where nothing can be attached.

    Raises EncodeError for a map of another type, CompileError without a compiler.
    """

    def __init__(self, lru: Map[Any, Any], source: Source = PROGRAMS, *, compare: bool = True) -> None:
        self._map = _checked(lru)
        self._then = time.monotonic()
        self._object: Object | None = None
        self._keys: set[Any] = set()
        self._last = 0
        self.how = "at least"
        for program, how in (("exactly", "exactly"), ("at_most", "at most")):
            self._object = self._attached(program, source)
            if self._object is not None:
                self.how = how
                break
        else:
            if not compare:
                raise NotSupported(f"map {lru.name}: no program can be attached where the kernel evicts its elements")
            self._keys = set(self._map)

    def _attached(self, program: str, source: Source) -> Object | None:
        """The program where the kernel evicts, None where none can be attached there."""
        try:
            obj = _loaded(self._map, (program,), source, _UNUSED_RING)
        except CompileError:
            raise
        except (BpfError, OSError):
            return None
        try:
            obj.programs[program].attach()
        except (BpfError, OSError):
            obj.close()
            return None
        return obj

    def read(self, elements: int | None = None) -> Reading:
        """What happened since the last reading, or since the beginning.

        Args:
            elements: how many the map has, if they were counted just now: counting reads the whole map.
        """
        now = time.monotonic()
        seconds, self._then = now - self._then, now
        if self._object is None:
            keys = set(self._map)
            evicted, found = len(self._keys - keys), len(keys)
            self._keys = keys
        else:
            total = self._object.maps["counts"][_EVICTED].sum()
            evicted, self._last = total - self._last, total
            found = self._map.count() if elements is None else elements
        return Reading(seconds, found, evicted, self.how)

    def close(self) -> None:
        """Detach; closing twice is harmless."""
        if self._object is not None:
            self._object.close()

    def __enter__(self) -> Evictions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Uses:
    """The uses of an LRU map, as they happen: lookups and updates, by programs and by processes; a context manager.

    Args:
        lru: the map.
        source: the program, where it was compiled elsewhere.

    Raises EncodeError for a map of another type, NotSupported where no program can be attached to the map's functions (BPF
    trampolines: Linux 5.5, and a kernel that allows them), CompileError without a compiler.
    """

    def __init__(self, lru: Map[Any, Any], source: Source = PROGRAMS) -> None:
        self._map = _checked(lru)
        update = "on_percpu_update" if self._map.type == MapType.LRU_PERCPU_HASH else "on_update"
        try:
            self._object = _loaded(self._map, ("on_lookup", update), source)
        except (PermissionError, NotSupported) as error:
            raise NotSupported(
                f"map {self._map.name}: its uses cannot be watched here: {error}; a program of yours may write its keys to a ring",
                feature="BPF trampolines",
                since="5.5",
            ) from None
        try:
            self._object.attach()
            self._reader = RingReader(self._object.maps["uses"], type="struct use")
        except BaseException:
            self._object.close()
            raise

    @property
    def lost(self) -> int:
        """Uses that were not seen, for the ring was full."""
        return int(self._object.maps["counts"][_LOST].sum())

    def read(self, timeout: float) -> Iterator[Use]:
        """What happens within so many seconds. A key's update by the CPU that looked it up just before is one use with that."""
        last: dict[int, int] = {}
        for batch in self._reader.batches(timeout):
            for event in batch:
                if event.is_update and last.pop(event.cpu, None) == event.key:
                    continue
                if not event.is_update:
                    last[event.cpu] = event.key
                yield Use(event.key, event.cpu, bool(event.is_update))

    def close(self) -> None:
        """Detach; closing twice is harmless."""
        self._reader.close()
        self._object.close()

    def __enter__(self) -> Uses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
