"""Loading many programs: while the kernel verifies one, the next are prepared."""

from __future__ import annotations

from collections.abc import Iterator

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.kernel.syscall import Fd

if TYPE_CHECKING:
    from bpf2py.kernel import load_workers
    from bpf2py.kernel.program import KernelProgram
    from bpf2py.kernel.program_load import ProgramLoader
else:
    load_workers = module("bpf2py.kernel.load_workers")

__all__ = ["load_many"]


def load_many(loaders: Iterator[ProgramLoader], count: int, programs: list[KernelProgram]) -> None:
    """Load all of `count` programs, in order, and add them to `programs`.

    Raises what preparing or loading the first bad one raises.
    """
    workers = load_workers.load_workers(count)
    if workers is None:
        programs += [loader.load() for loader in loaders]
        return
    made: list[ProgramLoader] = []
    results: list[Fd | int] = []
    error: Exception | None = None
    try:
        for loader in loaders:
            made.append(loader)
            workers.put(loader.attr(None))
            if workers.failed:
                break
    except Exception as caught:
        error = caught  # of a program that comes after those the workers have
    finally:
        results += workers.close()
    for loader, result in zip(made, results, strict=False):
        if not isinstance(result, Fd):
            break
        programs.append(loader.finish(result))
    done = len(programs)
    if done < len(results) and results[done]:
        programs.append(made[done].finish(results[done]))  # tries again for the log, and raises
    if error is not None:
        raise error
    # Only after a failure that went away when it was looked at.
    for loader, result in zip(made[len(programs) :], results[len(programs) :], strict=True):
        programs.append(loader.finish(result) if isinstance(result, Fd) else loader.load())
    programs += [loader.load() for loader in loaders]
