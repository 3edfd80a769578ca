"""numpy arrays of BTF types: the same numbers as the codecs give, one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bpf2py.btf.codec import Codec, CodecOptions
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.declare import codec_of
from bpf2py.btf.dtype import array_from, bytes_of, dtype_of
from bpf2py.btf.values import plain
from bpf2py.errors import EncodeError
from bpf2py.spec.object_spec import ObjectSpec

SOURCE = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
enum color { RED, NEGATIVE = -3 };
struct point { int x, y; };
struct bits { u32 a : 3; int b : 7; u32 : 4; u64 c : 40; _Bool e : 1; enum color f : 4; u8 tail; };
struct plain { u8 first; u64 second; char name[8]; u8 mac[6]; short grid[2][3]; struct point p, many[2]; enum color color;
               double d; void *ptr; _Bool yes; };
struct with_bits { u16 head; struct bits one, many[3]; union { u32 whole; struct { u8 low : 4, high : 4; }; }; };
struct tight { u8 a; u64 b : 60; u64 c : 60; long long d : 61; u8 e; } __attribute__((packed));
struct unions { int kind; union { u64 whole; u32 half; }; union { u32 n; u8 raw[4]; } named; };
struct empty { }; struct odd { union { struct bits b; u64 c; u32 d : 3; } u; struct empty e, f[2]; u8 g; u32 h : 3; };
struct bits bits; struct plain plain_struct; struct with_bits with_bits; struct tight tight; struct unions unions;
struct bits many_bits[2][2]; int numbers[4]; u64 number; char text[6]; struct point point; _Bool yes; u8 octets[5];
unsigned __int128 big; enum color color; float real; struct odd odd;
"""
NAMES = [
    "bits", "plain_struct", "with_bits", "tight", "unions", "many_bits", "numbers", "number", "text", "point", "yes", "octets",
    "big", "color", "real",
]  # fmt: skip


@pytest.fixture(scope="module")
def codecs(compile_bpf: Callable[[str], bytes]) -> dict[str, Codec[Any]]:
    spec = ObjectSpec.from_bytes(compile_bpf(SOURCE))
    assert spec.types is not None
    options = CodecOptions(chars="bytes")
    return {name: codec_for(spec.types, v.type_id, options) for name, v in spec.variables.items()}


def as_python(item: Any) -> Any:
    """An array's element without numpy: dicts of its fields."""
    if isinstance(item, np.void) and item.dtype.names is not None:
        return {name: as_python(item[name]) for name in item.dtype.names}
    if isinstance(item, np.ndarray):
        return bytes(item) if item.dtype == np.uint8 else [as_python(element) for element in item]
    return item.tobytes() if isinstance(item, np.void) else item.item()


def samples(codec: Codec[Any], count: int, seed: int) -> list[bytes]:
    """Encodings of random values: bools and texts are as C would have them, and padding is zero."""
    rng = random.Random(seed)
    found: list[bytes] = []
    while len(found) < count:
        data = rng.randbytes(codec.size) if rng.random() < 0.9 else bytes(codec.size)
        found.append(codec.encode(codec.decode(data)))
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gap", [0, 3])
def test_arrays_hold_what_codecs_decode(codecs: dict[str, Codec[Any]], name: str, gap: int) -> None:
    codec = codecs[name]
    rows = samples(codec, 50, len(name))
    array = array_from(codec, b"".join(row + b"\xee" * gap for row in rows), len(rows), codec.size + gap)
    assert len(array) == len(rows)
    expected = [plain(codec.decode(row)) for row in rows]
    if name == "big":
        expected = rows
    got = [as_python(item) for item in array]
    if name == "unions":  # a named union's members are shown one by one
        got = [{**row, "named": dict(row["named"])} for row in got]
    if name == "real":
        got, expected = [repr(x) for x in got], [repr(x) for x in expected]
    if name == "plain_struct":
        for row in (*got, *expected):
            row["d"] = repr(row["d"])
    assert got == expected
    assert bytes_of(codec, array) == b"".join(rows)


def test_per_cpu_slots(codecs: dict[str, Codec[Any]]) -> None:
    for name in ("number", "bits", "octets"):
        codec = codecs[name]
        rows = samples(codec, 12, 4)
        stride = (codec.size + 7) // 8 * 8
        array = array_from(codec, b"".join(row.ljust(stride, b"\xee") for row in rows), 4, stride, 3)
        assert array.shape[:2] == (4, 3)
        flat = array.reshape((12, *array.shape[2:]))
        assert [as_python(item) for item in flat] == [plain(codec.decode(row)) for row in rows]


def test_no_elements(codecs: dict[str, Codec[Any]]) -> None:
    for name in NAMES:
        assert len(array_from(codecs[name], b"", 0)) == 0
        assert bytes_of(codecs[name], array_from(codecs[name], b"", 0)) == b""


def test_the_array_is_a_copy(codecs: dict[str, Codec[Any]]) -> None:
    buffer = bytearray(16)
    array = array_from(codecs["number"], buffer, 2)
    buffer[0] = 1
    assert array.tolist() == [0, 0]
    array[0] = 5  # and may be written
    assert buffer[0] == 1


def test_offsets_are_those_of_c(codecs: dict[str, Codec[Any]]) -> None:
    dtype = dtype_of(codecs["plain_struct"])
    assert dtype.itemsize == codecs["plain_struct"].size
    assert dtype.fields is not None
    assert (dtype.fields["second"][1], dtype.fields["name"][1], dtype.fields["mac"][1]) == (8, 16, 24)
    assert dtype["grid"].shape == (2, 3)
    assert dtype["name"] == np.dtype("S8")
    unions = dtype_of(codecs["unions"])
    assert unions.fields is not None
    assert unions.fields["whole"][1] == unions.fields["half"][1] == 8


def test_numbers_are_converted_but_never_changed(codecs: dict[str, Codec[Any]]) -> None:
    u32, s32, f32 = codec_of("u32"), codec_of("s32"), codec_of("float")
    assert bytes_of(u32, np.array([1, 2], np.int64)) == b"\1\0\0\0\2\0\0\0"
    assert bytes_of(u32, [1, 2]) == bytes_of(u32, np.array([1, 2], ">u4"))
    assert bytes_of(u32, 7) == b"\7\0\0\0"
    assert bytes_of(u32, np.array([True, False])) == b"\1\0\0\0\0\0\0\0"
    assert bytes_of(f32, np.array([1, 2])) == np.array([1, 2], "<f4").tobytes()
    for codec, values in (
        (u32, [-1]),
        (u32, [1 << 32]),
        (s32, np.array([1 << 31])),
        (codec_of("u64"), np.array([-1])),
        (codec_of("s64"), np.array([1 << 63], np.uint64)),
        (u32, [1.5]),
        (codec_of("bool"), [2]),
        (codec_of("char[2]"), np.array(["abc"])),
        (u32, [[1, 2]]),
    ):
        with pytest.raises(EncodeError):
            bytes_of(codec, values)


def test_padding_is_zeroed(codecs: dict[str, Codec[Any]]) -> None:
    for name in ("plain_struct", "unions"):
        codec = codecs[name]
        dirty = np.frombuffer(b"\x01" * codec.size * 3, dtype_of(codec))
        clean = bytes_of(codec, dirty)
        assert clean == codec.encode(codec.decode(b"\x01" * codec.size)) * 3
        assert (0 in clean) == (name == "plain_struct" or codec.size > 16)


def test_bitfields_in_unions_and_nothing_at_all(codecs: dict[str, Codec[Any]]) -> None:
    codec = codecs["odd"]
    rows = samples(codec, 5, 3)
    array = array_from(codec, b"".join(rows), 5)
    assert array.dtype.names == ("u", "e", "f", "g", "h")
    assert array["u"].dtype.names == ("b", "c")  # a union's own bitfields are left out, its structs' are bytes
    assert array["u"]["b"][0].tobytes() == rows[0][: array["u"]["b"].itemsize]
    assert array["h"].tolist() == [codec.decode(row).h for row in rows]
    assert bytes_of(codec, array) == b"".join(rows)


def test_structured_arrays_by_name(codecs: dict[str, Codec[Any]]) -> None:
    other = np.array([(2, 1)], [("y", "i8"), ("x", "i2")])
    assert bytes_of(codecs["point"], other) == bytes([1, 0, 0, 0, 2, 0, 0, 0])
    with pytest.raises(EncodeError, match="no member 'z'"):
        bytes_of(codecs["point"], np.array([(2, 1)], [("y", "i8"), ("z", "i2")]))
    assert bytes_of(codecs["octets"], np.array([[1, 2, 3, 4, 5]])) == bytes([1, 2, 3, 4, 5])
