"""Loading many programs: while the kernel verifies one, the next are prepared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from bpf2py._typing import TYPE_CHECKING
from bpf2py.kernel.syscall import Fd

if TYPE_CHECKING:
    from bpf2py.kernel.program import KernelProgram
    from bpf2py.kernel.program_load import ProgramLoader

__all__ = ["load_all"]

MANY = 16  # fewer are loaded before a thread is worth its start


def load_all(loaders: Iterator[ProgramLoader], count: int, log: bool = False) -> list[KernelProgram]:
    """Load all of `count` programs, in order; none is left behind when one cannot be; `log`: with their logs.

    Raises what preparing or loading the first bad one raises.
    """
    programs: list[KernelProgram] = []
    try:
        if count < MANY or log:
            for loader in loaders:
                programs.append(loader.load())
        else:
            _load_many(loaders, programs)
    except BaseException:
        for program in programs:
            program.close()
        raise
    return programs


def _load_many(loaders: Iterator[ProgramLoader], programs: list[KernelProgram]) -> None:
    import threading
    from queue import SimpleQueue

    queue: SimpleQueue[ProgramLoader | None] = SimpleQueue()
    made: list[ProgramLoader] = []
    results: list[Fd | int] = []  # of the calls, in order, up to the first failure

    def work() -> None:
        while (loader := queue.get()) is not None:
            results.append(loader.call())
            if isinstance(results[-1], int):
                return

    thread = threading.Thread(target=work, name="bpf2py loads programs", daemon=True)
    thread.start()
    error: BaseException | None = None
    try:
        for loader in loaders:
            made.append(loader)
            queue.put(loader)
            if results and isinstance(results[-1], int):
                break
    except BaseException as caught:
        error = caught
    finally:
        queue.put(None)
        thread.join()
    programs += [loader.finish(fd) for loader, fd in zip(made, results, strict=False) if isinstance(fd, Fd)]
    if results and isinstance(results[-1], int):
        programs.append(made[len(results) - 1].finish(results[-1]))  # tries again for the log, and raises
    if error is not None:
        raise error
    # Only after a failure that went away when it was looked at.
    programs += [loader.load() for loader in chain(made[len(results) :], loaders)]
