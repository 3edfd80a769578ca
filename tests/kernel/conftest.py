"""What the tests on the real kernel share: objects compiled once, loops scaled to emulated machines, errors in full."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import bpf2py
from bpf2py.errors import BpfError

# vmlinux.h differs with the kernel, so that what includes it is compiled anew on each: only sources that say so get it.
HEADER = """
#ifndef __VMLINUX_H__
#include <linux/bpf.h>
#endif
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
"""
VMLINUX = '#include "vmlinux.h"\n'
EMULATED = os.environ.get("BPF2PY_EMULATED") == "1" or os.environ.get("BPF2PY_REQUIRE_KERNEL") == "1"


@pytest.fixture(scope="session")
def scale() -> Callable[[int], int]:
    """A loop count, 20 times smaller in emulated kernels, which are as many times slower."""
    return lambda count: max(count // 20, 1) if EMULATED else count


@pytest.fixture(scope="session")
def compile_object(compile_bpf: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """The object of C source text behind the usual includes and licence; each text is compiled once."""

    def compile_text(text: str) -> bytes:
        include = VMLINUX if text.startswith(VMLINUX) else ""
        return compile_bpf(include + HEADER + text.removeprefix(VMLINUX))

    return compile_text


@pytest.fixture(scope="session")
def build(compile_object: Callable[[str], bytes]) -> Callable[[str], bpf2py.ObjectSpec]:
    """The spec of such an object."""
    return lambda text: bpf2py.ObjectSpec.from_bytes(compile_object(text))


@contextmanager
def _refused(cls: type[BpfError], errno: int | None, *words: str) -> Iterator[Any]:
    with pytest.raises(cls) as caught:
        yield caught
    error = caught.value
    assert type(error) is cls, f"{type(error).__name__}: {error}"
    assert error.errno == errno, str(error)
    for word in words:
        assert word in str(error), f"{word!r} is not in: {error}"


@pytest.fixture(scope="session")
def refused() -> Callable[..., Any]:
    """``with refused(MapFull, errno.E2BIG, "map is full")``: exactly this class, errno and words."""
    return _refused
