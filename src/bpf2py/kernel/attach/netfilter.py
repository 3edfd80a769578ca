"""Netfilter hooks: SEC("netfilter"), Linux 6.4."""

from __future__ import annotations

import struct

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import AttachType

# include/uapi/linux/netfilter.h: NFPROTO_* and NF_INET_*.
FAMILIES = {"ipv4": 2, "ipv6": 10}
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
BPF_F_NETFILTER_IP_DEFRAG = 1


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``family`` ("ipv4", "ipv6"), ``hook`` ("prerouting", "input", "forward", "output", "postrouting"),
    ``priority`` (lower runs first; default 0; the extremes are refused), ``defragment`` (Linux 6.6).
    """
    what = f"program {spec.name}: attach"
    family, hook = options.pop("family", "ipv4"), options.pop("hook", "input")
    priority, defragment = int(options.pop("priority", 0)), bool(options.pop("defragment", False))
    no_more_options(spec, options)
    if family not in FAMILIES or hook not in HOOKS:
        raise AttachError(f"{what}: family must be one of {', '.join(FAMILIES)} and hook one of {', '.join(HOOKS)}")
    extra = struct.pack(
        "<IIiI", FAMILIES[family], HOOKS[hook], priority, BPF_F_NETFILTER_IP_DEFRAG if defragment else 0
    )
    reasons = {16: "this priority is taken", 34: "this priority is not allowed"}
    where = f"netfilter/{family}/{hook}"
    return [make_link(program, spec, 0, AttachType.NETFILTER, where, extra=extra, reasons=reasons)]
