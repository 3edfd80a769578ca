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


def missing(problems: list[str]) -> int:
    """How many requests the tool says are missing: a busy kernel does not report every end to programs."""
    return sum(int(each.split()[0]) for each in problems if "requests are missing" in each)


def test_biosnoop_shows_every_byte_that_was_read(watch: Watch, on_disk: str) -> None:
    """A read may become several requests, where the file's blocks are not in a row; and the process reads other files."""
    seen = watch("biosnoop", f"PATH = {on_disk!r}\n" + READS)
    pid, told = seen.told
    reads = [r for r in seen.records if r["pid"] == pid and r["operation"] == "read"]
    lost = missing(seen.problems)
    assert sum(r["bytes"] for r in reads) + lost * max(told) >= sum(told)
    assert len(reads) + lost >= len(told)
    if not lost and len(reads) == len(told):  # so none was divided, and there was no other
        assert Counter(r["bytes"] for r in reads) == Counter(told)
    assert all(r["error"] == "" and 0 <= r["queued_ms"] <= r["ms"] for r in reads)


def test_biolatency_counts_them(watch: Watch, on_disk: str) -> None:
    seen = watch("biolatency", f"PATH = {on_disk!r}\n" + READS)
    told = len(seen.told[1])
    count = sum(bucket["count"] for row in seen.records for bucket in row["buckets"])
    assert told <= count + missing(seen.problems)
    assert count <= 3 * told
    assert all(row["disk"] for row in seen.records)
