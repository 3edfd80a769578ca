"""Damaged input of every other kind: whatever it is, the answer is a value or a typed error, soon and in little memory."""

from __future__ import annotations

import functools
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz.test_mutations import MUTATIONS, SEED, SOURCE, mutants, try_all

from bpf2py.btf.cdump import dump_c
from bpf2py.btf.codec import BoolCodec, BytesCodec, CharArrayCodec, Codec, CodecOptions, FloatCodec, IntCodec
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.declare import codec_of
from bpf2py.btf.reader import Btf
from bpf2py.cli.render import cell, to_json
from bpf2py.cli.values import from_json, parse
from bpf2py.codegen.module import generate
from bpf2py.codegen.strip import strip
from bpf2py.engine.trace.pcap import read_packets
from bpf2py.errors import BpfError, EncodeError
from bpf2py.isa.disasm import disassemble
from bpf2py.kernel.elf_symbols import matching_offsets, symbol_offset
from bpf2py.kernel.usdt_args import parse_args as parse_usdt
from bpf2py.kernel.usdt_notes import read_notes
from bpf2py.kernel.verifier_log import hint_for, summarize
from bpf2py.linker.core import CoreTarget
from bpf2py.linker.kconfig import _parse as parse_kconfig
from bpf2py.printable import printable
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain.cache import Cache, Entry
from bpf2py.toolchain.compiler import _dependencies, compile
from bpf2py.toolchain.headers import reach

HERE = Path(__file__).parent
LOG = """func#0 @0
0: R1=ctx() R10=fp0
; int *value = bpf_map_lookup_elem(&counts, &key); @ a.bpf.c:12
0: (85) call bpf_map_lookup_elem#1     ; R0_w=map_value_or_null(id=1,map=counts,ks=4,vs=4)
1: (61) r1 = *(u32 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


@functools.cache
def scratch() -> Path:
    """A directory of this process."""
    return Path(tempfile.mkdtemp(prefix="bpf2py-fuzz-"))


def as_file(data: bytes) -> str:
    path = scratch() / "input"
    path.write_bytes(data)
    return str(path)


def typed(action: Callable[[], object]) -> str:
    try:
        action()
    except BpfError:
        return "refused"
    return "taken"


# -- what is done with each kind of input ---------------------------------------------------------------------------


def use_gen(data: bytes) -> str:
    """A generated module, which is Python whatever the object says."""
    try:
        spec = ObjectSpec.from_bytes(data)
        strip(data)
        text = generate("x", spec, "x.o", "x.bpf.c", None, ())
    except BpfError:
        return "refused"
    builtins_compile(text, "x.py", "exec")
    _ = spec.arch
    return "taken"


def use_btf_file(data: bytes) -> str:
    """A BTF file named by the user: as types to dump, and as a target of relocations."""

    def action() -> None:
        btf = Btf.from_elf_or_raw(data)
        dump_c(btf, ["outer"])
        CoreTarget(btf).candidates("outer", btf.type(btf.find("outer")).kind)
        for name in ("outer", "struct inner", "enum color", "outer[3]", "nothing"):
            with_error(lambda name=name: codec_of(name, CodecOptions(), btf))  # type: ignore[misc]

    return typed(action)


def with_error(action: Callable[[], object]) -> None:
    try:
        action()
    except BpfError:
        pass


def use_capture(data: bytes) -> str:
    def action() -> None:
        for number, packet in enumerate(read_packets(as_file(data))):
            assert isinstance(packet.data, bytes)
            if number > 10_000:
                break

    return typed(action)


def use_binary(data: bytes) -> str:
    path, ends = as_file(data), set()
    for action in (
        lambda: read_notes("test", path),
        lambda: symbol_offset("test", path, "main"),
        lambda: matching_offsets("test", path, "m*"),
    ):
        ends.add(typed(action))
    return "taken" if "taken" in ends else "refused"


def use_usdt_args(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    ends = {typed(lambda machine=machine: parse_usdt("test", text, machine)) for machine in ("x86_64", "aarch64")}  # type: ignore[misc]
    return "taken" if "taken" in ends else "refused"


def use_cache_entry(data: bytes) -> str:
    cache = Cache(scratch() / "cache")
    path = scratch() / "cache" / "objects" / "aa" / "aabb"
    if not path.exists():
        cache.put("aabb", Entry(b"object", ""), files=[])
    path.write_bytes(data)
    return "refused" if cache.get("aabb") is None else "taken"


def use_depfile(data: bytes) -> str:
    return "taken" if all(isinstance(name, str) for name in _dependencies(data)) else "refused"


def use_source(data: bytes) -> str:
    reach(data, "/nowhere", [])
    return "taken"


@functools.cache
def codecs() -> list[Codec[Any]]:
    types = ObjectSpec.from_bytes(compile(SOURCE)).types
    assert types is not None
    found: list[Codec[Any]] = [
        IntCodec("u32", 4, False),
        BoolCodec("bool"),
        CharArrayCodec(8, CodecOptions()),
        BytesCodec(5),
    ]
    names = ("outer", "inner", "color")
    found += [codec_for(types, types.find(name), CodecOptions(key=key)) for name in names for key in (False, True)]
    return [*found, FloatCodec("double", 8), codec_of("u16[3]")]


def use_value(data: bytes) -> str:
    text, ends = data.decode("utf-8", "surrogateescape"), set()
    for codec in codecs():
        try:
            value = parse(codec, text, "key")
        except BpfError as error:
            printable(str(error))
            ends.add("refused")
            continue
        encoded = codec.encode(value)
        assert len(encoded) == codec.size
        decoded = codec.decode(encoded)
        assert all(c.isprintable() for c in cell(decoded))
        json.dumps(to_json(decoded))
        ends.add("taken")
    return "taken" if "taken" in ends else "refused"


def use_json_line(data: bytes) -> str:
    """A line of a file for `map import`."""
    ends = "refused"
    for codec in codecs():
        try:
            codec.encode(from_json(codec, json.loads(data)["value"]))
            ends = "taken"
        except (BpfError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            continue  # what the command turns into one error with the line's number
    return ends


def use_values(data: bytes) -> str:
    """Bytes of a map, decoded, shown, and encoded again."""
    for codec in codecs():
        raw = (data * (codec.size // max(len(data), 1) + 1))[: codec.size].ljust(codec.size, b"\0")
        value = codec.decode(raw)
        cell(value)
        to_json(value)
        codec.encode(value)
    return "taken"


def use_log(data: bytes) -> str:
    summary = summarize(data.decode("utf-8", "replace"))
    return "taken" if hint_for(summary) is not None else "refused"


def use_kconfig(data: bytes) -> str:
    text, ends = data.decode("utf-8", "replace"), set()
    for codec in codecs()[:5]:
        try:
            assert len(parse_kconfig(codec, text)) == codec.size
            ends.add("taken")
        except EncodeError:
            ends.add("refused")
    return "taken" if "taken" in ends else "refused"


def use_code(data: bytes) -> str:
    lines = [str(line) for line in disassemble(data)]
    return "refused" if any(".bytes" in line for line in lines) else "taken"


builtins_compile = __builtins__["compile"] if isinstance(__builtins__, dict) else __builtins__.compile


# -- undamaged input ------------------------------------------------------------------------------------------------


def captures() -> list[bytes]:
    packet = bytes(range(60))
    classic = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 1, 2, 60, 60) + packet

    def block(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, struct.pack("<HHI", 1, 0, 65535) + struct.pack("<HHB3xHH", 9, 1, 9, 0, 0))
    enhanced = block(6, struct.pack("<IIIII", 0, 1, 2, 60, 60) + packet)
    simple = block(3, struct.pack("<I", 60) + packet)
    return [classic, section + interface + enhanced + simple + enhanced]


def binary() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="bpf2py-fuzz-"))
    cc = shutil.which("cc")
    command = [cc] if cc is not None else [sys.executable, "-m", "ziglang", "cc"]
    source = HERE.parent / "attach" / "usdt_target.c"
    subprocess.run([*command, "-O1", "-o", str(folder / "target"), str(source)], check=True, capture_output=True)
    data = (folder / "target").read_bytes()
    shutil.rmtree(folder)
    return data


def cache_entry() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Cache(Path(folder)).put("aabb", Entry(b"object\n" * 4, "warned"), files=[__file__], absent=["/no/such/file"])
        return (Path(folder) / "objects" / "aa" / "aabb").read_bytes()


def code_of(data: bytes) -> bytes:
    return b"".join(bytes(function.code) for function in ObjectSpec.from_bytes(data).functions.values())


def btf_of(data: bytes) -> bytes:
    types = ObjectSpec.from_bytes(data).types
    assert types is not None
    return bytes(types.data)


VALUES = (
    b"5", b"-1", b"0x1f", b"bash", b"1.5", b"true", b"hex:00 01 02 03 04", b'{"x": 1, "a": 2}', b"x=1,bits=3,more=4", b"GREEN",
    b"[1, 2, 3]",
    b'{"one": {"x": 1}, "many": [{"x": 1}, {"x": 2}, {"x": 3}], "color": "RED", "name": "ab", "p": 0, "next": 0}',
)  # fmt: skip
TARGETS: dict[str, tuple[Callable[[bytes], str], Callable[[], list[bytes]], tuple[str, ...]]] = {
    "gen": (use_gen, lambda: [compile(SOURCE)], ("refused", "taken")),
    "btf-file": (use_btf_file, lambda: [btf_of(compile(SOURCE)), compile(SOURCE)], ("refused", "taken")),
    "capture": (use_capture, captures, ("refused", "taken")),
    "binary": (use_binary, lambda: [binary()], ("refused", "taken")),
    "usdt-args": (use_usdt_args, lambda: [b"-4@%edi 8@16(%rsp) 4@-8(%rax,%rbx,4)", b"8@x0 4@[sp, 12] -4@w3"], ("refused", "taken")),
    "cache": (use_cache_entry, lambda: [cache_entry()], ("refused", "taken")),
    "depfile": (use_depfile, lambda: [b"out.o: /a/b.c \\\n  /with\\ blank/x.h \\\n /dollar$$/y\\#.h\n"], ("taken",)),
    "source": (use_source, lambda: [b'#include "a.h"\n#include <b.h>\nextern int f(int x) __ksym __weak;\n'],
               ("taken",)),
    "value": (use_value, lambda: list(VALUES), ("refused", "taken")),
    "json-line": (use_json_line, lambda: [b'{"key": 1, "value": ' + value + b"}" for value in VALUES[-4:]], ("refused", "taken")),
    "map-bytes": (use_values, lambda: [bytes(range(256))], ("taken",)),
    "verifier-log": (use_log, lambda: [LOG.encode()], ("refused", "taken")),
    "kconfig": (use_kconfig, lambda: [b"y", b"m", b'"a string"', b"0x1000", b"-5", b"250"], ("refused", "taken")),
    "bytecode": (use_code, lambda: [code_of(compile(SOURCE))], ("refused", "taken")),
}  # fmt: skip


def damaged_text(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Damage for short texts: pieces repeated, removed, swapped, and what is special to one reader or another."""
    rng = random.Random(seed)
    special = [b"[", b"{", b'"', b"\\", b"=", b",", b"\0", b"\xff", b"%s", b"\x1b[2J", b"0x", b"-", b"e9999", b"@", b"(", b"9" * 40,
               b"\xc3\xa9", b"\n", b"nan", b"null", b"hex:", b"[" * 5000]  # fmt: skip
    for _ in range(count):
        text = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(text) + 1)
            kind = rng.randrange(4)
            if kind == 0 and len(text) > 1:
                del text[at : at + rng.choice((1, 2, 8))]
            elif kind == 1:
                text[at:at] = rng.choice(special)
            elif kind == 2:
                text[at:at] = text[at : at + rng.choice((1, 4, 16))] * rng.choice((1, 2, 50))
            elif text:
                text[at % len(text)] = rng.randrange(256)
        yield bytes(text)


def run_target(name: str, data: bytes, seed: int, count: int) -> tuple[dict[str, int], list[str]]:
    damage = mutants if len(data) > 256 else damaged_text
    return try_all(damage(data, seed, count), TARGETS[name][0])


@pytest.mark.parametrize("name", TARGETS)
def test_damaged(name: str) -> None:
    use, seeds, ends = TARGETS[name]
    found = seeds()
    assert {use(data) for data in found} <= {"taken", "refused"}
    count = MUTATIONS // 10 // len(found)
    total: dict[str, int] = {}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        jobs = [(name, data, SEED + number, count) for number, data in enumerate(found)]
        for ended, wrong in pool.map(run_target, *zip(*jobs, strict=True)):
            assert not wrong, "\n".join(wrong)
            for end, number in ended.items():
                total[end] = total.get(end, 0) + number
    assert all(total.get(end) for end in ends), total
