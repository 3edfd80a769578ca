"""funccount, funclatency, stackcount and argdist of the kernel's own functions, where it has kprobes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.kprobe]

# 17 reads of 123 bytes and 5 of 1000, then 3 sleeps.
READS = """
import os, time
fd = os.open("/dev/zero", os.O_RDONLY)
for _ in range(17): os.read(fd, 123)
for _ in range(5): os.read(fd, 1000)
for _ in range(3): time.sleep(0.002)
os._exit(0)
"""


def tool(*words: str) -> list[dict[str, Any]]:
    argv = [sys.executable, "-m", "bpf2py", "tool", *words, "--json", "--", sys.executable, "-I", "-c", READS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return [row for row in map(json.loads, done.stdout.splitlines()) if "problems" not in row]


def test_funccount_of_one_and_of_a_pattern() -> None:
    (one,) = tool("funccount", "hrtimer_nanosleep")
    assert one == {"function": "hrtimer_nanosleep", "count": 3}
    rows = {row["function"]: row["count"] for row in tool("funccount", "vfs_r*")}
    assert rows["vfs_read"] >= 22
    assert all(name.startswith("vfs_r") for name in rows)


def test_funclatency() -> None:
    (row,) = tool("funclatency", "hrtimer_nanosleep")
    assert row["count"] == 3
    assert row["average_ns"] > 2_000_000
    assert sum(bucket["count"] for bucket in row["buckets"] if bucket["high"] > 2_000_000) == 3


def test_stackcount_ends_with_the_function() -> None:
    rows = tool("stackcount", "hrtimer_nanosleep")
    assert sum(row["calls"] for row in rows) == 3
    assert {row["stack"][-1] for row in rows} == {"hrtimer_nanosleep_[k]"}


def test_argdist_of_arguments_and_results() -> None:
    rows = tool(
        "argdist", "vfs_read", "--value", "arg3", "--value", "ret", "--if", "arg3 == 123 or arg3 == 1000", "-T", "99"
    )
    found = {(row["arg3"], row["ret"]): row["count"] for row in rows}
    assert found[123, 123] == 17
    assert found[1000, 1000] == 5
