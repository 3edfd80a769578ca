"""biosnoop and biolatency: against a program that counts its own requests, which bypass the cache."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel
Watch = Callable[..., Any]

READS = """
import mmap, os, random
random.seed(3)
fd = os.open(PATH, os.O_RDONLY | os.O_DIRECT)
told = []
for _ in range(200):
    size = random.choice([4096, 8192, 32768])
    buffer = mmap.mmap(-1, size)
    offset = random.randrange(0, (4 << 20) - size, 4096)
    assert os.preadv(fd, [buffer], offset) == size
    told.append(size)
tell([os.getpid(), told])
"""


@pytest.fixture
def on_disk(tmp_path: Path) -> str:
    """A file on a disk, in which no blocks are left out."""
    device = os.stat(tmp_path).st_dev
    if not Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists():
        pytest.skip("the temporary directory is not on a disk")
    path = tmp_path / "data"
    with path.open("wb") as file:
        file.write(os.urandom(4 << 20))
        file.flush()
        os.fsync(file.fileno())
    return str(path)


def test_biosnoop_shows_every_byte_that_was_read(watch: Watch, on_disk: str) -> None:
    """A read may become several requests, where the file's blocks are not in a row."""
    seen = watch("biosnoop", f"PATH = {on_disk!r}\n" + READS)
    pid, told = seen.told
    reads = [r for r in seen.records if r["pid"] == pid and r["operation"] == "read"]
    direct = reads[-len(told) :]
    if not seen.problems:  # busy kernels do not report every end to programs: then it is said
        assert sum(r["bytes"] for r in reads) >= sum(told)
        assert len(reads) >= len(told)
    if len(reads) == len(told):
        assert Counter(r["bytes"] for r in direct) == Counter(told)
    assert all(r["error"] == "" and 0 <= r["queued_ms"] <= r["ms"] for r in reads)


def test_biolatency_counts_them(watch: Watch, on_disk: str) -> None:
    seen = watch("biolatency", f"PATH = {on_disk!r}\n" + READS)
    count = sum(bucket["count"] for row in seen.records for bucket in row["buckets"])
    assert len(seen.told[1]) <= count <= 3 * len(seen.told[1])
    assert all(row["disk"] for row in seen.records)
