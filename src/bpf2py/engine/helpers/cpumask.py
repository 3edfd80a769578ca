"""Sets of CPUs that programs allocate (Linux 6.3): kernel/bpf/cpumask.c. A struct cpumask of the engine has 8,192 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bpf2py.engine.helpers import graph

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine

BYTES = 1024
NONE = 8192  # NR_CPUS, which the kernel gives where there is no such CPU


def bpf_cpumask_create(engine: Machine, *_: int) -> int:
    """An empty set."""
    address = engine.memory.allocate(BYTES)
    engine.objects[address] = 1
    return address


def bpf_cpumask_acquire(engine: Machine, mask: int, *_: int) -> int:
    """Another owner."""
    return graph.bpf_refcount_acquire_impl(engine, mask, 0)


def bpf_cpumask_release(engine: Machine, mask: int, *_: int) -> int:
    """One owner less."""
    return graph.bpf_obj_drop_impl(engine, mask, 0)


def _get(engine: Machine, mask: int) -> int:
    return int.from_bytes(engine.read(mask, BYTES), "little")


def _all(engine: Machine) -> int:
    return (1 << engine.possible_cpus) - 1


def _set(engine: Machine, mask: int, bits: int) -> int:
    engine.write(mask, (bits & _all(engine)).to_bytes(BYTES, "little"))
    return 0


def _of_cpu(change: Callable[[int, int], int], gives_old: bool) -> Callable[..., int]:
    """A function of (cpu, mask) that makes other bits of the bits and the CPU's; it may give whether that was set."""

    def call(engine: Machine, cpu: int, mask: int, *_: int) -> int:
        cpu &= 0xFFFFFFFF
        if cpu >= engine.possible_cpus:
            return 0
        bits = _get(engine, mask)
        _set(engine, mask, change(bits, 1 << cpu))
        return bits >> cpu & 1 if gives_old else 0

    return call


bpf_cpumask_set_cpu = _of_cpu(lambda bits, bit: bits | bit, False)
bpf_cpumask_clear_cpu = _of_cpu(lambda bits, bit: bits & ~bit, False)
bpf_cpumask_test_and_set_cpu = _of_cpu(lambda bits, bit: bits | bit, True)
bpf_cpumask_test_and_clear_cpu = _of_cpu(lambda bits, bit: bits & ~bit, True)


def bpf_cpumask_test_cpu(engine: Machine, cpu: int, mask: int, *_: int) -> int:
    """Whether a CPU is in it."""
    cpu &= 0xFFFFFFFF
    return _get(engine, mask) >> cpu & 1 if cpu < engine.possible_cpus else 0


def bpf_cpumask_setall(engine: Machine, mask: int, *_: int) -> int:
    """All CPUs."""
    return _set(engine, mask, _all(engine))


def bpf_cpumask_clear(engine: Machine, mask: int, *_: int) -> int:
    """None."""
    return _set(engine, mask, 0)


def bpf_cpumask_copy(engine: Machine, target: int, source: int, *_: int) -> int:
    """The same CPUs."""
    return _set(engine, target, _get(engine, source))


def _of_two(combine: Callable[[int, int], int]) -> Callable[..., int]:
    def call(engine: Machine, target: int, a: int, b: int, *_: int) -> int:
        bits = combine(_get(engine, a), _get(engine, b))
        _set(engine, target, bits)
        return int(bool(bits))  # only of bpf_cpumask_and() anybody looks at it

    return call


bpf_cpumask_and = _of_two(lambda a, b: a & b)
bpf_cpumask_or = _of_two(lambda a, b: a | b)
bpf_cpumask_xor = _of_two(lambda a, b: a ^ b)


def _compares(test: Callable[[int, int], bool]) -> Callable[..., int]:
    return lambda engine, a, b, *_: int(test(_get(engine, a), _get(engine, b)))


bpf_cpumask_equal = _compares(lambda a, b: a == b)
bpf_cpumask_intersects = _compares(lambda a, b: bool(a & b))
bpf_cpumask_subset = _compares(lambda a, b: not a & ~b)


def bpf_cpumask_empty(engine: Machine, mask: int, *_: int) -> int:
    """Whether there are none."""
    return int(not _get(engine, mask))


def bpf_cpumask_full(engine: Machine, mask: int, *_: int) -> int:
    """Whether there are all."""
    return int(_get(engine, mask) == _all(engine))


def bpf_cpumask_weight(engine: Machine, mask: int, *_: int) -> int:
    """How many there are."""
    return _get(engine, mask).bit_count()


def _first(bits: int) -> int:
    return (bits & -bits).bit_length() - 1 if bits else NONE


def bpf_cpumask_first(engine: Machine, mask: int, *_: int) -> int:
    """The lowest CPU in it."""
    return _first(_get(engine, mask))


def bpf_cpumask_first_zero(engine: Machine, mask: int, *_: int) -> int:
    """The lowest CPU that is not in it."""
    return _first(_all(engine) & ~_get(engine, mask))


def bpf_cpumask_first_and(engine: Machine, a: int, b: int, *_: int) -> int:
    """The lowest CPU in both."""
    return _first(_get(engine, a) & _get(engine, b))


bpf_cpumask_any_distribute = bpf_cpumask_first
bpf_cpumask_any_and_distribute = bpf_cpumask_first_and
