"""Control groups: SEC("cgroup_skb/ingress"), SEC("cgroup/connect4"), SEC("sockops"), SEC("lsm_cgroup/HOOK") and others.

Links exist since Linux 5.7.
"""

from __future__ import annotations

import os

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options, required
from bpf2py.kernel.cgroups import open_cgroup
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import AttachType

_DIRECTIONS = {"ingress": AttachType.CGROUP_INET_INGRESS, "egress": AttachType.CGROUP_INET_EGRESS}


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``cgroup``: a path (full, or below the mount point of cgroup2) or a descriptor;
    ``direction`` for SEC("cgroup/skb").
    """
    what = f"program {spec.name}: attach"
    cgroup = required(spec, options, "cgroup", "'/sys/fs/cgroup/...'")
    direction = options.pop("direction", None)
    no_more_options(spec, options)
    attach_type = spec.attach_type
    if attach_type is None:
        if direction not in _DIRECTIONS:
            raise AttachError(
                f"{what}: SEC({spec.section!r}) does not say which way: .attach(cgroup=..., direction='ingress')"
            )
        attach_type = _DIRECTIONS[direction]
    hook = f"{attach_type.name.lower()} of {cgroup}"
    if not isinstance(cgroup, str | os.PathLike):
        fd = cgroup if isinstance(cgroup, int) else cgroup.fileno()
        return [make_link(program, spec, fd, attach_type, hook)]
    fd = open_cgroup(what, os.fspath(cgroup))
    try:
        return [make_link(program, spec, fd, attach_type, hook)]
    finally:
        os.close(fd)
