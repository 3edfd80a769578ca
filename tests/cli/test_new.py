"""`bpf2py examples` and `bpf2py new`: what somebody begins with works."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bpf2py.cli.examples import directory, names, programs, summary

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bpf2py", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, stdin=subprocess.DEVNULL)


def test_examples_are_listed_printed_and_copied(tmp_path: Path) -> None:
    listed = run("examples").stdout.splitlines()
    assert [line.split()[0] for line in listed] == names()
    assert all(len(line.split()) > 4 for line in listed)  # each says what it is
    assert run("examples", "opens").stdout == (ROOT / "examples" / "opens.bpf.c").read_text()
    assert run("examples", "--copy", "here", cwd=tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "here").iterdir()} == {path.name for path in programs().values()}
    assert run("examples", "opens.py").stdout == (ROOT / "examples" / "python" / "opens.py").read_text()
    again = run("examples", "opens", "--copy", "here", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (1, "bpf2py: here/opens.bpf.c exists\n")
    assert "there is no example 'open': connect.py, exec_counts" in run("examples", "open").stderr
    assert summary("// x\n/*\n * Counts a\n * lot. More.\n */") == "Counts a lot"
    assert summary('"""Counts a\nlot. More."""\n') == "Counts a lot"


def test_the_wheel_has_the_examples(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        packed = {name for name in file.namelist() if name.startswith("bpf2py/examples/")}
    assert {f"bpf2py/examples/{path.relative_to(directory())}" for path in programs().values()} <= packed
    assert directory() == ROOT / "examples"


def test_a_new_project_works(tmp_path: Path) -> None:
    done = run("new", "watcher", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    project = tmp_path / "watcher"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    check = subprocess.run(["make", "check"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
    assert "1 passed" in check.stdout
    # The test is one that can fail.
    source = project / "watcher" / "program.bpf.c"
    source.write_text(source.read_text().replace("__sync_fetch_and_add(count, 1)", "__sync_fetch_and_add(count, 2)"))
    check = subprocess.run(["make", "check"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert "not up to date: " in check.stderr
    for command in (["ruff", "check", "."], ["mypy", "--strict", "watcher", "tests"]):
        tool = subprocess.run(
            [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, check=False
        )
        assert tool.returncode == 0, tool.stdout + tool.stderr
    again = run("new", "watcher", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (1, "bpf2py: watcher exists and is not an empty directory\n")


@pytest.mark.parametrize("name", ["No", "a-b", "class", "../x", ""])
def test_names_that_are_refused(name: str, tmp_path: Path) -> None:
    done = run("new", name, cwd=tmp_path)
    assert done.returncode == 1
    assert "is not a name of a Python package" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_first_values_of_variables() -> None:
    source = str(ROOT / "examples" / "latency.bpf.c")
    done = run("run", "--backend", "engine", source, "--variable", "wanted=write", "--", "true")
    assert "variable wanted: 'write' does not fit long long" in done.stderr
    done = run("run", "--backend", "engine", source, "--variable", "want=1", "--", "true")
    assert "--variable want=1: write NAME=VALUE with one of wanted" in done.stderr
    number = "1" if os.uname().machine == "x86_64" else "64"
    done = run("run", "--backend", "engine", source, "--variable", f"wanted={number}", "--", "echo", "x")
    assert "hist_ns (1 values)" in done.stdout
