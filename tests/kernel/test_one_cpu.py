"""The values of one CPU: BPF_F_CPU and BPF_F_ALL_CPUS of Linux 7.0, and what stands for them on older kernels."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType, UpdateFlags
from bpf2py.engine import Engine
from bpf2py.kernel.syscall import kernel_version, older_than
from bpf2py.maps import OneCpu

KINDS = [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH]
RUNNING = ".".join(map(str, kernel_version()[:2]))
BACKENDS = [pytest.param("kernel", marks=pytest.mark.kernel), "6.18", "7.0", "7.2"]
CPU, ALL_CPUS = int(UpdateFlags.CPU), int(UpdateFlags.ALL_CPUS)


class Made:
    """A map, and whether its kernel sets one CPU's value."""

    def __init__(self, bpf_map: Any, sets: bool) -> None:
        self.map, self.sets, self.last = bpf_map, sets, bpf_map.possible_cpus - 1


def backend_of(name: str) -> Any:
    return name if name == "kernel" else Engine(kernel=name, possible_cpus=3)


@pytest.fixture(params=[(kind, name) for kind in KINDS for name in ("kernel", "6.18", "7.0", "7.2")], ids=str)
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    kind, name = request.param
    if name == "kernel":
        request.applymarker(pytest.mark.kernel)
    sets = not older_than("7.0") if name == "kernel" else name != "6.18"
    with Map.create(kind, key="u32", value="char[12]", max_entries=8, name="made", backend=backend_of(name)) as found:
        yield Made(found, sets)


def test_one_cpu_reads_like_a_mapping(made: Made) -> None:
    values = [str(cpu) for cpu in range(made.last + 1)]
    made.map.update({1: values, 2: ["x"] * (made.last + 1)})
    last = made.map.on_cpu(made.last)
    assert isinstance(last, OneCpu)
    assert (last.cpu, last[1], last.get(1), last.get(99, 5)) == (made.last, values[-1], values[-1], 5)
    found = {key: value for key, value in last.items() if value}
    assert found == {1: values[-1], 2: "x"}
    assert {key: last[key] for key in last} == last.snapshot()
    assert sorted(value for value in last.values() if value) == sorted([values[-1], "x"])
    assert (len(last), 1 in last, 99 in last) == (len(made.map), True, False)
    array = last.to_numpy()
    assert {row["key"].item(): row["value"].decode() for row in array if row["value"]} == found


def test_one_cpu_is_set_alone_or_not_at_all(made: Made, refused: Callable[..., Any]) -> None:
    made.map[1] = ["before"] * (made.last + 1)
    last = made.map.on_cpu(made.last)
    if not made.sets:
        for act in (last.update, lambda pairs: last.__setitem__(1, pairs[1])):
            with refused(bpf2py.NotSupported, errno.EINVAL, "BPF_F_CPU, which came with Linux 7.0") as caught:
                act({1: "new", 2: "newer"})
            assert (caught.value.feature, caught.value.since) == ("BPF_F_CPU", "7.0")
        assert list(made.map[1]) == ["before"] * (made.last + 1)
        return
    last[1] = "new"
    assert list(made.map[1]) == ["before"] * made.last + ["new"]
    last.update({1: "newer", 2: "too"})
    assert list(made.map[1]) == ["before"] * made.last + ["newer"]
    assert list(made.map[2]) == [""] * made.last + ["too"]


def test_a_new_key_has_zeros_for_the_other_cpus(made: Made) -> None:
    """Also where the kernel would leave there what the element held for the key before, as 7.0 and 7.1 do."""
    if made.map.type == MapType.PERCPU_ARRAY or not made.sets:
        return
    for key in range(8):
        made.map[key] = "old"
    made.map.clear()
    made.map.on_cpu(0)[3] = "new"
    made.map.on_cpu(made.last).update({4: "newer"})
    assert list(made.map[3]) == ["new", *[""] * made.last]
    assert list(made.map[4]) == [*[""] * made.last, "newer"]


def test_one_value_for_all(made: Made) -> None:
    made.map.update({1: "a", 2: [""] * (made.last + 1)})
    made.map.update({3: "c", 4: "d"})
    made.map[5] = "e"
    for key, value in zip(range(1, 6), ("a", "", "c", "d", "e"), strict=True):
        assert list(made.map[key]) == [value] * (made.last + 1)
    if made.sets:
        made.map.put(5, "f", ALL_CPUS)
        assert list(made.map[5]) == ["f"] * (made.last + 1)


def test_what_cannot_be(made: Made, refused: Callable[..., Any]) -> None:
    for cpu in (-1, made.last + 1):
        with refused(bpf2py.IndexOutOfRange, None, f"CPU {cpu} is not one of the {made.last + 1} possible CPUs"):
            made.map.on_cpu(cpu)
    with refused(bpf2py.EncodeError, None, "on_cpu(cpu)[key]"):
        made.map.lookup(1, CPU)
    with refused(bpf2py.EncodeError, None, "map made: update: value: "):
        made.map.on_cpu(0)[1] = "much too long to fit"
    with refused(bpf2py.EncodeError, None, "map made: update: "):
        made.map.update({1: "much too long to fit"})
    missing = made.map.on_cpu(0)
    with pytest.raises(LookupError):
        missing[99]


FLAGS = [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 16, 17, 18, 20, 24, 32, 1 << 32, 8 | 1 << 32, 8 | 1 << 20 << 32, 16 | 1 << 32]


def said(bpf_map: Any, flags: int) -> list[Any]:
    """What every command answers with these flags, and what is in the map then."""
    handle = bpf_map._handle
    answers: list[Any] = []
    full, each = handle.value_bytes, bpf_map.value_size

    def slot(key: int, fill: int) -> Any:
        made = handle.slot()
        made.key[:] = key.to_bytes(4, "little")
        made.value[:] = bytes([fill]) * full
        return made

    def now() -> list[Any]:
        return [
            (key, handle_slot.lookup(), bytes(handle_slot.value)) for key in (1, 2) for handle_slot in [slot(key, 0)]
        ]

    def again() -> None:
        for key in (1, 2):
            slot(key, 0x11).update()
        slot(2, 0).delete()

    again()
    for key in (1, 9):
        found = slot(key, 0xEE)
        answers += [found.lookup(flags), bytes(found.value)]
    for key in (1, 2):
        answers += [slot(key, 0x22).update(flags), now()]
        again()
    answers += [slot(1, 0xEE).lookup_and_delete(flags), now()]
    again()
    for delete in (False, True):
        keys, values = bytearray(4 * 8), bytearray(b"\xee" * full * 8)
        result = handle.lookup_batch(None, bytearray(8), keys, values, 8, flags, delete)
        answers += [result, bytes(keys) if result[0] in (0, -errno.ENOENT) else b"", bytes(values), now()]
        again()
    values = bytearray(b"".join(bytes([0x60 + i]) * each for i in range(2 * full // each + 1)))
    answers += [handle.update_batch(bytearray(b"\1\0\0\0\2\0\0\0"), values, 2, flags), now()]
    return answers


@pytest.mark.kernel
@pytest.mark.parametrize("no_prealloc", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, MapType.HASH], ids=lambda kind: kind.name)
def test_every_command_answers_like_the_kernel(kind: MapType, no_prealloc: bool) -> None:
    """The running kernel and the engine of its version: results, and every byte that is written."""
    if no_prealloc and kind not in (MapType.PERCPU_HASH, MapType.HASH):
        return
    with Map.create(kind, 4, 12, 4, int(no_prealloc)) as real:
        cpus = getattr(real, "possible_cpus", 2)
        engine = Engine(kernel=RUNNING, possible_cpus=cpus)
        with Map.create(kind, 4, 12, 4, int(no_prealloc), backend=engine) as simulated:
            for flags in FLAGS:
                assert said(real, flags) == said(simulated, flags), hex(flags)
