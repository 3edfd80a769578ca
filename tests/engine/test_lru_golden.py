"""What was asked of real kernels is asked of the engine: sequences of map operations, and the kernels' answers line by line.

`golden/cases_SUITE.cpusN` holds operations for N possible CPUs, `golden/kernelV_SUITE.cpusN` what Linux V answered.

The format, a line each: ``M type max_entries flags`` makes a map; ``C cpu`` chooses the CPU; ``B u|l|d key value flags`` queues an
operation of a program, ``R`` runs the queue; ``S u|l|d|x|n key value flags`` is a command (x: look up and delete, n: next key);
``Sr a b flags`` sets keys a to b to eleven times themselves; ``D`` walks the map; ``L n`` and ``X n`` read it in batches of n, X
deleting; ``E`` ends the case. Keys and values are u32.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bpf2py.engine import Engine
from bpf2py.engine.maps import PROGRAM_SIDE
from bpf2py.spec.map_spec import MapSpec

GOLDEN = Path(__file__).parent / "golden"
ANSWERS = sorted(GOLDEN.glob("kernel*.txt.xz"))
ENOENT = -2
PER_CPU = (5, 10)
ZERO_SEED = 64


class Replay:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.map: Any = None
        self.slot: Any = None
        self.queue: list[tuple[str, int, int, int]] = []
        self.memory = engine.memory
        self.key = self.memory.allocate(64)
        self.value = self.key + 16

    def run(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            word, *rest = line.split() if not line.startswith("#") else ("#",)
            if word == "#":
                yield line
            elif word == "M":
                yield self.make(*map(int, rest))
            elif word == "C":
                self.memory.u32[64] = int(rest[0])
            elif word == "B":
                self.queue.append((rest[0], int(rest[1]), int(rest[2]), int(rest[3])))
            elif word == "R":
                if self.queue:
                    yield self.program()
            elif word == "S":
                yield self.command(rest[0], int(rest[1]), int(rest[2]), int(rest[3]))
            elif word == "Sr":
                yield self.fill(*map(int, rest))
            elif word == "D":
                yield self.walk()
            elif word in "LX":
                yield from self.batches(int(rest[0]), word)
            elif word == "E":
                self.map.close()
                yield "E"
            else:
                raise ValueError(line)

    def make(self, kind: int, entries: int, flags: int) -> str:
        self.map = self.engine.create_map(MapSpec("golden", kind, 4, 4, entries, flags))
        self.slot = self.map.slot()
        self.fill_value = self.engine.possible_cpus if kind in PER_CPU else 0
        self.functions = {
            letter: self.engine.operation(PROGRAM_SIDE[kind][f"map_{name}_elem"])
            for letter, name in (("u", "update"), ("l", "lookup"), ("d", "delete"))
        }
        return f"M {kind} {entries} {flags} -> max_entries {self.map.info.max_entries} ncpu {self.engine.possible_cpus}"

    def program(self) -> str:
        header, u32 = self.map.header, self.memory.u32
        fields = [f"B cpu{u32[64]}"]
        for letter, key, value, flags in self.queue:
            u32[self.key >> 2], u32[self.value >> 2] = key, value
            if letter == "u":
                fields.append(str(self.functions["u"](header, self.key, self.value, flags, 0)))
            elif letter == "d":
                fields.append(str(self.functions["d"](header, self.key, 0, 0, 0)))
            else:
                found = self.functions["l"](header, self.key, 0, 0, 0)
                fields.append(f"v{u32[found >> 2]}" if found else str(ENOENT))
        self.queue.clear()
        return " ".join(fields)

    def set_value(self, value: int) -> None:
        self.slot.value[:] = (
            value.to_bytes(4, "little") if not self.fill_value else value.to_bytes(8, "little") * self.fill_value
        )

    def command(self, letter: str, key: int, value: int, flags: int) -> str:
        slot = self.slot
        slot.key[:] = key.to_bytes(4, "little")
        if letter == "u":
            self.set_value(value)
            return f"Su {slot.update(flags)}"
        if letter == "d":
            return f"Sd {slot.delete()}"
        if letter == "n":
            result = slot.get_next_key(False)
            return f"Sn {result}" if result else f"Sn k{int.from_bytes(slot.next_key, 'little')}"
        result = slot.lookup(flags) if letter == "l" else slot.lookup_and_delete(flags)
        return f"S{letter} {result}" if result else f"S{letter} v{int.from_bytes(slot.value[:4], 'little')}"

    def fill(self, first: int, last: int, flags: int) -> str:
        good = bad = error = 0
        for key in range(first, last + 1):
            self.slot.key[:] = key.to_bytes(4, "little")
            self.set_value(11 * key & 0xFFFFFFFF)
            result = self.slot.update(flags)
            if result:
                bad += 1
                error = -result
            else:
                good += 1
        return f"Sr ok {good} fail {bad} errno {error}"

    def walk(self) -> str:
        slot, fields = self.slot, []
        first = True
        while slot.get_next_key(first) == 0:
            first = False
            slot.key[:] = slot.next_key
            if slot.lookup() == 0:
                fields.append(f"{int.from_bytes(slot.key, 'little')}:{int.from_bytes(slot.value[:4], 'little')}")
        return " ".join(["D", str(len(fields)), *fields])

    def batches(self, size: int, word: str) -> Iterator[str]:
        token: bytearray | None = None
        keys, values = bytearray(4 * size), bytearray(self.map.value_bytes * size)
        while True:
            out = bytearray(4)
            result, count = self.map.lookup_batch(token, out, keys, values, size, 0, word == "X")
            number = int.from_bytes(out, "little")
            found = [str(int.from_bytes(keys[4 * i : 4 * i + 4], "little")) for i in range(count)]
            yield " ".join([word, "rc", str(result), "n", str(count), "tok", str(number), *found])
            if result:
                return
            token = out


def comparable(lines: Iterable[str]) -> Iterator[str]:
    """Answers without what differs by chance: cases that ran on whichever CPU the scheduler chose (titles that start with
    ``#U``), and the order of maps with random seeds."""
    skip, seeded = False, False
    for line in lines:
        if line.startswith("#"):
            skip = line.startswith("#U")
        elif line.startswith("M "):
            seeded = not int(line.split()[3]) & ZERO_SEED
        if not skip:
            yield " ".join(sorted(line.split())) if seeded and line.startswith("D ") else line


def read(path: Path) -> list[str]:
    return lzma.decompress(path.read_bytes()).decode().splitlines()


def replay(answers: Path, **options: Any) -> tuple[list[str], list[str]]:
    """(what the engine answers, what the kernel answered)."""
    found = re.fullmatch(r"kernel([\d.]+)_(\w+)\.cpus(\d+)\.txt\.xz", answers.name)
    assert found is not None
    kernel, suite, cpus = found.groups()
    engine = Engine(kernel=options.pop("kernel", kernel), possible_cpus=int(cpus), **options)
    lines = Replay(engine).run(read(answers.parent / f"cases_{suite}.cpus{cpus}.txt.xz"))
    return list(comparable(lines)), list(comparable(read(answers)))


@pytest.mark.parametrize("answers", ANSWERS, ids=lambda path: path.name.split(".txt")[0])
def test_as_the_kernel_answered(answers: Path) -> None:
    got, expected = replay(answers)
    assert len(got) == len(expected)
    different = [(i, a, b) for i, (a, b) in enumerate(zip(got, expected, strict=True)) if a != b]
    assert not different, f"{len(different)} answers differ, the first: {different[0]}"


def test_the_variants_differ() -> None:
    """The vectors tell the two LRU variants apart."""
    got, expected = replay(GOLDEN / "kernel6.1_i.cpus4.txt.xz", kernel="6.12")
    assert got != expected
