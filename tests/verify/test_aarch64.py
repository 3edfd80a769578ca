"""The library on aarch64, in an emulated machine: the kernel's hooks with their arguments, rings, and the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import bpf2py
from bpf2py.errors import GuestError
from bpf2py.testing import Guest

HERE = Path(__file__).parent
TESTS = HERE.parent
CC = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.28", "-shared", "-fPIC", "-O1"]
HOOKS = "/root/hooks.o"
KERNEL = os.environ.get("BPF2PY_ARM_KERNEL") or "6.12"
CALLS = 7  # as in in_arm_guest.py
# Of the engine's own tests, what its machine code is tried with there.
GOLDEN = "kernel6.12_i.cpus4.txt.xz"
ENGINE_TESTS = (
    "raw_programs.py", "random_programs.py", "test_isa.py", "test_random_programs.py", "test_lru_golden.py",
    "test_straight_code.py", "test_quick_helpers.py",
    f"golden/{GOLDEN}", "golden/cases_i.cpus4.txt.xz",
)  # fmt: skip


@pytest.fixture(scope="module")
def arm(start_guest: Callable[..., Guest], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    library = tmp_path_factory.mktemp("arm") / "libprobe.so"
    subprocess.run([*CC, str(HERE / "arm_probe.c"), "-o", str(library)], check=True)
    files: dict[str, bytes | Path] = {
        HOOKS: bpf2py.compile(HERE / "arm.bpf.c", arch="arm64"),
        "/root/libprobe.so": library,
        "/opt/bpf2py/in_arm_guest.py": HERE / "in_arm_guest.py",
    }
    for name in ENGINE_TESTS:
        files[f"/opt/bpf2py/tests/engine/{name}"] = TESTS / "engine" / name
    with start_guest(KERNEL, arch="aarch64", files=files, packages=["pytest"]) as started:
        yield started


@pytest.fixture(scope="module")
def call(arm: Guest) -> Callable[..., Any]:
    return lambda function, **arguments: cast("Any", arm.call(f"in_arm_guest:{function}", **arguments))


def test_hooks_are_given_the_right_registers(call: Callable[..., Any]) -> None:
    found = call("hooks", source=HOOKS)
    pid, group, hooks = found["pid"], found["group"], found["hooks"]
    assert found["warnings"] == []
    assert hooks == {
        "tracepoint": [CALLS, pid, 155],
        "raw_tp": [CALLS, 155, 0],
        "kprobe": [CALLS, 1, 0],
        "kretprobe": [CALLS, 0, 0],
        "ksyscall": [CALLS, pid, 0],
        "kretsyscall": [CALLS, group, 0],
        "fentry": [CALLS, 1, 0],
        "fexit": [CALLS, 1, 0],
        "uprobe": [CALLS, pid, 0],
        "uretprobe": [CALLS, group, 0],
        "usdt": [CALLS, -3, 1 << 40],
    }
    assert found["numbers"] == list(range(CALLS))


def test_a_ring_gives_every_record_in_its_order(call: Callable[..., Any]) -> None:
    assert call("records", source=HOOKS, count=20_000) == [20_000, 0]


def test_facts_of_the_machine(call: Callable[..., Any]) -> None:
    found = call("facts")
    assert found["machine"] == "aarch64"
    assert found["page"] == 4096 or KERNEL != "6.12"
    assert found["call 172"] == "getpid"
    assert found["kept"] == [983, 855, 727, 599, 471, 343]  # by the engine
    assert found["code"] == "NativeCode"


def test_every_instruction_as_machine_code(call: Callable[..., Any]) -> None:
    """Values, jumps, memory, atomics, calls: the vectors of the engine's own tests."""
    found = call("instructions")
    assert found["code"] == "NativeCode"
    assert found["status"] == 0, found["output"]
    assert found["passed"] > 200


def test_the_library_and_python_agree(call: Callable[..., Any]) -> None:
    """Accesses that are tested together, and helpers that the library answers."""
    found = call("together")
    assert found["status"] == 0, found["output"]
    assert found["passed"] > 40


def test_random_programs_as_machine_code(call: Callable[..., Any]) -> None:
    """As the Python translation runs them, and as this kernel's own compiler does."""
    assert call("random_programs", count=60) == ["NativeCode", []]


def test_no_program_ends_the_process(arm: Guest) -> None:
    """Whatever is well formed, with wild pointers and calls, in a process whose death would be seen."""
    code = "import in_arm_guest; print(*in_arm_guest.unchecked(250))"
    done = arm.run(["python", "-c", code], env={"PYTHONPATH": "/opt/bpf2py", "PYTHONFAULTHANDLER": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    name, ran = done.stdout.split()
    assert name == "NativeCode"
    assert int(ran) > 80


def test_lru_maps_as_machine_code(call: Callable[..., Any]) -> None:
    """What Linux answered to sequences of map operations."""
    found = call("lru", answers=GOLDEN)
    assert found["code"] == "NativeCode"
    assert found["answers"] > 1000
    assert found["different"] == []


def test_branches_of_large_code(call: Callable[..., Any]) -> None:
    """Conditional branches reach 1 MiB; farther ones go around others."""
    assert call("random_programs", count=15, far=True) == ["NativeCode", []]


def test_the_examples_load_and_attach(arm: Guest) -> None:
    for path in sorted((HERE.parents[1] / "examples").glob("*.bpf.c")):
        for report in arm.verify(path, attach=True):
            assert report.loads, report.error
            assert report.attached in (True, None), report.attach_error


def test_what_is_refused() -> None:
    with pytest.raises(GuestError, match="x86_64 or aarch64"):
        Guest("6.12", arch="riscv64")
    with pytest.raises(GuestError, match="do not run on aarch64: ip"):
        Guest("6.12", arch="aarch64", programs=["ip"])
