"""The pytest plugin: a fixture named ``bpf2py`` that loads programs into an engine of the test's own.

No privileges, no kernel: each test gets fresh maps, a clock that stands still, and events when it asks for them. What is compiled
and read is kept for the whole session, so that a test takes milliseconds::

    def test_counts_opens(bpf2py):
        obj = bpf2py.load("opens.bpf.c")
        bpf2py.fire("tracepoint/syscalls/sys_enter_openat")
        assert obj.variables["opens"].value == 1

The fixture does not hide the package: ``bpf2py.KeyNotFound`` and the like are there as well.

``@pytest.mark.bpf2py(kernel="6.1", possible_cpus=8, seed=1, clock=0)`` chooses another machine for a test; the settings
``bpf2py_kernel`` and ``bpf2py_cpus`` for all of them.

Another fixture, ``bpf2py_guest``, is a virtual machine with a real kernel, started once for all tests that ask for it. A test runs
once for each kernel of its mark, or of the setting ``bpf2py_kernels``::

    @pytest.mark.bpf2py(kernels=["6.1", "6.12"])
    def test_loads_everywhere(bpf2py_guest):
        for report in bpf2py_guest.verify("opens.bpf.c", attach=True):
            assert report.loads and report.attached, report.error
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bpf2py.engine import Engine
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.task import Task
    from bpf2py.loading import LoadOptions, Source
    from bpf2py.object import Object
    from bpf2py.seam.info import TestRunResult
    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.testing.guest import Guest

__all__ = ["Bpf2py"]

_ONE_SECOND = 1_000_000_000
_specs: dict[tuple[Any, ...], ObjectSpec] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings."""
    parser.addini("bpf2py_kernel", "kernel version the engine shows the behaviour of", default="6.18")
    parser.addini("bpf2py_kernels", "kernels of the fixture bpf2py_guest, as the mark's", type="args", default=["6.12"])
    parser.addini("bpf2py_cpus", "possible CPUs of the engine", default="4")


def pytest_configure(config: pytest.Config) -> None:
    """The mark."""
    config.addinivalue_line(
        "markers",
        "bpf2py(**options): options of the engine of this test: kernel, possible_cpus, seed, clock; kernels: of bpf2py_guest",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a guest once for each of its kernels."""
    if "bpf2py_guest" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("bpf2py")
        kernels = (mark.kwargs.get("kernels") if mark is not None else None) or metafunc.config.getini("bpf2py_kernels")
        metafunc.parametrize("bpf2py_guest", list(kernels), indirect=True, scope="session")


@pytest.fixture(scope="session")
def bpf2py_guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A virtual machine with the kernel of the test's parameter."""
    from bpf2py.testing.guest import Guest

    with Guest(request.param) as guest:
        yield guest


class Bpf2py:
    """What the fixture ``bpf2py`` is.

    Attributes:
        engine: the simulated machine of this test.
        objects: what was loaded, in order; closed when the test ends.
    """

    def __init__(self, engine: Engine, directory: str) -> None:
        self.engine = engine
        self.objects: list[Object] = []
        self._directory = directory

    def __getattr__(self, name: str) -> Any:
        """What the package offers: ``bpf2py.KeyNotFound`` works in a test as well."""
        import bpf2py as package

        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(package, name)

    def load(
        self, source: Source, *, cflags: Sequence[str] = (), attach: bool = True, **options: Unpack[LoadOptions]
    ) -> Object:
        """Load a source or object into this test's engine, and attach it.

        Args:
            source: as for `bpf2py.load`; a relative path is looked for beside the test, then in the working directory.
            cflags: extra compiler flags.
            attach: attach every program whose section name says where.
            options: further options of `bpf2py.load`.
        """
        from bpf2py.loading import load

        obj = load(self._spec(source, tuple(cflags)), self.engine, **options)
        self.objects.append(obj)
        if attach:
            from bpf2py.engine.programs.hooks import can_attach

            for name, program in obj.programs.items():
                if can_attach(obj.spec.programs[name]):
                    program.attach()
        return obj

    def _spec(self, source: Source, cflags: tuple[str, ...]) -> ObjectSpec:
        from bpf2py.loading import read_spec

        if not isinstance(source, str | os.PathLike):
            return read_spec(source, cflags)
        path = os.fspath(source)
        beside = os.path.join(self._directory, path)
        if os.path.exists(beside):
            path = beside
        try:
            state = os.stat(path)
        except OSError:
            return read_spec(path, cflags)  # which says what is missing
        key = (os.path.abspath(path), state.st_mtime_ns, state.st_size, cflags)
        if key not in _specs:
            _specs[key] = read_spec(path, cflags)
        return _specs[key]

    def fire(self, hook: str, *arguments: object, **fields: object) -> list[int]:
        """Let an event happen: see `Engine.fire`; the results of the programs that ran.

        Raises LookupError when no program is attached to the hook: a test that fires nothing tests nothing.
        """
        from bpf2py.engine.programs.hooks import hook_name

        name = hook_name(hook)
        hooks = [link.hook for link in self.engine.hooks]
        if name not in hooks:
            raise LookupError(f"no program is attached to {name}; there are: {', '.join(sorted(set(hooks))) or 'none'}")
        return self.engine.fire(hook, *arguments, **fields)

    def run(self, program: str, *arguments: object, **options: Any) -> TestRunResult:
        """Run a program of the objects loaded, by its name: see `Program.run`. Raises KeyError."""
        for obj in reversed(self.objects):
            if program in obj.programs:
                return obj.programs[program].run(*arguments, **options)
        known = ", ".join(name for obj in self.objects for name in obj.programs)
        raise KeyError(f"no program {program!r} was loaded; there are: {known or 'none'}")

    def cpu(self, number: int) -> AbstractContextManager[Machine]:
        """``with bpf2py.cpu(2):`` what follows runs on this CPU."""
        return self.engine.cpu(number)

    def advance(self, seconds: float = 0.0, *, ns: int = 0) -> int:
        """Let time go on, and due timers run; how many ran."""
        return self.engine.advance(round(seconds * _ONE_SECOND) + ns)

    @property
    def now(self) -> int:
        """The time programs see, in ns."""
        return self.engine.now()

    @property
    def trace(self) -> list[str]:
        """Lines of bpf_printk."""
        return self.engine.trace

    @property
    def task(self) -> Task:
        """Who programs run as; may be set."""
        return self.engine.task

    @task.setter
    def task(self, task: Task) -> None:
        self.engine.task = task

    def close(self) -> None:
        """Close what was loaded."""
        for obj in reversed(self.objects):
            obj.close()


@pytest.fixture
def bpf2py(request: pytest.FixtureRequest) -> Iterator[Bpf2py]:
    """An engine of this test's own, and what loads programs into it."""
    from bpf2py.engine import Engine, Task

    options: dict[str, Any] = {
        "kernel": request.config.getini("bpf2py_kernel"),
        "possible_cpus": int(request.config.getini("bpf2py_cpus")),
        "clock": _ONE_SECOND,
        "task": Task(1000, 1000, ppid=1, uid=1000, gid=1000, comm="test"),
    }
    mark = request.node.get_closest_marker("bpf2py")
    if mark is not None:
        options.update({name: value for name, value in mark.kwargs.items() if name != "kernels"})
    fixture = Bpf2py(Engine(**options), os.path.dirname(str(request.path)))
    try:
        yield fixture
    finally:
        fixture.close()
