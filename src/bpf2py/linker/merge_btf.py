"""The types of several objects as one BTF: equal ones once, ids and string offsets renumbered.

Two types are equal when they look alike and what they refer to is equal: found by refining a partition of all types
until it is stable, which also settles types that refer to themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from bpf2py.btf.reader import HEADER, MAGIC, Btf
from bpf2py.btf.types import Kind, SecVar
from bpf2py.errors import BtfError

_REFERRING = frozenset(
    {
        Kind.PTR,
        Kind.TYPEDEF,
        Kind.VOLATILE,
        Kind.CONST,
        Kind.RESTRICT,
        Kind.FUNC,
        Kind.FUNC_PROTO,
        Kind.VAR,
        Kind.DECL_TAG,
        Kind.TYPE_TAG,
    }
)
# Words of a row after the fixed part that starts with a name; whether a type follows the name.
_ROWS = {
    Kind.STRUCT: (3, True),
    Kind.UNION: (3, True),
    Kind.FUNC_PROTO: (2, True),
    Kind.ENUM: (2, False),
    Kind.ENUM64: (3, False),
}


class _Record:
    """A type record as words, and which of them are names and which are types."""

    __slots__ = ("kind", "names", "owner", "refs", "words")

    def __init__(self, owner: int, btf: Btf, type_id: int) -> None:
        _, _, _, hdr_len, type_off, type_len, _, _ = HEADER.unpack_from(btf.data)
        start = btf.record_offset(type_id)
        end = btf.record_offset(type_id + 1) if type_id + 1 < len(btf) else type_len
        base = hdr_len + type_off
        self.owner = owner
        self.words = list(struct.unpack_from(f"<{(end - start) // 4}I", btf.data, base + start))
        self.kind = btf.kind(type_id)
        self.names = [0]
        self.refs = [2] if self.kind in _REFERRING else []
        if self.kind == Kind.ARRAY:
            self.refs = [3, 4]
        row = _ROWS.get(self.kind)
        if row is not None:
            self.names += range(3, len(self.words), row[0])
            if row[1]:
                self.refs += range(4, len(self.words), row[0])


class BtfMerger:
    """Merges the types of objects; data sections are added by name, all from one `Strings`.

    Args:
        types: of each object; None for one without.
        dropped: ids of each object's types to leave out (variables and functions that lose to others).

    Attributes:
        ids: for each object, the new id of each old one.
    """

    def __init__(self, types: Sequence[Btf | None], dropped: Sequence[set[int]]) -> None:
        self._strings: dict[str, int] = {"": 0}
        self._text = bytearray(1)
        self._types = types
        self._datasecs: list[bytes] = []
        self.ids: list[dict[int, int]] = [{0: 0} for _ in types]
        records: list[_Record] = []
        places: dict[tuple[int, int], int] = {}
        for owner, btf in enumerate(types):
            if btf is None:
                continue
            gone = set(dropped[owner])
            for type_id in range(1, len(btf)):
                record = _Record(owner, btf, type_id)
                if record.kind == Kind.DATASEC or type_id in gone or not gone.isdisjoint(_tagged(record)):
                    continue
                places[owner, type_id] = len(records)
                records.append(record)
        colors = self._classes(records, places)
        self._kept: list[_Record] = []
        new_ids: dict[int, int] = {}
        for (owner, type_id), index in places.items():
            color = colors[index]
            if color not in new_ids:
                self._kept.append(records[index])
                new_ids[color] = len(self._kept)
            self.ids[owner][type_id] = new_ids[color]

    def _classes(self, records: list[_Record], places: dict[tuple[int, int], int]) -> list[int]:
        """A number for each record; equal records have equal ones."""
        shapes: dict[object, int] = {}
        colors = []
        targets: list[list[int]] = []
        for index, record in enumerate(records):
            btf = self._types[record.owner]
            assert btf is not None
            names = tuple(btf.string(record.words[at]) for at in record.names)
            special = {*record.names, *record.refs}
            rest = tuple(word for at, word in enumerate(record.words) if at not in special)
            # Variables of the same name are different variables.
            unique = index if record.kind == Kind.VAR else -1
            colors.append(shapes.setdefault((names, rest, len(record.refs), unique), len(shapes)))
            targets.append([places.get((record.owner, record.words[at]), -1) for at in record.refs])
        count = len(shapes)
        while True:
            keys: dict[object, int] = {}
            colors = [
                keys.setdefault(
                    (color, tuple([colors[target] if target >= 0 else -1 for target in targets[index]])), len(keys)
                )
                for index, color in enumerate(colors)
            ]
            if len(keys) == count:
                return colors
            count = len(keys)

    def string(self, text: str) -> int:
        """The offset of a string in the new string section."""
        offset = self._strings.get(text)
        if offset is None:
            offset = self._strings[text] = len(self._text)
            self._text += text.encode("utf-8", "surrogateescape") + b"\0"
        return offset

    def add_datasec(self, name: str, size: int, rows: Iterable[SecVar]) -> int:
        """Add a data section with its variables by their new ids; its id. Raises BtfError when it is too large."""
        ordered = sorted(rows, key=lambda row: row.offset)
        if size > 0xFFFFFFFF:
            raise BtfError(f"section {name} of the linked objects has {size} bytes, more than BTF can say")
        head = struct.pack("<III", self.string(name), Kind.DATASEC << 24 | len(ordered), size)
        self._datasecs.append(head + b"".join(struct.pack("<III", *row) for row in ordered))
        return len(self._kept) + len(self._datasecs)

    def finish(self, name: str) -> Btf:
        """The merged types."""
        body = bytearray()
        for record in self._kept:
            btf = self._types[record.owner]
            assert btf is not None
            words, ids = list(record.words), self.ids[record.owner]
            for at in record.names:
                words[at] = self.string(btf.string(words[at]))
            for at in record.refs:
                words[at] = ids.get(words[at], 0)
            body += struct.pack(f"<{len(words)}I", *words)
        body += b"".join(self._datasecs)
        header = HEADER.pack(MAGIC, 1, 0, HEADER.size, 0, len(body), len(body), len(self._text))
        return Btf(header + bytes(body) + bytes(self._text), name=name)


def _tagged(record: _Record) -> set[int]:
    """What a declaration tag belongs to."""
    return {record.words[2]} if record.kind == Kind.DECL_TAG else set()
