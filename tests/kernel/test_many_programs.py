"""Objects with so many programs that threads load them: all or none, in order, and the first bad one is the one that is named."""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py.kernel import load_workers

pytestmark = pytest.mark.kernel
COUNT = 40
MANY = """
int total;
""" + "".join(
    f"""
SEC("raw_tp/sys_enter") int program_{n}(void *ctx) {{ return total += {n}, 0; }}
"""
    for n in range(COUNT)
)
Build = Callable[[str], bpf2py.ObjectSpec]


@pytest.fixture(params=["threads", "one CPU", "no machine code"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    cpus = os.sched_getaffinity(0)
    if request.param == "one CPU":
        os.sched_setaffinity(0, {min(cpus)})
    elif request.param == "no machine code":
        monkeypatch.setattr(load_workers, "_work", lambda: None)
    yield
    os.sched_setaffinity(0, cpus)


def with_line(bad: int, line: str) -> str:
    """The source with a line at the beginning of a program."""
    head = f"int program_{bad}(void *ctx) {{"
    assert head in MANY
    return MANY.replace(head, f"{head} {line}")


def test_all_are_there(build: Build, assert_no_leaks: Any) -> None:
    with assert_no_leaks(), bpf2py.load(build(MANY)) as obj:
        assert list(obj.programs) == [f"program_{n}" for n in range(COUNT)]
        assert len({program.info.id for program in obj.programs.values()}) == COUNT
        assert all(program.info.name == name for name, program in obj.programs.items())
        for number in (3, 17, 39):
            before = obj.variables["total"].value
            obj.programs[f"program_{number}"].test_run()
            assert obj.variables["total"].value == before + number


@pytest.mark.parametrize("bad", [0, 20, COUNT - 1])
def test_the_first_bad_one_is_named(build: Build, assert_no_leaks: Any, bad: int) -> None:
    spec = build(with_line(bad, "for (;;) total++;"))
    if bad < COUNT - 1:  # this one cannot even be prepared, but comes later
        spec.programs[f"program_{bad + 1}"].type = bpf2py.ProgramType.UNSPEC
    with assert_no_leaks(), pytest.raises(bpf2py.VerifierError, match=f"program program_{bad}: load: .*infinite loop"):
        bpf2py.load(spec)


def test_the_first_of_several_bad_ones_is_named(build: Build, assert_no_leaks: Any) -> None:
    """The later one is refused at once, the first one after much looking."""
    slow = "for (int i = 0; i < 5000; i++) { total += i; } *(volatile int *)8 = 1;"
    source = with_line(10, slow).replace(
        "int program_11(void *ctx) {", "int program_11(void *ctx) { *(volatile int *)8 = 1;"
    )
    for _ in range(5):
        with assert_no_leaks(), pytest.raises(bpf2py.VerifierError, match="program program_10: load: "):
            bpf2py.load(build(source))


def test_one_cannot_be_prepared(build: Build, assert_no_leaks: Any) -> None:
    spec = build(MANY)
    spec.programs["program_30"].type = bpf2py.ProgramType.UNSPEC
    with (
        assert_no_leaks(),
        pytest.raises(bpf2py.ObjectError, match=r"program program_30: .*correct SEC\(\.\.\.\) or set"),
    ):
        bpf2py.load(spec)


def test_one_cannot_be_linked(build: Build, assert_no_leaks: Any) -> None:
    source = "extern int nowhere(int) __ksym;\n" + with_line(25, "total += nowhere(1);")
    for _ in range(2):  # the kernel's BTF stays open once it is looked at
        with assert_no_leaks() if _ else contextlib.nullcontext(), pytest.raises(bpf2py.BpfError, match="nowhere"):
            bpf2py.load(build(source))


def test_a_failure_that_goes_away(build: Build, assert_no_leaks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a signal, which ends the verifier's work with EAGAIN: what was not loaded is loaded then."""
    take = load_workers._Shared.taken

    def taken(self: Any, index: int) -> Any:
        result = take(self, index)
        return -11 if index == 7 else 0 if index == 20 else result

    monkeypatch.setattr(load_workers._Shared, "taken", taken)
    with assert_no_leaks(), bpf2py.load(build(MANY)) as obj:
        assert len({program.info.id for program in obj.programs.values()}) == COUNT
        assert all(program.info.name == name for name, program in obj.programs.items())


def wait_for_threads() -> None:
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == load_workers.NAME:
            thread.join()


@pytest.mark.parametrize("where", ["put", "_publish", "close", "taken", "start"])
def test_interrupted(build: Build, assert_no_leaks: Any, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Ctrl-C wherever it comes: nothing stays open, and no thread stays."""
    spec = build(MANY)
    owner: Any = {"taken": load_workers._Shared, "start": threading.Thread}.get(where, load_workers.LoadWorkers)
    method = getattr(owner, where)
    calls = 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == {"put": 5, "_publish": 41, "taken": 9}.get(where, 1):
            _thread.interrupt_main()
        return method(*args)

    monkeypatch.setattr(owner, where, interrupted)
    with assert_no_leaks():
        try:
            bpf2py.load(spec).close()
            assert calls == 0, "not interrupted"
        except KeyboardInterrupt:
            pass
        wait_for_threads()


def test_threads_cannot_be_started(build: Build, assert_no_leaks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with assert_no_leaks(), bpf2py.load(build(MANY)) as obj:
        assert len(obj.programs) == COUNT


def test_one_that_was_not_closed(assert_no_leaks: Any) -> None:
    workers = load_workers.load_workers(5)
    with assert_no_leaks():
        del workers
        wait_for_threads()
    assert not [thread for thread in threading.enumerate() if thread.name == load_workers.NAME]


def test_several_objects_at_the_same_time(build: Build, assert_no_leaks: Any) -> None:
    spec = build(MANY)
    wrong: list[object] = []

    def load() -> None:
        for _ in range(5):
            with bpf2py.load(spec) as obj:
                if [program.info.name for program in obj.programs.values()] != list(obj.programs):
                    wrong.append(obj)

    with assert_no_leaks():
        loading = [threading.Thread(target=load) for _ in range(4)]
        for each in loading:
            each.start()
        for each in loading:
            each.join()
    assert not wrong
