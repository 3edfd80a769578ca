"""What both readers share: waiting for descriptors, iterating, closing from another thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from bpf2py.errors import ClosedError
from bpf2py.readers.batch import Batch
from bpf2py.wakeup import Poll, Wakeup


class EventReader:
    """Waits with poll(), which looks at the buffers anew at every call: no wake-up can be missed.

    `close()` may be called from any thread or signal handler and ends iterations that wait.
    """

    def __init__(self, fds: list[Any]) -> None:
        self._closing = False
        self._lock = threading.RLock()  # a signal handler that closes may interrupt its own thread within
        self._busy = 0
        self._fds: list[int] = []
        self._sources: list[Any] = []  # of an engine's maps: descriptors that stay readable until they are acknowledged
        self._waker = Wakeup()
        try:
            for fd in fds:
                if isinstance(fd, int):
                    self._fds.append(os.dup(fd))
                else:
                    self._sources.append(fd)
        except BaseException:
            self._close_descriptors()
            raise
        self._poll = Poll([*self._fds, *self._sources, self._waker])

    # -- for the readers -----------------------------------------------------------------------------------------

    def flush(self) -> list[Batch]:
        """What is there now, without waiting."""
        raise NotImplementedError

    def _release(self) -> None:
        """Unmap the buffers."""
        raise NotImplementedError

    # -- reading -------------------------------------------------------------------------------------------------

    def poll(self, timeout: float | None = None) -> list[Batch]:
        """Wait until something is there, at most `timeout` seconds (None: for ever), and return it; empty after the timeout."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._in_use():
            while not self._closing:
                found = self.flush()
                if found:
                    return found
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return []
                self._wait(left)
        return []

    def batches(self, timeout: float | None = None) -> Iterator[Batch]:
        """Batches as they come, for `timeout` seconds in all (None: until `close()`)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closing:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found = self.poll(left)
            yield from found
            if not found and left is not None:
                return

    def events(self, timeout: float | None = None) -> Iterator[Any]:
        """Single events as they come, for `timeout` seconds in all."""
        for batch in self.batches(timeout):
            yield from batch.events()

    def __iter__(self) -> Iterator[Any]:
        return self.events()

    async def _batches_async(self) -> AsyncIterator[Batch]:
        loop = asyncio.get_running_loop()
        while not self._closing:
            found = self.flush()
            for batch in found:
                yield batch
            if found or self._closing:
                await asyncio.sleep(0)
                continue
            ready: asyncio.Future[None] = loop.create_future()

            def wake(ready: asyncio.Future[None] = ready) -> None:
                if not ready.done():
                    ready.set_result(None)

            with self._in_use():
                descriptors = [*self._fds, *self._sources, self._waker]
                for fd in descriptors:
                    loop.add_reader(fd, wake)
                try:
                    await ready
                finally:
                    for fd in descriptors:
                        loop.remove_reader(fd)
                    self._acknowledge()

    def batches_async(self) -> AsyncIterator[Batch]:
        """Batches as they come, for ``async for``."""
        return self._batches_async()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for batch in self._batches_async():
            for event in batch.events():
                yield event

    def _wait(self, timeout: float | None) -> bool:
        """Wait for something to read; False after the timeout or when the reader is being closed."""
        ready = self._poll.wait(timeout)
        self._acknowledge()
        return ready and not self._closing

    def _acknowledge(self) -> None:
        for source in self._sources:
            source.acknowledge()

    # -- closing -------------------------------------------------------------------------------------------------

    def _in_use(self) -> _InUse:
        return _InUse(self)

    def _require_open(self) -> None:
        if self._closing:
            raise ClosedError(f"{type(self).__name__}: the reader is closed")

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closing

    def close(self) -> None:
        """End iterations that wait, unmap the buffers; closing twice is harmless."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            busy = self._busy
            if busy:
                self._waker.set()
        if not busy:
            self._finish()

    def _finish(self) -> None:
        self._release()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        descriptors, self._fds = self._fds, []
        sources, self._sources = self._sources, []
        for source in sources:
            source.close()
        for fd in descriptors:
            os.close(fd)
        self._waker.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closing", True):
            self.close()


class _InUse:
    """Marks the reader as in use by a thread; the last one out of a closed reader takes it down."""

    __slots__ = ("_reader",)

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        reader = self._reader
        with reader._lock:
            reader._require_open()
            reader._busy += 1

    def __exit__(self, *_: object) -> None:
        reader = self._reader
        with reader._lock:
            reader._busy -= 1
            last = reader._closing and reader._busy == 0
        if last:
            reader._finish()
