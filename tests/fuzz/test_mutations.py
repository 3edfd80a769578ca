"""Damaged objects: whatever the bytes, the answer is a spec or a typed error, soon and in little memory."""

from __future__ import annotations

import os
import random
import resource
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest
from tests.linker.test_static import FIRST, SECOND

from bpf2py.btf.cdump import declaration, dump_c
from bpf2py.btf.codec import CodecOptions
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.dtype import dtype_of
from bpf2py.btf.reader import Btf
from bpf2py.elf.object_file import ElfFile
from bpf2py.errors import BpfError, BtfError, ObjectError
from bpf2py.kernel.btf import kernel_form
from bpf2py.linker.core import CoreTarget
from bpf2py.linker.link import Linker
from bpf2py.linker.static import link_objects
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain.compiler import Compiler, compile
from bpf2py.toolchain.find import ziglang_directory

SECONDS = 1.0  # of CPU for one input
MEGABYTES = 200
# `make fuzz` asks for a hundred thousand of each kind.
MUTATIONS = int(os.environ.get("BPF2PY_FUZZ", "1000" if os.environ.get("BPF2PY_EMULATED") == "1" else "8000"))
SEED = int(os.environ.get("BPF2PY_FUZZ_SEED", "0"))

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct inner { int x; union { int a; char b[4]; }; int bits : 5, more : 11; } __attribute__((preserve_access_index));
enum color { RED, GREEN = 7, BLUE = 1LL << 40 };
struct outer { struct inner one, many[3]; enum color color; char name[8]; void *p; struct outer *next; }
    __attribute__((preserve_access_index));
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct inner); __type(value, struct outer); }
    table SEC(".maps");
struct array { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, long); }
    small SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, int); __array(values, struct array); }
    of_maps SEC(".maps") = { .values = { [1] = &small } };
int entry(void *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __type(key, int); __array(values, int(void *)); }
    calls SEC(".maps") = { .values = { [0] = (void *)&entry } };
const volatile int limit = 3;
int counter;
char text[4] = "abc";
static long callback(void *map, void *key, void *value, void *ctx) { return counter; }
__noinline int helper(struct outer *o) { return BPF_CORE_READ_BITFIELD(&o->one, more) + o->next->many[1].x; }
SEC("socket") int entry(void *ctx) {
    struct outer *o = ctx;
    bpf_for_each_map_elem(&table, callback, &counter, 0);
    counter += bpf_core_enum_value_exists(enum color, BLUE) + bpf_core_type_size(struct outer) + text[limit & 3];
    return helper(o) + bpf_core_field_exists(o->color);
}
SEC("?tracepoint/a/b") int other(void *ctx) {
    bpf_tail_call(ctx, &calls, 1);
    return bpf_map_lookup_elem(&of_maps, ctx) ? helper(ctx) : 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
EMPTY_TARGET = CoreTarget(None)


def use_linked(data: bytes, target: CoreTarget, other: bytes) -> str:
    """A damaged object linked with a sound one; how it ended."""
    try:
        spec = ObjectSpec.from_bytes(data, "damaged")
    except ObjectError:
        return "refused"
    try:
        linked = link_objects([spec, ObjectSpec.from_bytes(other, "sound")])
        linker = Linker(linked, target)
        for program in linked.programs.values():
            linker.link(program)
    except BpfError:
        return "partly"
    return "loaded"


def use_btf(data: bytes) -> str:
    """Everything that is made of types alone; how it ended."""
    try:
        btf = Btf(data)
    except BtfError:
        return "refused"
    uses: list[Callable[[], object]] = [lambda: dump_c(btf), lambda: dump_c(btf, ["struct outer"])]
    spec = ObjectSpec()
    spec.types, spec.functions = btf, {}
    uses += [lambda: kernel_form(spec), lambda: kernel_form(spec, old_kernel=True)]
    for i in range(1, len(btf)):
        uses.append(lambda i=i: declaration(btf, i, "name"))  # type: ignore[misc]
        uses.append(lambda i=i: dtype_of(codec_for(btf, i)))  # type: ignore[misc]
    return run_all(uses)


def use(data: bytes, target: CoreTarget) -> str:
    """Everything that is made of an object before a backend sees it; how it ended."""
    try:
        spec = ObjectSpec.from_bytes(data)
    except ObjectError:
        return "refused"
    uses: list[Callable[[], object]] = [spec.copy]
    for where in (target, EMPTY_TARGET):
        linker = Linker(spec, where)
        uses += [lambda linker=linker, program=program: linker.link(program) for program in spec.programs.values()]  # type: ignore[misc]
    for spec_map in spec.maps.values():
        for type_id in (spec_map.key_type_id, spec_map.value_type_id):
            if spec_map.btf is not None and type_id:
                for options in (CodecOptions(), CodecOptions(key=True, chars="bytes")):
                    uses.append(lambda btf=spec_map.btf, i=type_id, o=options: codec_for(btf, i, o))  # type: ignore[misc]
    uses += [lambda variable=variable: variable.codec for variable in spec.variables.values()]  # type: ignore[misc]
    uses += [lambda variable=variable: variable.value for variable in spec.variables.values() if variable.size < 65536]  # type: ignore[misc]
    return run_all(uses)


def run_all(uses: list[Callable[[], object]]) -> str:
    """Do it all; whether typed errors came."""
    ended = "loaded"
    for action in uses:
        try:
            action()
        except BpfError:
            ended = "partly"
    return ended


DETAILED = (".BTF", ".BTF.ext", ".symtab", ".maps")


def mutants(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Random damage, half of it aimed at the sections that are parsed in detail and at the headers."""
    rng = random.Random(seed)
    spans = [(0, len(data))]
    if data.startswith(b"\x7fELF"):
        (headers,) = struct.unpack_from("<Q", data, 0x28)
        elf = ElfFile(data)
        spans = [(s.offset, s.size) for s in elf.sections if s.name in DETAILED or s.type == 9]
        spans += [(0, 64), (headers, len(data) - headers), (0, len(data))]
        spans += [(0, len(data))] * len(spans)
    words = (0, 1, 2, 4, 8, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data))
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            start, size = rng.choice(spans)
            at = min(start + rng.randrange(size), len(mutant) - 4)
            kind = rng.randrange(6)
            if kind == 0:
                mutant[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                mutant[at] = rng.randrange(256)
            elif kind == 2:
                struct.pack_into("<I", mutant, at & ~3, rng.choice(words))
            elif kind == 3:
                (word,) = struct.unpack_from("<I", mutant, at & ~3)
                struct.pack_into(
                    "<I", mutant, at & ~3, (word + rng.choice((-8, -1, 1, 8, 1 << 16, 1 << 24))) & 0xFFFFFFFF
                )
            elif kind == 4 and len(mutant) > 256:
                del mutant[at : at + rng.choice((1, 4, 8, 12, 24, 64))]
            else:
                chunk = mutant[at : at + rng.choice((4, 8, 12, 24, 64))]
                to = start + rng.randrange(size)
                if rng.random() < 0.5:
                    mutant[to : to + len(chunk)] = chunk
                else:
                    mutant[to:to] = chunk
        yield bytes(mutant)


def try_all(inputs: Iterator[bytes], run: Callable[[bytes], str]) -> tuple[dict[str, int], list[str]]:
    """How often each end came, and what must not have happened."""
    ended: dict[str, int] = {}
    wrong: list[str] = []
    for number, data in enumerate(inputs):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        try:
            end = run(data)
        except Exception:
            end = "crashed"
            wrong.append(f"input {number}: {traceback.format_exc(limit=-4)}")
        ended[end] = ended.get(end, 0) + 1
        if time.process_time() - started > SECONDS:
            wrong.append(f"input {number}: took {time.process_time() - started:.1f} s")
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) // 1024
        if grown > MEGABYTES:
            wrong.append(f"input {number}: took {grown} MB")
        if len(wrong) > 5:
            break
    return ended, wrong


def user_of(data: bytes, other: bytes | None) -> Callable[[bytes], str]:
    """What is done with damaged `data`: an object alone, an object linked with `other`, or types."""
    if not data.startswith(b"\x7fELF"):
        return use_btf
    target = CoreTarget(Btf(target_of(data), name="target"))
    return partial(use, target=target) if other is None else partial(use_linked, target=target, other=other)


def try_mutants(data: bytes, other: bytes | None, seed: int, count: int) -> tuple[dict[str, int], list[str]]:
    return try_all(mutants(data, seed, count), user_of(data, other))


def try_truncated(data: bytes, other: bytes | None, first: int, step: int) -> tuple[dict[str, int], list[str]]:
    return try_all((data[:length] for length in range(first, len(data), step)), user_of(data, other))


def target_of(data: bytes) -> bytes:
    section = ElfFile(data).find(".BTF")
    assert section is not None
    return section.data


@pytest.fixture(scope="module")
def seedlings(compile_bpf: Callable[[str], bytes]) -> list[bytes]:
    """Small objects with a bit of everything, of the usual compiler and of ziglang; undamaged they load and link."""
    wheel = ziglang_directory()
    assert wheel is not None
    found = [compile_bpf(SOURCE), compile(SOURCE, compiler=Compiler("zig", (str(wheel / "zig"), "cc")))]
    assert [use(data, CoreTarget(Btf(target_of(data)))) for data in found] == ["loaded", "loaded"]
    return found


def run_pool(
    task: Callable[..., tuple[dict[str, int], list[str]]], jobs: list[tuple[bytes, bytes | None, int, int]]
) -> dict[str, int]:
    total: dict[str, int] = {}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for ended, wrong in pool.map(task, *zip(*jobs, strict=True)):
            assert not wrong, "\n".join(wrong)
            for end, count in ended.items():
                total[end] = total.get(end, 0) + count
    return total


def run_mutants(
    data: list[bytes], other: bytes | None, mutations: int, ends: tuple[str, ...] = ("refused", "partly", "loaded")
) -> None:
    """Damage each of `data` in turn, in four jobs; damage that always or never shows would test little."""
    jobs = [(data[n % len(data)], other, SEED + n, mutations // 4) for n in range(4)]
    total = run_pool(try_mutants, jobs)
    assert sum(total.values()) == mutations // 4 * 4
    assert all(total.get(end, 0) > mutations // 1000 for end in ends), total


def test_every_truncation(seedlings: list[bytes]) -> None:
    total = run_pool(try_truncated, [(data, None, 0, 1) for data in seedlings])
    # The section headers stand at the end of the file: nothing shorter can be read.
    assert total == {"refused": sum(map(len, seedlings))}


def test_damaged_objects(seedlings: list[bytes]) -> None:
    run_mutants(seedlings, None, MUTATIONS)


def test_damaged_types(seedlings: list[bytes]) -> None:
    run_mutants([target_of(data) for data in seedlings], None, MUTATIONS // 2, ("refused", "partly"))


def test_damage_in_static_linking(compile_bpf: Callable[[str], bytes]) -> None:
    run_mutants([compile_bpf(FIRST)], compile_bpf(SECOND), MUTATIONS // 2)
