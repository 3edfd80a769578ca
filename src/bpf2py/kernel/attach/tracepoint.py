"""Tracepoints of tracefs: SEC("tracepoint/CATEGORY/NAME"), Linux 4.7."""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel import perf_event, tracefs
from bpf2py.kernel.attach import no_more_options, target_of
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` ("category/name"), ``cookie`` (u64 for bpf_get_attach_cookie, Linux 5.15)."""
    target = target_of(spec, options, "tracepoint/category/name")
    cookie = int(options.pop("cookie", 0))
    no_more_options(spec, options)
    what = f"program {spec.name}: attach"
    category, slash, name = target.partition("/")
    if not slash or not name:
        raise AttachError(f"{what}: {target!r} is not a tracepoint; it is written category/name")
    ident = tracefs.event_id(what, category, name)
    event = perf_event.open_event(what, perf_event.PERF_TYPE_TRACEPOINT, ident)
    return [perf_event.attach_to_event(what, program.fd, event, cookie, f"tracepoint/{target}")]
