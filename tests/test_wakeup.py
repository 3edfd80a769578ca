"""Waiting for descriptors: every number of seconds is waited for, what is not a number is refused."""

from __future__ import annotations

import math

import pytest

from bpf2py.errors import EncodeError
from bpf2py.seam.wakeup import Poll, Wakeup


@pytest.mark.parametrize("seconds", [math.inf, 1e30, 3e6, 0, -1, -math.inf, None])
def test_any_number_of_seconds(seconds: float | None) -> None:
    waker = Wakeup()
    waker.set()
    assert Poll([waker.fileno()]).wait(seconds)
    waker.clear()
    assert not Poll([waker.fileno()]).wait(-math.inf)
    waker.close()


def test_what_is_not_a_number() -> None:
    waker = Wakeup()
    with pytest.raises(EncodeError, match="a timeout is a number of seconds"):
        Poll([waker.fileno()]).wait(math.nan)
    waker.close()
