"""The build hook: projects whose modules are generated when they are built."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "limits.h"
struct event { __u32 pid; char comm[16]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ENTRIES); __type(key, __u32); __type(value, struct event); }
    events SEC(".maps");
#ifdef EXTRA
const volatile int extra = EXTRA;
#endif
SEC("syscall") int run(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
HEAD = """
[build-system]
requires = ["hatchling", "bpf2py[cc]"]
build-backend = "hatchling.build"
[project]
name = "tiny"
version = "1.0"
[tool.hatch.build]
dev-mode-dirs = ["src"]
[tool.hatch.build.targets.wheel]
packages = ["src/tiny"]
"""
MODULES = """
[tool.hatch.build.hooks.bpf2py]
dependencies = ["bpf2py[cc]"]
[[tool.hatch.build.hooks.bpf2py.modules]]
ident = "events"
source = "bpf/events.bpf.c"
output-dir = "src/tiny"
cflags = ["-DEXTRA=3"]
types = ["event"]
[[tool.hatch.build.hooks.bpf2py.modules]]
ident = "whole"
source = "bpf/events.bpf.c"
output-dir = "src/tiny"
embed = true
"""
GENERATED = {"tiny/events_bpfel.py", "tiny/events_bpfel.o", "tiny/whole_bpfel.py"}


def run(code: str, directory: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def build(project: Path, what: str, out: Path) -> Path:
    """What hatchling's backend makes of a project, as pip calls it but with this environment's packages."""
    done = run(f"import hatchling.build as b; print(b.build_{what}({str(out)!r}))", project)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that keeps what is generated out of version control."""
    root = tmp_path / "project"
    (root / "src" / "tiny").mkdir(parents=True)
    (root / "bpf").mkdir()
    (root / "src" / "tiny" / "__init__.py").write_text("")
    (root / "bpf" / "events.bpf.c").write_text(SOURCE)
    (root / "bpf" / "limits.h").write_text("#define ENTRIES 77\n")
    (root / "pyproject.toml").write_text(HEAD + MODULES)
    (root / ".gitignore").write_text("*_bpfel.*\n")
    return root


READ = """
from tiny.events_bpfel import Objects, Event
from tiny import whole_bpfel
spec = Objects.spec()
print(spec.maps["events"].max_entries, spec.variables["extra"].value, Event(comm="make").comm)
print(whole_bpfel.Objects.spec().maps["events"].max_entries, list(whole_bpfel.Objects.spec().variables))
"""
SAYS = "77 3 make\n77 []\n"


def test_wheel_has_what_is_generated(project: Path, tmp_path: Path) -> None:
    wheel = build(project, "wheel", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) >= GENERATED
        archive.extractall(tmp_path / "installed")
    done = run(READ, tmp_path, tmp_path / "installed")
    assert done.stdout == SAYS, done.stderr


def test_source_distribution_brings_the_sources_and_makes_the_same_wheel(project: Path, tmp_path: Path) -> None:
    wheel = build(project, "wheel", tmp_path)
    sdist = build(project, "sdist", tmp_path)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path / "unpacked")
    assert {"bpf/events.bpf.c", "bpf/limits.h"} <= names
    assert not {f"src/{name}" for name in GENERATED} & names
    again = build(tmp_path / "unpacked" / "tiny-1.0", "wheel", tmp_path / "unpacked")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as two:
        assert {name: one.read(name) for name in GENERATED} == {name: two.read(name) for name in GENERATED}


def test_editable_installation_generates_in_the_tree(project: Path, tmp_path: Path) -> None:
    build(project, "editable", tmp_path)
    done = run(READ, tmp_path, project / "src")
    assert done.stdout == SAYS, done.stderr
    before = (project / "src/tiny/events_bpfel.py").stat().st_mtime_ns
    build(project, "editable", tmp_path)
    assert (project / "src/tiny/events_bpfel.py").stat().st_mtime_ns == before  # nothing changed, nothing is written
    (project / "bpf" / "limits.h").write_text("#define ENTRIES 78\n")
    build(project, "editable", tmp_path)
    assert "78 3 make" in run(READ, tmp_path, project / "src").stdout


def test_clean_removes_what_was_generated(project: Path, tmp_path: Path) -> None:
    build(project, "wheel", tmp_path)
    done = run(
        "from hatchling.builders.wheel import WheelBuilder; import os\n"
        f"list(WheelBuilder(os.getcwd()).build(directory={str(tmp_path)!r}, clean_only=True))",
        project,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (project / "src" / "tiny").iterdir()] == ["__init__.py"]


@pytest.mark.parametrize(
    ("change", "to", "message"),
    [
        ('ident = "events"', 'ident = "no-name"', "modules: no-name: 'no-name' is not a Python identifier"),
        ('ident = "events"', 'other = "events"', "modules: entry 1: option 'ident' is missing"),
        ('source = "bpf/events.bpf.c"', 'source = "bpf/none.bpf.c"', "modules: events: [Errno 2] no such source file"),
        ("-DEXTRA=3", "-DEXTRA=*", "modules: events: "),
        ('types = ["event"]', 'types = ["nothing"]', "modules: events: events: there is no type named 'nothing'"),
        ('types = ["event"]', "types = [1]", "modules: events: option 'types' must be an array of strings, is [1]"),
        ("embed = true", 'embed = "yes"', "modules: whole: option 'embed' must be true or false, is 'yes'"),
        ("embed = true", 'target = "bpfeb"', "modules: whole: target bpfeb: objects are little-endian"),
        ("embed = true", 'flags = "-O2"', "modules: whole: unknown option 'flags'; there are ident, source"),
        ("embed = true", 'output-stem = "events"', "two entries write src/tiny/events_bpfel.py"),
        ('output-dir = "src/tiny"', 'output-dir = "../other"', "modules: events: output-dir ../other lies outside"),
        ('output-dir = "src/tiny"', 'output-dir = "else"', "else/events_bpfel.py is not in the wheel; output-dir must"),
        ("[[tool.hatch.build.hooks.bpf2py.modules]]", "[[tool.hatch.build.hooks.bpf2py.module]]", "option 'module'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(project: Path, tmp_path: Path, change: str, to: str, message: str) -> None:
    text = (project / "pyproject.toml").read_text()
    number = -1 if change.startswith("[[") else 1
    (project / "pyproject.toml").write_text(text.replace(change, to, number))
    done = run(f"import hatchling.build as b; print(b.build_wheel({str(tmp_path)!r}))", project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("bpf2py: tool.hatch.build.hooks.bpf2py")
    assert message in done.stderr.partition("\n")[0]
    assert not list(tmp_path.glob("*.whl"))


def test_hatchling_is_imported_by_the_hook_alone() -> None:
    code = (
        "import sys, bpf2py, bpf2py.cli, bpf2py.codegen.build, bpf2py.codegen.module; print('hatchling' in sys.modules)"
    )
    assert run(code, Path.cwd()).stdout == "False\n"
