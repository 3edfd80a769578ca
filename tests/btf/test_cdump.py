"""BTF as C: the header compiles without a warning, and every type keeps its size and its members their offsets."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpf2py.btf.cdump import dump_c
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, Enum, Kind, Ref, Struct
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain.compiler import Compiler, compile_with_log
from bpf2py.toolchain.find import MINIMUM_CLANG, ziglang_directory

VMLINUX = Path("/sys/kernel/btf/vmlinux")
needs_vmlinux = pytest.mark.skipif(not VMLINUX.exists(), reason=f"no {VMLINUX}")
NASTY = ("task_struct", "sk_buff", "sock", "net_device", "page", "tcp_sock", "mm_struct", "bpf_prog", "kvm_vcpu", "xregs_state",
         "fpu", "desc_struct", "gate_struct", "iphdr", "tcphdr", "ipv6hdr", "perf_event_attr", "bpf_insn", "pt_regs",
         "efi_mixed_mode_table", "cpuinfo_x86", "acpi_table_header", "nfs_fh", "inet_sock", "bpf_attr")  # fmt: skip


def compilers() -> list[Compiler]:
    import shutil

    wheel = ziglang_directory()
    assert wheel is not None
    names = ("clang", *(f"clang-{number}" for number in range(30, MINIMUM_CLANG - 1, -1)))
    path = next(filter(None, map(shutil.which, names)), None)
    return [*([Compiler("clang", (path,))] if path else []), Compiler("zig", (str(wheel / "zig"), "cc"))]


@pytest.fixture(params=compilers(), ids=lambda found: str(found.kind))
def compiler(request: pytest.FixtureRequest) -> Compiler:
    found: Compiler = request.param
    return found


@pytest.fixture(scope="module")
def vmlinux() -> Btf:
    return Btf(VMLINUX.read_bytes(), name="vmlinux")


def layout_asserts(btf: Btf, struct: Struct) -> Iterator[str]:
    word = f"{struct.kind.name.lower()} {struct.name}"
    yield f"_Static_assert(sizeof({word}) == {struct.size}, {struct.size});".replace(
        f", {struct.size})", f', "{word}")'
    )
    for member in struct.members:
        if member.name and not member.bits and re.fullmatch(r"\w+", member.name) and member.name not in KEYWORDS:
            offset = member.bit_offset // 8
            yield f'_Static_assert(__builtin_offsetof({word}, {member.name}) == {offset}, "{word}.{member.name}");'


KEYWORDS = {
    "default",
    "register",
    "class",
    "union",
    "struct",
    "switch",
    "case",
    "int",
    "long",
    "short",
    "char",
    "signed",
    "inline",
}


def compile_clean(header: str, body: str, compiler: Compiler) -> bytes:
    source = header + "\n" + body + "\nint end_of_test;\n"
    made = compile_with_log(source, compiler=compiler, cache=False, cflags=["-Wextra", "-Wno-unused"])
    assert made.warnings == ""
    return made.data


def has_va_list(btf: Btf, type_id: int, depth: int = 0) -> bool:
    found = btf.resolved(type_id)
    if isinstance(found, Struct):
        if "va_list" in found.name:
            return True
        return depth < 6 and any(has_va_list(btf, member.type_id, depth + 1) for member in found.members)
    return depth < 6 and isinstance(found, Array) and has_va_list(btf, found.type_id, depth + 1)


@needs_vmlinux
def test_the_kernels_types_keep_their_layout(vmlinux: Btf, compiler: Compiler) -> None:
    by_name: dict[str, list[int]] = {}
    for kind in (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FWD):
        for type_id in vmlinux.ids_of_kind(kind):
            by_name.setdefault(vmlinux.type(type_id).name, []).append(type_id)
    unique = sorted(ids[0] for name, ids in by_name.items() if name and len(ids) == 1)
    unique = [type_id for type_id in unique if vmlinux.kind(type_id) in (Kind.STRUCT, Kind.UNION)]
    nasty = [i for i in unique if vmlinux.type(i).name in NASTY]
    chosen = [i for i in {*nasty, *random.Random(6).sample(unique, 1200)} if not has_va_list(vmlinux, i)]
    assert len(nasty) > 10
    assert len(chosen) > 1000
    lines: list[str] = []
    for type_id in chosen:
        struct = vmlinux.type(type_id)
        assert isinstance(struct, Struct)
        lines += layout_asserts(vmlinux, struct)
    compile_clean(dump_c(vmlinux), "\n".join(lines), compiler)


@needs_vmlinux
def test_a_trimmed_header_has_what_was_asked_for(vmlinux: Btf, compiler: Compiler) -> None:
    header = dump_c(vmlinux, ["task_struct", "BPF_MAP_TYPE_HASH", "sockaddr_in", "bpf_iter_num_new", "umode_t"])
    assert len(header) < len(dump_c(vmlinux)) / 5
    lines: list[str] = []
    for name in ("task_struct", "sockaddr_in", "list_head"):
        struct = vmlinux.type(vmlinux.find(name, Kind.STRUCT))
        assert isinstance(struct, Struct)
        lines += layout_asserts(vmlinux, struct)
    lines += ["int type = BPF_MAP_TYPE_HASH; umode_t mode; u32 number; __be16 port; bool yes;"]
    compile_clean(header, "\n".join(lines), compiler)
    assert "struct sk_buff {" not in dump_c(vmlinux, ["list_head"])
    assert dump_c(vmlinux, ["no_such_identifier"]).count("__VMLINUX_H__") == 3


NASTY_C = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
enum color { RED = -1, GREEN, BLUE = 0x7fffffff };
enum big { BIG = 0xffffffff, LESS = 5 };
enum wide { WIDE = 1ULL << 40, NARROW = 1 };
enum wide_signed { LOW = -(1LL << 40), HIGH = 1LL << 40 };
enum __attribute__((packed)) tiny { TINY = 200 };
enum { ANONYMOUS_CONSTANT = 77 };
struct holes { char a; int b; char c; long d; char e; };
struct packed { char a; int b; short c; u64 d; } __attribute__((packed));
struct half_packed { u64 a; struct packed b; u8 c; } __attribute__((packed, aligned(2)));
struct member_aligned { char a; int b __attribute__((aligned(16))); char c; };
struct over_aligned { int a; } __attribute__((aligned(64)));
struct embeds_aligned { char a; struct over_aligned b; struct packed c; };
struct bits { u32 a : 3; u32 : 5; u32 b : 9; u32 : 0; u32 c : 1; u64 d : 33; u8 e : 2, f : 6; u16 g : 9; int h : 31; };
struct bits_and_bytes { u8 a; u32 b : 20; u8 c; u64 d : 60; u8 e : 1; _Bool f : 1; enum color g : 4; };
struct packed_bits { u8 a; u64 b : 60; u64 c : 60; u8 d; u32 e : 31; } __attribute__((packed));
struct gap_bits { u32 a : 1; u32 : 15; u32 b : 1; u64 : 40; u32 c : 4; };
struct ends_padded { u8 a; u64 : 0; u8 b : 1; u64 : 55; };
struct anonymous { int a; union { u64 b; struct { u8 c, d; union { u16 e; u8 f[2]; }; }; }; struct { int g; } h[3]; enum tiny i; };
union mixed { u8 a; u32 b : 7; struct packed c; u64 d[2]; struct { int x; }; };
union padded_union { u8 a[5]; u32 b; };
struct flexible { int n; struct { u16 x; u8 y[]; } tail; };
struct zero { int a[0]; struct { } nothing; u8 b; };
struct list { struct list *next; struct later *later; union mixed *(*call)(struct list *, const char *, ...); };
struct later { struct list list; const volatile int *const *p; int (*table[3])(void); int (*matrix)[2][3];
               void (*take)(int (*)(u8)); };
typedef int (*handler_t)(struct list *, int); typedef int vector_t[4]; typedef struct { int x; vector_t v; handler_t h; } unnamed_t;
typedef const struct list *const_list_t;
struct uses { unnamed_t a; const_list_t b; unsigned __int128 c; _Bool d; float e; double f; long g; signed char h; char i[3]; };
struct keyword_like { int class; int new; int bool_; struct { int this; } namespace; };
"""


def shape(btf: Btf, type_id: int, depth: int = 0) -> object:
    """A type as nested tuples: everything that makes its layout."""
    found = btf.resolved(type_id)
    if isinstance(found, Struct):
        members = tuple((m.name, m.bit_offset, m.bits, shape(btf, m.type_id, depth + 1)) for m in found.members)
        return found.kind.name, found.name, found.size, members
    if isinstance(found, Enum):
        return "enum", found.name, found.size, tuple(found.values)
    if isinstance(found, Ref) and found.kind == Kind.PTR:
        return "pointer", shape(btf, found.type_id, depth + 1) if depth < 1 and found.type_id else ""
    if isinstance(found, Array):
        return "array", found.count, shape(btf, found.type_id, depth + 1)
    return found.kind.name, found.name, getattr(found, "size", 0)


def names_in(text: str) -> list[tuple[str, Kind]]:
    found = re.findall(r"^(struct|union|enum)(?: __attribute__\(\(packed\)\))? (\w+) \{", text, re.MULTILINE)
    return [(name, Kind[word.upper()]) for word, name in found]


def test_there_and_back_again(compiler: Compiler, compile_bpf: Callable[[str], bytes]) -> None:
    names = names_in(NASTY_C)
    assert len(names) == 25
    uses = (
        "".join(f"{kind.name.lower()} {name} v_{name};\n" for name, kind in names)
        + "int constant = ANONYMOUS_CONSTANT;\n"
    )
    first = ObjectSpec.from_bytes(compile_bpf(NASTY_C + uses)).types
    assert first is not None
    header = dump_c(first)
    second = ObjectSpec.from_bytes(compile_clean(header, uses.partition("int constant")[0], compiler)).types
    assert second is not None
    for name, kind in names:
        kinds = (Kind.ENUM, Kind.ENUM64) if kind == Kind.ENUM else (kind,)
        before, after = shape(first, first.find(name, *kinds)), shape(second, second.find(name, *kinds))
        assert without_padding(after) == without_padding(before), f"{name}:\n{header}"


def without_padding(found: object) -> object:
    """Without unnamed bit-fields, with which a dump may replace an alignment."""
    if not isinstance(found, tuple):
        return found
    if len(found) == 4 and found[0] in ("STRUCT", "UNION"):
        members = tuple(
            (n, o, b, without_padding(s))
            for n, o, b, s in found[3]
            if n or (isinstance(s, tuple) and s[0] in ("STRUCT", "UNION"))
        )
        return (*found[:3], members)
    return tuple(without_padding(part) for part in found)


def test_two_types_of_one_name(compiler: Compiler) -> None:
    from struct import pack

    strings = b"\0int\0same\0a\0b\0E\0"
    types = pack("<IIII", 1, 1 << 24, 4, 1 << 24 | 32)
    types += pack("<6I", 5, 4 << 24 | 1, 4, 10, 1, 0)
    types += pack("<9I", 5, 4 << 24 | 2, 8, 10, 1, 0, 12, 1, 32)
    types += pack("<5I", 5, 6 << 24 | 1, 4, 14, 1) + pack("<5I", 0, 6 << 24 | 1, 4, 14, 2)
    types += pack("<3I", 5, 8 << 24, 1)
    btf = Btf(pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings)
    body = "struct same one; struct same___2 two; enum same___3 three = E; int four = E___2; same five;"
    body += '_Static_assert(sizeof(two) == 8, "");_Static_assert(E___2 == 2, "");'
    compile_clean(dump_c(btf), body, compiler)


def test_members_that_have_a_tag_but_no_name(compiler: Compiler) -> None:
    """An extension that Linux uses since 6.19: their members belong to the outer struct."""
    source = """struct head { int a; union { short b; char c[6]; }; };
union either { long x; int y; };
struct outer { struct head; union either; int last; };
struct outer one;
"""
    compiled = compile_with_log(source, compiler=compiler, cache=False)
    assert not compiled.warnings
    types = ObjectSpec.from_bytes(compiled.data).types
    assert types is not None
    body = "struct outer two;"
    for member, offset in (("a", 0), ("b", 4), ("c", 4), ("x", 16), ("y", 16), ("last", 24)):
        body += f'_Static_assert(__builtin_offsetof(struct outer, {member}) == {offset}, "{member}");'
    header = dump_c(types)
    assert "struct head;" not in header.partition("struct outer {")[2], "other compilers would leave it out"
    compile_clean(header, body, compiler)
