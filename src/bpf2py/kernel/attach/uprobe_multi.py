"""Many user-space functions at once: SEC("uprobe.multi/BINARY:FUNCTION") (Linux 6.6), SEC("uprobe.session/...") (6.13)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options
from bpf2py.kernel.attach.uprobe import place
from bpf2py.kernel.elf_symbols import find_binary, matching_offsets, symbol_offset
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec

BPF_F_UPROBE_MULTI_RETURN = 1


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` ("binary:function", or "binary:PATTERN" with ``*`` and ``?``), or
    ``binary`` with ``symbols`` or ``offsets`` (lists), ``cookies``,
    ``pid`` (default: all processes), ``retprobe``.
    """
    what = f"program {spec.name}: attach"
    assert spec.attach_type is not None
    symbols: Sequence[str] | None = options.pop("symbols", None)
    offsets: Sequence[int] | None = options.pop("offsets", None)
    cookies: Sequence[int] | None = options.pop("cookies", None)
    if symbols is not None or offsets is not None:
        path = find_binary(what, os.fspath(options.pop("binary", "")))
        places = [symbol_offset(what, path, name) for name in symbols or ()] + list(offsets or ())
        text = path
    else:
        binary, _, pattern = str(options.get("target") or spec.target).rpartition(":")
        if binary and "binary" not in options and any(char in pattern for char in "*?"):
            options.pop("target", None)
            path = find_binary(what, binary)
            places, text = matching_offsets(what, path, pattern), f"{path}:{pattern}"
        else:
            path, offset, text = place(spec, options)
            places = [offset]
    on_return = bool(options.pop("retprobe", spec.section.startswith("uretprobe")))
    pid = int(options.pop("pid", 0))
    no_more_options(spec, options)
    if not places:
        raise AttachError(f"{what}: there is nothing to attach to: symbols and offsets are empty")
    if cookies is not None and len(cookies) != len(places):
        raise AttachError(f"{what}: {len(cookies)} cookies for {len(places)} places")
    name = ctypes.create_string_buffer(os.fsencode(os.path.abspath(path)))
    array = (ctypes.c_uint64 * len(places))(*places)
    values = (ctypes.c_uint64 * len(places))(*cookies) if cookies is not None else None
    extra = struct.pack(
        "<QQQQIII",
        ctypes.addressof(name),
        ctypes.addressof(array),
        0,
        ctypes.addressof(values) if values is not None else 0,
        len(places),
        BPF_F_UPROBE_MULTI_RETURN if on_return else 0,
        pid,
    )
    hook = f"{spec.section.split('/', 1)[0]}/{text}"
    return [make_link(program, spec, 0, spec.attach_type, hook, extra=extra, reasons={3: f"there is no process {pid}"})]
