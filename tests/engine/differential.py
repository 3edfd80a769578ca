"""The same random commands to a map of the kernel and to one of the engine: results, values, orders and tokens must agree.

Run as a program it does many: ``python tests/engine/differential.py --operations 1000000 --seed 1``.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bpf2py.engine import Engine
from bpf2py.errors import BpfError
from bpf2py.kernel.map import create_map
from bpf2py.kernel.syscall import kernel_version
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi import cpus
from bpf2py.uapi.map_types import MapFlags, MapType, type_info

CPUS = cpus.possible_cpus()
F = MapFlags
HASHES = (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
TYPES = (
    *HASHES, *HASHES, MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.QUEUE, MapType.STACK, MapType.LPM_TRIE, MapType.LPM_TRIE,
    MapType.BLOOM_FILTER, MapType.RINGBUF, MapType.USER_RINGBUF, MapType.STACK_TRACE, MapType.PROG_ARRAY,
    MapType.PERF_EVENT_ARRAY, MapType.CGROUP_ARRAY, MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS,
)  # fmt: skip
KEY_SIZES = (1, 3, 4, 4, 4, 5, 8, 8, 12, 13, 16, 20, 36)
VALUE_SIZES = (1, 2, 4, 7, 8, 8, 12, 16, 24, 40, 129)
UPDATE_FLAGS = (0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 8, 16, 1 << 32, 1 << 63)
LOOKUP_FLAGS = (0, 0, 0, 0, 0, 0, 4, 1, 2, 8, 1 << 40)


def running_kernel() -> str:
    """The version the engine is to simulate: this machine's."""
    return ".".join(str(part) for part in kernel_version())


class Difference(Exception):
    """The two did not agree."""


class Pool(NamedTuple):
    """Objects of both sides that can be values: (kernel's descriptor, engine's), ids on either side by position."""

    kernel: list[int]
    engine: list[int]
    kernel_ids: dict[int, int]
    engine_ids: dict[int, int]


class Pair:
    """A map of the kernel and one of the engine."""

    def __init__(
        self, engine: Engine, spec: MapSpec, rng: random.Random, kernel: Any, ours: Any, pool: Pool | None = None
    ) -> None:
        self.engine, self.spec, self.rng, self.pool = engine, spec, rng, pool
        self.kernel, self.ours = kernel, ours
        self.left, self.right = kernel.slot(), ours.slot()
        self.log: collections.deque[str] = collections.deque(maxlen=30)
        self.size = spec.key_size
        self.width = kernel.value_bytes
        self.keys = [self.make_key() for _ in range(rng.choice((3, 8, 20, 60)))]
        self.counts: collections.Counter[str] = collections.Counter()
        if (
            kernel.value_bytes != ours.value_bytes
            or kernel.info[:1] + kernel.info[2:6] != ours.info[:1] + ours.info[2:6]
        ):
            raise Difference(f"{spec}: facts differ: {kernel.info} {ours.info}")

    # -- material ------------------------------------------------------------------------------------------------

    def make_key(self) -> bytes:
        rng, kind = self.rng, self.spec.type
        if kind == MapType.LPM_TRIE:
            bits = (self.size - 4) * 8
            length = rng.choice((0, 1, 2, 7, 8, 9, bits - 1, bits, bits, rng.randint(0, bits), bits + 1))
            data = bytes(rng.choice((0, 0, 0x80, 0xFF, 0x40, rng.randrange(256))) for _ in range(self.size - 4))
            return max(length, 0).to_bytes(4, "little") + data
        if type_info(kind).key == "index" or kind == MapType.STACK_TRACE:
            index: int = rng.choice((*range(self.spec.max_entries + 2), 0xFFFFFFFF))
            return index.to_bytes(4, "little")
        return rng.randbytes(self.size) if rng.random() < 0.5 else bytes([rng.randrange(5), *bytes(36)])[: self.size]

    def key(self) -> bytes:
        key: bytes = self.rng.choice(self.keys)
        return key

    def value(self) -> tuple[bytes, bytes]:
        if self.pool is not None:
            at = self.rng.randrange(len(self.pool.kernel))
            pair = self.pool.kernel[at], self.pool.engine[at]
            return tuple((fd & 0xFFFFFFFF).to_bytes(4, "little") for fd in pair)  # type: ignore[return-value]
        data = self.rng.randbytes(self.width) if self.spec.type != MapType.BLOOM_FILTER else self.small()
        return data, data

    def small(self) -> bytes:
        return self.rng.randrange(40).to_bytes(max(self.width, 1), "little")[: self.width]

    # -- comparing -----------------------------------------------------------------------------------------------

    def same(self, what: str, left: Any, right: Any) -> None:
        self.counts[f"{what.split()[0]} {left if isinstance(left, int) else ''}"] += 1
        if left != right:
            raise Difference(
                f"{self.spec}\n  {what}: kernel {left!r}, engine {right!r}\n  after:\n    " + "\n    ".join(self.log)
            )

    def visible(self, data: bytes) -> bytes:
        """Without what means nothing."""
        return data

    def read(self, slot: Any, ids: dict[int, int] | None) -> bytes:
        data = self.visible(bytes(slot.value)[: self.width])
        return data if ids is None else ids.get(int.from_bytes(data, "little"), 99).to_bytes(4, "little")

    def same_value(self, what: str) -> None:
        pool = self.pool
        self.same(what, self.read(self.left, pool and pool.kernel_ids), self.read(self.right, pool and pool.engine_ids))

    def put(self, key: bytes | None, value: bool = False) -> str:
        for slot in (self.left, self.right):
            if key is not None:
                slot.key[:] = key
        if value:
            left, right = self.value()
            if self.width:
                self.left.value[:], self.right.value[:] = left, right
            return f"{key.hex() if key is not None else ''} {left.hex()[:40]}"
        return key.hex() if key is not None else ""

    # -- operations ----------------------------------------------------------------------------------------------

    def lookup(self) -> None:
        flags = self.rng.choice(LOOKUP_FLAGS)
        shown = self.put(self.key(), self.spec.type == MapType.BLOOM_FILTER)
        what = f"lookup {shown} flags {flags:#x}"
        self.log.append(what)
        left, right = self.left.lookup(flags), self.right.lookup(flags)
        self.same(what, left, right)
        if left == 0:
            self.same_value(what + " value")

    def update(self) -> None:
        flags = self.rng.choice(UPDATE_FLAGS)
        what = f"update {self.put(self.key(), True)} flags {flags:#x}"
        self.log.append(what)
        self.same(what, self.left.update(flags), self.right.update(flags))

    def plain_update(self) -> None:
        what = f"update {self.put(self.key(), True)}"
        self.log.append(what)
        left = 0 if self.left.fast_update() == 0 else -1
        right = 0 if self.right.fast_update() == 0 else -1
        self.same(what, left, right)

    def delete(self) -> None:
        what = f"delete {self.put(self.key())}"
        self.log.append(what)
        self.same(what, self.left.delete(), self.right.delete())

    def take(self) -> None:
        flags = self.rng.choice((0, 0, 0, 0, 4, 1))
        what = f"take {self.put(self.key())} flags {flags:#x}"
        self.log.append(what)
        left, right = self.left.lookup_and_delete(flags), self.right.lookup_and_delete(flags)
        self.same(what, left, right)
        if left == 0:
            self.same_value(what + " value")

    def next_key(self) -> None:
        first = self.rng.random() < 0.2
        what = f"next_key {'-' if first else self.put(self.key())}"
        self.log.append(what)
        left, right = self.left.get_next_key(first), self.right.get_next_key(first)
        self.same(what, left, right)
        if left == 0:
            self.same(what + " key", bytes(self.left.next_key), bytes(self.right.next_key))

    def walk(self) -> None:
        self.log.append("walk")
        orders = []
        for slot in (self.left, self.right):
            order: list[Any] = []
            first = True
            for _ in range(500):
                result = slot.get_next_key(first)
                if result:
                    order.append(result)
                    break
                first = False
                slot.key[:] = bytes(slot.next_key)
                order.append(bytes(slot.next_key))
            orders.append(order)
        self.same("walk", *orders)

    def batches(self) -> None:
        delete, flags = self.rng.random() < 0.2, self.rng.choice((0, 0, 0, 0, 4, 1))
        count = self.rng.choice((0, 1, 2, 3, 5, 8, 40, 100))
        token: list[bytearray | None] = [None, None]
        if self.rng.random() < 0.1:
            data = self.rng.choice(
                (bytes(max(4, self.size)), bytes([255]) * max(4, self.size), self.key().ljust(4, b"\0"))
            )
            token = [bytearray(data), bytearray(data)]
        for _ in range(40):
            what = f"{'drain' if delete else 'lookup_batch'} {count} flags {flags} from {token[0]!r}"
            self.log.append(what)
            answers = []
            for side, handle in enumerate((self.kernel, self.ours)):
                out, keys, values = (
                    bytearray(max(4, self.size)),
                    bytearray(count * self.size),
                    bytearray(count * self.width),
                )
                result, done = handle.lookup_batch(token[side], out, keys, values, count, flags, delete)
                valid = done if result in (0, -2) else 0
                content = self.visible(bytes(values[: valid * self.width]))
                if self.pool is not None:
                    ids = (self.pool.kernel_ids, self.pool.engine_ids)[side]
                    content = bytes(
                        ids.get(int.from_bytes(content[i : i + 4], "little"), 99) for i in range(0, len(content), 4)
                    )
                answers.append((result, done, bytes(keys[: valid * self.size]), content, bytes(out)))
                token[side] = out
            self.same(what, *answers)
            if answers[0][0] != 0 or not count:
                break

    def update_batch(self) -> None:
        count, flags = self.rng.choice((0, 1, 3, 10)), self.rng.choice((0, 0, 0, 1, 4))
        keys = b"".join(self.key() for _ in range(count))
        pairs = [self.value() for _ in range(count)]
        what = f"update_batch {keys.hex()} {b''.join(a for a, _ in pairs).hex()[:80]} flags {flags}"
        self.log.append(what)
        left = self.kernel.update_batch(bytearray(keys) or b"", b"".join(a for a, _ in pairs), count, flags)
        right = self.ours.update_batch(bytearray(keys) or b"", b"".join(b for _, b in pairs), count, flags)
        self.same(what, left, right)

    def delete_batch(self) -> None:
        count, flags = self.rng.choice((0, 1, 3, 10)), self.rng.choice((0, 0, 0, 1, 4))
        keys = b"".join(self.key() for _ in range(count))
        what = f"delete_batch {keys.hex()} flags {flags}"
        self.log.append(what)
        self.same(what, self.kernel.delete_batch(keys, count, flags), self.ours.delete_batch(keys, count, flags))

    def freeze(self) -> None:
        self.log.append("freeze")
        self.same("freeze", self.kernel.freeze(), self.ours.freeze())

    def run(self, operations: int) -> None:
        choices: list[tuple[Callable[[], None], int]] = [
            (self.lookup, 20), (self.update, 16), (self.plain_update, 16), (self.delete, 10), (self.take, 5), (self.next_key, 10),
            (self.walk, 1), (self.batches, 2), (self.update_batch, 2), (self.delete_batch, 1),
        ]  # fmt: skip
        functions, weights = [f for f, _ in choices], [w for _, w in choices]
        for index, function in enumerate(self.rng.choices(functions, weights, k=operations)):
            if CPUS > 1 and index % 12 == 0:
                cpu = self.rng.randrange(CPUS)
                os.sched_setaffinity(0, {cpu})
                self.engine.memory.u32[64] = cpu
                self.log.append(f"cpu {cpu}")
            function()
        if self.rng.random() < 0.05:
            self.freeze()
            for function in self.rng.choices(functions, weights, k=20):
                function()
            self.freeze()
        self.walk()

    def close(self) -> None:
        """Both sides."""
        self.kernel.close()
        self.ours.close()


def random_spec(rng: random.Random, kind: MapType) -> MapSpec:
    """A map of a type that the kernel makes."""
    entries = rng.choice((1, 2, 3, 4, 5, 8, 16, 33, 100))
    key, value, flags, extra = rng.choice(KEY_SIZES), rng.choice(VALUE_SIZES), 0, 0
    facts = type_info(kind)
    if kind in (*HASHES, MapType.HASH_OF_MAPS):
        flags |= F.ZERO_SEED
        if kind not in (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH):
            flags |= rng.choice((0, F.NO_PREALLOC))
        else:
            flags |= rng.choice((0, 0, F.NO_COMMON_LRU))
            entries = rng.choice((entries, entries, 300))
    elif kind == MapType.LPM_TRIE:
        key, flags = rng.choice((5, 8, 8, 12, 20)), F.NO_PREALLOC
    elif kind == MapType.BLOOM_FILTER:
        flags, extra = F.ZERO_SEED, rng.choice((0, 1, 3, 15))
    elif kind == MapType.ARRAY:
        flags |= rng.choice((0, F.MMAPABLE, F.INNER_MAP))
    elif kind in (MapType.RINGBUF, MapType.USER_RINGBUF):
        entries = 4096
    elif kind == MapType.STACK_TRACE:
        value = rng.choice((8, 16, 80))
    if facts.key_size is not None:
        key = facts.key_size
    if facts.value_size is not None:
        value = facts.value_size
    if rng.random() < 0.06 and kind not in (MapType.RINGBUF, MapType.USER_RINGBUF):
        flags |= rng.choice((F.RDONLY, F.WRONLY))
    return MapSpec("differ", kind, key, value, entries, flags, map_extra=extra)


def make_pool(engine: Engine, spec: MapSpec, keep: list[Any]) -> tuple[Pool | None, Any, Any]:
    """What maps of objects hold: (the objects, the kernel's inner map, the engine's)."""
    if spec.type not in (
        MapType.ARRAY_OF_MAPS,
        MapType.HASH_OF_MAPS,
        MapType.PROG_ARRAY,
        MapType.PERF_EVENT_ARRAY,
        MapType.CGROUP_ARRAY,
    ):
        return None, None, None
    if spec.type not in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        return Pool([-1, 1 << 20], [-1, 1 << 20], {}, {}), None, None
    kinds = [
        MapSpec("inner", MapType.ARRAY, 4, 8, 4), MapSpec("same", MapType.ARRAY, 4, 8, 4), MapSpec("third", MapType.ARRAY, 4, 8, 4),
        MapSpec("longer", MapType.ARRAY, 4, 8, 5), MapSpec("wider", MapType.ARRAY, 4, 16, 4),
        MapSpec("hash", MapType.HASH, 4, 8, 4),
    ]  # fmt: skip
    kernel, ours = [create_map(s, 0) for s in kinds], [engine.create_map(s) for s in kinds]
    keep += [*kernel, *ours]
    ids = [{made.info.id: i for i, made in enumerate(kernel)}, {made.info.id: i for i, made in enumerate(ours)}]
    pool = Pool([m.fd for m in kernel] + [-1], [m.fd for m in ours] + [-1], *ids)
    return pool, kernel[0], ours[0]


def run(seed: int, operations: int, per_map: int = 400, kinds: tuple[MapType, ...] = TYPES) -> collections.Counter[str]:
    """So many operations on maps of these types; what was compared. Raises Difference."""
    rng = random.Random(seed)
    engine = Engine(kernel=running_kernel(), possible_cpus=CPUS, seed=seed)
    affinity = os.sched_getaffinity(0)
    counts: collections.Counter[str] = collections.Counter()
    done = 0
    try:
        while done < operations:
            kind = rng.choice(kinds)
            spec = random_spec(rng, kind)
            keep: list[Any] = []
            pool, inner, our_inner = make_pool(engine, spec, keep)
            pair = Pair(
                engine,
                spec,
                rng,
                create_map(spec, 0, inner.fd if inner else 0),
                engine.create_map(spec, our_inner),
                pool,
            )
            number = rng.randint(1, per_map)
            try:
                pair.run(number)
            finally:
                counts += collections.Counter({f"{kind.name} {k}": n for k, n in pair.counts.items()})
                pair.close()
                for handle in keep:
                    handle.close()
            done += number
    finally:
        os.sched_setaffinity(0, affinity)
    return counts


def main() -> None:
    """The command line: differences are counted, not fatal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--types", nargs="*", default=[])
    options = parser.parse_args()
    kinds = tuple(MapType[name] for name in options.types) or TYPES
    counts: collections.Counter[str] = collections.Counter()
    differences = done = 0
    seed, step = options.seed, 5000
    while done < options.operations:
        try:
            counts += run(seed, step, kinds=kinds)
        except (Difference, BpfError) as error:
            differences += 1
            if differences <= 5:
                print(f"seed {seed}: {error}", flush=True)
        done += step
        seed += 1
    for name, number in sorted(counts.items()):
        print(f"{number:9} {name}")
    print(
        f"{done} operations, {sum(counts.values())} answers compared, {differences} runs with differences, seeds {options.seed}.."
    )
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
