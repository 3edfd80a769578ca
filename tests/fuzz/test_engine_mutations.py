"""Damaged objects on the engine: whatever the bytes, loading and running end soon, with a typed error or a result."""

from __future__ import annotations

import random
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.fuzz.test_mutations import MUTATIONS, SEED, SOURCE, mutants, run_pool, try_all

from bpf2py.elf.object_file import ElfFile
from bpf2py.engine import Engine, Task
from bpf2py.errors import BpfError
from bpf2py.loading import load
from bpf2py.spec.object_spec import ObjectSpec

ENGINE_TESTS = Path(__file__).parents[1] / "engine"
SOURCES = ["features.bpf.c", "helpers.bpf.c", "packets.bpf.c"]
FUEL = 20_000
PACKETS = [bytes(64), bytes(12) + b"\x08\x00" + bytes(60)]


def damaged_code(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Damage to the instructions alone, most of it plausible: another register, offset, operation, number or place."""
    rng = random.Random(seed)
    elf = ElfFile(data)
    places = [s.offset + at for s in elf.sections if s.executable for at in range(0, s.size, 8)]
    relocations = [s.offset + at for s in elf.sections if s.type == 9 for at in range(0, s.size - 15, 16)]
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.choice(places)
            kind = rng.randrange(8)
            if kind == 0:
                mutant[at] = mutant[rng.choice(places)]
            elif kind == 1:
                mutant[at + 1] = rng.randrange(11) | rng.randrange(12) << 4
            elif kind == 2:
                struct.pack_into(
                    "<h", mutant, at + 2, rng.choice((0, 1, -1, -2, -8, 8, 0x7FFF, rng.randrange(-64, 64)))
                )
            elif kind == 3:
                struct.pack_into(
                    "<i", mutant, at + 4, rng.choice((0, 1, -1, 2, 1 << 30, -(1 << 31), rng.randrange(250)))
                )
            elif kind == 4:
                other = rng.choice(places)
                mutant[at : at + 8] = mutant[other : other + 8]
            elif kind == 5 and relocations:
                struct.pack_into("<Q", mutant, rng.choice(relocations), rng.randrange(0, 256))
            elif kind == 6:
                mutant[at] = rng.randrange(256)
            else:
                mutant[at : at + 8] = struct.pack("<BBhi", 0x85, rng.randrange(4) << 4, 0, rng.randrange(220))
        yield bytes(mutant)


def use(data: bytes, translator: str) -> str:
    """Load it, run every program, look at every map; how it ended. Where a program is refused the others are loaded without it."""
    engine = Engine(translator=translator, clock=1000, fuel=FUEL, task=Task(7))
    ended = "loaded"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spec = ObjectSpec.from_bytes(data)
        except BpfError:
            return "refused"
        while True:
            try:
                obj = load(spec, engine)
                break
            except BpfError as error:
                ended = "partly"
                culprit = re.match(r"program (\w+):", str(error))
                program = spec.programs.get(culprit[1]) if culprit is not None else None
                if program is None or not program.autoload:
                    return "refused"
                program.autoload = False
        with obj:
            for each in obj.programs.values():
                uses: list[Callable[[], object]] = [partial(each.run, data=packet) for packet in PACKETS]
                uses += [partial(each.run, bytes(96)), each.attach, partial(engine.advance, 1 << 40)]
                uses += [lambda each=each: each.info]  # type: ignore[misc]
                for action in uses:
                    try:
                        action()
                    except BpfError:
                        ended = "partly"
    engine.settle()
    return ended


def try_code(data: bytes, translator: str, seed: int, count: int) -> tuple[dict[str, int], list[str]]:
    return try_all(damaged_code(data, seed, count), partial(use, translator=translator))


def try_file(data: bytes, translator: str, seed: int, count: int) -> tuple[dict[str, int], list[str]]:
    return try_all(mutants(data, seed, count), partial(use, translator=translator))


@pytest.fixture(scope="module")
def objects(compile_bpf: Callable[[str], bytes]) -> list[bytes]:
    found = [compile_bpf((ENGINE_TESTS / name).read_text()) for name in SOURCES]
    return [*found, compile_bpf(SOURCE)]


@pytest.mark.parametrize("translator", ["native", "python"])
def test_damaged_code(objects: list[bytes], translator: str) -> None:
    each = max(MUTATIONS // 200, 10)
    total = run_pool(try_code, [(data, translator, SEED + n, each) for n, data in enumerate(objects)])  # type: ignore[misc]
    assert total["refused"]
    assert total.get("loaded", 0) + total.get("partly", 0)


def test_damaged_files(objects: list[bytes]) -> None:
    each = max(MUTATIONS // 200, 10)
    total = run_pool(try_file, [(data, "native", SEED + n, each) for n, data in enumerate(objects)])  # type: ignore[misc]
    assert total["refused"]
