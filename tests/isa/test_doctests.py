from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module", ["isa.disasm", "isa.helpers", "isa.instruction", "uapi.sections"], ids=lambda name: str(name)
)
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"bpf2py.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
