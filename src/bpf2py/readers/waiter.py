"""What both readers share: waiting for records, handing them out each once, closing from another thread."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack

from bpf2py._typing import TYPE_CHECKING, Any, Generic, TypeVar
from bpf2py.errors import BpfOSError, ClosedError, EncodeError
from bpf2py.owned import Owned
from bpf2py.readers.batch import Batch, E, Pieces, get_ready
from bpf2py.seam.wakeup import Poll, Wakeup
from bpf2py.uapi.errno import EBUSY

if TYPE_CHECKING:
    import asyncio  # imported where it is used: who does not use it does not wait for it
    from typing import Self

    from bpf2py.seam.protocol import EventSource

T = TypeVar("T")

HELD = 1 << 25  # bytes a reader holds before it leaves what comes in the buffer
BACK_OFF = 0.005  # seconds between looks at a ring whose records another thread has on lease


class Claim:
    """A reader's claim to be the only one of its process that reads something.

    Attributes:
        process: its process.
        open: whether its reader is.
    """

    __slots__ = ("__weakref__", "open", "process")

    def __init__(self) -> None:
        self.process = os.getpid()
        self.open = True

    def holds(self, what: Hashable) -> bool:
        """Whether no later reader claimed it, after this one was closed."""
        return _claims.get(what) is self


# What is being read, by the claims of its last reader.
_claims: weakref.WeakValueDictionary[Hashable, Claim] = weakref.WeakValueDictionary()
_claiming = threading.Lock()


class EventReader(Owned, Generic[E]):
    """Waits with poll(), which looks at the buffers anew at every call: no wake-up can be missed.

    Every record is handed out once, to one caller, whoever asks: what a ``for`` loop left by ``break`` or an exception did not get
    to, and what other threads or tasks did not take, is handed out by the next call of any kind, in order. While events are handed
    out one by one, what comes meanwhile is taken as well, up to 32 MiB, so that a burst does not overflow the buffer.
    `close()` may be called from any thread or signal handler and ends iterations that wait; in a forked child it closes the child's
    descriptors and mappings alone.

    Args:
        name: of what is read, for messages.
        claims: what no other open reader of this process may read at the same time.
    """

    def __init__(self, name: str, claims: Sequence[Hashable]) -> None:
        self.name = name
        self._closing = False
        self._lock = threading.RLock()  # a signal handler that closes may interrupt its own thread within
        self._busy = 0
        self._taking = threading.RLock()  # held while records are taken out of the buffers, and given out
        self._filling = False
        self._ready: deque[Batch[E]] = deque()  # taken and not handed out
        self._pieces: Pieces[E] | None = None  # the batch before those, handed out in part
        self._held = 0  # bytes of what is ready
        self._sources: list[EventSource] = []
        self._waiting: dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]] = {}
        self._resources = ExitStack()
        self._finalizer = weakref.finalize(self, self._resources.close)
        self._finalizer.atexit = False  # the kernel cleans up, and a daemon thread may still be reading
        self._claimed = Claim()
        self._claim(claims)
        self._waker = Wakeup()
        self._resources.callback(self._waker.close)
        get_ready()

    def _claim(self, claims: Sequence[Hashable]) -> None:
        with _claiming:
            for what in claims:
                other = _claims.get(what)
                if other is not None and other.open and other.process == os.getpid():
                    raise BpfOSError(
                        f"{type(self).__name__}: {self.name} is read by another reader already, and a record goes to one "
                        "of them only: close that one first, or share it",
                        errno=EBUSY,
                    )
            for what in claims:
                _claims[what] = self._claimed

    def _wait_for(self, source: EventSource) -> None:
        """Add what to wait for; it is closed with the reader."""
        self._resources.callback(source.close)
        self._sources.append(source)

    # -- for the readers -----------------------------------------------------------------------------------------

    def _take(self) -> Iterator[Batch[E]]:
        """Records out of the buffers, a batch at a time; called with `_taking` held."""
        raise NotImplementedError

    def _ends(self) -> list[int]:
        """How far each buffer is written that `_take` may take in several steps."""
        return []

    def _reached(self, ends: list[int]) -> bool:
        """Whether all up to there was taken, or cannot be taken now."""
        return True

    def _blocked(self) -> bool:
        """Whether records are there that cannot be taken now, so that their buffer stays readable."""
        return False

    # -- reading -------------------------------------------------------------------------------------------------

    def flush(self) -> list[Batch[E]]:
        """What is there now, without waiting: what earlier calls left, then batches of each buffer that has something."""
        with self._in_use():
            return self._flush()

    def _flush(self) -> list[Batch[E]]:
        with self._taking:
            ends = self._ends()
            while self._fill() and not self._reached(ends):
                pass
            if self._pieces is not None:
                rest, self._pieces = self._pieces.rest(), None
                if rest is not None:
                    self._ready.appendleft(rest)
            found = list(self._ready)
            self._ready.clear()
            self._held = 0
            return found

    def _fill(self) -> bool:
        """Take what there is; False where this is a signal handler that came while the same thread does."""
        if self._filling:
            return False
        self._filling = True
        try:
            # One by one: what was taken is kept also when the next one raises.
            for batch in self._take():
                self._ready.append(batch)
                self._held += batch.nbytes
        finally:
            self._filling = False
        return True

    def poll(self, timeout: float | None = None) -> list[Batch[E]]:
        """Wait until something is there, at most `timeout` seconds (None: for ever), and return it; empty after the timeout.

        Raises:
            ClosedError: the reader is closed.
            EncodeError: the timeout is not a number.
        """
        deadline = Deadline(timeout)
        with self._in_use():
            while not self._closing:
                found = self._flush()
                if found or deadline.passed():
                    return found
                self._wait(deadline.left())
        return []

    def batches(self, timeout: float | None = None) -> Iterator[Batch[E]]:
        """Batches as they come, for `timeout` seconds in all (None: until `close()`; 0: what is there now)."""
        return self._batches(Deadline(timeout))

    def _batches(self, deadline: Deadline) -> Iterator[Batch[E]]:
        for _ in self._rounds(deadline):
            while (batch := self._next_batch()) is not None:
                yield batch
                if deadline.passed_meanwhile():
                    return

    def events(self, timeout: float | None = None) -> Iterator[E]:
        """Single events as they come, for `timeout` seconds in all (None: until `close()`; 0: what is there now).

        Raises EncodeError for a record that is too short for its type; the next call goes on after it.
        """
        return self._events(Deadline(timeout))

    def _events(self, deadline: Deadline) -> Iterator[E]:
        for _ in self._rounds(deadline):
            while (piece := self._next_piece(early=not deadline.now)) is not None:
                if deadline.at is None:
                    yield from piece
                    continue
                for event in piece:
                    yield event
                    if deadline.passed_meanwhile():
                        return

    def __iter__(self) -> Iterator[E]:
        return self.events()

    def _rounds(self, deadline: Deadline) -> Iterator[None]:
        """Steps whenever there may be something to hand out, until the deadline or `close()`."""
        yield  # what earlier calls left
        ends: list[int] | None = None
        while not self._closing:
            try:
                with self._in_use():
                    with self._taking:
                        if ends is None and deadline.now:
                            ends = self._ends()
                        everything = not self._fill() or ends is None or self._reached(ends)
                    if not self._ready and not deadline.passed():
                        self._wait(deadline.left())
                        continue
            except ClosedError:
                break
            yield
            if deadline.passed() and everything:
                return
        yield  # what was read before it was closed

    def _next_batch(self) -> Batch[E] | None:
        with self._taking:
            if self._pieces is not None:
                rest, self._pieces = self._pieces.rest(), None
                if rest is not None:
                    return rest
            return self._pop() if self._ready else None

    def _pop(self) -> Batch[E]:
        batch = self._ready.popleft()
        self._held -= batch.nbytes
        return batch

    def _next_piece(self, early: bool = True) -> Iterator[E] | None:
        """An iterator over the next events, of which every one is handed out once whoever else has it.

        Args:
            early: whether to look for more in the buffers meanwhile.
        """
        with self._taking:
            if early:
                self._fill_early()
            while True:
                if self._pieces is not None:
                    piece = self._pieces.next_piece()
                    if piece is not None:
                        return piece
                if not self._ready:
                    self._pieces = None
                    return None
                self._pieces = Pieces(self._pop())

    def _fill_early(self) -> None:
        """Take what came while a batch is handed out event by event: the buffer may be full before all of them were looked at."""
        if self._pieces is None or self._held >= HELD:
            return
        try:
            with self._in_use():
                self._fill()
        except ClosedError:
            pass

    # -- asyncio -------------------------------------------------------------------------------------------------

    def batches_async(self) -> AsyncIterator[Batch[E]]:
        """Batches as they come, for ``async for``; several tasks may share them."""
        return AsyncItems(self, self._next_batch_as_item)

    def __aiter__(self) -> AsyncIterator[E]:
        return AsyncItems(self, self._next_piece)

    def _next_batch_as_item(self) -> Iterator[Batch[E]] | None:
        batch = self._next_batch()
        return iter([batch]) if batch is not None else None

    async def _wait_async(self) -> None:
        """Wait until there may be something to read, or the reader is closed."""
        import asyncio

        loop = asyncio.get_running_loop()
        if self._blocked():
            await asyncio.sleep(BACK_OFF)
            return
        with self._in_use():
            tasks = self._waiting.setdefault(loop, set())

            def wake() -> None:
                for task in tasks:
                    if not task.done():
                        task.set_result(None)

            ready: asyncio.Future[None] = loop.create_future()
            descriptors = [source.fileno() for source in self._sources] + [self._waker.fileno()]
            if not tasks:
                for fd in descriptors:
                    loop.add_reader(fd, wake)
            tasks.add(ready)
            try:
                await ready
            finally:
                tasks.discard(ready)
                if not tasks:
                    self._waiting.pop(loop, None)
                    for fd in descriptors:
                        loop.remove_reader(fd)
                self._acknowledge()

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> bool:
        """Wait for something to read; False after the timeout or when the reader is being closed."""
        if self._blocked():
            # Its buffer is readable all the time.
            Poll([self._waker]).wait(BACK_OFF if timeout is None else min(timeout, BACK_OFF))
            return not self._closing
        ready = Poll([*self._sources, self._waker]).wait(timeout)
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
        """End iterations that wait, unmap the buffers; closing twice is harmless.

        What was taken out of the buffers and not handed out yet can still be iterated over; what is in them stays there.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._claimed.open = False
            busy = self._busy
            if busy:
                self._waker.set()
        if not busy:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncItems(AsyncIterator[T]):
    """What a reader hands out, for one task. A cancelled ``anext()`` takes nothing, and may be called again."""

    def __init__(self, reader: EventReader[Any], more: Callable[[], Iterator[T] | None]) -> None:
        self._reader = reader
        self._more = more
        self._items: Iterator[T] = iter(())

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        import asyncio

        reader = self._reader
        while True:
            await asyncio.sleep(0)  # other tasks get their turn, however busy the buffers are
            found = self._more()
            if found is None and not reader._closing:
                try:
                    with reader._in_use(), reader._taking:
                        reader._fill()
                    found = self._more()
                    if found is None:
                        await reader._wait_async()
                        continue
                except ClosedError:
                    pass
            if found is None:
                raise StopAsyncIteration
            self._items = found
            for item in found:
                return item


class Deadline:
    """The end of a time to wait, in seconds from now; None: there is none."""

    __slots__ = ("at", "now")

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None and (not isinstance(timeout, int | float) or math.isnan(timeout)):
            raise EncodeError(f"a timeout is a number of seconds or None, not {timeout!r}")
        self.at = None if timeout is None or timeout == math.inf else time.monotonic() + max(0, timeout)
        self.now = timeout is not None and timeout <= 0

    def left(self) -> float | None:
        """Seconds until then, at least 0."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        """Whether it is over."""
        return self.at is not None and time.monotonic() >= self.at

    def passed_meanwhile(self) -> bool:
        """Whether it is over, though there was time at first: with a timeout of 0 all that is there is handed out."""
        return not self.now and self.passed()


class _InUse:
    """Marks the reader as in use by a thread; the last one out of a closed reader takes it down."""

    __slots__ = ("_reader",)

    def __init__(self, reader: EventReader[Any]) -> None:
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
            reader._finalizer()
