"""XDP: SEC("xdp"), link since Linux 5.9."""

from __future__ import annotations

from typing import Any

from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options, required
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.network import ifindex_of
from bpf2py.kernel.program import KernelProgram
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import AttachType

# include/uapi/linux/if_link.h: XDP_FLAGS_*.
MODES = {None: 0, "generic": 1 << 1, "native": 1 << 2, "offload": 1 << 3}


def attach(program: KernelProgram, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``device`` (name or index), ``mode`` ("native": in the driver, "generic": after it, "offload")."""
    what = f"program {spec.name}: attach"
    device = required(spec, options, "device", "'eth0'")
    mode = options.pop("mode", None)
    no_more_options(spec, options)
    if spec.attach_type not in (AttachType.XDP, None):
        raise AttachError(f"{what}: SEC({spec.section!r}) programs are put into a DEVMAP or CPUMAP, not attached")
    if mode not in MODES:
        raise AttachError(f"{what}: mode must be 'native', 'generic' or 'offload', is {mode!r}")
    index = ifindex_of(what, device)
    reasons = {
        16: "the device has an XDP program already",
        95: f"the device's driver has no {mode or 'native'} XDP; try mode='generic'",
        34: "the device's MTU or features do not allow XDP in this mode",
    }
    return [make_link(program, spec, index, AttachType.XDP, f"xdp/{device}", flags=MODES[mode], reasons=reasons)]
