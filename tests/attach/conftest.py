"""Programs on real hooks: each test attaches one and proves that it fired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py

HOOKS = Path(__file__).parent / "hooks.bpf.c"


@pytest.fixture(scope="session")
def hooks_spec() -> bpf2py.ObjectSpec:
    """The object with one program for each hook; compiled once."""
    spec = bpf2py.ObjectSpec.from_bytes(bpf2py.compile(HOOKS), "hooks")
    for program in spec.programs.values():
        program.autoload = False
    return spec


Loader = Callable[..., Any]


@pytest.fixture
def load_only(hooks_spec: bpf2py.ObjectSpec) -> Iterator[Loader]:
    """Load the object with only the named programs."""
    loaded: list[bpf2py.Object] = []

    def load(*names: str, **changes: Any) -> bpf2py.Object:
        spec = hooks_spec.copy()
        for name in names:
            spec.programs[name].autoload = True
            for attribute, value in changes.items():
                setattr(spec.programs[name], attribute, value)
        loaded.append(spec.load())
        return loaded[-1]

    yield load
    for obj in loaded:
        obj.close()
