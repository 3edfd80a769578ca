"""Random programs give on the engine what they give in the kernel, and whatever a program is, it does not bring the process down.

Longer: ``BPF2PY_SOAK=50000 pytest tests/engine/test_random_programs.py`` (see `make soak`).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.random_programs import CONTEXT, load_in_kernel, program, run_in_kernel, verifier_log
from tests.engine.raw_programs import FUEL, RawProgram, anything, public_addresses

from bpf2py.engine import Engine
from bpf2py.engine.code.check import CheckError

PROGRAMS = int(os.environ.get("BPF2PY_SOAK", "0"))


def run_on_engine(engine: Engine, code: bytes) -> bytes:
    made = RawProgram(engine, code)
    context = engine.memory.allocate(CONTEXT)
    result, fault = made.run(context)
    assert (result, fault) == (7, 0)
    left = engine.memory.read(context, CONTEXT)
    made.close()
    engine.memory.free(context)
    return left


@pytest.mark.kernel
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("translator", ["native", "python"])
def test_same_as_the_kernel(translator: str) -> None:
    engine = Engine(translator=translator)
    count = PROGRAMS or (400 if translator == "native" else 100)
    for seed in range(count):
        random_ = random.Random(seed)
        code = program(random_, random_.choice((5, 20, 60)))
        fd = load_in_kernel(code)
        assert fd >= 0, f"seed {seed}: {verifier_log(code)}"
        try:
            wanted = run_in_kernel(fd)
        finally:
            os.close(fd)
        assert run_on_engine(engine, code).hex() == wanted.hex(), f"seed {seed}"


def test_both_translations_agree() -> None:
    native, python = Engine(translator="native"), Engine(translator="python")
    for seed in range(1000, 1100):
        code = program(random.Random(seed), 30)
        assert run_on_engine(native, code) == run_on_engine(python, code), f"seed {seed}"


@pytest.mark.parametrize("translator", ["native", "python"])
def test_whatever_it_is_the_process_survives(translator: str) -> None:
    """In a process of its own, whose death would be seen."""
    script = (
        "import faulthandler, sys; faulthandler.enable(); sys.path.insert(0, sys.argv[1]);"
        "from tests.engine.test_random_programs import survive; print(survive(int(sys.argv[2]), sys.argv[3]))"
    )
    count = PROGRAMS or (1500 if translator == "native" else 300)
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parents[2]), str(count), translator],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > count // 3  # most are well formed, and run


def survive(count: int, translator: str) -> int:
    """How many of so many random programs were run."""
    ran = 0
    engine = Engine(fuel=FUEL, clock=1, translator=translator)
    addresses, context = public_addresses(engine), engine.memory.allocate(4096)
    for seed in range(count):
        if seed % 500 == 499:
            engine = Engine(fuel=FUEL, clock=1, translator=translator)
            addresses, context = public_addresses(engine), engine.memory.allocate(4096)
        try:
            made = RawProgram(engine, anything(random.Random(seed), addresses))
        except CheckError:
            continue
        made.run(context)
        made.close()
        ran += 1
    return ran
