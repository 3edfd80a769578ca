"""The README's Python code runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
# Fragments that need a network card or a process of the reader's.
RUNNABLE = [block for block in BLOCKS if "eth0" not in block]


@pytest.mark.kernel
@pytest.mark.parametrize("block", RUNNABLE, ids=range(len(RUNNABLE)))
def test_block_runs(block: str) -> None:
    code = block if "import bpf2py" in block else f"import bpf2py\n{block}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


def test_there_are_blocks_to_run() -> None:
    assert len(RUNNABLE) >= 3
