"""CO-RE relocations against a target of the test's own: types compiled from a second C source."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bpf2py.btf.names import essential_name
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.errors import RelocationError
from bpf2py.linker.core import CoreTarget, RelocKind, Resolution, apply, describe, resolve
from bpf2py.linker.link import LinkedProgram, Linker
from bpf2py.spec.btf_ext import CoreReloc
from bpf2py.spec.object_spec import ObjectSpec

Compile = Callable[[str], bytes]
HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
"""
TAIL = "#pragma clang attribute pop\n"

LOCAL = """
struct inner { int x, y; };
struct thing { int a; unsigned int b; struct inner in; int arr[4]; struct inner many[2]; struct { int deep; };
               unsigned int bit5 : 5; int sbit : 7; void *ptr; short gone; int wrong; struct inner *to; char flex[0]; };
struct thing___v2 { long renamed; };
struct thing___never { int nothing_has_this; };
union either { int i; long l; };
struct missing { int a; };
typedef struct { int first; } named_t;
typedef int (*function_t)(int, struct thing *);
enum color { RED, GREEN, BLUE };
enum color___old { GREY };
enum wide { HUGE_ONE = 1LL << 40, NOT_THERE = 1LL << 41 };
struct row { short line[8]; enum color c; enum wide w; int many[2][3]; };
"""
TARGET = """
struct inner { long pad; int y; int x; };
struct thing { char shift; struct { struct { int a; union { unsigned int b; char other; }; }; }; struct inner in; int arr[9];
               struct inner many[3]; union { int deep; }; unsigned int before : 11; unsigned int bit5 : 6; int sbit : 3;
               const void *volatile ptr; struct inner wrong; const struct inner *to; long renamed; char flex[]; };
union either { char c; long l; int i; };
typedef struct { char c; int first; } named_t;
typedef int (*function_t)(int, struct thing *);
enum color { GREEN = 10, RED = 11, BLUE = -5 };
enum wide { HUGE_ONE = 1LL << 50 };
struct row { short line[3]; enum wide c; enum wide w; int many[1][5]; int end; };
struct row row; struct thing thing; union either either; named_t named; function_t function; enum color color; enum wide wide;
"""
F, T = "__builtin_preserve_field_info", "__builtin_preserve_type_info"
# What a program asks, and the answer; None: the instruction is poisoned.
QUESTIONS: list[tuple[str, int | None]] = [
    (f"{F}(p->a, 0)", 4),
    (f"{F}(p->b, 0)", 8),
    (f"{F}(p->in.x, 0)", 16 + 12),
    (f"{F}(p->in.y, 0)", 16 + 8),
    (f"{F}(p->arr[2], 0)", 32 + 8),
    (f"{F}(p->many[1].x, 0)", 72 + 16 + 12),
    (f"{F}(p->deep, 0)", 120),
    (f"{F}(p->gone, 0)", None),
    (f"{F}(p->gone, 2)", 0),
    (f"{F}(p->gone, 1)", None),
    (f"{F}(p->wrong, 2)", 0),
    (f"{F}(p->a, 2)", 1),
    (f"{F}(p->in, 1)", 16),
    (f"{F}(p->arr, 1)", 36),
    (f"{F}(p->a, 3)", 1),
    (f"{F}(p->b, 3)", 0),
    (f"{F}(p->ptr, 0)", 128),
    (f"{F}(p->to, 2)", 1),
    (f"{F}(p->flex[0], 0)", 168),
    (f"{F}(p->bit5, 0)", 124),
    (f"{F}(p->bit5, 1)", 4),
    (f"{F}(p->bit5, 3)", 0),
    (f"{F}(p->bit5, 4)", 64 - 11 - 6),
    (f"{F}(p->bit5, 5)", 64 - 6),
    (f"{F}(p->sbit, 3)", 1),
    (f"{F}(p->sbit, 4)", 64 - 17 - 3),
    (f"{F}(p->sbit, 5)", 64 - 3),
    (f"{F}(p->b, 4)", 32),
    (f"{F}(p->b, 5)", 32),
    (f"{F}(((struct thing___v2 *)p)->renamed, 0)", 160),
    (f"{F}(((struct thing___never *)p)->nothing_has_this, 2)", 0),
    (f"{F}(((union either *)p)->l, 2)", 1),
    (f"{F}(((struct missing *)p)->a, 2)", 0),
    (f"{F}(((struct missing *)p)->a, 0)", None),
    (f"{F}(((named_t *)p)->first, 0)", 4),
    (f"{F}(((struct row *)p)->line[2], 2)", 1),
    (f"{F}(((struct row *)p)->line[3], 2)", 0),
    (f"{F}(((struct row *)p)->c, 2)", 0),
    (f"{F}(((struct row *)p)->w, 2)", 1),
    (f"{F}(((struct row *)p)->many[0][2], 0)", 32),
    (f"{F}(((struct row *)p)->many[1][2], 2)", 0),
    (f"{T}(*(struct thing *)0, 0)", 1),
    (f"{T}(*(struct thing___v2 *)0, 0)", 1),
    (f"{T}(*(struct missing *)0, 0)", 0),
    (f"{T}(*(union either *)0, 0)", 1),
    (f"{T}(*(named_t *)0, 0)", 1),
    (f"{T}(*(function_t *)0, 0)", 1),
    (f"{T}(*(struct thing *)0, 1)", 168),
    (f"{T}(*(struct missing *)0, 1)", 0),
    (f"{T}(*(enum color *)0, 1)", 4),
    (f"{T}(*(struct missing *)0, 2)", 0),
    (f"{T}(*(union either *)0, 2)", 1),
    (f"{T}(*(struct inner *)0, 2)", 1),
    ("__builtin_preserve_enum_value(*(enum color *)GREEN, 0)", 1),
    ("__builtin_preserve_enum_value(*(enum color *)GREEN, 1)", 10),
    ("__builtin_preserve_enum_value(*(enum color *)BLUE, 1)", -5),
    ("__builtin_preserve_enum_value(*(enum color___old *)GREY, 0)", 0),
    ("__builtin_preserve_enum_value(*(enum color___old *)GREY, 1)", None),
    ("__builtin_preserve_enum_value(*(enum wide *)HUGE_ONE, 1)", 1 << 50),
    ("__builtin_preserve_enum_value(*(enum wide *)NOT_THERE, 0)", 0),
]  # fmt: skip


def programs(questions: list[str], types: str = LOCAL) -> str:
    bodies = [
        f'SEC("socket") long q{i}(struct thing *p) {{ return {question}; }}\n' for i, question in enumerate(questions)
    ]
    return HEAD + types + "".join(bodies) + TAIL


@pytest.fixture(scope="module")
def target_btf(compile_bpf: Compile) -> Btf:
    found = ObjectSpec.from_bytes(compile_bpf(TARGET)).types
    assert found is not None
    return found


@pytest.fixture(scope="module")
def asked(compile_bpf: Compile) -> ObjectSpec:
    return ObjectSpec.from_bytes(compile_bpf(programs([question for question, _ in QUESTIONS])))


def one_reloc(spec: ObjectSpec, program: str) -> tuple[Btf, CoreReloc]:
    relocs = spec.programs[program].function.core_relocs
    assert len(relocs) == 1
    assert spec.types is not None
    return spec.types, relocs[0]


def returned(linked: LinkedProgram) -> int:
    """What a program of one instruction and exit returns."""
    opcode, _, _, imm = struct.unpack_from("<BBhi", linked.code, 0)
    if opcode == 0x18:
        value: int = struct.unpack_from("<q", struct.pack("<ii", imm, struct.unpack_from("<i", linked.code, 12)[0]))[0]
        return value
    assert opcode == 0xB7
    return int(imm)


@pytest.mark.parametrize("number", range(len(QUESTIONS)), ids=[question for question, _ in QUESTIONS])
def test_answers(asked: ObjectSpec, target_btf: Btf, number: int) -> None:
    answer = QUESTIONS[number][1]
    local, reloc = one_reloc(asked, f"q{number}")
    assert resolve(local, reloc, CoreTarget(target_btf)).value == answer
    linked = Linker(asked, CoreTarget(target_btf)).link(asked.programs[f"q{number}"])
    if answer is None:
        assert linked.code[0] == 0x85  # a call of a helper no kernel has
        assert list(linked.poisoned) == [0]
    else:
        assert not linked.poisoned
        assert returned(linked) == answer


def test_every_kind_is_asked_for(asked: ObjectSpec) -> None:
    kinds = {one_reloc(asked, name)[1].kind for name in asked.programs}
    assert kinds == set(RelocKind) - {RelocKind.TYPE_ID_LOCAL, RelocKind.TYPE_ID_TARGET}


def test_type_ids(compile_bpf: Compile, target_btf: Btf) -> None:
    questions = [
        "__builtin_btf_type_id(*(struct inner *)0, 0)",
        "__builtin_btf_type_id(*(struct inner *)0, 1)",
        "__builtin_btf_type_id(*(struct missing *)0, 1)",
    ]
    spec = ObjectSpec.from_bytes(compile_bpf(programs(questions)))
    linker = Linker(spec, CoreTarget(target_btf))
    assert spec.types is not None
    assert [RelocKind(one_reloc(spec, f"q{i}")[1].kind).name for i in range(3)] == [
        "TYPE_ID_LOCAL", "TYPE_ID_TARGET", "TYPE_ID_TARGET"
    ]  # fmt: skip
    values = [returned(linker.link(spec.programs[f"q{i}"])) for i in range(3)]
    assert values == [spec.types.find("inner", Kind.STRUCT), target_btf.find("inner", Kind.STRUCT), 0]


def test_without_a_target(asked: ObjectSpec) -> None:
    linker = Linker(asked, None)
    for number, (question, _) in enumerate(QUESTIONS):
        linked = linker.link(asked.programs[f"q{number}"])
        if question.endswith((", 2)", "info(*(struct thing *)0, 0)")) or "type_info" in question:
            assert returned(linked) == 0
    assert linker.link(asked.programs["q0"]).poisoned == {0: "struct thing.a (FIELD_BYTE_OFFSET)"}


def test_descriptions(asked: ObjectSpec, target_btf: Btf) -> None:
    texts = [describe(*one_reloc(asked, name)) for name in asked.programs]
    assert texts[2] == "struct thing.in.x (FIELD_BYTE_OFFSET)"
    assert texts[5] == "struct thing.many[1].x (FIELD_BYTE_OFFSET)"
    assert texts[6] == "struct thing.deep (FIELD_BYTE_OFFSET)"
    assert texts[-5:-3] == ["enum color::BLUE (ENUMVAL_VALUE)", "enum color___old::GREY (ENUMVAL_EXISTS)"]
    linked = Linker(asked, CoreTarget(target_btf)).link(asked.programs["q7"])
    assert linked.poisoned == {0: "struct thing.gone (FIELD_BYTE_OFFSET)"}


LOADS = """
struct thing { unsigned int grows; unsigned long shrinks; unsigned int same; void *ptr; int is_signed; };
SEC("socket") long q0(struct thing *p) { return p->grows; }
SEC("socket") long q1(struct thing *p) { return p->shrinks; }
SEC("socket") long q2(struct thing *p) { return p->same; }
SEC("socket") long q3(struct thing *p) { p->grows = 5; return 0; }
SEC("socket") long q4(struct thing *p) { return (long)p->ptr; }
SEC("socket") long q5(struct thing *p) { return p->is_signed; }
"""


def test_loads_and_stores_change_their_width(compile_bpf: Compile) -> None:
    spec = ObjectSpec.from_bytes(compile_bpf(HEAD + LOADS + TAIL))
    target = ObjectSpec.from_bytes(
        compile_bpf(
            "struct thing { long p; unsigned long grows; unsigned char shrinks; unsigned int same; void *ptr; long is_signed; };\n"
            "struct thing thing;\n"
        )
    ).types
    linker = Linker(spec, CoreTarget(target))

    def instruction(name: str) -> tuple[int, int]:
        code = linker.link(spec.programs[name]).code
        at = next(i for i in range(0, len(code), 8) if code[i] & 7 in (1, 2, 3))
        return code[at] & 0x18, struct.unpack_from("<h", code, at + 2)[0]

    double_word, byte, word = 0x18, 0x10, 0x00
    assert [instruction(f"q{i}") for i in range(5)] == [
        (double_word, 8),
        (byte, 16),
        (word, 20),
        (double_word, 8),
        (double_word, 24),
    ]
    # Zero-extending a signed field would change its value.
    assert list(linker.link(spec.programs["q5"]).poisoned.values()) == ["struct thing.is_signed (FIELD_BYTE_OFFSET)"]


def test_candidates_that_disagree(compile_bpf: Compile) -> None:
    spec = ObjectSpec.from_bytes(compile_bpf(programs([f"{F}(p->a, 0)", f"{F}(p->a, 2)", f"{F}(p->many[1].x, 2)"])))
    target = ObjectSpec.from_bytes(
        compile_bpf(
            "struct thing { int a; };\nstruct thing___mod { long b; int a; };\nstruct thing one; struct thing___mod two;\n"
        )
    ).types
    local, reloc = one_reloc(spec, "q0")
    with pytest.raises(
        RelocationError, match=r"struct thing\.a .*is ambiguous: two kernel types named 'thing' give 0 and 8"
    ):
        resolve(local, reloc, CoreTarget(target))
    with pytest.raises(RelocationError, match=r"program q0: .*ambiguous.* at .*return __builtin_preserve_field_info"):
        Linker(spec, CoreTarget(target)).link(spec.programs["q0"])
    assert resolve(*one_reloc(spec, "q2"), CoreTarget(target)).value == 0


def test_modules_are_asked_when_the_kernel_lacks_a_type(
    asked: ObjectSpec, compile_bpf: Compile, target_btf: Btf
) -> None:
    other = ObjectSpec.from_bytes(compile_bpf("struct nothing { int x; };\nstruct nothing nothing;\n")).types
    opened = []

    def modules() -> list[Btf]:
        opened.append(1)
        return [target_btf]

    target = CoreTarget(other, modules)
    local, reloc = one_reloc(asked, "q0")
    assert [resolve(local, reloc, target).value for _ in range(3)] == [4, 4, 4]
    assert len(opened) == 1
    opened.clear()
    assert resolve(local, reloc, CoreTarget(target_btf, modules)).value == 4
    assert not opened


# Local definition, target definition, whether they match (bpf_core_type_matches).
MATCHES = [
    ("struct s { int a; };", "struct s { int a; };", True),
    ("struct s { int a; };", "struct s { long b; int a; };", True),
    ("struct s { int a; int z; };", "struct s { int a; };", False),
    ("struct s { int a; };", "struct s { long a; };", False),
    ("struct s { int a; };", "struct s { unsigned int a; };", False),
    ("struct s { int a; };", "union s { int a; };", False),
    ("struct s { int a[4]; };", "struct s { int a[5]; };", False),
    ("struct s { int a[4]; };", "struct s { const int a[4]; };", True),
    ("struct s { struct x *p; };", "struct x { int y; }; struct s { struct x *p; };", True),
    ("struct x { long q; }; struct s { struct x *p; };", "struct x { int y; }; struct s { struct x *p; };", True),
    ("struct x { long q; }; struct s { struct x p; };", "struct x { int q; }; struct s { struct x p; };", False),
    ("struct s { struct x *p; };", "union x { int y; }; struct s { union x *p; };", False),
    ("union x; struct s { union x *p; };", "struct x; struct s { struct x *p; };", False),
    ("struct s { void *p; };", "struct s { int *p; };", False),
    ("enum e { A, B }; struct s { enum e f; };", "enum e { B, C, A }; struct s { enum e f; };", True),
    ("enum e { A, D }; struct s { enum e f; };", "enum e { A, B }; struct s { enum e f; };", False),
    ("enum e { A }; struct s { enum e f; };", "enum e { A = 1LL << 40 }; struct s { enum e f; };", False),
    ("struct s { int (*f)(int); };", "struct s { int (*f)(int); };", True),
    ("struct s { int (*f)(int); };", "struct s { int (*f)(long); };", False),
    ("struct s { int (*f)(int); };", "struct s { int (*f)(int, int); };", False),
    ("struct s { struct { int in; } b; };", "struct s { int x; struct { int y, in; } b; };", True),
    ("struct s { int bits : 3; };", "struct s { int bits : 5; };", True),
    ("struct x___y { int a; }; struct s { struct x___y p; };", "struct x { int a; }; struct s { struct x p; };", True),
]


@pytest.mark.parametrize(("local", "target", "expected"), MATCHES)
def test_matching_types(compile_bpf: Compile, local: str, target: str, expected: bool) -> None:
    body = 'SEC("socket") long q0(void *ctx) { return __builtin_preserve_type_info(*(struct s *)0, 2); }\n'
    spec = ObjectSpec.from_bytes(compile_bpf(HEAD + local + "\n" + body + TAIL))
    word = "union" if "union s {" in target else "struct"
    types = ObjectSpec.from_bytes(compile_bpf(f"{target}\n{word} s use;\n")).types
    assert resolve(*one_reloc(spec, "q0"), CoreTarget(types)).value == int(expected)


def test_essential_names() -> None:
    cases = {"a": "a", "a___b": "a", "a___b___c": "a___b", "___a": "___a", "a___": "a___", "a____b": "a____b", "": ""}
    assert {name: essential_name(name) for name in cases} == cases


@pytest.mark.parametrize(
    ("reloc", "message"),
    [
        ((1, "0", 99), "kind 99 is not known"),
        ((1 << 20, "0", 0), "no type id"),
        ((None, "x", 0), "access string 'x' is not valid"),
        ((None, "0:" * 70 + "0", 0), "is not valid"),
        ((None, "0:-1", 0), "is not valid"),
        ((None, "0:99", 0), "does not fit its type"),
        ((None, "0:0:0", 0), "does not fit its type"),
        ((None, "9" * 5000, 11), "does not fit its type"),
    ],
)
def test_damaged_records(asked: ObjectSpec, target_btf: Btf, reloc: tuple[int | None, str, int], message: str) -> None:
    assert asked.types is not None
    type_id = reloc[0] if reloc[0] is not None else asked.types.find("thing", Kind.STRUCT)
    if reloc[2] == 11:
        type_id = asked.types.find("color", Kind.ENUM)
    from bpf2py.errors import ObjectError

    with pytest.raises(ObjectError, match=message):
        resolve(asked.types, CoreReloc(0, type_id, reloc[1], reloc[2]), CoreTarget(target_btf))


@pytest.mark.parametrize(
    ("code", "resolution", "message"),
    [
        ("9500000000000000", Resolution(1), "opcode 0x95"),
        ("6110000000000000", Resolution(40000), "40000 is too large"),
        ("b700000000000000", Resolution(1 << 32), "does not fit 32 bits"),
        ("6110000000000000", Resolution(8, 4, 3), "from 4 to 3 bytes"),
        ("1800000000000000", Resolution(8), "last half"),
        ("18100000000000000000000000000000", Resolution(8), "a load of a map"),
    ],
)
def test_instructions_that_cannot_be_patched(code: str, resolution: Resolution, message: str) -> None:
    with pytest.raises(RelocationError, match=message):
        apply(bytearray.fromhex(code), 0, resolution)


def test_a_local_type_stands_for_one_type_of_the_kernel(compile_bpf: Compile) -> None:
    questions = [f"{F}(p->a, 0)", f"{F}(p->q, 0)", f"{F}(p->q, 2)", f"{F}(p->a, 2)"]
    types = "struct thing { int a; int q; } __attribute__((preserve_access_index));\n"
    spec = ObjectSpec.from_bytes(compile_bpf(programs(questions, types)))
    target = ObjectSpec.from_bytes(
        compile_bpf(
            "struct thing { int a; };\nstruct thing___2 { long b; int q; };\nstruct thing one; struct thing___2 two;\n"
        )
    ).types

    def order(*names: str) -> list[bool]:
        linker = Linker(spec, CoreTarget(target))
        return [bool(linker.link(spec.programs[name]).poisoned) for name in names]

    # Each is there, but not in one and the same type.
    assert order("q0") == order("q1") == [False]
    assert order("q0", "q1") == order("q1", "q0") == [False, True]
    linker = Linker(spec, CoreTarget(target))
    code = [linker.link(spec.programs[name]).code for name in ("q0", "q2", "q3")]
    alone = [Linker(spec, CoreTarget(target)).link(spec.programs[name]).code for name in ("q0", "q2", "q3")]
    assert code[0] == alone[0]
    assert code[1] != alone[1]  # bpf_core_field_exists() says no
    assert code[2] == alone[2]
