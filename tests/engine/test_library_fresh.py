"""The shipped object is what its sources compile to."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="the compiler (extra cc) is not installed")
def test_the_object_is_fresh() -> None:
    tool = ROOT / "tools/build_engine.py"
    result = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
