"""A map somebody opened on the page: its elements, histograms, evictions, or the records of a ring."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from itertools import islice
from typing import Any

from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.types import Kind
from bpf2py.cli.charts import histograms
from bpf2py.cli.render import apart, cell, cells, columns, folded, readable, weight
from bpf2py.cli.sections import variables_of
from bpf2py.errors import BpfError
from bpf2py.export.web.ring_tail import RingTail
from bpf2py.kernel import inspect, owners
from bpf2py.kernel.btf import btf_by_id
from bpf2py.kernel.ksyms import btf_symbol
from bpf2py.lab.watch import Evictions
from bpf2py.maps.array import ArrayMap
from bpf2py.maps.base import AnyMap, Map
from bpf2py.maps.ringbuf import RingbufMap
from bpf2py.spec.record_types import named_structs
from bpf2py.uapi.map_types import MapType, type_name

__all__ = ["OpenedMap"]

MOST_READ = 50_000  # elements read of a map in a look
MOST_ROWS = 200
MOST_HISTOGRAMS = 6
MOST_TEXT = 400  # characters of a cell
MOST_COLUMNS = 40
MOST_BYTES = 96  # of a record without a type
LARGEST_COMPARED = 65_536  # max_entries of an LRU map whose keys are compared for evictions
LRU = (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)


class OpenedMap:
    """A map, looked at again and again; a context manager. Holds the map as long as it is open.

    Args:
        ident: its id.
        type: of the records of a ring; by their size without it.

    Raises KeyError without such a map, BpfError when it cannot be opened.
    """

    def __init__(self, ident: int, type: str | None = None) -> None:
        self._close = ExitStack()
        self._map: AnyMap = self._close.enter_context(Map.from_id(ident))
        self._type = type
        self._evictions: Evictions | None = None
        self._evicted = 0
        self._tail: RingTail | None = None
        self._then = time.monotonic()
        self._missed = 0
        try:
            self.facts = self._facts()
            if isinstance(self._map, RingbufMap):
                self._tail = self._close.enter_context(RingTail(self._map))
                self._codecs = self._record_codecs()
            elif self._map.type in LRU:
                small = self._map.max_entries <= LARGEST_COMPARED
                try:
                    self._evictions = self._close.enter_context(Evictions(self._map, compare=small))
                except BpfError:
                    pass  # without a compiler nothing counts, and nothing counts a large map where no program can be attached
        except BaseException:
            self._close.close()
            raise

    def _facts(self) -> dict[str, Any]:
        info = self._map.info
        return {
            "id": info.id,
            "name": info.name,
            "type": type_name(info.type),
            "key": _short(self._map.key_codec.name) if info.key_size else None,
            "value": _short(self._map.value_codec.name) if info.value_size else None,
            "max_entries": info.max_entries,
            "memory": inspect.map_memory(info.id),
            "programs": [
                {"id": program.id, "name": program.name}
                for program in inspect.programs()
                if info.id in program.map_ids and program.name != "bpf2py_count"
            ],
            "held": [
                f"{owner.comm} ({owner.pid})"
                for owner in owners.owners("map").get(info.id, [])
                if owner.pid != os.getpid()
            ][:20],
            "pinned": owners.pins("map").get(info.id, [])[:20],
        }

    def read(self) -> dict[str, Any]:
        """What is to be shown now, as JSON has it; the facts of `facts` with it."""
        found = dict(self.facts)
        if self._tail is not None:
            return found | {"ring": self._ring()}
        variables = variables_of(self._map)
        if variables is not None:
            rows = [{"key": name, "cells": [name, _short(cell(each.value))], "weight": _number(each.value)}
                    for name, each in islice(variables.items(), MOST_ROWS)]  # fmt: skip
            return found | {"columns": ["variable", "value"], "key_columns": 1, "rows": rows, "hidden": 0, "read": None}
        if not readable(self._map):
            return found | {"unreadable": f"a {found['type']} has no elements to list"}
        try:
            found |= self._elements()
            return found | {"histograms": self._histograms(), "lru": self._lru(found["elements"])}
        except BpfError as error:  # such as maps of sockets, which say nothing of some
            return found | {"unreadable": str(error)}

    def _elements(self) -> dict[str, Any]:
        bpf_map = self._map
        array = isinstance(bpf_map, ArrayMap)
        taken = list(islice(bpf_map.items(), MOST_READ))
        total = len(taken)
        if array:
            zero = bpf_map.value_codec.decode(bytes(bpf_map.value_codec.size))
            taken = [(index, value) for index, value in taken if value != zero]
        else:
            taken.sort(key=lambda element: weight(element[1]), reverse=True)
            if total == MOST_READ:
                total = bpf_map.count()
        keys = ["index"] if array else columns("key", bpf_map.key_codec)[:MOST_COLUMNS]
        values = columns("value", bpf_map.value_codec)[:MOST_COLUMNS]
        rows = []
        for key, value in taken[:MOST_ROWS]:
            texts = [_short(text) for text in cells(key)[:MOST_COLUMNS]]
            shown = folded(value)
            rows.append(
                {
                    "key": " ".join(texts),
                    "cells": texts + [_short(text) for text in cells(shown)[:MOST_COLUMNS]],
                    "weight": _number(shown),
                }
            )
        return {
            "columns": apart(keys, values),
            "key_columns": len(keys),
            "rows": rows,
            "hidden": len(taken) - len(rows),
            "read": MOST_READ if total > MOST_READ else None,
            "elements": len(taken) if array else total,
            "counted": "not zero" if array else "elements",
            "pressure": None if array or not bpf_map.max_entries else round(total / bpf_map.max_entries, 4),
        }

    def _histograms(self) -> list[dict[str, Any]]:
        if self._map.max_entries > MOST_READ:
            return []
        return [
            {"title": _short(chart.title), "total": chart.histogram.total, "buckets": chart.histogram.labelled()}
            for chart in histograms(self._map, MOST_HISTOGRAMS, {})
        ]

    def _lru(self, elements: int) -> dict[str, Any] | None:
        if self._evictions is None:
            return None
        reading = self._evictions.read(elements)
        self._evicted += reading.evicted
        return {
            "evicted": self._evicted,
            "per_second": round(reading.evicted / max(reading.seconds, 1e-3), 1),
            "how": reading.how,
        }

    def _record_codecs(self) -> dict[str, Codec[Any]]:
        """Types that records may be of, by name: the map's own, else the structs of the programs that write them."""
        own = self._map.value_codec
        if self._map.spec is not None and self._map.spec.value_type_id and not isinstance(own, BytesCodec):
            return {own.name: own}
        found: dict[str, Codec[Any]] = {}
        kernels: dict[str, Codec[Any]] = {}  # such as struct xdp_md, which every object that takes one has
        ids = {program.btf_id for program in inspect.programs() if self._map.info.id in program.map_ids}
        for ident in sorted(ids - {0}):
            types = btf_by_id(ident)
            for name, struct in named_structs(types).items() if types is not None else ():
                try:
                    of_kernel = any(btf_symbol(name, kind) is not None for kind in (Kind.STRUCT, Kind.UNION))
                    (kernels if of_kernel else found).setdefault(name, codec_for(types, struct))  # type: ignore[arg-type]
                except BpfError:
                    continue  # of a size or kind that values have not
        return found or kernels

    def _ring(self) -> dict[str, Any]:
        assert self._tail is not None
        now = time.monotonic()
        seconds, self._then = max(now - self._then, 1e-3), now
        seen = self._tail.read()
        self._missed += seen.missed
        sizes = {len(record) for record in seen.records}
        fitting = sorted(name for name, codec in self._codecs.items() if codec.size in sizes or len(self._codecs) == 1)
        return {
            "size": self._tail.size,
            "pending": seen.pending,
            "events_per_second": round(seen.arrived / seconds, 1),
            "bytes_per_second": round(seen.written / seconds),
            "missed": self._missed,
            "types": fitting[:50],
            "events": [self._event(record) for record in seen.records],
        }

    def _event(self, record: bytes) -> dict[str, Any]:
        of_size = [codec for codec in self._codecs.values() if codec.size == len(record)]
        if self._type is not None:
            of_size = [codec for name, codec in self._codecs.items() if name == self._type]
        if len(of_size) == 1 and of_size[0].size <= len(record):
            value = of_size[0].decode(record[: of_size[0].size])
            names, texts = columns("value", of_size[0]), cells(value)
            text = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
            return {"type": of_size[0].name, "size": len(record), "text": _short(text)}
        shown = record[:MOST_BYTES]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in shown)
        return {"type": None, "size": len(record), "text": f"{shown.hex(' ')}  {letters}"}

    def close(self) -> None:
        """Let go of the map; closing twice is harmless."""
        self._close.close()

    def __enter__(self) -> OpenedMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def _number(value: Any) -> float:
    return weight(value)
