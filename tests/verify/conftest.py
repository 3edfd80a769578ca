"""Virtual machines for the tests here: Debian's kernels, downloaded once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from bpf2py.errors import GuestError
from bpf2py.testing import Guest


@pytest.fixture(scope="session", params=["6.12"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    if os.environ.get("BPF2PY_EMULATED"):
        pytest.skip("a virtual machine in a virtual machine")
    if shutil.which("qemu-system-x86_64") is None and not os.environ.get("CI"):
        pytest.skip("qemu-system-x86 is not installed")
    try:
        started = Guest(request.param, programs=["cat"], files={"/tmp/given": b"given\n"})
    except GuestError as error:
        if os.environ.get("CI") or "download" not in str(error):
            raise
        pytest.skip(str(error))
    with started:
        yield started
