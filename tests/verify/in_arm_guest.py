"""What the tests of aarch64 do there; a module of that machine."""

from __future__ import annotations

import contextlib
import ctypes
import io
import mmap
import os
import platform
import random
from collections.abc import Callable
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from tests.engine import test_isa, test_lru_golden
from tests.engine.random_programs import load_in_kernel, program, run_in_kernel
from tests.engine.test_random_programs import run_on_engine, survive

import bpf2py
from bpf2py.engine import Engine
from bpf2py.engine.code.aarch64.emit import Emitter
from bpf2py.lab.lru import Setup, predict

CALLS = 7


def hooks(source: str) -> dict[str, Any]:
    """What each hook saw of the system call getpgid() of this process, and of a probe in a library."""
    libc, library = ctypes.CDLL(None), ctypes.CDLL("/root/libprobe.so")
    with bpf2py.load(source) as obj:
        obj.variables["pid"].value = os.getpid()
        obj.attach()
        for _ in range(CALLS):
            libc.getpgid(os.getpid())
            library.call_probe(-3, ctypes.c_long(1 << 40))
        with bpf2py.RingReader(obj.maps["numbers"], type="u64") as reader:
            numbers = list(reader.events(0))
        found = {name: [seen.count, seen.first, seen.second] for name, seen in obj.maps["hooks"].items()}
    return {"hooks": found, "numbers": numbers, "pid": os.getpid(), "group": os.getpgid(0), "warnings": obj.warnings}


def records(source: str, count: int) -> list[int]:
    """Numbers through a ring while another process writes them: how many came, and how many out of order."""
    with (
        bpf2py.load(source, autoload={"by_usdt": False}) as obj,
        bpf2py.RingReader(obj.maps["numbers"], type="u64") as reader,
    ):
        start, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(start, 1)
            libc = ctypes.CDLL(None)
            for _ in range(count):
                libc.getpgid(0)
            os._exit(0)
        obj.variables["pid"].value = child
        link = obj.programs["by_tracepoint"].attach()
        os.write(go, b"x")
        seen: list[int] = []
        while len(seen) < count:
            batch = [int(number) for each in reader.poll(30) for number in each]
            if not batch:
                break
            seen += batch
        os.waitpid(child, 0)
        link.close()
    return [len(seen), sum(1 for one, two in pairwise(seen) if two != one + 1)]


def facts() -> dict[str, Any]:
    """What differs from machine to machine."""
    return {
        "machine": platform.machine(),
        "page": mmap.PAGESIZE,
        "call 172": bpf2py.syscall_name(172),
        "kept": [len(keys) for keys in predict(Setup(1003, 6, "6.1")).kept],
        "code": type(Engine().code).__name__,
    }


def instructions() -> dict[str, Any]:
    """Run the engine's tests of instructions."""
    return _tests("native", "test_isa.py")


def together() -> dict[str, Any]:
    """Run those of accesses that are tested together, and of helpers the library answers, as far as they need no compiler."""
    return _tests(
        "agree or tested_together or formats or clocks or redirect", "test_straight_code.py", "test_quick_helpers.py"
    )


def _tests(chosen: str, *files: str) -> dict[str, Any]:
    import pytest

    output = io.StringIO()
    counter = _Counter()
    with contextlib.redirect_stdout(output):
        directory = Path(test_isa.__file__).parent
        options = ["-q", "-x", "--assert=plain", "--noconftest", "-p", "no:cacheprovider", "-k", chosen]
        alone = ["-c", os.devnull, "--rootdir", str(directory)]
        status = pytest.main([*options, *alone, *(str(directory / file) for file in files)], plugins=[counter])
    code = type(Engine(translator="native").code).__name__
    return {"code": code, "status": int(status), "passed": counter.passed, "output": output.getvalue()[-3000:]}


class _Counter:
    def __init__(self) -> None:
        self.passed = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.passed += report.when == "call" and report.passed


def random_programs(count: int, far: bool = False) -> list[Any]:
    """The class of the code, and the seeds of programs that ended differently as machine code, as Python or in the kernel.

    With `far`, branches are those of code that is larger than conditional ones reach.
    """
    if far:
        setattr(Emitter, "branch", _far(Emitter.branch))  # noqa: B010
    native, python = Engine(translator="native"), Engine(translator="python")
    different = []
    for seed in range(count):
        code = program(random.Random(seed), 40)
        fd = load_in_kernel(code)
        wanted = run_in_kernel(fd)
        os.close(fd)
        if not wanted == run_on_engine(native, code) == run_on_engine(python, code):
            different.append(seed)
    return [type(native.code).__name__, different]


def _far(branch: Callable[[Emitter, int], int]) -> Callable[[Emitter, int], int]:
    def changed(self: Emitter, word: int) -> int:
        self.far = True
        return branch(self, word)

    return changed


def unchecked(count: int) -> list[Any]:
    """The class of the code, and how many of so many programs, about which only the form is known, were run."""
    return [type(Engine(translator="native").code).__name__, survive(count, "native")]


def lru(answers: str) -> dict[str, Any]:
    """What the engine answers to map operations, compared with what a kernel answered."""
    got, expected = test_lru_golden.replay(test_lru_golden.GOLDEN / answers, translator="native")
    different = [f"{a} | {b}" for a, b in zip_longest(got, expected) if a != b]
    return {"code": type(Engine().code).__name__, "answers": len(got), "different": different[:3]}
