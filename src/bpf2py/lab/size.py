"""How large an LRU map has to be: hit rates of many set-ups, replayed on all cores, and the size that reaches a wanted rate."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from bpf2py.errors import NotSupported
from bpf2py.lab.ideal import Curve
from bpf2py.lab.lru import Hits, Setup, hits

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, Any]

__all__ = ["Sweep", "workers"]

MOST_ENTRIES = 1 << 22
CLOSE = 1.02  # sizes that differ by less are not told apart


@contextmanager
def workers(count: int | None = None, scheduler: str | None = None) -> Iterator[Executor | None]:
    """What replays run on: processes of this machine, or a Dask cluster; None for this process alone.

    Args:
        count: processes; as many as there are CPUs where it is None.
        scheduler: the address of a Dask scheduler, ``tcp://host:8786``.

    Raises NotSupported where `dask.distributed` is not installed.
    """
    if scheduler is not None:
        try:
            from distributed import Client
        except ImportError:
            raise NotSupported("dask is not installed: pip install 'dask[distributed]'", feature="dask") from None
        with Client(scheduler) as client:  # type: ignore[no-untyped-call, unused-ignore]
            yield client.get_executor()
        return
    processes = count if count is not None else os.cpu_count() or 1
    if processes < 2:
        yield None
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield pool


class Sweep:
    """A trace that many set-ups are tried with.

    Args:
        keys, cpus: as `hits` takes them.
        executor: see `workers`; this process where it is None.

    Attributes:
        curve: hits of an exact LRU by its size.
    """

    def __init__(self, keys: Numbers, cpus: Numbers | None = None, executor: Executor | None = None) -> None:
        self.curve = Curve.of(keys)
        self._keys, self._cpus = keys, cpus
        self._executor = executor

    def hits(self, setups: Sequence[Setup], done: Callable[[Hits], None] = lambda _: None) -> list[Hits]:
        """Replay the trace with each set-up; `done` is called as results come."""
        if self._executor is None or len(setups) < 2:
            found = []
            for setup in setups:
                found.append(self._one(setup))
                done(found[-1])
            return found
        # The trace is written once, and mapped by each worker: it may be large.
        if isinstance(self._executor, ProcessPoolExecutor):
            with tempfile.TemporaryDirectory() as folder:
                paths = self._written(folder)
                futures = [self._executor.submit(_from_files, setup, self._ideal(setup), *paths) for setup in setups]
                return _gathered(futures, done)
        futures = [self._executor.submit(hits, setup, self._keys, self._cpus, self._ideal(setup)) for setup in setups]
        return _gathered(futures, done)

    def size_for(self, rate: float, setup: Setup) -> int | None:
        """The smallest `max_entries` with which a set-up reaches a hit rate; None where an exact LRU of any size does not.

        Hit rates grow with the size nearly everywhere; sizes within 2 % of one another are not told apart.
        """
        low = self.curve.size_for(rate)
        if low is None:
            return None

        def reached(size: int) -> bool:
            return self._one(setup._replace(max_entries=size)).rate >= rate

        high = low
        while not reached(high):
            low, high = high, high * 2
            if high > MOST_ENTRIES:
                return None
        while high > low + 1 and high > low * CLOSE:
            middle = (low + high) // 2
            if reached(middle):
                high = middle
            else:
                low = middle
        return high

    def _one(self, setup: Setup) -> Hits:
        return hits(setup, self._keys, self._cpus, self._ideal(setup))

    def _ideal(self, setup: Setup) -> int:
        return self.curve.hits(setup.max_entries)

    def _written(self, folder: str) -> tuple[str, str]:
        import numpy as np

        keys, cpus = os.path.join(folder, "keys.npy"), os.path.join(folder, "cpus.npy")
        np.save(keys, self._keys)
        if self._cpus is None:
            return keys, ""
        np.save(cpus, self._cpus)
        return keys, cpus


def _gathered(futures: Iterable[Any], done: Callable[[Hits], None]) -> list[Hits]:
    found = []
    for future in futures:
        found.append(future.result())
        done(found[-1])
    return found


def _from_files(setup: Setup, ideal: int, keys: str, cpus: str) -> Hits:
    """In a worker."""
    import numpy as np

    return hits(setup, np.load(keys, mmap_mode="r"), np.load(cpus, mmap_mode="r") if cpus else None, ideal)
