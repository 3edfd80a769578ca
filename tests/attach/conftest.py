"""Programs on real hooks: each test attaches one and proves that it fired."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.kernel import attach as attach_module
from bpf2py.kernel import cgroups
from bpf2py.kernel.syscall import older_than
from bpf2py.uapi.attach_options import hook_of
from bpf2py.uapi.program_types import AttachType
from bpf2py.uapi.sections import SectionDef, lookup

HERE = Path(__file__).parent
# These are attached to a clsact qdisc where there is no tcx.
FALLS_BACK = ("tc/ingress", "tc/egress")
SKIPPED = pytest.StashKey[bool]()
Loader = Callable[..., Any]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fires(*sections): SEC() names whose programs the test attaches, and sees run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped:
        item.stash[SKIPPED] = True
    return report


def missing(definition: SectionDef) -> bool:
    """Whether the running kernel is too old for such programs."""
    return definition.name not in FALLS_BACK and older_than(definition.since)


def has_hook(definition: SectionDef) -> bool:
    """Whether such programs are attached, and not put into a map or run by hand."""
    by_map = definition.attach_type in (AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP)
    return not by_map and hook_of(definition.program_type, definition.attach_type, definition.name) is not None


@pytest.fixture(autouse=True)
def fires(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests marked ``fires`` attach what they say; they are skipped on kernels older than that, and on no others."""
    names = {name for mark in request.node.iter_markers("fires") for name in mark.args}
    definitions = [found for name in names if (found := lookup(name)) is not None]
    assert {found.name for found in definitions} == names, "a name is not in the table of SEC() names"
    for found in definitions:
        if missing(found):
            pytest.skip(f'SEC("{found.name}") needs Linux {found.since}, this is {platform.release()}')
    attached: set[str] = set()
    original = attach_module.attach

    def attach(program: Any, spec: Any, options: dict[str, Any]) -> Any:
        attached.add(spec.definition.name)
        return original(program, spec, options)

    monkeypatch.setattr(attach_module, "attach", attach)
    yield
    if request.node.stash.get(SKIPPED, False):
        return
    forgotten = {found.name for found in definitions if has_hook(found)} - attached
    assert not forgotten, f"marked as fired, but never attached: {forgotten}"


def compiled(source: Path, *cflags: str) -> bpf2py.ObjectSpec:
    spec = bpf2py.ObjectSpec.from_bytes(bpf2py.compile(source, cflags=cflags), source.name.split(".")[0])
    for program in spec.programs.values():
        program.autoload = False
    return spec


@pytest.fixture(scope="session")
def hooks_spec() -> bpf2py.ObjectSpec:
    """The object with programs that read their context; compiled once."""
    return compiled(HERE / "hooks.bpf.c")


@pytest.fixture(scope="session")
def sections_spec() -> bpf2py.ObjectSpec:
    """The object with one program for each SEC() name; compiled once."""
    return compiled(HERE / "sections.bpf.c")


def loader(given: bpf2py.ObjectSpec) -> Iterator[Loader]:
    loaded: list[bpf2py.Object] = []

    def load(*names: str, **changes: Any) -> bpf2py.Object:
        spec = given.copy()
        for name in names:
            spec.programs[name].autoload = True
            for attribute, value in changes.items():
                setattr(spec.programs[name], attribute, value)
        loaded.append(bpf2py.load(spec))
        return loaded[-1]

    yield load
    for obj in loaded:
        obj.close()


@pytest.fixture
def load_only(hooks_spec: bpf2py.ObjectSpec) -> Iterator[Loader]:
    """Load hooks.bpf.c with only the named programs."""
    yield from loader(hooks_spec)


class Fired:
    """An object with programs of sections.bpf.c; `fired["connect4"]` is the program, `fired.runs("connect4")` its count."""

    def __init__(self, obj: bpf2py.Object) -> None:
        self.obj = obj

    def __getitem__(self, name: str) -> bpf2py.Program:
        return self.obj.programs[f"on_{name}"]

    def runs(self, name: str) -> int:
        return int(self.obj.variables[f"runs_{name}"].value)


@pytest.fixture
def load(sections_spec: bpf2py.ObjectSpec) -> Iterator[Callable[..., Fired]]:
    """Load sections.bpf.c with only the named programs (their names less ``on_``)."""
    generator = loader(sections_spec)
    load_named = next(generator)
    yield lambda *names: Fired(load_named(*(f"on_{name}" for name in names)))
    next(generator, None)


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[str]:
    """A cgroup of its own that this process is moved into while the test runs."""
    root = cgroups.mount_point()
    mounted = None
    if root is None:
        mounted = tmp_path / "cgroup2"
        mounted.mkdir()
        subprocess.run(["mount", "-t", "cgroup2", "none", str(mounted)], check=True)
        root = str(mounted)
    with open("/proc/self/cgroup") as file:
        home = next(line.split(":", 2)[2].strip() for line in file if line.startswith("0:"))
    path = os.path.join(root, f"bpf2py-test-{os.getpid()}")
    os.mkdir(path)
    procs = "cgroup.procs"
    try:
        Path(path, procs).write_text(str(os.getpid()))
        yield path
    finally:
        Path(root + home, procs).write_text(str(os.getpid()))
        os.rmdir(path)
        if mounted is not None:
            subprocess.run(["umount", str(mounted)], check=True)


def case(section: str, *values: Any, kprobe: bool = False) -> Any:
    """A parameter set whose test fires the section; with `kprobe` only where there are kprobes and trampolines."""
    marks = [pytest.mark.fires(section)] + ([pytest.mark.kprobe] if kprobe else [])
    return pytest.param(*values, marks=marks, id=section)
