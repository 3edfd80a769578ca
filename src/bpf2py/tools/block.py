"""biosnoop and biolatency: requests to disks."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from bpf2py._typing import Any
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.maps.histogram import Histogram
from bpf2py.tools.framework import Chart, Column, Filter, Record, Tool

__all__ = ["Biolatency", "Biosnoop"]

# include/linux/blk_types.h: enum req_op.
OPERATIONS = {
    0: "read",
    1: "write",
    2: "flush",
    3: "discard",
    5: "secure erase",
    9: "write zeroes",
    34: "driver",
    35: "driver",
}


class _Block(Tool):
    program = "biosnoop"

    def __init__(self, wanted: Filter, *, histograms: bool) -> None:
        there = "btf_trace_block_io_start" in vmlinux().names_with_prefix("btf_trace_block_io_start")  # Linux 6.5
        super().__init__(wanted, {"histograms": int(histograms)}, autoload={"on_start": there})

    @property
    def problems(self) -> list[str]:
        found = super().problems
        begun: list[tuple[Any, Any]] = list(self.obj.maps["begun"].items())
        running = sum(1 for _, each in begun if each.wanted and each.issue_ns)
        if missing := int(self.obj.variables["endless"].value) + running:
            found.append(f"{missing} requests are missing: the kernel did not report their end, or they run still")
        return found


class Biosnoop(_Block):
    """A record for each request to a disk, when it is done.

    The process is the one that began it (Linux 6.5) or gave it to the driver; of what is written later that is a thread of the
    kernel.
    """

    columns = (
        Column("comm", "COMM", 15),
        Column("pid", "PID", 7, True),
        Column("disk", "DISK", 8),
        Column("operation", "OP", 8),
        Column("sector", "SECTOR", 12, True),
        Column("bytes", "BYTES", 9, True),
        Column("queued_ms", "QUE(ms)", 8, True),
        Column("ms", "LAT(ms)", 8, True),
    )

    def __init__(self, wanted: Filter) -> None:
        super().__init__(wanted, histograms=False)

    def _record(self, event: Any) -> Record:
        return {
            "time": self.seconds(event.time_ns),
            "comm": event.comm,
            "pid": event.pid,
            "disk": event.disk,
            "operation": OPERATIONS.get(event.operation, str(event.operation)),
            "sector": event.sector,
            "bytes": event.bytes,
            "error": errno.errorcode.get(-event.error, str(event.error)) if event.error else "",
            "queued_ms": round(event.queued_ns / 1e6, 3),
            "ms": round((event.queued_ns + event.took_ns) / 1e6, 3),
        }


class Biolatency(_Block):
    """How long requests to disks take, queues included: a histogram for each disk."""

    def __init__(self, wanted: Filter) -> None:
        super().__init__(wanted, histograms=True)

    def results(self) -> Iterator[Chart]:
        found: list[tuple[Any, Any]] = list(self.obj.maps["waits"].items())
        for disk, value in found:
            histogram = Histogram.log2(value.slots, "usecs")
            yield Chart(f"{disk.name}: {histogram.total} requests", {"disk": disk.name}, histogram)
