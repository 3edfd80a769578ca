"""perf_event_open(), and BPF programs on perf events."""

from __future__ import annotations

import ctypes
import struct

from bpf2py.errors import AttachError, BpfOSError, NotSupported, PermissionDenied
from bpf2py.kernel.link import PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, KernelLink, link_create
from bpf2py.kernel.syscall import Fd, environment_error, libc, open_call, syscall_numbers
from bpf2py.uapi.errno import EACCES, EEXIST, ENODEV, ENOENT, EOPNOTSUPP, EPERM
from bpf2py.uapi.program_types import AttachType

PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT = 0, 1, 2
COUNTED_BY_CPUS = (PERF_TYPE_HARDWARE, 3, 4)  # and PERF_TYPE_HW_CACHE, PERF_TYPE_RAW
PERF_FLAG_FD_CLOEXEC = 8
PERF_SAMPLE_RAW = 1 << 10
_ATTR_SIZE = 128  # PERF_ATTR_SIZE_VER7


def open_event(
    what: str,
    kind: int,
    config: int,
    *,
    config1: int = 0,
    config2: int = 0,
    sample_period: int = 1,
    sample_type: int = PERF_SAMPLE_RAW,
    wakeup_events: int = 1,
    bits: int = 0,
    pid: int = -1,
    cpu: int = 0,
    breakpoint_type: int = 0,
) -> Fd:
    """perf_event_open(). Raises PermissionDenied, NotSupported or BpfOSError naming `what`.

    `bits` is the attr's word of flag bits (1: disabled); the others are fields of struct perf_event_attr.
    """
    attr = bytearray(_ATTR_SIZE)
    struct.pack_into(
        "<IIQQQQQII",
        attr,
        0,
        kind,
        _ATTR_SIZE,
        config,
        sample_period,
        sample_type,
        0,
        bits,
        wakeup_events,
        breakpoint_type,
    )
    struct.pack_into("<QQ", attr, 56, config1, config2)
    buffer = ctypes.create_string_buffer(bytes(attr), _ATTR_SIZE)
    result = open_call(syscall_numbers()[1], buffer, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
    if isinstance(result, Fd):
        return result
    errno = -result
    if errno in (EPERM, EACCES):
        raise PermissionDenied(
            f"{what}: perf_event_open is not permitted: CAP_PERFMON is needed (or sysctl kernel.perf_event_paranoid=-1)",
            errno=errno,
            command="perf_event_open",
        )
    if kind in COUNTED_BY_CPUS and errno in (ENOENT, ENODEV, EOPNOTSUPP):
        raise NotSupported(
            f"{what}: this machine does not count that event (type {kind}, config {config:#x}): virtual machines often have no "
            "hardware counters; the kernel's own, such as cpu-clock (type 1, config 0), are everywhere",
            feature="hardware counters",
            errno=errno,
            command="perf_event_open",
        )
    raise environment_error(errno, what, "perf_event_open") or BpfOSError(
        f"{what}: perf_event_open failed", errno=errno, command="perf_event_open"
    )


def attach_to_event(what: str, program_fd: int, event: Fd, cookie: int, hook: str) -> KernelLink:
    """A perf link (Linux 5.15), or on older kernels PERF_EVENT_IOC_SET_BPF. Takes over `event`."""
    result = link_create(program_fd, event.number, AttachType.PERF_EVENT, 0, struct.pack("<Q", cookie))
    if isinstance(result, Fd):
        link = KernelLink(result, hook, event)
    elif result == -EEXIST:
        event.close()
        raise AttachError(f"{what}: the program is attached to {hook} already", errno=EEXIST, command="BPF_LINK_CREATE")
    elif cookie:
        event.close()
        raise NotSupported(
            f"{what}: a cookie needs perf links, which came with Linux 5.15",
            feature="bpf_cookie",
            since="5.15",
            errno=-result,
            command="BPF_LINK_CREATE",
        )
    else:
        if libc().ioctl(event.number, PERF_EVENT_IOC_SET_BPF, program_fd) < 0:
            errno = ctypes.get_errno()
            event.close()
            raise AttachError(f"{what}: the kernel refused the program", errno=errno, command="PERF_EVENT_IOC_SET_BPF")
        link = KernelLink(None, hook, event)
    if libc().ioctl(event.number, PERF_EVENT_IOC_ENABLE, 0) < 0:
        errno = ctypes.get_errno()
        link.close()
        raise AttachError(f"{what}: the perf event cannot be enabled", errno=errno, command="PERF_EVENT_IOC_ENABLE")
    return link
