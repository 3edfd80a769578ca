"""Programs of many kinds in Python: what they do is what C does, and each one loads on the kernel and on an engine."""

from __future__ import annotations

import ast
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import bpf2py

HERE = Path(__file__).parent
KINDS = sorted(path.stem for path in (HERE / "kinds").glob("*.py"))
NOT_ON_THE_ENGINE = {"arena", "cgroup", "sockmap", "structops", "fentry"}  # it has no such maps or helpers
SLEEPABLE = {"queue"}  # the kernel lets no such program use a queue


APART = {"names"}  # it is about its names
ALONE = {"arena"}  # pointers of a module with an arena lead into it


def merged(kinds: list[str]) -> str:
    """One module of several, whose names begin with the kind's: one compile, and the names that the C has."""
    out = ["from bpf2py.lang import *"]
    for kind in kinds:
        text = (HERE / "kinds" / f"{kind}.py").read_text()
        tree = ast.parse(text)
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for node in tree.body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        names -= {name for name in names if name.startswith(("CONFIG", "LINUX", "bpf_"))}
        pattern = re.compile(rf"(?<![\w.\"'\\])({'|'.join(sorted(names))})\b(?![=\"'])")
        renamed = pattern.sub(rf"{kind}_\1", text)
        out.append(renamed.replace("from bpf2py.lang import *", ""))
    return "\n".join(out)


@cache
def spec(group: str) -> Any:
    """The object of a group: those that engines run, too, those that need a kernel, or one kind by its name."""
    path = Path(tempfile.gettempdir()) / f"bpf2py_kinds_{group}_{os.getpid()}.py"
    everywhere = sorted(set(KINDS) - NOT_ON_THE_ENGINE - APART)
    kinds = {"everywhere": everywhere, "kernel": sorted(NOT_ON_THE_ENGINE - ALONE)}
    text = merged(kinds[group]) if group in kinds else (HERE / "kinds" / f"{group}.py").read_text()
    path.write_text(text)
    try:
        return bpf2py.ObjectSpec.from_bytes(bpf2py.compile(path), group)
    finally:
        path.unlink()


@cache
def twins() -> Any:
    return bpf2py.ObjectSpec.from_bytes(bpf2py.compile(HERE / "twins.bpf.c"), "twins")


def run(program: Any) -> int:
    packets = program.type.name in ("XDP", "SCHED_CLS")
    result: int = program.test_run(bytes(64)).return_value if packets else program.test_run().return_value
    return result


def compared(backend: str) -> None:
    ours = spec("everywhere").copy()
    for name, program in ours.programs.items():
        if backend == "kernel" and name.partition("_")[0] in SLEEPABLE:
            program.autoload = False
    with bpf2py.load(twins(), backend) as reference, bpf2py.load(ours, backend) as obj:
        assert len(reference.programs) >= 12
        for name, program in reference.programs.items():
            assert run(obj.programs[name]) == run(program), name
        for name, found in reference.maps.items():
            if not name.startswith("."):
                assert dict(obj.maps[name].items()) == dict(found.items()), name


# Worked out by hand, or by running the function in CPython.
RESULTS = {
    "shadows_f": 6, "held_f": 6, "contexts_f": 2, "contexts_g": 64, "idioms_f": 231120, "early_f": 499, "sig_f": 1482,
    "ptrs_f": 15072, "ctl_f": -10888 & 0xFFFFFFFF, "unionkey_f": 7, "rbtree_f": 3, "dynslice_f": 3, "rawpkt_f": 2, "rawpkt_g": 0,
    "mixed_f": 0, "ctxarrays_f": 418,
}  # fmt: skip
MIXED = [4, -21, 0, -100, 7, 2, 2, 55, 248, -9, 4294967289, 108, -4, 2, 0, 0]


def known(backend: str) -> None:
    ours = spec("everywhere").copy()
    for name, program in ours.programs.items():
        program.autoload = name in RESULTS
    with bpf2py.load(ours, backend) as obj:
        assert {name: run(obj.programs[name]) for name in RESULTS} == RESULTS
        assert [value for _, value in obj.maps["mixed_r"].items()] == MIXED


def test_results_are_pythons_on_the_engine() -> None:
    known("engine")


@pytest.mark.kernel
@pytest.mark.since("6.17")
def test_results_are_pythons_on_the_kernel() -> None:
    known("kernel")


def test_python_and_c_do_the_same_on_the_engine() -> None:
    assert len(KINDS) >= 38
    compared("engine")


@pytest.mark.kernel
@pytest.mark.since("6.17")
def test_python_and_c_do_the_same_on_the_kernel() -> None:
    compared("kernel")


@pytest.mark.kernel
@pytest.mark.since("6.17")
def test_kinds_that_need_a_kernel_load() -> None:
    found = spec("kernel").copy()
    for name, program in found.programs.items():
        program.autoload = not name.startswith("fentry_")  # trampolines: some kernels refuse them
    with bpf2py.load(found, "kernel"), bpf2py.load(spec("arena"), "kernel") as obj:
        assert obj.programs["f"].test_run().return_value == 15


@pytest.mark.kprobe
def test_trampolines_load() -> None:
    with bpf2py.load(HERE / "kinds" / "fentry.py") as obj:
        assert {"a", "b", "g"} <= set(obj.programs)


def test_names_that_the_kernel_has_too_are_the_programs_own() -> None:
    found = spec("names")
    assert {"m", "sched_class"} <= set(found.maps)
    assert "tcp_sock" in found.programs
    assert "task_struct" in found.variables
    assert found.types.ids_by_name("event")
    assert [member.name for member in found.types.type(found.types.ids_by_name("event")[0]).members] == [
        "int",
        "register",
    ]
    with bpf2py.load(found, "engine") as obj:
        obj.maps["sched_class"][1] = {"int": 4, "register": 3}
        assert obj.maps["sched_class"][1].register == 3
