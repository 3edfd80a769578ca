"""Codecs against C: the same definitions compiled for this machine, which prints bytes, and for BPF, which gives BTF."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf2py.btf.codec import Codec, CodecOptions
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.declare import codec_of
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.btf.values import StructCodec, StructValue, plain
from bpf2py.errors import BtfError, EncodeError
from bpf2py.spec.object_spec import ObjectSpec

TYPES = """
typedef unsigned char u8; typedef signed char s8; typedef unsigned short u16; typedef unsigned int u32;
typedef unsigned long long u64; typedef long long s64;
enum color { RED, GREEN = 5, NEGATIVE = -3 };
enum unsigned_one { ONE = 1, MANY = 0xffffffff };
enum wide { SMALL = 1, HUGE_ONE = 1ULL << 40 };
enum __attribute__((packed)) tiny { T0, T1 = 200 };
struct point { int x, y; };
struct padded { char a; s64 b; short c; };
struct nested { u8 first; struct point p; struct { u16 inner; } q; struct point many[2]; };
struct packed { u8 a; u32 b; u64 c; u16 d[3]; } __attribute__((packed));
struct bits { u32 a : 3; int b : 7; u32 : 4; u64 c : 40; u8 d : 1; _Bool e : 1; enum color f : 4; u16 g : 16; };
struct tight { u8 a; u64 b : 60; u64 c : 60; u8 d; } __attribute__((packed));
union any { u32 number; u8 octets[6]; struct point p; float f; };
struct anonymous { int kind; union { u64 whole; struct { u32 low, high; }; u8 raw[8]; }; struct { int tail; }; };
struct texts { char name[8]; u8 mac[6]; s8 deltas[2]; char lines[2][4]; const volatile u16 v[2]; };
struct numbers { _Bool yes; float f; double d; s8 c; void *p; int (*fn)(void); unsigned __int128 big; enum wide w;
                 enum tiny t; };
struct keywords { int class, __state, from, self, None, __init__, _fields, value; };
struct nothing { };
struct flexible { int n; u16 data[]; };
struct aligned { u8 a; u32 b __attribute__((aligned(16))); };
"""
# variable, declaration, C initialiser, what Python shows
CASES: list[tuple[str, str, str, Any]] = [
    ("v_s8", "s8 {}", "-128", -128),
    ("v_u64", "u64 {}", "0xfedcba9876543210ULL", 0xFEDCBA9876543210),
    ("v_bool", "_Bool {}", "1", True),
    ("v_double", "double {}", "-0.1", -0.1),
    ("v_char", "char {}", "'x'", 120),
    ("v_color", "enum color {}", "NEGATIVE", -3),
    ("v_unsigned", "enum unsigned_one {}", "MANY", 0xFFFFFFFF),
    ("v_wide", "enum wide {}", "HUGE_ONE", 1 << 40),
    ("v_tiny", "enum tiny {}", "T1", 200),
    ("v_matrix", "short {}[2][3]", "{{1, -2, 3}, {4, 5, -6}}", [[1, -2, 3], [4, 5, -6]]),
    ("v_text", "char {}[6]", '"hey"', "hey"),
    ("v_point", "struct point {}", "{1, -2}", {"x": 1, "y": -2}),
    ("v_padded", "struct padded {}", "{1, -2, 3}", {"a": 1, "b": -2, "c": 3}),
    ("v_nested", "struct nested {}", "{9, {1, 2}, {3}, {{4, 5}, {6, 7}}}",
     {"first": 9, "p": {"x": 1, "y": 2}, "q": {"inner": 3}, "many": [{"x": 4, "y": 5}, {"x": 6, "y": 7}]}),
    ("v_packed", "struct packed {}", "{1, 2, 3, {4, 5, 6}}", {"a": 1, "b": 2, "c": 3, "d": [4, 5, 6]}),
    ("v_bits", "struct bits {}", "{5, -64, 0xabcdef0123, 1, 1, NEGATIVE, 65535}",
     {"a": 5, "b": -64, "c": 0xABCDEF0123, "d": 1, "e": True, "f": -3, "g": 65535}),
    ("v_tight", "struct tight {}", "{1, 0xfedcba987654321, 0x123456789abcdef, 255}",
     {"a": 1, "b": 0xFEDCBA987654321, "c": 0x123456789ABCDEF, "d": 255}),
    ("v_anonymous", "struct anonymous {}", "{.kind = 1, .low = 2, .high = 3, .tail = -4}",
     {"kind": 1, "whole": 2 | 3 << 32, "low": 2, "high": 3, "raw": bytes([2, 0, 0, 0, 3, 0, 0, 0]), "tail": -4}),
    ("v_texts", "struct texts {}", '{"eight ch", {1, 2, 3, 4, 5, 6}, {-1, 1}, {"abcd", "e"}, {7, 8}}',
     {"name": "eight ch", "mac": b"\1\2\3\4\5\6", "deltas": [-1, 1], "lines": ["abcd", "e"], "v": [7, 8]}),
    ("v_numbers", "struct numbers {}",
     "{1, 1.5f, 2.25, -3, (void *)0x7fff12345678, 0, ((unsigned __int128)5 << 64) | 6, HUGE_ONE, T1}",
     {"yes": True, "f": 1.5, "d": 2.25, "c": -3, "p": 0x7FFF12345678, "fn": 0, "big": 5 << 64 | 6, "w": 1 << 40, "t": 200}),
    ("v_keywords", "struct keywords {}", "{1, 2, 3, 4, 5, 6, 7, 8}",
     {"class_": 1, "__state": 2, "from_": 3, "self": 4, "None_": 5, "__init___": 6, "_fields_": 7, "value": 8}),
    ("v_aligned", "struct aligned {}", "{1, 2}", {"a": 1, "b": 2}),
]  # fmt: skip
DEFINITIONS = TYPES + "".join(f"{form.format(name)} = {init};\n" for name, form, init, _ in CASES)
BPF_SOURCE = DEFINITIONS + "union any v_any; struct flexible v_flexible; struct nothing v_nothing;\n"


@pytest.fixture(scope="module")
def spec(compile_bpf: Callable[[str], bytes]) -> ObjectSpec:
    return ObjectSpec.from_bytes(compile_bpf(BPF_SOURCE))


@pytest.fixture(scope="module")
def c_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a C program of this machine has in memory for each variable."""
    directory = tmp_path_factory.mktemp("host")
    prints = "".join(f'    show("{name}", &{name}, sizeof({name}));\n' for name, *_ in CASES)
    show = 'static void show(const char *n, const void *p, unsigned long s) { const unsigned char *b = p; printf("%s ", n);'
    show += ' while (s--) printf("%02x", *b++); printf("\\n"); }\n'
    text = f"#include <stdio.h>\n{DEFINITIONS}{show}int main(void) {{\n{prints}    return 0;\n}}\n"
    (directory / "a.c").write_text(text)
    compiler = [shutil.which("cc") or ""] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*compiler, "-w", "-o", "a", "a.c"], cwd=directory, check=True)
    out = subprocess.run([str(Path(directory, "a"))], check=True, capture_output=True, text=True).stdout
    return {name: bytes.fromhex(data) for name, data in map(str.split, out.splitlines())}


def codec(spec: ObjectSpec, name: str, **options: Any) -> Codec[Any]:
    variable = spec.variables[f"v_{name}"]
    assert spec.types is not None
    return codec_for(spec.types, variable.type_id, CodecOptions(**options))


@pytest.mark.parametrize(("name", "expected"), [(name, value) for name, _, _, value in CASES])
def test_the_same_bytes_as_c(spec: ObjectSpec, c_bytes: dict[str, bytes], name: str, expected: Any) -> None:
    variable = spec.variables[name]
    assert variable.codec.size == len(c_bytes[name])
    value = variable.codec.decode(c_bytes[name])
    assert plain(value) == expected
    assert variable.codec.encode(value) == c_bytes[name]
    if name != "v_anonymous":  # there members overlap, and the last one wins
        assert variable.codec.encode(expected) == c_bytes[name]
    assert variable.codec.decode_many(c_bytes[name] * 3) == [value] * 3
    structs, one = variable.codec, c_bytes[name]
    if isinstance(structs, StructCodec) and structs.size and structs.flexible is None:
        for before, after in ((8, 0), (8, 4), (12, 0), (0, 8), (0, 0), (4, 4)):
            spread = memoryview((bytes([7] * before) + one + bytes([9] * after)) * 3)
            found = structs.decode_spread(spread, before, 3, before + structs.size + after)
            assert found == [value] * 3
            cut = spread[: len(spread) - 1]
            assert structs.decode_spread(cut, before, 3, before + structs.size + after) is None
    assert plain(variable.value) == expected
    key = codec(spec, name.removeprefix("v_"), key=True)
    decoded = key.decode(c_bytes[name])
    assert {decoded: 1}[key.decode(c_bytes[name])] == 1  # hashable, and equal to itself
    assert key.encode(decoded) == c_bytes[name]
    assert key.encode(c_bytes[name]) == c_bytes[name]


def test_padding_is_zeroed(spec: ObjectSpec) -> None:
    padded = codec(spec, "padded")
    value = padded.decode(bytes(range(1, 25)))
    assert padded.encode(value) == bytes([1, *[0] * 7, *range(9, 19), *[0] * 6])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("s8", 128, r"^128 does not fit signed char \(-128\.\.127\)$"),
        ("s8", -129, "does not fit"),
        ("u64", -1, r"-1 does not fit unsigned long long \(0\.\.18446744073709551615\)"),
        ("u64", 1.0, "1.0 is not a valid unsigned long long"),
        ("u64", "1", "'1' is not a valid unsigned long long"),
        ("u64", None, "None is no"),
        ("u64", b"1234567", "7 bytes given, unsigned long long has 8"),
        ("bool", 2, "2 is not a valid _Bool"),
        ("double", "x", "'x' is not a valid double"),
        ("color", "BLUE", "'BLUE' is not a member of enum color: RED, GREEN, NEGATIVE"),
        ("color", 1 << 31, "does not fit enum color"),
        ("wide", -1, "does not fit enum wide"),
        ("tiny", 256, "does not fit enum tiny"),
        ("matrix", [[1, 2, 3]], r"1 elements given, short\[3\]\[2\] has 2"),
        ("matrix", [[1, 2, 3], [4, 5, 40000]], r"^\[1\]\[2\]: 40000 does not fit short"),
        ("matrix", 7, r"7 is not a valid short\[3\]\[2\]"),
        ("text", "too long", r"b'too long' has 8 bytes, char\[6\] holds 6"),
        ("text", "\ud800", "cannot be encoded"),
        ("text", 7, r"7 is not a valid char\[6\]"),
        ("point", {"x": 1, "z": 2}, "struct point has no member 'z': x, y"),
        ("point", (1,), "struct point has 2 members, 1 given"),
        ("point", {"x": 1 << 31}, r"^\.x: 2147483648 does not fit int"),
        ("point", 5, "5 is not a valid struct point"),
        ("nested", {"p": {"y": "no"}}, r"^\.p\.y: 'no' is not a valid int"),
        ("nested", {"many": [(1, 2), (3, 1 << 40)]}, r"^\.many\[1\]\.y: 1099511627776 does not fit int"),
        ("bits", {"a": 8}, r"\.a: 8 does not fit 3 bits \(0\.\.7\)"),
        ("bits", {"b": -65}, r"\.b: -65 does not fit 7 bits \(-64\.\.63\)"),
        ("bits", {"a": "x"}, r"\.a: 'x' is not an integer"),
        ("any", {"number": 1 << 32}, r"\.number: 4294967296 does not fit"),
        ("any", {"nix": 1}, "union any has no member 'nix': number, octets, p, f"),
        ("any", 5, "5 is not a valid union any"),
        ("texts", {"mac": [1, 256]}, r"\.mac: \[1, 256\] is not a sequence of integers from 0 to 255"),
        ("texts", {"mac": b"1234567"}, r"\.mac: 7 bytes given, unsigned char\[6\] has 6"),
        ("texts", {"lines": ["a", "bcdef"]}, r"\.lines\[1\]: b'bcdef' has 5 bytes"),
        ("numbers", {"f": 1e300}, r"\.f: 1e\+300 does not fit float"),
        ("numbers", {"big": 1 << 128}, r"\.big: .* does not fit unsigned __int128 \(128 bits\)"),
        ("numbers", {"big": "x"}, r"\.big: 'x' is no"),
        ("numbers", {"p": -1}, r"\.p: -1 does not fit pointer"),
    ],
)
def test_what_does_not_fit(spec: ObjectSpec, name: str, value: Any, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        codec(spec, name).encode(value)


def test_types_without_a_codec(spec: ObjectSpec) -> None:
    assert spec.types is not None
    with pytest.raises(BtfError, match="has no size"):
        codec_for(spec.types, 0)
    with pytest.raises(BtfError, match="has no size"):
        codec_for(spec.types, spec.types.ids_of_kind(Kind.FUNC_PROTO)[0])


def test_enums(spec: ObjectSpec) -> None:
    color = codec(spec, "color")
    five = color.decode(b"\5\0\0\0")
    assert five == 5
    assert five.name == "GREEN"
    assert type(color.decode(b"\6\0\0\0")) is int
    assert color.encode("GREEN") == color.encode(five) == b"\5\0\0\0"
    bits = codec(spec, "bits")
    assert bits.decode(bits.encode({"f": "GREEN"})).f.name == "GREEN"


def test_char_arrays(spec: ObjectSpec) -> None:
    text, raw = codec(spec, "text"), codec(spec, "text", chars="bytes")
    assert text.decode(b"ab\0cd\0") == "ab"
    assert raw.decode(b"ab\0cd\0") == b"ab"
    key, raw_key = codec(spec, "text", key=True), codec(spec, "text", key=True, chars="bytes")
    assert key.decode(b"ab\0cd\0") == "ab\0cd"
    assert raw_key.decode(b"ab\0cd\0") == b"ab\0cd"
    assert key.decode(b"\xff\xfe\0\0\0\0") == "\udcff\udcfe"
    for value in ("ab", b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert text.encode(value) == b"ab\0\0\0\0"


@given(data=st.binary(min_size=6, max_size=6))
def test_keys_lose_nothing(data: bytes) -> None:
    for chars in ("str", "bytes"):
        key = codec_of("char[6]", CodecOptions(key=True, chars=chars))
        assert key.encode(key.decode(data)) == data


def test_every_bit_pattern_comes_back(spec: ObjectSpec) -> None:
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["packed", "tight", "nested", "any", "anonymous", "u64", "color"]))
        one = codec(spec, name, key=data.draw(st.booleans()))
        octets = data.draw(st.binary(min_size=one.size, max_size=one.size))
        value = one.decode(octets)
        again = one.encode(value)
        assert one.decode(again) == value
        if name in ("packed", "tight", "any", "u64"):  # those without padding
            assert again == octets

    check()


def test_values_survive(spec: ObjectSpec) -> None:
    integers = st.integers(-(1 << 31), (1 << 31) - 1)
    point = st.fixed_dictionaries({"x": integers, "y": integers})
    shapes = {
        "nested": st.fixed_dictionaries(
            {"first": st.integers(0, 255), "p": point, "many": st.lists(point, min_size=2, max_size=2)}
        ),
        "bits": st.fixed_dictionaries(
            {"a": st.integers(0, 7), "b": st.integers(-64, 63), "c": st.integers(0, (1 << 40) - 1), "e": st.booleans()}
        ),
        "numbers": st.fixed_dictionaries(
            {
                "f": st.floats(width=32, allow_nan=False),
                "d": st.floats(allow_nan=False),
                "big": st.integers(0, (1 << 128) - 1),
            }
        ),
        "texts": st.fixed_dictionaries({"name": st.text("abcä", max_size=4), "mac": st.binary(min_size=6, max_size=6)}),
    }

    @given(st.sampled_from(sorted(shapes)).flatmap(lambda name: st.tuples(st.just(name), shapes[name])))
    def check(drawn: tuple[str, dict[str, Any]]) -> None:
        name, value = drawn
        one = codec(spec, name)
        decoded = plain(one.decode(one.encode(value)))
        assert {member: decoded[member] for member in value} == value

    check()


def test_struct_values(spec: ObjectSpec) -> None:
    struct_codec = codec(spec, "point")
    assert isinstance(struct_codec, StructCodec)
    make = struct_codec.cls
    value = make(1, y=2)
    assert (value.x, value["y"], list(value), len(value)) == (1, 2, [1, 2], 2)  # type: ignore[attr-defined]
    assert all(value == other for other in (make(1, 2), (1, 2), {"x": 1, "y": 2}))
    assert value != make(1, 3)
    assert hash(value) == hash(make(1, 2))
    assert repr(value) == "point(x=1, y=2)"
    assert bytes(value) == struct_codec.encode((1, 2)) == struct_codec.encode([1, 2])
    value["x"] = 7
    changed = value._replace(y=9)
    assert [list(value), list(changed)] == [[7, 2], [7, 9]]
    for wrong in (lambda: make(1, 2, 3), lambda: make(z=1), lambda: value._replace(z=1)):
        with pytest.raises(EncodeError):
            wrong()
    keywords = codec(spec, "keywords").decode(bytes(32))
    keywords["class"] = 4
    assert keywords.class_ == 4
    assert codec(spec, "keywords").encode({"class": 1, "__state": 2}) == b"\1\0\0\0\2" + bytes(27)


def test_unions(spec: ObjectSpec) -> None:
    union = codec(spec, "any")
    value = union.decode(bytes([1, 0, 0, 0, 2, 0, 0, 0]))
    assert (value.number, value.octets, value.p) == (1, b"\1\0\0\0\2\0", (1, 2))
    value.number = 0x3F800000
    assert value.f == 1.0
    assert union.encode(value) == bytes.fromhex("0000803f02000000")
    assert union.encode({"p": (3, 4)}) == bytes([3, 0, 0, 0, 4, 0, 0, 0])
    assert value == {"f": 1.0}
    assert value != {"f": 2.0}
    anonymous = codec(spec, "anonymous").decode(bytes(24))
    anonymous.whole = 5 << 32
    assert (anonymous.low, anonymous.high) == (0, 5)
    anonymous.high = 1
    assert anonymous.whole == 1 << 32
    assert codec(spec, "anonymous").encode({"low": 7})[8:16] == b"\7" + bytes(7)


def test_a_flexible_member(spec: ObjectSpec) -> None:
    flexible = codec(spec, "flexible")
    assert flexible.size == 4
    value = flexible.decode(bytes([3, 0, 0, 0, 1, 0, 2, 0, 3, 0]))
    assert (value.n, value.data) == (3, [1, 2, 3])
    assert flexible.decode(bytes(4)).data == []
    assert codec(spec, "nothing").encode({}) == b""


def test_nan_comes_through(spec: ObjectSpec) -> None:
    assert math.isnan(codec(spec, "double").decode(codec(spec, "double").encode(math.nan)))


def test_an_equal_value_of_another_object(spec: ObjectSpec, compile_bpf: Callable[[str], bytes]) -> None:
    other = ObjectSpec.from_bytes(compile_bpf("struct point { int x, y; };\nstruct point v_point;\n"))
    value = codec(other, "point").decode(bytes([1, 0, 0, 0, 2, 0, 0, 0]))
    assert isinstance(value, StructValue)
    assert codec(spec, "point").encode(value) == bytes(value)


@pytest.mark.parametrize(
    ("name", "value", "data"),
    [
        ("u32", 1, b"\1\0\0\0"),
        ("unsigned  long", 2, b"\2" + bytes(7)),
        ("char[4]", "abc", b"abc\0"),
        ("u16[2]", [1, 2], b"\1\0\2\0"),
        ("u8[3]", b"abc", b"abc"),
        ("char[2][3]", ["ab", "c"], b"ab\0c\0\0"),
        ("bool", True, b"\1"),
        ("double", 1.0, b"\0\0\0\0\0\0\xf0\x3f"),
        (3, b"abc", b"abc"),
    ],
)
def test_declared_types(name: Any, value: Any, data: bytes) -> None:
    declared = codec_of(name)
    assert declared.encode(value) == data
    assert declared.decode(data) == value
    assert codec_of(declared) is declared


@pytest.mark.parametrize("name", ["struct x", "u32[", "u33", "", "int*", "[3]"])
def test_no_declared_type(name: str) -> None:
    with pytest.raises(EncodeError, match="is not a basic C type"):
        codec_of(name)


def test_names_python_cannot_have() -> None:
    from struct import pack

    strings = b"\0int\0\xc3\xa9t\xc3\xa9\0\xff\xfe\0a.b\0"
    types = pack("<IIII", 1, 1 << 24, 4, 32)
    types += pack("<III", 11, 4 << 24 | 2, 8) + pack("<IIIIII", 5, 1, 0, 14, 1, 32)
    btf = Btf(pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings)
    value = codec_for(btf, 2).decode(bytes([1, 0, 0, 0, 2, 0, 0, 0]))
    assert value._asdict() == {"_t_": 1, "a_b": 2}
    assert value["a.b"] == 2


def test_types_by_name(compile_bpf: Callable[[str], bytes]) -> None:
    types = ObjectSpec.from_bytes(
        compile_bpf(
            "struct event { int a; char b[4]; }; typedef struct event event_t; enum color { RED = 3 };\n"
            "union u { int x; }; struct event e; event_t t; enum color c; union u un;\n"
        )
    ).types
    raw = b"\5\0\0\0abc\0"
    for name in ("event", "struct event", "struct  event", "event_t"):
        assert codec_of(name, btf=types).decode(raw) == (5, "abc")
    assert [tuple(v) for v in codec_of("event[2]", btf=types).decode(raw * 2)] == [(5, "abc")] * 2
    assert codec_of("color", btf=types).decode(b"\3\0\0\0") == 3
    assert codec_of("enum color", btf=types).decode(b"\3\0\0\0").name == "RED"
    assert codec_of("union u", btf=types).size == 4
    assert codec_of("u64", btf=types).size == 8
    for name in ("enum event", "struct color", "nothing", "struct", "event *", "event[", "struct nothing[3]"):
        with pytest.raises(EncodeError, match="not a basic C type such as"):
            codec_of(name, btf=types)
    with pytest.raises(EncodeError, match="structs come from an object's BTF"):
        codec_of("event")
