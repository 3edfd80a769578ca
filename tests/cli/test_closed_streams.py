"""Commands whose standard streams are closed, full or left: no traceback, and no map in their place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import REFUSED

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "exec_counts.bpf.c"
COMMANDS = {
    "help": ("--help",),
    "version": ("--version",),
    "features": ("features", "--json"),
    "doctor": ("doctor",),
    "inspect": ("inspect", str(EXAMPLE), "--code"),
    "inspect-json": ("inspect", str(EXAMPLE), "--json"),
    "engine": ("run", "--backend", "engine", str(EXAMPLE), "--", "true"),
    "engine-json": ("run", "--backend", "engine", "--json", str(EXAMPLE), "--", "true"),
}
KERNEL = {
    "vmlinux": ("vmlinux", "--root", "task_struct"),
    "maps": ("map", "list"),
    "programs": ("prog", "list"),
    "links": ("link", "list"),
    "top": ("map", "top", "--json"),
    "run": ("run", str(EXAMPLE), "--", "true"),
    "no-map": ("map", "dump", "no-such-map", "--json"),
}
ALL = [*COMMANDS, *(pytest.param(name, marks=pytest.mark.kernel) for name in KERNEL)]


def shell(name: str, redirections: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = {**COMMANDS, **KERNEL}[name]
    script = f'exec "$@" {redirections}'
    argv = ["sh", "-c", script, "sh", sys.executable, "-m", "bpf2py", *command]
    return subprocess.run(argv, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("redirections", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams(name: str, redirections: str, tmp_path: Path) -> None:
    done = shell(name, redirections, tmp_path)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    failing = name == "no-map" or (
        name == "doctor" and REFUSED is not None
    )  # which says that the kernel cannot be used
    assert done.returncode == int(failing), done.stderr


@pytest.mark.parametrize("name", ALL)
def test_a_full_device_is_a_failure(name: str, tmp_path: Path) -> None:
    done = shell(name, ">/dev/full", tmp_path)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("bpf2py: "), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("name", ["inspect", "engine", pytest.param("vmlinux", marks=pytest.mark.kernel)])
def test_a_reader_that_leaves(name: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "bpf2py", *{**COMMANDS, **KERNEL}[name]]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
