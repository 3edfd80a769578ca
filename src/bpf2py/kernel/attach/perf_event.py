"""Perf events: SEC("perf_event"), Linux 4.9."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel import perf_event
from bpf2py.kernel.attach import no_more_options
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.cpus import online_cpus

# include/uapi/linux/perf_event.h: enum perf_hw_id and enum perf_sw_ids.
EVENTS = {
    "cpu-cycles": (0, 0), "instructions": (0, 1), "cache-references": (0, 2), "cache-misses": (0, 3),
    "branch-instructions": (0, 4), "branch-misses": (0, 5), "cpu-clock": (1, 0), "task-clock": (1, 1),
    "page-faults": (1, 2), "context-switches": (1, 3), "cpu-migrations": (1, 4), "minor-faults": (1, 5),
    "major-faults": (1, 6),
}  # fmt: skip
FREQUENCY_BIT = 1 << 10
BREAKPOINT_TYPE = 5
BREAKPOINT_ACCESS = {"r": 1, "w": 2, "rw": 3, "x": 4}


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; one event for each CPU, or for one process.

    Options: ``event`` (a name such as "cpu-clock" or "page-faults", or a pair (type, config)), ``frequency`` (samples per second)
    or ``period`` (events per sample), ``pid``, ``cpu``; ``breakpoint`` (address) with ``length`` and ``access`` ("r", "w",
    "rw", "x"); ``cookie`` (Linux 5.15).
    """
    what = f"program {spec.name}: attach"
    event = options.pop("event", "cpu-clock")
    frequency, period = options.pop("frequency", None), options.pop("period", None)
    pid, cpu = int(options.pop("pid", -1)), options.pop("cpu", None)
    address = options.pop("breakpoint", None)
    length, access = int(options.pop("length", 8)), options.pop("access", "w")
    cookie = int(options.pop("cookie", 0))
    no_more_options(spec, options)
    if isinstance(event, str) and event not in EVENTS:
        raise AttachError(f"{what}: unknown event {event!r}: use one of {', '.join(EVENTS)}, or (type, config)")
    kind, config = EVENTS[event] if isinstance(event, str) else event
    bits, sample, config1, config2, breakpoint_type = 0, int(period or 1), 0, 0, 0
    if address is not None:
        if access not in BREAKPOINT_ACCESS:
            raise AttachError(f"{what}: access must be r, w, rw or x, is {access!r}")
        kind, config, config1, config2 = BREAKPOINT_TYPE, 0, int(address), length
        breakpoint_type = BREAKPOINT_ACCESS[access]
        event = f"breakpoint {address:#x}"
    elif frequency is not None:
        bits, sample = FREQUENCY_BIT, int(frequency)
    elif period is None and kind in (0, 1) and config in (0, 1):
        bits, sample = FREQUENCY_BIT, 99  # a period of one cycle would stop the machine
    cpus = [int(cpu)] if cpu is not None else [-1] if pid >= 0 else online_cpus()
    links: list[KernelLink] = []
    try:
        for number in cpus:
            opened = perf_event.open_event(
                what, kind, config, config1=config1, config2=config2, sample_period=sample, sample_type=0,
                wakeup_events=0, bits=bits, pid=pid, cpu=number, breakpoint_type=breakpoint_type,
            )  # fmt: skip
            links.append(perf_event.attach_to_event(what, program.fd, opened, cookie, f"perf_event/{event}"))
    except BaseException:
        for link in links:
            link.close()
        raise
    return links
