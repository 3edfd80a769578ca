"""Traffic control links: SEC("tcx/ingress"), SEC("tcx/egress") (Linux 6.6), SEC("netkit/primary"), SEC("netkit/peer") (6.7)."""

from __future__ import annotations

import struct

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options, required
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.network import ifindex_of
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.syscall import older_than
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.errno import EACCES, EINVAL, ENOENT, ENXIO
from bpf2py.uapi.program_types import AttachType

BPF_F_BEFORE, BPF_F_AFTER, BPF_F_LINK = 1 << 3, 1 << 4, 1 << 13
DIRECTIONS = {"ingress": AttachType.TCX_INGRESS, "egress": AttachType.TCX_EGRESS}


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``device`` (name or index), ``direction`` for SEC("tc"), ``before`` or ``after`` (a Link or Program).

    Without an anchor the program is put last; programs run in order until one returns something else than TCX_NEXT (-1).
    """
    what = f"program {spec.name}: attach"
    device = required(spec, options, "device", "'eth0'")
    direction = options.pop("direction", None)
    before, after = options.pop("before", None), options.pop("after", None)
    no_more_options(spec, options)
    attach_type = spec.attach_type
    if attach_type is None:
        if direction not in DIRECTIONS:
            raise AttachError(
                f"{what}: SEC({spec.section!r}) does not say which way: .attach(device=..., direction='ingress')"
            )
        attach_type = DIRECTIONS[direction]
    if before is not None and after is not None:
        raise AttachError(f"{what}: before and after exclude each other")
    anchor = before if before is not None else after
    flags, relative = 0, 0
    if anchor is not None:
        flags = BPF_F_BEFORE if before is not None else BPF_F_AFTER
        if hasattr(anchor, "hook"):
            flags |= BPF_F_LINK
        relative = anchor.fileno()
    index = ifindex_of(what, device)
    hook = f"{attach_type.name.lower().replace('_', '/')}/{device}"
    reasons = {
        17: "the program is attached there already",
        ENOENT: "the anchor is not attached there",
        34: "the anchor is not attached there, or too many programs are",
        95: "the device is of another kind",
    }
    if attach_type in (AttachType.NETKIT_PRIMARY, AttachType.NETKIT_PEER):
        reasons[ENXIO] = "this is not a netkit device"
        reasons[EACCES] = "programs of a pair are attached through its primary device"
        if not older_than("6.7"):
            reasons[EINVAL] = "the kernel was built without CONFIG_NETKIT, or the program is of another kind"
    return [
        make_link(
            program,
            spec,
            index,
            attach_type,
            hook,
            flags=flags,
            extra=struct.pack("<IIQ", relative, 0, 0),
            reasons=reasons,
        )
    ]
