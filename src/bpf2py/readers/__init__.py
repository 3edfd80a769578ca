"""Reading events: ring buffers and perf buffers."""

from __future__ import annotations

from bpf2py._lazy import lazily
from bpf2py._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.readers.batch import Batch
    from bpf2py.readers.perf import PerfReader
    from bpf2py.readers.ring import RingReader

__all__ = ["Batch", "PerfReader", "RingReader"]

__getattr__, __dir__ = lazily(
    __name__, globals(), {"Batch": "readers.batch", "PerfReader": "readers.perf", "RingReader": "readers.ring"}
)
