"""Programs that work on maps, on the kernel and on the engine, mixed with commands: as `differential`, from the other side.

``python tests/engine/program_differential.py --operations 100000 --seed 1``
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import struct
import sys
import time
from typing import Any

import bpf2py
from bpf2py import MapFlags, MapType, ObjectSpec
from bpf2py.engine import Engine
from bpf2py.errors import BpfError
from bpf2py.uapi.map_types import type_info

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.engine.differential import CPUS, HASHES, Difference, Pair, running_kernel

OPERATIONS = 12
KEY, VALUE = 16, 40  # room for them
OP = struct.Struct(f"<IIQ{KEY}s{VALUE}sq{VALUE}s")
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct op { __u32 code, cpu; __u64 flags; __u8 key[16], value[40]; __s64 result; __u8 out[40]; };
struct io { __u64 count; struct op ops[12]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct io); } io SEC(".maps");
struct key { __u8 bytes[KEY_BYTES]; };
struct value { __u8 bytes[VALUE_BYTES]; };
struct {
	__uint(type, TYPE);
	__uint(max_entries, 8);
	__uint(map_flags, FLAGS);
#ifndef NO_KEY
	__uint(key_size, KEY_BYTES);
#endif
	__uint(value_size, VALUE_BYTES);
} m SEC(".maps");

static void take(struct op *op, struct value *found)
{
	if (!found)
		return;
	op->result = 1;
	__builtin_memcpy(op->out, found, VALUE_BYTES);
}

#ifdef FOR_EACH
struct sum { __u64 order; __u64 seen; __u64 stop; };
static long add(void *map, struct key *key, struct value *value, struct sum *sum)
{
	sum->order = sum->order * 31 + key->bytes[0] + 7 * (__u64)value->bytes[0];
	return ++sum->seen == sum->stop;
}
static long remove(void *map, struct key *key, struct value *value, struct sum *sum)
{
	sum->order = sum->order * 31 + key->bytes[0];
	bpf_map_delete_elem(map, key);
	return 0;
}
#endif

static void work(struct op *op)
{
	struct value *found;

	switch (op->code) {
#ifndef NO_KEY
	case 0:
		take(op, bpf_map_lookup_elem(&m, op->key));
		return;
	case 1:
		op->result = bpf_map_update_elem(&m, op->key, op->value, op->flags);
		return;
	case 2:
		op->result = bpf_map_delete_elem(&m, op->key);
		return;
	case 3: /* what a pointer shows once its element was replaced */
		found = bpf_map_lookup_elem(&m, op->key);
		if (!found)
			return;
		op->result = bpf_map_update_elem(&m, op->key, op->value, op->flags);
		__builtin_memcpy(op->out, found, VALUE_BYTES);
		return;
	case 4: /* in place */
		found = bpf_map_lookup_elem(&m, op->key);
		if (!found)
			return;
		__builtin_memcpy(found, op->value, VALUE_BYTES);
		op->result = 1;
		return;
	case 5: /* what a pointer shows once its element was deleted and another was made */
		found = bpf_map_lookup_elem(&m, op->key);
		if (!found)
			return;
		op->result = bpf_map_delete_elem(&m, op->key);
		op->key[0] ^= 1;
		op->result += 1000 * bpf_map_update_elem(&m, op->key, op->value, 0);
		op->key[0] ^= 1;
#ifdef STALE
		__builtin_memcpy(op->out, found, VALUE_BYTES);
#endif
		return;
#endif
#ifdef PER_CPU
	case 6:
		take(op, bpf_map_lookup_percpu_elem(&m, op->key, op->cpu));
		return;
#endif
#ifdef FOR_EACH
	case 7: {
		struct sum sum = {.stop = op->cpu};
		op->result = bpf_for_each_map_elem(&m, add, &sum, op->flags & 1);
		__builtin_memcpy(op->out, &sum, 16);
		return;
	}
#ifdef REMOVE
	case 8: {
		struct sum sum = {};
		op->result = bpf_for_each_map_elem(&m, remove, &sum, 0);
		__builtin_memcpy(op->out, &sum, 16);
		return;
	}
#endif
#endif
#ifdef PUSH
	case 9:
		op->result = bpf_map_push_elem(&m, op->value, op->flags);
		return;
	case 10:
		op->result = bpf_map_peek_elem(&m, op->out);
		return;
#ifdef POP
	case 11:
		op->result = bpf_map_pop_elem(&m, op->out);
		return;
#endif
#endif
	}
}

SEC("tc")
int run(void *ctx)
{
	__u32 zero = 0;
	struct io *at = bpf_map_lookup_elem(&io, &zero);
	if (!at)
		return 0;
	for (__u32 i = 0; i < 12; i++) {
		if (i >= at->count)
			break;
		work(&at->ops[i]);
	}
	return 0;
}
"""

# (type, flags, codes, definitions)
KEYED = (0, 0, 0, 1, 1, 1, 2, 3, 4)
CONFIGURATIONS: list[tuple[MapType, int, tuple[int, ...], str]] = [
    (MapType.HASH, MapFlags.ZERO_SEED, (*KEYED, 5, 7, 8), "-DFOR_EACH -DREMOVE -DSTALE"),
    (MapType.HASH, MapFlags.ZERO_SEED | MapFlags.NO_PREALLOC, (*KEYED, 7, 8), "-DFOR_EACH -DREMOVE"),
    (MapType.PERCPU_HASH, MapFlags.ZERO_SEED, (*KEYED, 6, 7, 8), "-DFOR_EACH -DREMOVE -DPER_CPU"),
    (
        MapType.PERCPU_HASH,
        MapFlags.ZERO_SEED | MapFlags.NO_PREALLOC,
        (*KEYED, 6, 7, 8),
        "-DFOR_EACH -DREMOVE -DPER_CPU",
    ),
    (MapType.LRU_HASH, MapFlags.ZERO_SEED, (*KEYED, 7, 8), "-DFOR_EACH -DREMOVE"),
    (MapType.LRU_HASH, MapFlags.ZERO_SEED | MapFlags.NO_COMMON_LRU, (*KEYED, 7, 8), "-DFOR_EACH -DREMOVE"),
    (MapType.LRU_PERCPU_HASH, MapFlags.ZERO_SEED, (*KEYED, 6, 7, 8), "-DFOR_EACH -DREMOVE -DPER_CPU"),
    (MapType.ARRAY, 0, (*KEYED, 7), "-DFOR_EACH"),
    (MapType.PERCPU_ARRAY, 0, (*KEYED, 6, 7), "-DFOR_EACH -DPER_CPU"),
    (MapType.LPM_TRIE, MapFlags.NO_PREALLOC, (0, 0, 0, 1, 1, 1, 2, 4), ""),
    (MapType.QUEUE, 0, (9, 9, 9, 10, 11), "-DNO_KEY -DPUSH -DPOP"),
    (MapType.STACK, 0, (9, 9, 9, 10, 11), "-DNO_KEY -DPUSH -DPOP"),
    (MapType.BLOOM_FILTER, MapFlags.ZERO_SEED, (9, 10), "-DNO_KEY -DPUSH"),
]
FLAG_CHOICES = (0, 0, 0, 0, 1, 2, 3, 4, 8, 1 << 32)


class ProgramPair(Pair):
    """A map of each, and a program that uses it."""

    def __init__(self, engine: Engine, spec: ObjectSpec, rng: random.Random, codes: tuple[int, ...]) -> None:
        self.objects = [bpf2py.load(spec.copy()), bpf2py.load(spec.copy(), backend=engine)]
        kernel, ours = (found.maps["m"]._handle for found in self.objects)
        super().__init__(engine, spec.maps["m"], rng, kernel, ours)
        self.codes = codes

    def program(self) -> None:
        rng, rows = self.rng, []
        for _ in range(rng.randint(1, OPERATIONS)):
            key, (value, _) = self.key() if self.size else b"", self.value()
            code, flags, cpu = rng.choice(self.codes), rng.choice(FLAG_CHOICES), rng.randrange(CPUS + 2)
            rows.append((code, cpu, flags, key, value[: self.spec.value_size]))
        data = struct.pack("<Q", len(rows)) + b"".join(OP.pack(*row, -77, b"") for row in rows)
        self.log.append(
            "program " + " ".join(f"[{c} cpu {u} flags {f:#x} {k.hex()} {v.hex()[:16]}]" for c, u, f, k, v in rows)
        )
        answers = []
        for found in self.objects:
            io = found.maps["io"]
            io[0] = data.ljust(io.value_size, b"\0")
            found.programs["run"].test_run(bytes(14))
            answers.append(self.contents(io))
        left, right = ([OP.unpack_from(a, 8 + i * OP.size)[5:] for i in range(len(rows))] for a in answers)
        for i, row in enumerate(rows):
            self.same(f"program-{row[0]} operation {i}", left[i], right[i])
            self.counts[f"program-{row[0]}"] += 1

    @staticmethod
    def contents(io: Any) -> bytes:
        slot = io._handle.slot()
        slot.key[:] = bytes(4)
        assert slot.lookup() == 0
        return bytes(slot.value)

    def run(self, operations: int) -> None:
        for index in range(operations):
            if CPUS > 1 and index % 3 == 0:
                cpu = self.rng.randrange(CPUS)
                os.sched_setaffinity(0, {cpu})
                self.engine.memory.u32[64] = cpu
                self.log.append(f"cpu {cpu}")
            self.program()
            if self.rng.random() < 0.3:
                self.rng.choice(
                    (self.lookup, self.update, self.delete, self.walk, self.batches, self.next_key, self.take)
                )()
        self.walk()

    def visible(self, data: bytes) -> bytes:
        """Padding behind a CPU's value is what was on the program's stack."""
        size = self.spec.value_size
        if not type_info(self.spec.type).per_cpu or size % 8 == 0:
            return data
        step = (size + 7) // 8 * 8
        return b"".join(data[at : at + size] for at in range(0, len(data), step))

    def make_key(self) -> bytes:
        key = super().make_key()
        return key if self.spec.type != MapType.HASH else key[:1] + bytes(1) + key[2:]

    def close(self) -> None:
        for found in self.objects:
            found.close()


def compiled(kind: MapType, flags: int, definitions: str, key: int, value: int) -> ObjectSpec:
    text = "".join(f"#define {d[2:]}\n" for d in definitions.split())
    numbers = {"TYPE": f"BPF_MAP_TYPE_{kind.name}", "FLAGS": int(flags), "KEY_BYTES": key, "VALUE_BYTES": value}
    text += "".join(f"#define {name} {number}\n" for name, number in numbers.items())
    return ObjectSpec.from_bytes(bpf2py.compile(text + SOURCE))


def run(seed: int, operations: int, per_map: int = 60, only: MapType | None = None) -> collections.Counter[str]:
    """About so many operations of programs. Raises Difference."""
    rng = random.Random(seed)
    engine = Engine(kernel=running_kernel(), possible_cpus=CPUS, seed=seed)
    affinity = os.sched_getaffinity(0)
    counts: collections.Counter[str] = collections.Counter()
    done = 0
    try:
        while done < operations:
            kind, flags, codes, definitions = rng.choice([c for c in CONFIGURATIONS if only in (None, c[0])])
            key = 4 if "ARRAY" in kind.name else 8 if kind == MapType.LPM_TRIE else rng.choice((4, 8, 13, 16))
            spec = compiled(kind, flags, definitions, key, rng.choice((4, 8, 24)))
            spec.maps["m"].max_entries = rng.choice((1, 2, 3, 5, 16, 40, 200 if kind in HASHES else 40))
            pair = ProgramPair(engine, spec, rng, codes)
            number = rng.randint(1, per_map)
            try:
                pair.run(number)
            finally:
                counts += collections.Counter({f"{kind.name} {k}": n for k, n in pair.counts.items()})
                pair.close()
            done += number * OPERATIONS // 2
    finally:
        os.sched_setaffinity(0, affinity)
    return counts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--type", default="")
    options = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    differences = done = 0
    seed, step = options.seed, 2000
    while done < options.operations:
        try:
            counts += run(seed, step, only=MapType[options.type] if options.type else None)
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
