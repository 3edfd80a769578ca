"""`Btf`: a BTF blob, read lazily.

Opening one finds where each type record starts (one pass over the words, no decoding); a type is decoded when asked
for. Names are found by searching the string section, so that the kernel's 130,000 types cost one pass and no dict.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.types import (
    MODIFIERS,
    Array,
    BtfType,
    DataSec,
    DeclTag,
    Enum,
    Enumerator,
    Float,
    FuncProto,
    Fwd,
    Int,
    Kind,
    Member,
    Param,
    Ref,
    SecVar,
    Struct,
    Var,
    Void,
)
from bpf2py.errors import BtfError

if TYPE_CHECKING:
    import mmap

    from bpf2py.btf import names, scanned
    from bpf2py.btf.codec import Codec, CodecOptions
    from bpf2py.btf.mentions import Mentions
    from bpf2py.btf.scanned import Records

    Blob = bytes | mmap.mmap
else:
    names = module("bpf2py.btf.names")
    scanned = module("bpf2py.btf.scanned")

MAGIC = 0xEB9F
HEADER = struct.Struct("<HBBIIIII")
MAX_DEPTH = 64  # nesting the kernel itself refuses beyond 32 (MAX_RESOLVE_DEPTH in kernel/bpf/btf.c)
MAX_SIZE = 1 << 32
LARGE = 1 << 20  # bytes of types whose places are remembered from one process to the next

# Words of a record: the fixed ones, and those per `vlen`, by kind. No record is of kind 0: no section has that many words.
_UNKNOWN = 1 << 40
_FIXED = (_UNKNOWN, 4, 3, 6, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3, 4, 3, 3)
_PER_VLEN = (0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3)
# Bytes of a row that starts with a name, by kind: members, enumerators, parameters.
_NAMED_ROWS: dict[int, int] = {Kind.STRUCT: 12, Kind.UNION: 12, Kind.ENUM: 8, Kind.FUNC_PROTO: 8, Kind.ENUM64: 12}

_VOID = Void()


class Btf:
    """The types of one BTF blob; with `base`, split BTF whose ids continue those of the base.

    Args:
        data: the blob, starting with its header.
        base: the BTF (of vmlinux) a kernel module's split BTF builds on.
        name: what to call it in errors.

    Raises:
        BtfError: when the header or a type record is damaged.
    """

    def __init__(self, data: Blob, base: Btf | None = None, name: str = "BTF") -> None:
        self.name = name
        self.base = base
        self.data = data
        if len(data) < HEADER.size:
            raise BtfError(f"{name}: too short for a BTF header: {len(data)} bytes", section=".BTF")
        magic, version, _flags, hdr_len, type_off, type_len, str_off, str_len = HEADER.unpack_from(data)
        if magic != MAGIC:
            hint = " (big-endian BTF is not supported)" if magic == 0x9FEB else ""
            raise BtfError(f"{name}: not BTF: magic is {magic:#06x}{hint}", section=".BTF", offset=0)
        if version != 1:
            raise BtfError(f"{name}: BTF version {version} is not supported", section=".BTF", offset=2)
        if hdr_len < HEADER.size or hdr_len + max(type_off + type_len, str_off + str_len) > len(data) or type_len % 4:
            raise BtfError(f"{name}: type or string section lies outside the data", section=".BTF", offset=4)
        # Nothing is copied: vmlinux is mapped, and little of it is looked at.
        self._types_at = hdr_len + type_off
        self._types = memoryview(data)[self._types_at : self._types_at + type_len]
        self._strings_at, self._strings_size = hdr_len + str_off, str_len
        ends = (
            data[self._strings_at : self._strings_at + 1],
            data[self._strings_at + str_len - 1 : self._strings_at + str_len],
        )
        if not str_len or ends[1] != b"\0" or (base is None and ends[0] != b"\0"):
            raise BtfError(f"{name}: the string section must start and end with NUL", section=".BTF", offset=4)
        self.start_id = len(base) if base is not None else 1
        self.start_str = base.strings_end if base is not None else 0
        self.strings_end: int = self.start_str + str_len
        self._names: Records | None = None  # of large blobs
        self._offsets = self._find_records()
        self._cache: dict[int, BtfType] = {0: _VOID}
        self._aligns: dict[int, int] = {}
        self.classes: dict[int, type[Any]] = {}  # what values are decoded to, by type id
        self.codecs: dict[tuple[int, CodecOptions], Codec[Any]] = {}

    def _find_records(self) -> Sequence[int]:
        types = self._types
        if len(types) < LARGE or self.base is not None:
            return _scan(types, self.name)

        def scan() -> Records:
            strings = self.data[self._strings_at : self._strings_at + self._strings_size]
            return scanned.scanned(types, strings, _scan(types, self.name))

        self._names = scanned.remembered(types, scan, lambda at: _length(types, at), self._record_name)
        return self._names.offsets

    def _record_name(self, at: int) -> bytes:
        """The name of an own record, which is in the own strings. Raises IndexError."""
        local = int.from_bytes(self._types[at : at + 4], "little") - self.start_str
        if not 0 <= local < self._strings_size:
            raise IndexError(local)
        return self._string_at(local)

    def _string_at(self, local: int) -> bytes:
        start = self._strings_at + local
        return self.data[start : self.data.find(b"\0", start)]

    def __len__(self) -> int:
        """One more than the highest type id."""
        return self.start_id + len(self._offsets)

    def __repr__(self) -> str:
        return f"<Btf {self.name}: {len(self) - 1} types>"

    @classmethod
    def from_elf_or_raw(cls, data: Blob, base: Btf | None = None, name: str = "BTF") -> Btf:
        """Read a raw BTF file, or the .BTF section of an ELF file (a vmlinux, a module, a BTFHub archive's member)."""
        if data[:4] == b"\x7fELF":
            from bpf2py.elf.object_file import ElfFile

            section = ElfFile(data[:], name).find(".BTF")
            if section is None:
                raise BtfError(f"{name}: the ELF file has no .BTF section")
            data = section.data
        return cls(data, base, name)

    def string(self, offset: int) -> str:
        """The string at an offset of the (base's and own) string section."""
        if offset < self.start_str and self.base is not None:
            return self.base.string(offset)
        local = offset - self.start_str
        if not 0 <= local < self._strings_size:
            raise BtfError(f"{self.name}: string offset {offset:#x} is outside the string section", section=".BTF")
        return self._string_at(local).decode("utf-8", "surrogateescape")

    def type(self, type_id: int) -> BtfType:
        """The type with this id; id 0 is void. Raises BtfError when there is none."""
        found = self._cache.get(type_id)
        if found is not None:
            return found
        if type_id < self.start_id and self.base is not None:
            return self.base.type(type_id)
        index = type_id - self.start_id
        if not 0 <= index < len(self._offsets):
            raise BtfError(f"{self.name}: there is no type id {type_id}", section=".BTF")
        decoded = self._cache[type_id] = self._decode(self._offsets[index])
        return decoded

    def types(self) -> Iterator[tuple[int, BtfType]]:
        """Every own type with its id (without those of the base)."""
        for type_id in range(self.start_id, len(self)):
            yield type_id, self.type(type_id)

    def ids_of_kind(self, kind: Kind) -> list[int]:
        """Ids of all own types of a kind, found without decoding."""
        types, start = self._types, self.start_id
        # The kind is the low five bits of a record's eighth byte.
        return [start + i for i, at in enumerate(self._offsets) if types[at + 7] & 0x1F == kind]

    def referring(self, kind: Kind) -> Iterator[tuple[int, int]]:
        """(id, id of the type it refers to) of all own typedefs, pointers or other references of a kind, without decoding."""
        types = self._types
        for type_id in self.ids_of_kind(kind):
            at = self._offsets[type_id - self.start_id] + 8
            yield type_id, int.from_bytes(types[at : at + 4], "little")

    def record_offset(self, type_id: int) -> int:
        """Byte offset of an own type's record in the type section."""
        return self._offsets[type_id - self.start_id]

    def ids_by_name(self, name: str) -> list[int]:
        """Ids of all types with exactly this name, in order (the base's first)."""
        if self._names is not None:
            wanted = name.encode("utf-8", "surrogateescape")
            found = self._names.named(wanted)
            return [self.start_id + each for each in found if self._record_name(self._offsets[each]) == wanted]
        ids = self.base.ids_by_name(name) if self.base is not None else []
        # A module's types may use names that live in the base's strings.
        return ids + sorted(set(self._ids_by_name_offset(self.name_offsets(name))))

    def ids_by_essential_name(self, name: str) -> list[int]:
        """Ids of all types with this name or a flavour of it, such as ``task_struct___v2``: those without a flavour first."""
        if self._names is not None:
            found = [(self._name(each), each) for each in self._names.named(name.encode("utf-8", "surrogateescape"))]
            fitting = sorted(
                (text != name, text, each) for text, each in found if name in (text, names.essential_name(text))
            )
            return [self.start_id + each for _, _, each in fitting]
        flavours = {each for each in self.names_with_prefix(f"{name}___") if names.essential_name(each) == name}
        return [each for text in (name, *sorted(flavours)) for each in self.ids_by_name(text)]

    def _name(self, index: int) -> str:
        return self._record_name(self._offsets[index]).decode("utf-8", "surrogateescape")

    def ids_mentioning(self, name: str) -> list[int]:
        """Ids of own types that have a member, enumerator or parameter with exactly this name."""
        known = self._mentions.get(name) if self._mentions is not None else None
        if known is None:
            known = self._mentioning(name)
            if self._mentions is not None:
                self._mentions.put(name, known)
        return known

    def keep_mentions(self) -> None:
        """Keep which types mention the names that were asked for, for other processes."""
        if self._mentions is not None:
            self._mentions.save()

    @cached_property
    def _mentions(self) -> Mentions | None:
        if len(self._types) < LARGE or self.base is not None:
            return None
        from bpf2py.btf.mentions import Mentions

        return Mentions(self._types, len(self))

    def _mentioning(self, name: str) -> list[int]:
        types, found = self._types, set[int]()
        for name_offset in self.name_offsets(name):
            for at in self._find_word(name_offset):
                if at % 4 == 0:
                    index = bisect_right(self._offsets, at) - 1
                    start = self._offsets[index]
                    # The same word may also be a type id, an offset or a value: names stand at every row's start.
                    row = _NAMED_ROWS.get(types[start + 7] & 0x1F)
                    if row is not None and at >= start + 12 and (at - start - 12) % row == 0:
                        found.add(self.start_id + index)
        return sorted(found)

    def name_offsets(self, name: str) -> Iterator[int]:
        """Offsets of a string in the string sections, the base's first; none for the empty string."""
        if self.base is not None:
            yield from self.base.name_offsets(name)
        if name and "\0" not in name:
            for at in self._find_string(name.encode("utf-8", "surrogateescape") + b"\0"):
                yield self.start_str + at

    def names_with_prefix(self, prefix: str) -> list[str]:
        """All strings that start with `prefix`, used to find flavours such as ``task_struct___v2``."""
        found = self.base.names_with_prefix(prefix) if self.base is not None else []
        for at in self._find_string(prefix.encode("utf-8", "surrogateescape")):
            found.append(self.string(self.start_str + at))
        return found

    def find(self, name: str, *kinds: Kind) -> int:
        """The id of the first type with this name, of one of these kinds. Raises BtfError when there is none."""
        for type_id in self.ids_by_name(name):
            if not kinds or self.kind(type_id) in kinds:
                return type_id
        what = "/".join(kind.name.lower() for kind in kinds) or "type"
        raise BtfError(f"{self.name}: there is no {what} named {name!r}")

    def kind(self, type_id: int) -> Kind:
        """The kind of a type, without decoding the rest of it."""
        if type_id < self.start_id and self.base is not None:
            return self.base.kind(type_id)
        index = type_id - self.start_id
        if type_id and 0 <= index < len(self._offsets):
            return Kind(self._types[self._offsets[index] + 7] & 0x1F)
        return self.type(type_id).kind

    def resolve(self, type_id: int) -> int:
        """Skip typedefs, const, volatile, restrict and type tags; the id of the type behind them."""
        for _ in range(MAX_DEPTH):
            btf_type = self.type(type_id)
            if btf_type.kind not in MODIFIERS:
                return type_id
            assert isinstance(btf_type, Ref)
            type_id = btf_type.type_id
        raise BtfError(f"{self.name}: type {type_id} refers to itself", section=".BTF")

    def resolved(self, type_id: int) -> BtfType:
        """The type behind typedefs and qualifiers."""
        return self.type(self.resolve(type_id))

    def size_of(self, type_id: int, _depth: int = 0) -> int:
        """sizeof() in bytes. Raises BtfError for types without a size: void, functions, forward declarations."""
        if _depth > MAX_DEPTH:
            raise BtfError(f"{self.name}: type {type_id} is nested too deeply", section=".BTF")
        btf_type = self.resolved(type_id)
        if isinstance(btf_type, Int | Struct | Enum | Float | DataSec):
            return btf_type.size
        if isinstance(btf_type, Array):
            size = btf_type.count * self.size_of(btf_type.type_id, _depth + 1)
            if size >= MAX_SIZE:
                raise BtfError(f"{self.name}: array type {type_id} is larger than 4 GiB", section=".BTF")
            return size
        if btf_type.kind == Kind.PTR:
            return 8
        if isinstance(btf_type, Var):
            return self.size_of(btf_type.type_id, _depth + 1)
        raise BtfError(f"{self.name}: type {type_id} ({btf_type.kind.name} {btf_type.name!r}) has no size")

    def align_of(self, type_id: int, _depth: int = 0) -> int:
        """Alignment in bytes, as C computes it from the members; packed structs count as 1."""
        if _depth > MAX_DEPTH:
            raise BtfError(f"{self.name}: type {type_id} is nested too deeply", section=".BTF")
        type_id = self.resolve(type_id)
        known = self._aligns.get(type_id)
        if known is None:
            known = self._aligns[type_id] = self._align_of(type_id, _depth)
        return known

    def _align_of(self, type_id: int, _depth: int) -> int:
        btf_type = self.type(type_id)
        if isinstance(btf_type, Int | Enum | Float):
            return min(btf_type.size, 16) or 1
        if btf_type.kind == Kind.PTR:
            return 8
        if isinstance(btf_type, Array):
            return self.align_of(btf_type.type_id, _depth + 1)
        if isinstance(btf_type, Struct):
            align = 1
            for member in btf_type.members:
                member_align = self.align_of(member.type_id, _depth + 1)
                if member.bits == 0 and member.bit_offset % (member_align * 8):
                    return 1
                align = max(align, member_align)
            return align if btf_type.size % align == 0 else 1
        return 1

    def _find_string(self, start: bytes) -> Iterator[int]:
        """Where own strings that start so begin."""
        data, needle, begin = self.data, b"\0" + start, self._strings_at
        end = begin + self._strings_size
        if self.start_str and data[begin : min(begin + len(start), end)] == start:
            yield 0  # split BTF may start with a string: no NUL is before it
        at = data.find(needle, begin, end)
        while at >= 0:
            yield at + 1 - begin
            at = data.find(needle, at + 1, end)

    def _find_word(self, word: int) -> Iterator[int]:
        """Where in the type section these four bytes are."""
        data, needle, begin = self.data, word.to_bytes(4, "little"), self._types_at
        end = begin + len(self._types)
        at = data.find(needle, begin, end)
        while at >= 0:
            yield at - begin
            at = data.find(needle, at + 1, end)

    def _ids_by_name_offset(self, name_offsets: Iterator[int]) -> list[int]:
        ids: list[int] = []
        wanted = list(name_offsets)
        if len(wanted) > 8:
            # Strings are unique but in a damaged blob: look at each record once.
            places, types = set(wanted), self._types
            words = (int.from_bytes(types[at : at + 4], "little") for at in self._offsets)
            return [self.start_id + index for index, word in enumerate(words) if word in places]
        for name_offset in wanted:
            for at in self._find_word(name_offset):
                if at % 4 == 0:
                    # The same word also appears in member lists: only a record's start counts.
                    index = bisect_left(self._offsets, at)
                    if index < len(self._offsets) and self._offsets[index] == at:
                        ids.append(self.start_id + index)
        return ids

    def _decode(self, offset: int) -> BtfType:
        data = self._types
        name_off, info, size = struct.unpack_from("<III", data, offset)
        vlen, kind, kind_flag = info & 0xFFFF, Kind((info >> 24) & 0x1F), bool(info >> 31)
        name = self.string(name_off) if name_off else ""
        body = offset + 12
        if kind == Kind.INT:
            (word,) = struct.unpack_from("<I", data, body)
            return Int(name, size, (word >> 24) & 0xF, word & 0xFF, (word >> 16) & 0xFF)
        if kind in (Kind.STRUCT, Kind.UNION):
            return Struct(kind, name, size, tuple(self._members(body, vlen, kind_flag)), kind_flag)
        if kind == Kind.ENUM:
            item = struct.Struct("<Ii" if kind_flag else "<II")
            rows = (item.unpack_from(data, body + 8 * i) for i in range(vlen))
            return Enum(kind, name, size, tuple(Enumerator(self.string(n), v) for n, v in rows), kind_flag)
        if kind == Kind.ENUM64:
            words = (struct.unpack_from("<III", data, body + 12 * i) for i in range(vlen))
            values = ((n, lo | hi << 32) for n, lo, hi in words)
            wrap = 1 << 64 if kind_flag else 0
            rows64 = (Enumerator(self.string(n), v - wrap if v >> 63 else v) for n, v in values)
            return Enum(kind, name, size, tuple(rows64), kind_flag)
        if kind == Kind.ARRAY:
            return Array(*struct.unpack_from("<III", data, body))
        if kind == Kind.FUNC_PROTO:
            pairs = (struct.unpack_from("<II", data, body + 8 * i) for i in range(vlen))
            return FuncProto(size, tuple(Param(self.string(n), t) for n, t in pairs))
        if kind == Kind.VAR:
            return Var(name, size, struct.unpack_from("<I", data, body)[0])
        if kind == Kind.DATASEC:
            rows = (struct.unpack_from("<III", data, body + 12 * i) for i in range(vlen))
            return DataSec(name, size, tuple(SecVar(*row) for row in rows))
        if kind == Kind.FWD:
            return Fwd(name, kind_flag)
        if kind == Kind.FLOAT:
            return Float(name, size)
        if kind == Kind.DECL_TAG:
            return DeclTag(name, size, struct.unpack_from("<i", data, body)[0], kind_flag)
        return Ref(kind, name, size, vlen if kind == Kind.FUNC else 0, kind_flag)

    def _members(self, body: int, vlen: int, kind_flag: bool) -> Iterator[Member]:
        for name_off, type_id, offset in struct.iter_unpack("<III", self._types[body : body + 12 * vlen]):
            name = self.string(name_off) if name_off else ""
            if kind_flag:
                yield Member(name, type_id, offset & 0xFFFFFF, offset >> 24)
            else:
                shift, bits = self._old_style_bits(type_id)
                yield Member(name, type_id, offset + shift, bits)

    def _old_style_bits(self, type_id: int) -> tuple[int, int]:
        # Before kind_flag (Linux 5.0) a bitfield was an INT with fewer bits than its size holds. Only INTs are decoded
        # here: decoding any member would not end for a damaged struct that contains itself.
        if type_id < len(self) and self.kind(type_id) == Kind.INT:
            btf_type = self.type(type_id)
            if isinstance(btf_type, Int) and btf_type.bits != btf_type.size * 8:
                return btf_type.bit_offset, btf_type.bits
        return 0, 0


def _length(types: memoryview, at: int) -> int:
    """Bytes of the record at an offset. Raises IndexError when there is none."""
    if at + 8 > len(types):
        raise IndexError(at)
    info = int.from_bytes(types[at + 4 : at + 8], "little")
    kind = info >> 24 & 31
    return 4 * (_FIXED[kind] + _PER_VLEN[kind] * (info & 0xFFFF))


def _scan(types: memoryview, name: str) -> array[int]:
    """Byte offsets of all type records."""
    words = array("I")
    words.frombytes(types)
    if sys.byteorder == "big":
        words.byteswap()
    offsets = array("I")
    append = offsets.append
    fixed, per_vlen = _FIXED, _PER_VLEN
    at, end = 0, len(words)
    try:
        while at < end:
            append(at * 4)
            info = words[at + 1]
            kind = (info >> 24) & 31
            at += fixed[kind] + per_vlen[kind] * (info & 0xFFFF)
    except IndexError:
        raise BtfError(
            f"{name}: a type record is cut short or of an unknown kind", section=".BTF", offset=at * 4
        ) from None
    if at != end:
        raise BtfError(f"{name}: a type record is cut short or of an unknown kind", section=".BTF", offset=offsets[-1])
    return offsets
