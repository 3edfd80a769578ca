"""RLIMIT_MEMLOCK is lifted on kernels that charge maps to it, and on these alone."""

from __future__ import annotations

import resource

import pytest

from bpf2py.kernel import memlock

UNLIMITED = resource.RLIM_INFINITY


class Limit:
    """A process' limit; `may_raise` is what CAP_SYS_RESOURCE allows."""

    def __init__(self, soft: int, hard: int, may_raise: bool) -> None:
        self.now, self.may_raise = (soft, hard), may_raise
        self.asked = 0

    def get(self, _: int) -> tuple[int, int]:
        self.asked += 1
        return self.now

    def set(self, _: int, wanted: tuple[int, int]) -> None:
        if wanted[1] not in (self.now[1],) and not self.may_raise:
            raise ValueError("not allowed to raise maximum limit")
        self.now = wanted


@pytest.mark.parametrize(
    ("version", "before", "may_raise", "lifted", "after"),
    [
        ((5, 10, 0), (65536, 65536), True, True, (UNLIMITED, UNLIMITED)),
        ((5, 10, 0), (65536, 1 << 20), False, True, (1 << 20, 1 << 20)),
        ((5, 10, 0), (65536, 65536), False, False, (65536, 65536)),
        ((5, 10, 0), (UNLIMITED, UNLIMITED), True, False, (UNLIMITED, UNLIMITED)),
        ((5, 11, 0), (65536, 65536), True, False, (65536, 65536)),
        ((6, 1, 0), (65536, 65536), True, False, (65536, 65536)),
    ],
)
def test_it_is_lifted_where_it_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, ...],
    before: tuple[int, int],
    may_raise: bool,
    lifted: bool,
    after: tuple[int, int],
) -> None:
    limit = Limit(*before, may_raise)
    monkeypatch.setattr("bpf2py.kernel.memlock.resource.getrlimit", limit.get)
    monkeypatch.setattr("bpf2py.kernel.memlock.resource.setrlimit", limit.set)
    assert memlock.lift(version) is lifted
    assert limit.now == after
    assert limit.asked == (version < (5, 11))
