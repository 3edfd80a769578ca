from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bpf2py.toolchain.compiler import Compiler
from bpf2py.toolchain.find import MINIMUM_CLANG, NEWEST_CLANG, ziglang_directory


def clang_path() -> str | None:
    names = ["clang", *(f"clang-{number}" for number in range(NEWEST_CLANG, MINIMUM_CLANG - 1, -1))]
    return next(filter(None, map(shutil.which, names)), None)


def available_compilers() -> list[Compiler]:
    found = []
    path = clang_path()
    if path is not None:
        found.append(Compiler("clang", (path,)))
    wheel = ziglang_directory()
    assert wheel is not None, "the tests need the ziglang wheel: pip install 'bpf2py[cc]'"
    return [*found, Compiler("zig", (str(wheel / "zig"), "cc"))]


@pytest.fixture(params=available_compilers(), ids=lambda compiler: str(compiler.kind))
def compiler(request: pytest.FixtureRequest) -> Compiler:
    """Each kind of compiler on this machine."""
    chosen: Compiler = request.param
    return chosen


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("BPF2PY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BPF2PY_CC", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def compilers() -> dict[str, Compiler]:
    """All of them, by kind."""
    return {str(found.kind): found for found in available_compilers()}
