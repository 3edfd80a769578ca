"""Sizes and shapes an object claims are checked before they cost time or memory."""

from __future__ import annotations

import contextlib
import resource
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from tests.btf.test_reader import Builder

import bpf2py
from bpf2py.btf.cdump import declaration, dump_c
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.dtype import dtype_of
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, Kind
from bpf2py.codegen.strip import strip
from bpf2py.errors import BtfError, RelocationError
from bpf2py.linker.core import CoreTarget, resolve
from bpf2py.spec.btf_ext import CoreReloc

MEGABYTES, SECONDS = 300, 20  # the machine may be busy: without bounds each of these takes gigabytes or hours


@pytest.fixture(autouse=True)
def cheap() -> Iterator[None]:
    """What the test does takes little time and memory."""
    peak, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) // 1024 < MEGABYTES


HEAD = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC("license") = "GPL";\n'
KCONFIG = (
    HEAD
    + """
extern const char X[%s] __kconfig __weak;
extern const char Y[%s] __kconfig __weak;
SEC("socket") int p(void *ctx) { return X[3] + Y[1]; }
"""
)


@pytest.mark.parametrize("backend", [pytest.param("kernel", marks=pytest.mark.kernel), "engine"])
@pytest.mark.parametrize("sizes", [("1900000000", "4"), ("4", "0x7fffffff"), ("600000", "600000")])
def test_the_configuration_is_no_larger_than_any(
    compile_bpf: Callable[[str], bytes], backend: str, sizes: tuple[str, str]
) -> None:
    with pytest.raises(RelocationError, match=r"extern [XY]: \d+ bytes are more than"):
        bpf2py.load(compile_bpf(KCONFIG % sizes), backend)


def test_an_alignment_does_not_fill_a_stripped_object(compile_bpf: Callable[[str], bytes]) -> None:
    data = bytearray(compile_bpf(HEAD + 'int a = 1; SEC("socket") int p(void *ctx) { return a; }'))
    (headers,) = struct.unpack_from("<Q", data, 0x28)
    (count,) = struct.unpack_from("<H", data, 0x3C)
    for i in range(count):
        struct.pack_into("<Q", data, headers + 64 * i + 48, 6 << 30)
    assert len(strip(bytes(data))) <= len(data) + count * 64


ITSELF = (
    HEAD
    + """
struct other { int q; };
struct s { int a; struct other arr[2]; struct other more[3]; struct other many[64]; struct bpf_timer timer; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, int); __type(value, struct s); } m SEC(".maps");
struct s var;
SEC("socket") int p(void *ctx) { int k = 0; struct s *v = bpf_map_lookup_elem(&m, &k); return v ? v->a + var.a : 0; }
"""
)


@pytest.mark.filterwarnings("ignore:.*refused the object's BTF")
@pytest.mark.parametrize("backend", [pytest.param("kernel", marks=pytest.mark.kernel), "engine"])
@pytest.mark.parametrize("timer", [False, True])
def test_a_struct_that_holds_arrays_of_itself(compile_bpf: Callable[[str], bytes], backend: str, timer: bool) -> None:
    data = bytearray(compile_bpf(ITSELF if timer else ITSELF.replace(" struct bpf_timer timer;", "")))
    types = bpf2py.ObjectSpec.from_bytes(bytes(data)).types
    assert types is not None
    start = data.find(bytes(types.data)[:24])
    header, section = struct.unpack_from("<II", types.data, 4)
    for type_id, found in types.types():
        if isinstance(found, Array) and found.type_id == types.find("other"):
            at = start + header + section + types.record_offset(type_id)
            struct.pack_into("<I", data, at + 12, types.find("s", Kind.STRUCT))
    with contextlib.suppress(bpf2py.BpfError):
        bpf2py.load(bytes(data), backend).close()


def doubling(union: bool, named: bool, size: int, levels: int = 40) -> Btf:
    """A type, "top", with two members of a type with two members of a type ... `levels` times."""
    builder = Builder()
    inner = builder.integer("int", 4) if size else builder.struct("end", 0)
    for level in range(levels):
        names = ("a", "b") if named else ("", "")
        inner = builder.struct(
            f"s{level}" if named else "", size, *((name, inner, 0) for name in names), union=union or not named
        )
    builder.struct("top", size, ("m", inner, 0))
    return builder.btf()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("union", [True, False])
@pytest.mark.parametrize("size", [0, 4])
def test_types_that_double(union: bool, named: bool, size: int) -> None:
    btf = doubling(union, named, size)
    top = btf.find("top")
    with contextlib.suppress(BtfError):
        codec = codec_for(btf, top)
        repr(codec.decode(bytes(codec.size)))
        dtype_of(codec)
    with contextlib.suppress(BtfError):
        dump_c(btf)
    with contextlib.suppress(BtfError):
        declaration(btf, top, "x")
    if union or not (size and named):  # the members of a struct must not overlap
        small = doubling(union, named, size, 3)
        codec = codec_for(small, small.find("top"))
        assert repr(codec.decode(bytes(codec.size)))


def test_members_of_types_that_double_are_searched_once() -> None:
    local, target = Builder(), doubling(True, False, 4)
    number = local.integer("int", 4)
    local.struct("top", 4, ("m", local.struct("", 4, ("missing", number, 0), union=True), 0))
    asked = local.btf()
    question = CoreReloc(0, asked.find("top"), "0:0:0", 0)
    assert resolve(asked, question, CoreTarget(target)).value is None
