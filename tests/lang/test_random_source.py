"""Random integer programs: what CPython computes, where each operation is wrapped to its width, is what the programs do."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from tests.lang.random_source import TYPES, inputs, program

import bpf2py
from bpf2py.errors import VerifierError

COUNT = int(os.environ.get("BPF2PY_LANG", "50"))  # programs; `make soak` sets it
BATCH, RUNS = (50 if COUNT <= 1000 else 100), 5


def loaded(data: bytes, backend: str, left_out: set[str]) -> Any:
    """The object, without programs that have too many ways for the verifier: it says so, which is no difference."""
    spec = bpf2py.ObjectSpec.from_bytes(data, "random_programs")
    while True:
        for name in left_out:
            spec.programs[name].autoload = False
        try:
            return bpf2py.load(spec, backend)
        except VerifierError as error:
            if "BPF program is too large" not in str(error):
                raise
            left_out.add(str(error).partition(":")[0].removeprefix("program "))


def check(data: bytes, functions: list[Any], seeds: list[int], backend: str) -> None:
    left_out: set[str] = set()
    with loaded(data, backend, left_out) as obj:
        assert len(left_out) <= 2
        source = random.Random(seeds[0])
        for function, seed in zip(functions, seeds, strict=True):
            if f"f{seed}" in left_out:
                continue
            for _ in range(RUNS):
                values = inputs(source)
                for kind in TYPES:
                    obj.variables[f"in_{kind}"].value = values[kind]
                obj.programs[f"f{seed}"].test_run()
                expected = function(**{f"a_{kind}": value for kind, value in values.items()})
                assert list(obj.variables["result"].value) == expected, (seed, backend, values)


@pytest.mark.timeout(0 if COUNT > 1000 else 120)
def test_programs_compute_what_cpython_computes(tmp_path: Path) -> None:
    backends = ["engine"]
    if os.environ.get("BPF2PY_BACKEND") != "engine":
        from tests.conftest import REFUSED

        backends += ["kernel"] if REFUSED is None else []
    first = int(os.environ.get("BPF2PY_LANG_SEED", "0"))
    for start in range(first, first + COUNT, BATCH):
        seeds = list(range(start, start + BATCH))
        text, functions = program(seeds)
        path = tmp_path / "random_programs.py"
        path.write_text(text)
        data = bpf2py.compile(path, cache=COUNT <= 1000)
        for backend in backends:
            check(data, functions, seeds, backend)
        if COUNT > 1000 and (start - first) % 1000 == 0:
            print(f"programs up to {start + BATCH}: no differences", flush=True)
