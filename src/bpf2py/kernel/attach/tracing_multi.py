"""Many kernel functions by one trampoline program: SEC("fentry.multi/PATTERN"), fexit.multi and fsession.multi (Linux 7.2)."""

from __future__ import annotations

import ctypes
import struct

from bpf2py._typing import Any
from bpf2py.btf.types import Kind
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link
from bpf2py.kernel.attach.many_functions import choose
from bpf2py.kernel.btf import VMLINUX, module_btf
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.errno import EBUSY, EINVAL, ENOENT, EOPNOTSUPP


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` (a name, or a pattern with ``*`` and ``?``), ``symbols`` (a list of names instead),
    ``cookies`` (one for each symbol).
    """
    assert spec.attach_type is not None
    named = spec.target.rpartition(":")[0]
    module = "" if named == VMLINUX else named
    symbols, cookies, hook = choose(
        spec, options, "kernel function with a type in BTF", lambda name: _function(name, module), named
    )
    ids = [_function(name, module) for name in symbols]
    if 0 in ids:
        where = f"module {module}" if module else "the kernel"
        raise AttachError(f"program {spec.name}: attach: {where} has no function {symbols[ids.index(0)]!r} in its BTF")
    numbers = (ctypes.c_uint32 * len(ids))(*ids)
    extra = struct.pack(
        "<QQI", ctypes.addressof(numbers), ctypes.addressof(cookies) if cookies is not None else 0, len(ids)
    )
    reasons = {
        ENOENT: "one of the functions cannot be traced",
        EBUSY: "one of the functions is traced by as many trampolines as it can be",
        EOPNOTSUPP: "the kernel was built without dynamic ftrace for single functions",
    }
    if len(set(ids)) < len(ids):
        reasons[EINVAL] = "a function is named twice"
    return [make_link(program, spec, 0, spec.attach_type, hook, extra=extra, reasons=reasons)]


def _function(name: str, module: str) -> int:
    """A function's number in the BTF of the kernel, or of a module that the program was loaded for; 0 where there is none."""
    btf = module_btf(module) if module else vmlinux()
    own = [each for each in btf.ids_by_name(name) if each >= btf.start_id] if btf is not None else []
    return next((each for each in own if btf is not None and btf.kind(each) == Kind.FUNC), 0)
