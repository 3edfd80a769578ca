"""Single lookups, updates and deletions by functions in machine code, and without."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bpf2py import (
    ClosedError,
    EncodeError,
    KeyNotFound,
    Map,
    MapFlags,
    MapFull,
    MapType,
    PermissionDenied,
    machine_code,
)
from bpf2py.kernel import quick_bpf
from bpf2py.maps import base

pytestmark = pytest.mark.kernel
ONLY_X86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is none for other CPUs")
INTEGERS = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"]


def forget() -> None:
    quick_bpf._plain_bodies.cache_clear()
    quick_bpf._number_bodies.cache_clear()


def no_memory(code: bytes) -> None:
    raise OSError(errno.EACCES, "no memory may be made executable here")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "FIRST_CALLS", 1)


@pytest.fixture(params=["machine code", "memory that is not executable", "another interpreter"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "memory that is not executable":
        monkeypatch.setattr(quick_bpf, "Executable", no_memory)
    elif request.param == "another interpreter":
        monkeypatch.setattr(quick_bpf, "has_bodies", lambda: False)
    forget()
    yield
    forget()


def bounds(name: str) -> tuple[int, int]:
    bits = int(name[1:])
    return (0, (1 << bits) - 1) if name[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("key", INTEGERS)
@pytest.mark.parametrize("value", INTEGERS)
def test_every_pair_of_integers(key: str, value: str) -> None:
    least, most = bounds(key)
    low, high = bounds(value)
    with Map.create(MapType.HASH, key=key, value=value, max_entries=8) as m:
        model = {}
        for k in (least, most, 1, 2):
            for v in (high, low, 1, 0):
                m[k] = v
                assert m[k] == m.get(k) == m.lookup(k) == v
            model[k] = 0
        assert dict(m.items()) == model
        for outside in (least - 1, most + 1, 1 << 63, 1 << 64, -(1 << 64), "1", 1.0, None, [1]):
            if isinstance(outside, int) and least <= outside <= most:
                continue
            for operation in (m.__getitem__, m.get, m.__contains__, m.__delitem__):
                with pytest.raises(EncodeError):
                    operation(outside)
            with pytest.raises(EncodeError):
                m[outside] = 1
        for outside in (low - 1, high + 1, 1 << 64, "1", None):
            with pytest.raises(EncodeError):
                m[1] = outside
        assert dict(m.items()) == model
        del m[1]
        assert 1 not in m
        assert m.get(1, -7) == -7
        for operation in (m.__getitem__, m.__delitem__):
            with pytest.raises(KeyNotFound):
                operation(1)


@pytest.mark.usefixtures("way")
def test_what_is_like_an_integer_counts_as_one() -> None:
    class Index:
        def __index__(self) -> int:
            return 2

    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=4) as typed:
        m: Any = typed
        m[True] = 2**64 - 1
        m[Index()] = MapType.HASH
        m[b"\3\0\0\0"] = b"\4" + bytes(7)
        assert m[1] == m[True] == 2**64 - 1
        assert m[2] == m[Index()] == 1
        assert m[3] == 4
        assert type(m[2]) is int


@pytest.mark.usefixtures("way")
def test_errors_are_the_same() -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=2) as m:
        m[1] = m[2] = 5
        with pytest.raises(MapFull) as full:
            m[3] = 1
        assert full.value.errno == errno.E2BIG
        m[2] = 6
        assert dict(m.items()) == {1: 5, 2: 6}
    for operation in (m.__getitem__, m.get, m.__contains__, m.__delitem__):
        with pytest.raises(ClosedError):
            operation(1)
    with pytest.raises(ClosedError):
        m[1] = 1
    with Map.create(MapType.HASH, key="u32", value="u32", max_entries=2, flags=MapFlags.WRONLY) as m:
        for _ in range(2):
            m[1] = 1
            with pytest.raises(PermissionDenied):
                m[1]
            with pytest.raises(PermissionDenied):
                m.get(1)


@pytest.mark.usefixtures("way")
def test_arrays() -> None:
    with Map.create(MapType.ARRAY, key="u32", value="s16", max_entries=4) as m:
        m[0], m[3] = -5, 7
        assert (m[0], m[-1], m[3], m[1:4]) == (-5, 7, 7, [0, 0, 7])
        m[-2] = 9
        assert list(m) == [-5, 0, 9, 7]
        for index in (4, -5, 1 << 32, 1 << 70):
            with pytest.raises(IndexError):
                m[index]
            with pytest.raises(IndexError):
                m[index] = 1


@pytest.mark.usefixtures("way")
def test_values_that_are_not_numbers() -> None:
    with Map.create(MapType.HASH, key="u32", value="char[16]", max_entries=2) as m:
        m[1] = "one"
        assert (m[1], m.get(2), 1 in m, 2 in m) == ("one", None, True, False)
        with pytest.raises(KeyNotFound):
            m[2]
    with Map.create(MapType.HASH, key="char[16]", value="u32", max_entries=2) as m:
        m["one"] = 1
        assert (m["one"], m.get("two"), "two" in m) == (1, None, False)


@pytest.mark.usefixtures("way")
def test_constants_are_neither_used_up_nor_piled_up() -> None:
    with Map.create(MapType.HASH, key="u32", value="u32", max_entries=4) as m:
        m[1] = 300
        before = [sys.getrefcount(each) for each in (None, False, True, 300)]
        for _ in range(10_000):
            m[1] = 300
            assert m[1] == 300
            assert m.get(2) is None
            assert 2 not in m
            assert m.get("x" if m is None else 3) is None
        after = [sys.getrefcount(each) for each in (None, False, True, 300)]
        assert all(abs(a - b) < 1000 for a, b in zip(before, after, strict=True)), (before, after)


@ONLY_X86_64
def test_a_number_is_not_another_maps_while_somebody_calls() -> None:
    """A thread may have looked the function up before another one closes the map and opens a new one."""
    m = Map.create(MapType.HASH, key="u32", value="u32", max_entries=4)
    m[1] = 1
    m[1] = 1
    lookup, update = m._lookup_call, m._update_call
    assert lookup is not None
    assert update is not None
    number = m.fileno()
    m.close()
    others = [Map.create(MapType.HASH, key="u32", value="u32", max_entries=4) for _ in range(20)]
    assert lookup(1) is None
    assert update(1, 7) is None
    assert all(len(other) == 0 and other.fileno() != number for other in others)
    del lookup, update
    gc.collect()
    assert not os.path.lexists(f"/proc/self/fd/{number}"), "the number is free again"
    for other in others:
        other.close()


@ONLY_X86_64
def test_a_map_is_made_quick_when_it_was_used_some_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "FIRST_CALLS", 3)
    with Map.create(MapType.HASH, key="u32", value="u32", max_entries=4) as m:
        quick = []
        for value in range(5):
            m[1] = value
            assert m[1] == value
            quick.append(isinstance(m._lookup_call, base._FirstCalls))
        assert quick == [True, False, False, False, False]
    with Map.create(MapType.HASH, key="u32", value="char[8]", max_entries=4) as text:
        for value in range(5):
            text[1] = str(value)
            assert text[1] == str(value)
        assert type(text._slots[0].fast_lookup).__name__ == "builtin_function_or_method"
        assert text._lookup_call is None


def test_many_threads_with_one_map() -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=4096) as m:
        wrong = []

        def work(first: int) -> None:
            for key in range(first, first + 500):
                m[key] = key * 3
                if m[key] != key * 3 or m.get(key + 4096) is not None:
                    wrong.append(key)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 4000, 500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert dict(m.items()) == {key: key * 3 for key in range(4000)}


@ONLY_X86_64
def test_the_page_can_be_executed_and_not_written() -> None:
    bodies = quick_bpf._number_bodies("I", "I")
    assert bodies is not None
    with open("/proc/self/maps") as file:
        for line in file:
            places, rights, *_ = line.split()
            start, end = (int(each, 16) for each in places.split("-"))
            if start <= bodies[0].address < end:
                assert rights == "r-xp"
                return
    pytest.fail("the page is not mapped")


def test_where_executable_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "_mprotect", lambda: lambda *_: ctypes.set_errno(errno.EACCES) or -1)
    with pytest.raises(OSError, match="executable") as refused:
        machine_code.Executable(b"\xc3")
    assert refused.value.errno == errno.EACCES
