"""The tests of the kernel's maps, once more with the engine as backend: what they say of maps is true of both."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    "test_arena", "test_array", "test_bloom", "test_create_errors", "test_freeze_mmap", "test_from_id", "test_hash",
    "test_iteration", "test_lpm", "test_lru", "test_map_of_maps", "test_numpy", "test_percpu", "test_perf_reader",
    "test_prog_array", "test_queue_stack", "test_redirect_maps",
    "test_ring_reader", "test_state_machines", "test_storage", "test_user_ringbuf", "test_variables",
]  # fmt: skip
# What only a kernel has: other processes that use a map, maps of its own objects, rights, programs on real events.
NEEDS_A_KERNEL = (
    "another_process", "drain_takes_each_update_exactly_once", "while_a_program_adds", "unprivileged", "programs_see_it",
    "SOCKMAP", "SOCKHASH", "XSKMAP", "REUSEPORT_SOCKARRAY", "a_chosen_address",
)  # fmt: skip


@pytest.mark.kernel
@pytest.mark.timeout(600)
def test_they_pass_on_the_engine() -> None:
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "300",
        *(f"tests/kernel/{name}.py" for name in FILES), "-k", " and ".join(f"not {word}" for word in NEEDS_A_KERNEL),
    ]  # fmt: skip
    environment = {**os.environ, "BPF2PY_BACKEND": "engine"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 400, done.stdout[-300:]
