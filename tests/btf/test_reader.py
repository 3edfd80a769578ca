"""Reading BTF: lookups against a full scan of the kernel's own, split BTF, damage."""

from __future__ import annotations

import contextlib
import random
import struct
from collections import defaultdict
from pathlib import Path

import pytest

from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, DeclTag, Enum, FuncProto, Fwd, Int, Kind, Ref, Struct, Var
from bpf2py.errors import BtfError
from bpf2py.linker.core_types import types_compatible, types_match

VMLINUX = Path("/sys/kernel/btf/vmlinux")
needs_vmlinux = pytest.mark.skipif(not VMLINUX.exists(), reason=f"no {VMLINUX}")


class Builder:
    """A BTF blob, record by record; `add` returns the type's id."""

    def __init__(self, base: Btf | None = None) -> None:
        self.base = base
        self.types = b""
        self.strings = b"" if base is not None else b"\0"
        self.count = len(base) if base is not None else 1

    def name(self, text: str) -> int:
        if not text:
            return 0
        start = self.base.strings_end if self.base is not None else 0
        self.strings += text.encode() + b"\0"
        return start + len(self.strings) - len(text.encode()) - 1

    def add(self, kind: int, name: str = "", size: int = 0, *words: int, vlen: int = 0, flag: bool = False) -> int:
        info = vlen | kind << 24 | flag << 31
        record = (self.name(name), info, size, *(word & 0xFFFFFFFF for word in words))
        self.types += struct.pack(f"<{len(record)}I", *record)
        self.count += 1
        return self.count - 1

    def integer(self, name: str, size: int, encoding: int = 0, bits: int | None = None, shift: int = 0) -> int:
        bits = size * 8 if bits is None else bits
        return self.add(Kind.INT, name, size, encoding << 24 | shift << 16 | bits)

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int], flag: bool = False, union: bool = False
    ) -> int:
        words = [word for n, t, offset in members for word in (self.name(n), t, offset)]
        return self.add(Kind.UNION if union else Kind.STRUCT, name, size, *words, vlen=len(members), flag=flag)

    def data(self) -> bytes:
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return header + self.types + self.strings

    def btf(self) -> Btf:
        return Btf(self.data(), self.base)


@pytest.fixture(scope="module")
def vmlinux() -> Btf:
    return Btf(VMLINUX.read_bytes(), name="vmlinux")


@needs_vmlinux
def test_names_are_found_as_by_a_full_scan(vmlinux: Btf) -> None:
    by_name, mentioning = defaultdict(list), defaultdict(set)
    for type_id, btf_type in vmlinux.types():
        by_name[btf_type.name].append(type_id)
        if isinstance(btf_type, Struct):
            inner = [member.name for member in btf_type.members]
        elif isinstance(btf_type, Enum):
            inner = [enumerator.name for enumerator in btf_type.values]
        else:
            inner = [param.name for param in btf_type.params] if isinstance(btf_type, FuncProto) else []
        for name in inner:
            mentioning[name].add(type_id)
    fresh = Btf(VMLINUX.read_bytes())  # nothing decoded yet
    rng = random.Random(1)
    names = ["task_struct", "bpf_map_type", "list_head", "int", "pid_t", "no_such_name", "_struct", "task_struct\0"]
    names += rng.sample([name for name in by_name if name], 100)
    for name in names:
        assert fresh.ids_by_name(name) == by_name.get(name, []), name
    names = ["BPF_MAP_TYPE_HASH", "pid", "next", "ctx", "no_such_name", "task_struct"]
    names += rng.sample([name for name in mentioning if name], 100)
    for name in names:
        assert fresh.ids_mentioning(name) == sorted(mentioning.get(name, ())), name
    assert fresh.ids_by_name("") == fresh.ids_mentioning("") == []


@needs_vmlinux
def test_kinds_need_no_decoding(vmlinux: Btf) -> None:
    rows = list(vmlinux.types())
    fresh = Btf(VMLINUX.read_bytes())
    for kind in Kind:
        expected = [type_id for type_id, btf_type in rows if btf_type.kind == kind]
        assert fresh.ids_of_kind(kind) == expected
    assert all(fresh.kind(type_id) == btf_type.kind for type_id, btf_type in rows)
    assert fresh.find("task_struct", Kind.STRUCT) in fresh.ids_of_kind(Kind.STRUCT)
    with pytest.raises(BtfError, match="no union named 'task_struct'"):
        fresh.find("task_struct", Kind.UNION)


@needs_vmlinux
def test_sizes_of_well_known_types(vmlinux: Btf) -> None:
    for name, size in (("list_head", 16), ("sockaddr_in6", 28), ("timespec64", 16), ("iphdr", 20), ("ethhdr", 14)):
        assert vmlinux.size_of(vmlinux.find(name, Kind.STRUCT)) == size
    with pytest.raises(BtfError, match="has no size"):
        vmlinux.size_of(0)


def test_every_kind() -> None:
    b = Builder()
    integer = b.integer("int", 4, 1)
    pointer = b.add(Kind.PTR, "", integer)
    array = b.add(Kind.ARRAY, "", 0, integer, integer, 7)
    union = b.struct("u", 4, ("a", integer, 0), union=True)
    enum = b.add(Kind.ENUM, "e", 4, b.name("A"), -1, b.name("B"), 2, vlen=2, flag=True)
    unsigned = b.add(Kind.ENUM, "f", 4, b.name("C"), -1, vlen=1)
    wide = b.add(Kind.ENUM64, "g", 8, b.name("D"), 1, -1, vlen=1, flag=True)
    forward = b.add(Kind.FWD, "v", 0, flag=True)
    proto = b.add(Kind.FUNC_PROTO, "", integer, b.name("x"), pointer, 0, 0, vlen=2)
    func = b.add(Kind.FUNC, "fn", proto, vlen=1)
    var = b.add(Kind.VAR, "var", array, 1)
    section = b.add(Kind.DATASEC, ".data", 28, var, 0, 28, vlen=1)
    tag = b.add(Kind.DECL_TAG, "tag", union, -1)
    number = b.add(Kind.FLOAT, "double", 8)
    typed = b.add(Kind.TYPEDEF, "t", b.add(Kind.CONST, "", b.add(Kind.VOLATILE, "", array)))
    btf = b.btf()
    assert btf.size_of(pointer) == 8
    assert btf.size_of(typed) == btf.size_of(var) == btf.size_of(section) == 28
    assert btf.resolve(typed) == array
    assert (btf.size_of(number), btf.align_of(number), btf.align_of(typed)) == (8, 8, 4)
    enums = [btf.type(i) for i in (enum, unsigned, wide)]
    assert [[(v.name, v.value) for v in e.values] for e in enums if isinstance(e, Enum)] == [
        [("A", -1), ("B", 2)],
        [("C", 0xFFFFFFFF)],
        [("D", 1 - (1 << 32))],
    ]
    found = btf.type(forward), btf.type(proto), btf.type(func), btf.type(tag), btf.type(var)
    assert isinstance(found[0], Fwd)
    assert found[0].union
    assert isinstance(found[1], FuncProto)
    assert [tuple(p) for p in found[1].params] == [("x", pointer), ("", 0)]
    assert isinstance(found[2], Ref)
    assert (found[2].linkage, found[2].type_id) == (1, proto)
    assert isinstance(found[3], DeclTag)
    assert found[3].component_index == -1
    assert isinstance(found[4], Var)
    assert btf.ids_mentioning("x") == [proto]
    assert btf.ids_mentioning("a") == [union]
    last = btf.type(array)
    assert isinstance(last, Array)
    assert last.count == 7


def test_bitfields_of_old_compilers() -> None:
    # Before kind_flag a bitfield was an integer of fewer bits, which may start inside its bytes.
    b = Builder()
    low, high = b.integer("int", 4, 0, 5), b.integer("int", 4, 0, 3, 8)
    type_id = b.struct("s", 4, ("a", low, 0), ("b", high, 5))
    struct_type = b.btf().type(type_id)
    assert isinstance(struct_type, Struct)
    assert [(m.bit_offset, m.bits) for m in struct_type.members] == [(0, 5), (13, 3)]


def test_split() -> None:
    b = Builder()
    integer = b.integer("int", 4, 1)
    b.struct("base", 4, ("shared", integer, 0))
    base = b.btf()
    s = Builder(base)
    own = s.add(Kind.TYPEDEF, "first", integer)  # its name is the first string: no NUL is before it
    shared = next(base.name_offsets("base"))
    s.types += struct.pack("<6I", shared, Kind.STRUCT << 24 | 1, 4, next(base.name_offsets("shared")), own, 0)
    s.count += 1
    split = s.btf()
    assert len(split) == len(base) + 2
    assert [type_id for type_id, _ in split.types()] == [own, own + 1]
    assert split.ids_by_name("first") == [own]
    assert split.ids_by_name("base") == [*base.ids_by_name("base"), own + 1]
    assert split.ids_mentioning("shared") == [own + 1]
    assert split.names_with_prefix("fir") == ["first"]
    assert split.string(shared) == "base"
    assert (split.kind(integer), split.kind(own)) == (Kind.INT, Kind.TYPEDEF)
    assert split.size_of(own + 1) == 4
    assert split.find("int", Kind.INT) == integer


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (bytes(24), "magic is 0x0000"),
        (struct.pack(">HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0", "big-endian"),
        (struct.pack("<HBBIIIII", 0xEB9F, 2, 0, 24, 0, 0, 0, 1) + b"\0", "version 2"),
        (struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 16, 16, 1) + b"\0", "outside the data"),
        (struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"x", "start and end with NUL"),
        (
            struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 1) + struct.pack("<III", 0, 20 << 24, 0) + b"\0",
            "unknown kind",
        ),
        (
            struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 1) + struct.pack("<III", 0, 0, 0) + b"\0",
            "unknown kind",
        ),
        (
            struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 1) + struct.pack("<III", 0, 1 << 24, 0) + b"\0",
            "cut short",
        ),
        (struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 4, 4, 1) + bytes(4) + b"\0", "cut short"),
    ],
)
def test_a_damaged_blob(data: bytes, message: str) -> None:
    with pytest.raises(BtfError, match=message):
        Btf(data)


def test_a_string_that_stands_there_often() -> None:
    b = Builder()
    ids = [b.integer("int", 4) for _ in range(20)]
    b.integer("other", 4)
    assert b.btf().ids_by_name("int") == ids


def test_references_to_nowhere() -> None:
    b = Builder()
    pointer = b.add(Kind.TYPEDEF, "t", 99)
    bad_name = b.add(Kind.PTR)
    b.types = b.types[:12] + struct.pack("<I", 999) + b.types[16:]
    btf = b.btf()
    for call in (btf.resolve, btf.size_of, lambda i: codec_for(btf, i)):
        with pytest.raises(BtfError, match="no type id 99"):
            call(pointer)
    with pytest.raises(BtfError, match="string offset 0x3e7"):
        btf.type(bad_name)
    with pytest.raises(BtfError, match="no type id -1"):
        btf.type(-1)


def test_types_that_contain_themselves() -> None:
    b = Builder()
    typedef = b.add(Kind.TYPEDEF, "t", b.count)
    array = b.add(Kind.ARRAY, "", 0, b.count, 1, 1)
    plain = b.struct("s", 8, ("s", b.count, 0))
    anonymous = b.struct("a", 8, ("", b.count, 0))
    union = b.struct("u", 8, ("", b.count, 0), union=True)
    btf = b.btf()
    for type_id in (typedef, array):
        with pytest.raises(BtfError, match=r"refers to itself|too deeply"):
            btf.size_of(type_id)
    for type_id in (typedef, array, plain, anonymous, union):
        with pytest.raises(BtfError, match=r"refers to itself|too deeply"):
            codec_for(btf, type_id)
        with pytest.raises(BtfError, match=r"refers to itself|too deeply"):
            btf.align_of(type_id)


@pytest.mark.timeout(30)
def test_a_graph_with_very_many_paths() -> None:
    # 30 structs, each twice in the next: 2**30 paths, which only work without looking at one twice.
    b = Builder()
    inner = named = b.integer("int", 4, 1)
    proto = inner
    for level in range(30):
        inner = b.struct(f"s{level}", 0, ("", inner, 0), ("", inner, 0))
        named = b.struct("n", 0, ("x", named, 0), ("x", named, 0), ("y", b.count, 0))
        proto = b.add(Kind.FUNC_PROTO, "", proto, b.name("p"), proto, b.name("q"), proto, vlen=2)
    btf = b.btf()
    assert btf.align_of(inner) == 4
    with pytest.raises(BtfError, match="too many members"):
        codec_for(btf, inner)
    for call in (types_match, types_compatible):
        for type_id in (inner, named, proto):
            with contextlib.suppress(BtfError):  # nested too deeply, for some
                call(btf, type_id, btf, type_id)


def test_int_is_described() -> None:
    b = Builder()
    type_id = b.integer("signed char", 1, 1)
    found = b.btf().type(type_id)
    assert isinstance(found, Int)
    assert found.signed
    assert (found.size, found.bits, found.bit_offset) == (1, 8, 0)
