"""User-space statically defined tracepoints: SEC("usdt/BINARY:PROVIDER:NAME"); Linux 5.15."""

from __future__ import annotations

import ctypes
import difflib
import os
import struct

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel import perf_event
from bpf2py.kernel.attach import make_link, no_more_options
from bpf2py.kernel.attach.kprobe import pmu
from bpf2py.kernel.attach.uprobe import REF_CTR_SHIFT
from bpf2py.kernel.elf_symbols import find_binary
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.usdt_args import parse_args
from bpf2py.kernel.usdt_notes import Notes, Probe, read_notes
from bpf2py.kernel.usdt_specs import SpecPool, UsdtLink, encode, pool_of
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import AttachType
from bpf2py.uapi.usdt import MAX_ARGS


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach to every location of a probe.

    Options: ``target`` ("binary:provider:name") or ``binary``, ``provider``, ``name``; ``pid`` (default: all processes,
    those started later included), ``cookie`` (what `bpf_usdt_cookie(ctx)` gives).

    From Linux 6.10 on one uprobe.multi link holds all locations; before, each has a perf event of its own. The semaphore
    of the probe is counted up while attached (Linux 4.20).
    """
    what = f"program {spec.name}: attach"
    target = str(options.pop("target", None) or spec.target)
    parts = [options.pop(name, None) for name in ("binary", "provider", "name")]
    pid, cookie = int(options.pop("pid", -1)), int(options.pop("cookie", 0))
    no_more_options(spec, options)
    named = target.rsplit(":", 2) if target.count(":") >= 2 else [None, None, None]
    binary, provider, name = (given or found for given, found in zip(parts, named, strict=True))
    if not (binary and provider and name):
        raise AttachError(
            f"{what}: SEC({spec.section!r}) names no probe; write SEC('usdt/BINARY:PROVIDER:NAME') or give binary=, "
            "provider= and name="
        )
    path = os.path.abspath(find_binary(what, os.fspath(binary)))
    notes = read_notes(what, path)
    probes = [probe for probe in notes.probes if (probe.provider, probe.name) == (provider, name)]
    if not probes:
        raise _no_probe(what, path, f"{provider}:{name}", notes)
    pool = pool_of(what, program.usdt_map)
    hook = f"usdt/{path}:{provider}:{name}"
    slots: list[int] = []
    try:
        for probe in probes:
            slots.append(_slot(what, program, pool, probe, notes.machine, cookie))
        if program.expected_attach_type == AttachType.TRACE_UPROBE_MULTI:
            fd, perf = _multi(program, spec, path, probes, slots, pid, hook).release()
            return [UsdtLink(fd, hook, perf, pool, slots)]
        return _one_by_one(what, program, path, probes, slots, pid, hook, pool)
    except BaseException:
        pool.give_back(slots)
        raise


def _no_probe(what: str, path: str, wanted: str, notes: Notes) -> AttachError:
    names = sorted({f"{probe.provider}:{probe.name}" for probe in notes.probes})
    if not names:
        return AttachError(f"{what}: {path} has no USDT probes (no .note.stapsdt section)")
    near = difflib.get_close_matches(wanted, names, 3) or names[:5]
    return AttachError(f"{what}: {path} has no USDT probe {wanted!r}; there are: {', '.join(near)}")


def _slot(what: str, program: ProgramFd, pool: SpecPool, probe: Probe, machine: str, cookie: int) -> int:
    args = parse_args(f"{what}: {probe.provider}:{probe.name}", probe.args, machine)
    if len(args) > MAX_ARGS:
        raise AttachError(
            f"{what}: {probe.provider}:{probe.name} has {len(args)} arguments, more than {MAX_ARGS}: {probe.args}"
        )
    assert program.usdt_map is not None
    return pool.take(what, program.usdt_map, encode(args, cookie))


def _multi(
    program: ProgramFd, spec: ProgramSpec, path: str, probes: list[Probe], slots: list[int], pid: int, hook: str
) -> KernelLink:
    count = len(probes)
    name = ctypes.create_string_buffer(os.fsencode(path))
    words = ctypes.c_uint64 * count
    offsets = words(*[probe.offset for probe in probes])
    semaphores = words(*[probe.semaphore for probe in probes])
    cookies = words(*slots)
    extra = struct.pack(
        "<QQQQIII",
        ctypes.addressof(name),
        ctypes.addressof(offsets),
        ctypes.addressof(semaphores) if any(semaphores) else 0,
        ctypes.addressof(cookies),
        count,
        0,
        max(pid, 0),
    )
    reasons = {3: f"there is no process {pid}"}
    return make_link(program, spec, 0, AttachType.TRACE_UPROBE_MULTI, hook, extra=extra, reasons=reasons)


def _one_by_one(
    what: str,
    program: ProgramFd,
    path: str,
    probes: list[Probe],
    slots: list[int],
    pid: int,
    hook: str,
    pool: SpecPool,
) -> list[KernelLink]:
    number, _ = pmu(what, "uprobe")
    name = ctypes.create_string_buffer(os.fsencode(path))
    opened: list[KernelLink] = []
    try:
        for probe, slot in zip(probes, slots, strict=True):
            event = perf_event.open_event(
                f"{what}: {hook}",
                number,
                probe.semaphore << REF_CTR_SHIFT,
                config1=ctypes.addressof(name),
                config2=probe.offset,
                pid=pid,
                cpu=0 if pid < 0 else -1,
            )
            opened.append(perf_event.attach_to_event(what, program.fd, event, slot, hook))
    except BaseException:
        for link in opened:
            link.close()
        raise
    links: list[KernelLink] = []
    for link, slot in zip(opened, slots, strict=True):
        fd, perf = link.release()
        links.append(UsdtLink(fd, hook, perf, pool, [slot]))
    return links
