"""Tools run as a user runs them; what they say is compared with what the programs they watch say themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

EMULATED = os.environ.get("BPF2PY_EMULATED") == "1"  # all is slow there, and timers lose ticks
TIMEOUT = 250 if EMULATED else 100


class Seen(NamedTuple):
    """What a tool said, and what the program it watched wrote to the file `told`.

    Attributes:
        problems: what the tool says is missing in its records.
    """

    records: list[dict[str, Any]]
    told: Any
    status: int
    said: str
    problems: list[str]


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Seen]:
    """(tool and options, source of a Python program that calls `tell(...)`) -> what was seen."""

    def watch(words: str, source: str, python: str = sys.executable) -> Seen:
        told = tmp_path / "told"
        program = tmp_path / "watched.py"
        program.write_text(f"import json\ndef tell(it): open({str(told)!r}, 'w').write(json.dumps(it))\n{source}")
        argv = [sys.executable, "-m", "bpf2py", "tool", *words.split(), "--json", "--", python, "-I", str(program)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, env=os.environ)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert told.exists(), done.stderr
        problems = [problem for row in rows for problem in row.get("problems", ())]
        records = [row for row in rows if "problems" not in row]
        return Seen(records, json.loads(told.read_text()), done.returncode, done.stderr, problems)

    return watch


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(source in C, compiler options) -> the program."""

    def compiled(source: str, *options: str, name: str = "program") -> Path:
        folder = tmp_path_factory.mktemp("c")
        (folder / "program.c").write_text(source)
        cc = shutil.which("cc")
        command = [cc] if cc is not None else [sys.executable, "-m", "ziglang", "cc"]
        subprocess.run([*command, *options, str(folder / "program.c"), "-o", str(folder / name)], check=True)
        return folder / name

    return compiled
