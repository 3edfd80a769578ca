"""All elements of a map as JSON, in bulk: one `struct` format and one text template for all elements alike."""

from __future__ import annotations

import gc
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain

from bpf2py._typing import Any
from bpf2py.btf.codec import ArrayCodec, BoolCodec, BytesCodec, CharArrayCodec, Codec, EnumCodec, FloatCodec, IntCodec
from bpf2py.btf.values import StructCodec
from bpf2py.cli.progress import progress
from bpf2py.cli.render import elements, must_be_readable, to_json
from bpf2py.cli.values import open_map
from bpf2py.maps.base import Map
from bpf2py.maps.batch import BatchUnsupported
from bpf2py.maps.hash import HashMap, LruHashMap

MANY_LEAVES = 256
Convert = Callable[[Any], str]


class _Texts(dict[bytes, str]):
    """Char arrays as JSON, each different one made once: command names and the like come again and again."""

    def __init__(self, codec: CharArrayCodec) -> None:
        self.codec = codec

    def __missing__(self, raw: bytes) -> str:
        text = json.dumps(to_json(self.codec.decode(raw)))
        if len(self) < 4096:
            self[raw] = text
        return text


class Template:
    """How a type's bytes become JSON text: `form` unpacks leaves, `text` has a ``%`` conversion for each of them.

    Attributes:
        convert: functions for leaves that are not put as they are, by position.
    """

    def __init__(self) -> None:
        self.form = ""
        self.text = ""
        self.size = 0
        self.leaves = 0
        self.convert: dict[int, Convert] = {}

    def leaf(self, form: str, size: int, text: str, convert: Convert | None = None) -> None:
        """Add a leaf behind what is there."""
        if convert is not None:
            self.convert[self.leaves] = convert
        self.form += form
        self.text += text
        self.size += size
        self.leaves += 1

    def add(self, codec: Codec[Any]) -> bool:
        """Add a value's leaves; False when a type is in it that needs more than this."""
        if self.leaves > MANY_LEAVES:
            return False
        if isinstance(codec, IntCodec | EnumCodec):
            self.leaf(codec.leaf, codec.size, "%d")
        elif isinstance(codec, BoolCodec):
            self.leaf("?", 1, "%s", lambda value: "true" if value else "false")
        elif isinstance(codec, FloatCodec):
            self.leaf(codec.leaf, codec.size, "%s", json.dumps)
        elif isinstance(codec, CharArrayCodec):
            self.leaf(f"{codec.size}s", codec.size, "%s", _Texts(codec).__getitem__)
        elif isinstance(codec, BytesCodec):
            self.leaf(f"{codec.size}s", codec.size, '"%s"', bytes.hex)
        elif isinstance(codec, ArrayCodec):
            return self._array(codec)
        elif isinstance(codec, StructCodec):
            return self._struct(codec)
        else:
            return False
        return True

    def _array(self, codec: ArrayCodec) -> bool:
        self.text += "["
        for number in range(codec.count):
            self.text += ", " if number else ""
            if not self.add(codec.element):
                return False
        self.text += "]"
        return True

    def _struct(self, codec: StructCodec) -> bool:
        start = self.size
        self.text += "{"
        for number, field in enumerate(codec.fields):
            if field.bits or field.anonymous or start + field.offset < self.size:
                return False
            self.pad(start + field.offset)
            self.text += f"{', ' if number else ''}{json.dumps(field.name)}: ".replace("%", "%%")
            if not self.add(field.codec):
                return False
        self.pad(start + codec.size)
        self.text += "}"
        return True

    def pad(self, size: int) -> None:
        """Skip bytes up to a size."""
        if size > self.size:
            self.form += f"{size - self.size}x"
            self.size = size

    def put(self, data: memoryview, row: list[Any], start: int, width: int) -> None:
        """Spread the leaves of back-to-back values over rows: `width` places each, these from `start` on."""
        form: Any = self.form
        if form in tuple("bBhHiIqQ"):
            flat = data.cast(form).tolist()  # half the time of unpacking
        else:
            flat = list(chain.from_iterable(struct.iter_unpack(f"<{form}", data)))
        for leaf in range(self.leaves):
            column = flat[leaf :: self.leaves]
            convert = self.convert.get(leaf)
            row[start + leaf :: width] = column if convert is None else list(map(convert, column))


def template_for(codec: Codec[Any]) -> Template | None:
    """The template of a type; None where the slow way is needed: unions, bit-fields, anonymous members."""
    template = Template()
    if not codec.size or not template.add(codec) or template.size != codec.size or not template.leaves:
        return None
    return template


def rows(bpf_map: Map[Any, Any]) -> Iterator[tuple[int, str]]:
    """(number of elements, their JSON objects joined by ``,\\n ``), chunk after chunk."""
    key, value = template_for(bpf_map.key_codec), template_for(bpf_map.value_codec)
    if key is not None and value is not None and isinstance(bpf_map, HashMap | LruHashMap):
        text, width = f'{{"key": {key.text}, "value": {value.text}}}', key.leaves + value.leaves
        try:
            for chunk in bpf_map._chunks():
                row: list[Any] = [None] * (width * chunk.count)
                key.put(chunk.keys, row, 0, width)
                value.put(chunk.values, row, key.leaves, width)
                # One formatting of all is a third faster than one for each.
                yield chunk.count, ",\n ".join([text] * chunk.count) % tuple(row)
            return
        except BatchUnsupported:
            pass
    for one, two in _pairs(bpf_map):
        yield 1, json.dumps({"key": to_json(one), "value": to_json(two)})


def _pairs(bpf_map: Map[Any, Any]) -> list[tuple[Any, Any]]:
    """The elements; of a data section its variables."""
    from bpf2py.cli.sections import variables_of

    found = variables_of(bpf_map)
    return elements(bpf_map) if found is None else [(name, variable.value) for name, variable in found.items()]


def dump(bpf_map: Map[Any, Any]) -> None:
    """Print a JSON array of all elements; a progress bar shows how far it is."""
    done, write = 0, sys.stdout.write
    # A bar between the lines of output helps nobody.
    bar = progress(f"reading {bpf_map.name}", bpf_map.max_entries) if not sys.stdout.isatty() else nullcontext(None)
    with bar as advance:
        for count, text in rows(bpf_map):
            write((",\n " if done else "[") + text)
            done += count
            if advance is not None:
                advance(done)
    write("]\n" if done else "[]\n")


def quick(arguments: Sequence[str]) -> str | None:
    """The map of ``map dump MAP --json``, whose many callers are programs; None for any other command line.

    It is told apart here because reading other command lines takes longer than reading 100,000 elements.
    """
    if len(arguments) != 4 or list(arguments[:2]) != ["map", "dump"] or "--json" not in arguments[2:]:
        return None
    reference = arguments[2] if arguments[3] == "--json" else arguments[3]
    return reference if not reference.startswith("-") else None


def run(reference: str) -> None:
    """``map dump MAP --json``."""
    gc.disable()  # everything made here is text and numbers: there are no cycles to look for
    with open_map(reference) as bpf_map:
        must_be_readable(bpf_map)
        dump(bpf_map)
