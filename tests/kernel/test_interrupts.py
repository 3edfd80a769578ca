"""Ctrl-C in the middle of a system call that returns a descriptor: it is closed, not lost."""

from __future__ import annotations

import _thread
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf2py.kernel.syscall import Fd, open_call

OPENAT, AT_FDCWD = {"x86_64": 257, "aarch64": 56}.get(os.uname().machine, -1), -100


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def in_call(thread: int) -> bool:
    """Whether a thread waits in openat()."""
    return Path(f"/proc/self/task/{thread}/syscall").read_text().startswith(f"{OPENAT} ")


def test_a_descriptor_is_owned_from_the_first_moment(fifo: Path, assert_no_leaks: Callable[[], Any]) -> None:
    main = threading.get_native_id()

    def interrupt() -> None:
        while not in_call(main):
            pass
        _thread.interrupt_main()  # seen when the call returns, and before anything else is done
        os.close(os.open(fifo, os.O_WRONLY))

    with assert_no_leaks():
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            open_call(OPENAT, AT_FDCWD, os.fsencode(fifo), os.O_RDONLY | os.O_CLOEXEC, 0)
        thread.join()
        gc.collect()


def test_what_a_call_returns_is_closed_once(tmp_path: Path, assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks():
        owner = open_call(OPENAT, AT_FDCWD, os.fsencode(tmp_path), os.O_RDONLY | os.O_CLOEXEC, 0)
        assert isinstance(owner, Fd)
        assert os.path.samefile(f"/proc/self/fd/{owner.number}", tmp_path)
        gc.collect()
        os.fstat(owner.number)
        owner.close()
    assert open_call(OPENAT, AT_FDCWD, os.fsencode(tmp_path / "none"), os.O_RDONLY, 0) == -2
