"""Programs to be named: compiled here, with the machine's compiler or ziglang's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def compile_native(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(source, flags) -> an executable or library."""
    folder = tmp_path_factory.mktemp("native")
    cc = shutil.which("cc")
    command = [cc] if cc is not None else [sys.executable, "-m", "ziglang", "cc"]

    def compile_native(name: str, source: str, *flags: str) -> Path:
        path = folder / f"{name}.c"
        path.write_text(source)
        done = subprocess.run([*command, str(path), "-o", str(folder / name), *flags], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folder / name

    return compile_native
