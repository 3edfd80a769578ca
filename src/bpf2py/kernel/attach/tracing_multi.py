"""Many kernel functions by one trampoline program: SEC("fentry.multi/PATTERN"), fexit.multi and fsession.multi (Linux 7.2)."""

from __future__ import annotations

import ctypes
import fnmatch
import struct
from collections.abc import Sequence

from bpf2py._typing import Any
from bpf2py.btf.types import Kind
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options
from bpf2py.kernel.attach.kprobe import available_functions
from bpf2py.kernel.btf import module_btf
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.errno import EBUSY, EINVAL, ENOENT, EOPNOTSUPP


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` (a name, or a pattern with ``*`` and ``?``), ``symbols`` (a list of names instead),
    ``cookies`` (one for each symbol).
    """
    what = f"program {spec.name}: attach"
    assert spec.attach_type is not None
    pattern = options.pop("target", None) or spec.target
    symbols: Sequence[str] | None = options.pop("symbols", None)
    cookies: Sequence[int] | None = options.pop("cookies", None)
    no_more_options(spec, options)
    module = spec.target.rpartition(":")[0]
    if symbols is None:
        if not pattern:
            raise AttachError(f"{what}: SEC({spec.section!r}) names no function; give symbols=[...]")
        name = pattern.rpartition(":")[2]
        symbols = _matching(name, module) if any(char in name for char in "*?[") else [name]
    if not symbols:
        raise AttachError(f"{what}: no kernel function with a type in BTF matches {pattern!r}")
    if cookies is not None and len(cookies) != len(symbols):
        raise AttachError(f"{what}: {len(cookies)} cookies for {len(symbols)} functions")
    ids = [_function(name, module) for name in symbols]
    if 0 in ids:
        where = f"module {module}" if module else "the kernel"
        raise AttachError(f"{what}: {where} has no function {symbols[ids.index(0)]!r} in its BTF")
    numbers = (ctypes.c_uint32 * len(ids))(*ids)
    values = (ctypes.c_uint64 * len(ids))(*cookies) if cookies is not None else None
    extra = struct.pack(
        "<QQI", ctypes.addressof(numbers), ctypes.addressof(values) if values is not None else 0, len(ids)
    )
    hook = f"{spec.section.split('/', 1)[0]}/{pattern or ', '.join(symbols[:3])}"
    reasons = {
        ENOENT: "one of the functions cannot be traced",
        EBUSY: "one of the functions is traced by as many trampolines as it can be",
        EOPNOTSUPP: "the kernel was built without dynamic ftrace for single functions",
    }
    if len(set(ids)) < len(ids):
        reasons[EINVAL] = "a function is named twice"
    return [make_link(program, spec, 0, spec.attach_type, hook, extra=extra, reasons=reasons)]


def _matching(pattern: str, module: str) -> list[str]:
    """Functions that can be traced, and whose types are known."""
    found = sorted(set(fnmatch.filter(available_functions(), pattern)))
    return [name for name in found if _function(name, module)]


def _function(name: str, module: str) -> int:
    """A function's number in the BTF of the kernel, or of a module that the program was loaded for; 0 where there is none."""
    btf = module_btf(module) if module else vmlinux()
    own = [each for each in btf.ids_by_name(name) if each >= btf.start_id] if btf is not None else []
    return next((each for each in own if btf is not None and btf.kind(each) == Kind.FUNC), 0)
