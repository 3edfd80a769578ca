"""Hooks opened by BPF_RAW_TRACEPOINT_OPEN: SEC("raw_tp/NAME") (Linux 4.17), and what is bound to a BTF id when it is loaded:
SEC("tp_btf/NAME"), fentry, fexit, fmod_ret (5.5), lsm (5.7), freplace (5.6).
"""

from __future__ import annotations

import struct

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import no_more_options, target_of
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.suggest import did_you_mean
from bpf2py.kernel.syscall import Fd, address_of_bytes, bpf_open, error_for
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EINVAL, ENOENT, EPERM
from bpf2py.uapi.program_types import ProgramType


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``target`` (raw_tp only: tp_btf is bound at load), ``cookie`` (Linux 6.10)."""
    what = f"program {spec.name}: attach"
    raw = spec.type in (ProgramType.RAW_TRACEPOINT, ProgramType.RAW_TRACEPOINT_WRITABLE)
    kind = spec.section.split("/", 1)[0]
    target = target_of(spec, options, f"{kind}/name")
    cookie = int(options.pop("cookie", 0))
    no_more_options(spec, options)
    if not raw and target != spec.target:
        raise AttachError(
            f"{what}: a {kind} program is bound to {spec.target} when it is loaded; change spec.target before"
        )
    name = target.encode() + b"\0"
    attr = struct.pack("<QIIQ", address_of_bytes(name) if raw else 0, program.fd, 0, cookie)
    result = bpf_open(Command.RAW_TRACEPOINT_OPEN, attr)
    if isinstance(result, Fd):
        return [KernelLink(result, f"{kind}/{target}")]
    if result == -ENOENT:
        raise AttachError(
            f"{what}: the kernel has no raw tracepoint {target!r}{did_you_mean('TRACE_RAW_TP', target)}",
            errno=ENOENT,
            command="BPF_RAW_TRACEPOINT_OPEN",
        )
    if result == -EPERM:
        raise error_for(EPERM, Command.RAW_TRACEPOINT_OPEN, what)
    reason = "; a cookie needs Linux 6.10" if cookie and result == -EINVAL else ""
    raise AttachError(f"{what}: {target} refused the program{reason}", errno=-result, command="BPF_RAW_TRACEPOINT_OPEN")
