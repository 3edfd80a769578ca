"""The object the tests here verify."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mixed() -> Path:
    return Path(__file__).parent / "mixed.bpf.c"
