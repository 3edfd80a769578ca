"""Maps of programs, maps, devices and CPUs as mappings: what dict does, they do, on both backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import bpf2py
from bpf2py import Map
from bpf2py.spec.map_spec import MapSpec

SOURCE = """
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4);
} m SEC(".maps");
SEC("raw_tp/sys_enter") int first(void *ctx) { return 0; }
SEC("raw_tp/sys_enter") int second(void *ctx) { return 1; }
"""
BACKENDS = [pytest.param("kernel", marks=pytest.mark.kernel), "engine"]
KINDS = ["PROG_ARRAY", "ARRAY_OF_MAPS", "HASH_OF_MAPS", "DEVMAP", "DEVMAP_HASH", "CPUMAP"]


class Case:
    """A map, two values for it, and what reading them gives."""

    def __init__(self, made: Any, values: list[Any], seen: list[Any]) -> None:
        self.map = made
        self.values = values
        self.seen = seen

    @staticmethod
    def of(found: Any) -> Any:
        return found.id if isinstance(found, Map) else found


@pytest.fixture(params=BACKENDS)
def make(request: pytest.FixtureRequest, build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[Callable[[str], Case]]:
    with ExitStack() as stack:

        def case(kind: str) -> Case:
            if kind == "PROG_ARRAY":
                obj = stack.enter_context(bpf2py.load(build(SOURCE), backend=request.param))
                programs = [obj.programs["first"], obj.programs["second"]]
                return Case(obj.maps["m"], programs, [program.info.id for program in programs])
            if kind.endswith("_OF_MAPS"):
                spec = MapSpec("inner", bpf2py.MapType.HASH, 4, 8, 4)
                outer = Map.create(kind, key_size=4, max_entries=4, inner=spec, backend=request.param)
                inner = [
                    Map.create("HASH", key_size=4, value_size=8, max_entries=4, backend=request.param) for _ in "ab"
                ]
                for each in (outer, *inner):
                    stack.enter_context(each)
                return Case(outer, inner, [each.id for each in inner])
            value = [1, 1] if kind.startswith("DEVMAP") else [64, 128]
            made = Map.create(kind, key_size=4, value_size=4, max_entries=2, backend=request.param)
            return Case(stack.enter_context(made), value, value)

        yield case


def key(case: Case, number: int) -> Any:
    """HASH_OF_MAPS and DEVMAP_HASH made without types have keys of bytes."""
    return number if case.map.type.name not in ("HASH_OF_MAPS", "DEVMAP_HASH") else number.to_bytes(4, "little")


@pytest.mark.parametrize("kind", KINDS)
def test_as_a_dict(make: Callable[[str], Case], kind: str) -> None:
    case = make(kind)
    made, of = case.map, case.of
    zero, one = key(case, 0), key(case, 1)
    assert of(made.setdefault(zero, case.values[0])) == case.seen[0]
    assert of(made.setdefault(zero, case.values[1])) == case.seen[0], "it is there already"
    assert made.pop(one, "none") == "none"
    with pytest.raises(KeyError):
        made.pop(one)
    made.update({one: case.values[1]})
    assert {k: of(v) for k, v in made.items()} == {zero: case.seen[0], one: case.seen[1]}
    assert of(made.pop(one)) == case.seen[1]
    found = made.popitem()
    assert (found[0], of(found[1])) == (zero, case.seen[0])
    with pytest.raises(KeyError, match="the map is empty"):
        made.popitem()
    made[zero] = case.values[1]
    assert [(k, of(v)) for k, v in made.drain()] == [(zero, case.seen[1])]
    assert made.count() == 0


def test_a_key_that_is_never_there_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with Map.create("HASH", key="u32", value="u32", max_entries=4, backend="engine") as made:

        def put(*_: Any) -> None:
            raise bpf2py.KeyExists("there")

        monkeypatch.setattr(made, "put", put)
        with pytest.raises(bpf2py.IterationAborted, match="setdefault: 5 was there for each of 1000 insertions"):
            made.setdefault(5, 1)
