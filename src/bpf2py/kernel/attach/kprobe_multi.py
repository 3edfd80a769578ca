"""Many kernel functions at once: SEC("kprobe.multi/PATTERN") (Linux 5.18), SEC("kprobe.session/PATTERN") (6.10)."""

from __future__ import annotations

import ctypes
import fnmatch
import struct
from collections.abc import Sequence

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options
from bpf2py.kernel.attach.kprobe import available_functions
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec

BPF_F_KPROBE_MULTI_RETURN = 1


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` (a name, or a pattern with ``*`` and ``?``), ``symbols`` (a list of names instead),
    ``cookies`` (one for each symbol), ``retprobe``.
    """
    what = f"program {spec.name}: attach"
    assert spec.attach_type is not None
    on_return = bool(options.pop("retprobe", spec.section.startswith("kretprobe")))
    pattern = options.pop("target", None) or spec.target
    symbols: Sequence[str] | None = options.pop("symbols", None)
    cookies: Sequence[int] | None = options.pop("cookies", None)
    no_more_options(spec, options)
    if symbols is None:
        if not pattern:
            raise AttachError(f"{what}: SEC({spec.section!r}) names no function; give symbols=[...]")
        symbols = [pattern]
        if any(char in pattern for char in "*?["):
            symbols = sorted(set(fnmatch.filter(available_functions(), pattern)))
    if not symbols:
        raise AttachError(f"{what}: no kernel function matches {pattern!r}")
    if cookies is not None and len(cookies) != len(symbols):
        raise AttachError(f"{what}: {len(cookies)} cookies for {len(symbols)} functions")
    names = [ctypes.create_string_buffer(name.encode()) for name in symbols]
    pointers = (ctypes.c_uint64 * len(names))(*[ctypes.addressof(name) for name in names])
    values = (ctypes.c_uint64 * len(names))(*cookies) if cookies is not None else None
    extra = struct.pack(
        "<IIQQQ",
        BPF_F_KPROBE_MULTI_RETURN if on_return else 0,
        len(names),
        ctypes.addressof(pointers),
        0,
        ctypes.addressof(values) if values is not None else 0,
    )
    hook = f"{spec.section.split('/', 1)[0]}/{pattern or ', '.join(symbols[:3])}"
    reasons = {3: "one of the functions is not there or cannot be traced", 95: "the kernel lacks CONFIG_FPROBE"}
    return [make_link(program, spec, 0, spec.attach_type, hook, extra=extra, reasons=reasons)]
