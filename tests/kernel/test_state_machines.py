"""Random sequences of operations on each kind of map, compared with a plain-Python model after every step."""

from __future__ import annotations

import ipaddress
import os
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import bpf2py
from bpf2py import Map, MapFlags, MapType, UpdateFlags

pytestmark = pytest.mark.kernel

EMULATED = os.environ.get("BPF2PY_EMULATED") == "1" or os.environ.get("BPF2PY_REQUIRE_KERNEL") == "1"
POSSIBLE = Path("/sys/devices/system/cpu/possible").read_text()
CPUS = max(int(part.split("-")[-1]) for part in POSSIBLE.split(",")) + 1
KEYS = st.integers(0, 12)
VALUES = st.integers(0, (1 << 32) - 1)
PER_CPU = st.one_of(VALUES.map(lambda value: [value] * CPUS), st.lists(VALUES, min_size=CPUS, max_size=CPUS))
FLAGS = st.sampled_from([UpdateFlags.ANY, UpdateFlags.NOEXIST, UpdateFlags.EXIST])


def outcome(operation: Any) -> Any:
    """What an operation gave: its value, or the class of its error."""
    try:
        return operation()
    except bpf2py.BpfError as error:
        return type(error)


class Machine(RuleBasedStateMachine):
    kind: MapType
    size = 8
    values: st.SearchStrategy[Any] = VALUES
    made: Any = None

    def create(self) -> Any:
        return Map.create(self.kind, key="u32", value="u32", max_entries=self.size)

    @initialize()
    def start(self) -> None:
        self.made = self.create()

    def teardown(self) -> None:
        if self.made is not None:
            self.made.close()


class HashMachine(Machine):
    kind = MapType.HASH

    @initialize()
    def start_model(self) -> None:
        self.model: dict[Any, Any] = {}

    def key(self, number: int) -> Any:
        return number

    def expected_put(self, key: Any, value: Any, flags: UpdateFlags) -> Any:
        if flags == UpdateFlags.NOEXIST and key in self.model:
            return bpf2py.KeyExists
        if flags == UpdateFlags.EXIST and key not in self.model:
            return bpf2py.KeyNotFound
        if key not in self.model and len(self.model) == self.size:
            return bpf2py.MapFull
        self.model[key] = value
        return None

    @rule(data=st.data(), number=KEYS, flags=FLAGS)
    def put(self, data: st.DataObject, number: int, flags: UpdateFlags) -> None:
        key, value = self.key(number), data.draw(self.values)
        expected = self.expected_put(key, value, flags)
        assert outcome(lambda: self.made.put(key, value, flags)) == expected

    @rule(data=st.data(), numbers=st.lists(KEYS, max_size=10))
    def update(self, data: st.DataObject, numbers: list[int]) -> None:
        pairs = [(self.key(number), data.draw(self.values)) for number in numbers]
        expected = None
        for key, value in pairs:
            expected = self.expected_put(key, value, UpdateFlags.ANY)
            if expected is not None:
                break
        assert outcome(lambda: self.made.update(pairs)) == expected

    @rule(number=KEYS)
    def delete(self, number: int) -> None:
        key = self.key(number)
        expected = None if key in self.model else bpf2py.KeyNotFound
        self.model.pop(key, None)
        assert outcome(lambda: self.made.delete(key)) == expected

    @rule(number=KEYS)
    def pop(self, number: int) -> None:
        key = self.key(number)
        assert outcome(lambda: self.made.pop(key)) == self.model.pop(key, bpf2py.KeyNotFound)

    @rule(number=KEYS)
    def pop_with_default(self, number: int) -> None:
        key = self.key(number)
        assert self.made.pop(key, "none") == self.model.pop(key, "none")

    @rule(data=st.data(), number=KEYS)
    def setdefault(self, data: st.DataObject, number: int) -> None:
        key, value = self.key(number), data.draw(self.values)
        if key in self.model:
            assert self.made.setdefault(key, value) == self.model[key]
        else:
            expected = self.expected_put(key, value, UpdateFlags.ANY)
            assert outcome(lambda: self.made.setdefault(key, value)) == (value if expected is None else expected)

    @rule(numbers=st.lists(KEYS, max_size=10))
    def delete_many(self, numbers: list[int]) -> None:
        keys = {self.key(number) for number in numbers}
        there = keys & set(self.model)
        assert self.made.delete_many([self.key(number) for number in numbers]) == len(there)
        for key in there:
            del self.model[key]

    @rule()
    def drain(self) -> None:
        assert dict(self.made.drain()) == self.model
        self.model.clear()

    @rule()
    def clear(self) -> None:
        self.made.clear()
        self.model.clear()

    @rule(number=KEYS)
    def look(self, number: int) -> None:
        key = self.key(number)
        assert outcome(lambda: self.made[key]) == self.model.get(key, bpf2py.KeyNotFound)
        assert self.made.get(key, -1) == self.model.get(key, -1)
        assert (key in self.made) == (key in self.model)

    @invariant()
    def same(self) -> None:
        if self.made is None:
            return
        found = list(self.made.items())
        assert len(found) == len(self.model) == self.made.count()
        assert dict(found) == self.model
        assert bool(self.made) == bool(self.model)
        assert set(self.made) == set(self.model)


class PerCpuHashMachine(HashMachine):
    kind = MapType.PERCPU_HASH
    values = PER_CPU


class LpmMachine(HashMachine):
    """The model looks prefixes up by hand; keys are networks, some within others."""

    kind = MapType.LPM_TRIE

    def create(self) -> Any:
        return Map.create(self.kind, 8, value="u32", max_entries=self.size, flags=MapFlags.NO_PREALLOC)

    def key(self, number: int) -> Any:
        length = (0, 4, 8, 9, 16, 17, 24, 31, 32)[number % 9]
        base = 0x0A010203 ^ (0xF0000000 if number > 8 else 0)
        return ipaddress.ip_network((base >> (32 - length) << (32 - length) if length else 0, length))

    def longest(self, key: Any) -> Any:
        found = [network for network in self.model if key.subnet_of(network)]
        return self.model[max(found, key=lambda network: int(network.prefixlen))] if found else None

    @rule(number=KEYS)
    def look(self, number: int) -> None:
        key = self.key(number)
        expected = self.longest(key)
        assert self.made.get(key) == expected
        assert (key in self.made) == (expected is not None)


class ArrayMachine(Machine):
    kind = MapType.ARRAY

    @initialize()
    def start_model(self) -> None:
        self.model = [self.zero()] * self.size

    def zero(self) -> Any:
        return 0

    @rule(data=st.data(), index=st.integers(-10, 10))
    def set(self, data: st.DataObject, index: int) -> None:
        value = data.draw(self.values)
        there = -self.size <= index < self.size
        assert outcome(lambda: self.made.put(index, value)) == (None if there else bpf2py.IndexOutOfRange)
        if there:
            self.model[index] = value
            assert self.made[index] == value

    @rule(index=st.integers(-10, 10), flags=st.sampled_from([UpdateFlags.NOEXIST, UpdateFlags.EXIST]), data=st.data())
    def put(self, index: int, flags: UpdateFlags, data: st.DataObject) -> None:
        value, there = data.draw(self.values), -self.size <= index < self.size
        expected: Any = bpf2py.KeyExists if flags == UpdateFlags.NOEXIST else None
        assert outcome(lambda: self.made.put(index, value, flags)) == (expected if there else bpf2py.IndexOutOfRange)
        if there and expected is None:
            self.model[index] = value

    @rule(data=st.data(), start=st.integers(0, 7), count=st.integers(0, 8))
    def update(self, data: st.DataObject, start: int, count: int) -> None:
        values = {index: data.draw(self.values) for index in range(start, min(start + count, self.size))}
        self.made.update(values)
        for index, value in values.items():
            self.model[index] = value

    @rule()
    def clear(self) -> None:
        self.made.clear()
        self.model = [self.zero()] * self.size

    @rule(start=st.integers(-9, 9), stop=st.integers(-9, 9), step=st.sampled_from([1, 2, -1]))
    def slices(self, start: int, stop: int, step: int) -> None:
        assert self.made[start:stop:step] == self.model[start:stop:step]

    @invariant()
    def same(self) -> None:
        if self.made is not None:
            assert list(self.made) == self.model


class PerCpuArrayMachine(ArrayMachine):
    kind = MapType.PERCPU_ARRAY
    values = PER_CPU

    def zero(self) -> Any:
        return [0] * CPUS


class QueueMachine(Machine):
    kind = MapType.QUEUE

    def create(self) -> Any:
        return Map.create(self.kind, value="u32", max_entries=self.size)

    @initialize()
    def start_model(self) -> None:
        self.model: deque[int] = deque()

    @property
    def next(self) -> int:
        return 0 if self.kind == MapType.QUEUE else -1

    @rule(value=VALUES)
    def push(self, value: int) -> None:
        full = len(self.model) == self.size
        assert outcome(lambda: self.made.push(value)) == (bpf2py.MapFull if full else None)
        if not full:
            self.model.append(value)

    @rule(value=VALUES)
    def push_and_replace(self, value: int) -> None:
        if len(self.model) == self.size:
            self.model.popleft()
        self.made.push(value, replace=True)
        self.model.append(value)

    @rule()
    def pop(self) -> None:
        expected: Any = self.model[self.next] if self.model else bpf2py.QueueEmpty
        assert outcome(self.made.pop) == expected
        if self.model:
            del self.model[self.next]

    @precondition(lambda self: self.made is not None)
    @rule()
    def drain(self) -> None:
        expected = list(self.model) if self.next == 0 else list(self.model)[::-1]
        assert list(self.made.drain()) == expected
        self.model.clear()

    @invariant()
    def same(self) -> None:
        if self.made is not None:
            assert self.made.peek(None) == (self.model[self.next] if self.model else None)
            assert bool(self.made) == bool(self.model)


class StackMachine(QueueMachine):
    kind = MapType.STACK


class LruMachine(Machine):
    """What is there was put there and is the newest value; what was put last is there."""

    kind = MapType.LRU_HASH
    size = 40

    @initialize()
    def start_model(self) -> None:
        self.model: dict[int, int] = {}

    @rule(key=st.integers(0, 200), value=VALUES)
    def put(self, key: int, value: int) -> None:
        self.made[key] = value
        self.model[key] = value
        assert self.made.get(key) == value

    @rule(first=st.integers(0, 1000), count=st.integers(1, 100))
    def put_many(self, first: int, count: int) -> None:
        new = {key: key for key in range(first, first + count)}
        self.made.update(new)
        self.model.update(new)
        assert first + count - 1 in self.made

    @rule(key=st.integers(0, 200))
    def delete(self, key: int) -> None:
        there = key in self.made
        assert outcome(lambda: self.made.delete(key)) == (None if there else bpf2py.KeyNotFound)
        self.model.pop(key, None)
        assert key not in self.made

    @rule()
    def clear(self) -> None:
        self.made.clear()
        self.model.clear()

    @invariant()
    def same(self) -> None:
        if self.made is not None:
            found = self.made.snapshot()
            assert found.items() <= self.model.items()
            assert len(found) <= self.size


MACHINES = [
    HashMachine, PerCpuHashMachine, LpmMachine, ArrayMachine, PerCpuArrayMachine, QueueMachine, StackMachine, LruMachine,
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.kind.name)
def test_like_the_model(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=5 if EMULATED else 100,
            stateful_step_count=20 if EMULATED else 30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
