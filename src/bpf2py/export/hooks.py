"""Where programs of an exporter are attached: by their sections, and by what ebpf_exporter reads in some of them.

``SEC("perf_event/type=1,config=0,frequency=99")`` is a perf event of every CPU, ``SEC("xdp/eth0,lo")`` the XDP program of those
devices, and ``SEC("uprobe//proc/self/exe:post_attach_mark")`` a program that runs once, when all others are attached.
"""

from __future__ import annotations

import ctypes
from typing import Any

from bpf2py.errors import BpfError, EncodeError
from bpf2py.object import Object
from bpf2py.programs import Program
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.uapi.program_types import AttachType, ProgramType

__all__ = ["attach", "prepare"]

PERF_EVENT, XDP = "perf_event/", "xdp/"
POST_ATTACH = "uprobe//proc/self/exe:post_attach_mark"
MARK = ("libc.so.6", "ffsl")  # a function of this process that nobody else calls: its call is the mark


def prepare(spec: ObjectSpec) -> None:
    """Say what programs are whose sections only this module knows."""
    for program in spec.programs.values():
        if program.section.startswith(PERF_EVENT):
            perf_event_options(program.section)
            program.type = ProgramType.PERF_EVENT
        elif program.section.startswith(XDP) and program.type == ProgramType.UNSPEC:
            program.type, program.attach_type = ProgramType.XDP, AttachType.XDP


def perf_event_options(section: str) -> dict[str, Any]:
    """Options of `Program.attach()` for ``perf_event/type=T,config=C,frequency=F``. Raises EncodeError."""
    found: dict[str, int] = {}
    for item in section.removeprefix(PERF_EVENT).split(","):
        name, equals, number = item.partition("=")
        if name not in ("type", "config", "frequency") or not equals or name in found:
            raise EncodeError(f"SEC({section!r}): {item!r} is not one of type=, config= and frequency=")
        try:
            found[name] = int(number, 0)
        except ValueError:
            raise EncodeError(f"SEC({section!r}): {number!r} is not a number") from None
    options: dict[str, Any] = {"event": (found.get("type", 0), found.get("config", 0))}
    if "frequency" in found:
        options["frequency"] = found["frequency"]
    return options


def attach(obj: Object) -> dict[str, str | None]:
    """Attach each program that has a hook. What did not work is not fatal: None by program that is attached, else why not."""
    found: dict[str, str | None] = {}
    last = []
    for name, program in obj.programs.items():
        spec = obj.spec.programs[name]
        if spec.section == POST_ATTACH:
            last.append(name)
        elif spec.autoattach and (spec.section.startswith((PERF_EVENT, XDP)) or obj.backend.can_attach(spec)):
            found[name] = _why_not(obj, program, spec.section)
    for name in last:
        found[name] = _run_once(obj.programs[name])
    return found


def _why_not(obj: Object, program: Program, section: str) -> str | None:
    try:
        if section.startswith(PERF_EVENT):
            program.attach(**perf_event_options(section))
        elif section.startswith(XDP) and program.spec is not None and program.spec.attach_type == AttachType.XDP:
            for device in section.removeprefix(XDP).split(","):
                program.attach(device=device)
        else:
            program.attach()
    except BpfError as error:
        return str(error)
    return None


def _run_once(program: Program) -> str | None:
    try:
        with program.attach(target=":".join(MARK), pid=0):
            ctypes.CDLL(MARK[0]).ffsl(0)
    except BpfError as error:
        return str(error)
    return None
