"""Iterators: SEC("iter/task"), SEC("iter/bpf_map_elem") ...; Linux 5.8."""

from __future__ import annotations

import ctypes
import struct

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options, target_of
from bpf2py.kernel.cgroups import open_cgroup
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.syscall import Fd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import AttachType

# enum bpf_cgroup_iter_order.
ORDERS = {"self": 1, "descendants_pre": 2, "descendants_post": 3, "ancestors_up": 4}


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``map`` (iter/bpf_map_elem and the like), ``pid`` or ``tid`` (task iterators, Linux 6.1),
    ``cgroup`` and ``order`` ("self", "descendants_pre", "descendants_post", "ancestors_up"; Linux 6.1).

    The link's `open()` gives a file with what the program writes.
    """
    target = target_of(spec, options, "iter/task")
    info, keep = b"", None
    if "map" in options:
        info = struct.pack("<I", options.pop("map").fileno())
    elif "pid" in options or "tid" in options:
        info = struct.pack("<III", int(options.pop("tid", 0)), int(options.pop("pid", 0)), 0)
    elif "cgroup" in options:
        what, order = f"program {spec.name}: attach", options.pop("order", "descendants_pre")
        if order not in ORDERS:
            raise AttachError(f"{what}: order must be one of {', '.join(ORDERS)}, is {order!r}")
        keep = Fd(open_cgroup(what, str(options.pop("cgroup"))))
        info = struct.pack("<IIQ", ORDERS[order], keep.number, 0)
    no_more_options(spec, options)
    buffer = ctypes.create_string_buffer(info.ljust(16, b"\0"), 16)
    extra = struct.pack("<QI", ctypes.addressof(buffer) if info else 0, 16 if info else 0)
    try:
        return [make_link(program, spec, 0, AttachType.TRACE_ITER, f"iter/{target}", extra=extra)]
    finally:
        if keep is not None:
            keep.close()
