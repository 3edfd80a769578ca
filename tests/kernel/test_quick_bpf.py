"""Single lookups and updates by functions in machine code, and without."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from bpf2py import KeyNotFound, Map, MapFull, MapType
from bpf2py.kernel import quick_bpf

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["machine code", "libc"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "libc":
        monkeypatch.setattr(quick_bpf, "_functions", lambda: None)


@pytest.mark.usefixtures("way")
def test_what_single_operations_do() -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=2) as m:
        m[1] = 2**64 - 1
        m[2] = 5
        assert (m[1], m[2]) == (2**64 - 1, 5)
        with pytest.raises(KeyNotFound):
            m[3]
        with pytest.raises(MapFull) as full:
            m[3] = 1
        assert full.value.errno == errno.E2BIG
        m[2] = 6
        assert dict(m.items()) == {1: 2**64 - 1, 2: 6}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is none for other CPUs")
def test_the_page_can_be_executed_and_not_written() -> None:
    functions = quick_bpf._functions()
    assert functions is not None
    address = ctypes.cast(functions[0], ctypes.c_void_p).value
    assert address is not None
    with open("/proc/self/maps") as file:
        for line in file:
            bounds, rights, *_ = line.split()
            start, end = (int(each, 16) for each in bounds.split("-"))
            if start <= address < end:
                assert rights == "r-xp"
                return
    pytest.fail("the page is not mapped")


def test_where_executable_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def mprotect(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(quick_bpf, "libc", Refusing)
    assert quick_bpf._functions.__wrapped__() is None
