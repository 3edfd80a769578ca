"""User-space probes: SEC("uprobe/BINARY:FUNCTION"), SEC("uretprobe/BINARY:FUNCTION+OFFSET")."""

from __future__ import annotations

import ctypes
import os

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel import perf_event
from bpf2py.kernel.attach import no_more_options
from bpf2py.kernel.attach.kprobe import pmu
from bpf2py.kernel.elf_symbols import find_binary, symbol_offset
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec

REF_CTR_SHIFT = 32  # bits 32..63 of config: offset of a reference counter (Linux 4.20)


def place(spec: ProgramSpec, options: dict[str, Any]) -> tuple[str, int, str]:
    """(binary, offset in the file, text for messages) from options or the section's target."""
    what = f"program {spec.name}: attach"
    target = str(options.pop("target", None) or spec.target)
    binary, symbol, offset = options.pop("binary", None), options.pop("symbol", None), int(options.pop("offset", 0))
    if binary is None:
        binary, _, rest = target.rpartition(":")
        if not binary:
            raise AttachError(
                f"{what}: SEC({spec.section!r}) names no function; write SEC('uprobe/BINARY:FUNCTION') or give binary= and symbol="
            )
        symbol, _, extra = rest.partition("+")
        offset += int(extra or "0", 0)
    path = find_binary(what, os.fspath(binary))
    if symbol:
        try:
            return path, int(symbol, 0) + offset, f"{path}:{symbol}"
        except ValueError:
            return path, symbol_offset(what, path, symbol) + offset, f"{path}:{symbol}"
    return path, offset, f"{path}+{offset:#x}"


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` ("binary:function+offset") or ``binary``, ``symbol``, ``offset`` (in the file without a symbol);
    ``pid`` (default: all processes), ``retprobe``, ``ref_ctr_offset``, ``cookie`` (Linux 5.15).
    """
    what = f"program {spec.name}: attach"
    path, offset, text = place(spec, options)
    on_return = bool(options.pop("retprobe", spec.section.startswith("uretprobe")))
    pid, cookie = int(options.pop("pid", -1)), int(options.pop("cookie", 0))
    ref_ctr = int(options.pop("ref_ctr_offset", 0))
    no_more_options(spec, options)
    number, return_bit = pmu(what, "uprobe")
    name = ctypes.create_string_buffer(os.fsencode(path))
    event = perf_event.open_event(
        f"{what}: {text}",
        number,
        (return_bit if on_return else 0) | ref_ctr << REF_CTR_SHIFT,
        config1=ctypes.addressof(name),
        config2=offset,
        pid=pid,
        cpu=0 if pid < 0 else -1,
    )
    hook = f"{'uretprobe' if on_return else 'uprobe'}/{text}"
    return [perf_event.attach_to_event(what, program.fd, event, cookie, hook)]
