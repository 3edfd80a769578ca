"""Many kernel functions at once: SEC("kprobe.multi/PATTERN") (Linux 5.18), SEC("kprobe.session/PATTERN") (6.10)."""

from __future__ import annotations

import ctypes
import struct

from bpf2py._typing import Any
from bpf2py.kernel.attach import make_link
from bpf2py.kernel.attach.many_functions import choose
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec

BPF_F_KPROBE_MULTI_RETURN = 1


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` (a name, or a pattern with ``*`` and ``?``), ``symbols`` (a list of names instead),
    ``cookies`` (one for each symbol), ``retprobe``.
    """
    assert spec.attach_type is not None
    on_return = bool(options.pop("retprobe", spec.section.startswith("kretprobe")))
    symbols, cookies, hook = choose(spec, options, "kernel function")
    names = [ctypes.create_string_buffer(name.encode()) for name in symbols]
    pointers = (ctypes.c_uint64 * len(names))(*[ctypes.addressof(name) for name in names])
    extra = struct.pack(
        "<IIQQQ",
        BPF_F_KPROBE_MULTI_RETURN if on_return else 0,
        len(names),
        ctypes.addressof(pointers),
        0,
        ctypes.addressof(cookies) if cookies is not None else 0,
    )
    reasons = {3: "one of the functions is not there or cannot be traced", 95: "the kernel lacks CONFIG_FPROBE"}
    return [make_link(program, spec, 0, spec.attach_type, hook, extra=extra, reasons=reasons)]
