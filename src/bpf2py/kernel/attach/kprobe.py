"""Kernel probes: SEC("kprobe/FUNCTION"), SEC("kretprobe/..."), SEC("ksyscall/NAME"), SEC("kretsyscall/...")."""

from __future__ import annotations

import ctypes
import os
import re

from bpf2py._typing import Any
from bpf2py.errors import AttachError, BpfOSError, NotSupported
from bpf2py.kernel import perf_event
from bpf2py.kernel.attach import no_more_options, target_of
from bpf2py.kernel.kconfig import special, wrapper_prefix
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.syscall import environment_error
from bpf2py.spec.program_spec import ProgramSpec

_DEVICES = "/sys/bus/event_source/devices"
_TARGET = re.compile(r"([\w.$]+)(?:\+(0x[0-9a-fA-F]+|\d+))?")


def pmu(what: str, kind: str) -> tuple[int, int]:
    """(perf type, bit of config that means "on return") of the kprobe or uprobe PMU. Raises NotSupported."""
    try:
        with open(f"{_DEVICES}/{kind}/type") as file:
            number = int(file.read())
        with open(f"{_DEVICES}/{kind}/format/retprobe") as file:
            bit = int(file.read().strip().removeprefix("config:"))
    except OSError as error:
        elsewhere = environment_error(error.errno or 0, what, "open")
        if elsewhere is not None:
            raise elsewhere from None
        if not os.path.isdir(_DEVICES):
            raise NotSupported(
                f"{what}: {_DEVICES} is missing: {kind}s need /sys (mount -t sysfs sysfs /sys)", feature=kind
            ) from None
        raise NotSupported(
            f"{what}: this kernel has no {kind}s (CONFIG_{kind.upper()}_EVENTS)", feature=kind, since="4.17"
        ) from None
    return number, 1 << bit


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` ("function" or "function+offset"; for ksyscall the system call's name), ``retprobe``,
    ``cookie`` (Linux 5.15).
    """
    what = f"program {spec.name}: attach"
    kind = spec.section.split("/", 1)[0]
    target = target_of(spec, options, f"{kind}/function")
    on_return = bool(options.pop("retprobe", kind in ("kretprobe", "kretsyscall")))
    cookie = int(options.pop("cookie", 0))
    no_more_options(spec, options)
    found = _TARGET.fullmatch(target)
    if found is None:
        raise AttachError(f"{what}: {target!r} is not a kernel function; it is written function or function+offset")
    function, offset = found[1], int(found[2] or "0", 0)
    if kind in ("ksyscall", "kretsyscall"):
        wrapped = special("LINUX_HAS_SYSCALL_WRAPPER")
        function = wrapper_prefix() + function if wrapped else f"__se_sys_{function}"
    if on_return and offset:
        raise AttachError(f"{what}: a return probe takes no offset")
    number, return_bit = pmu(what, "kprobe")
    name = ctypes.create_string_buffer(function.encode())
    try:
        event = perf_event.open_event(
            what,
            number,
            return_bit if on_return else 0,
            config1=ctypes.addressof(name),
            config2=offset,
        )
    except BpfOSError as error:
        if error.errno in (2, 22, 95, 84):
            raise AttachError(
                f"{what}: {_refusal(function, offset)}",
                errno=error.errno,
                command=error.command,
            ) from None
        raise
    hook = f"{'kretprobe' if on_return else 'kprobe'}/{function}" + (f"+{offset:#x}" if offset else "")
    return [perf_event.attach_to_event(what, program.fd, event, cookie, hook)]


def _refusal(function: str, offset: int) -> str:
    """Why a kprobe was refused; which errno stands for what differs between kernels."""
    if offset and _exists(function):
        return (
            f"the kernel refuses offset {offset:#x} in function {function!r}: it must be where an instruction begins, and one that "
            "can be probed; 0 is the function's entry"
        )
    return f"the kernel has no function {function!r} that can be probed"


def _exists(function: str) -> bool:
    try:
        with open("/proc/kallsyms") as file:
            return any(row[2] == function for row in (line.split() for line in file) if len(row) > 2)
    except OSError:
        return False


def available_functions() -> list[str]:
    """Functions kprobe.multi can attach to (available_filter_functions of tracefs), or those of /proc/kallsyms."""
    from bpf2py.kernel.tracefs import Tracefs

    try:
        with Tracefs() as tracefs:
            return [line.split()[0] for line in tracefs.read("available_filter_functions").splitlines() if line]
    except OSError:
        pass
    if not os.path.exists("/proc/kallsyms"):
        return []
    with open("/proc/kallsyms") as file:
        return [row[2] for row in (line.split() for line in file) if len(row) > 2 and row[1] in "tT"]
