"""XDP: SEC("xdp"); a link (Linux 5.9), or through netlink a property of the device."""

from __future__ import annotations

import os

from bpf2py._typing import Any
from bpf2py.errors import AttachError, BpfError
from bpf2py.kernel.attach import make_link, no_more_options, required
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.netlink import Netlink, NetlinkError
from bpf2py.kernel.network import ifindex_of
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.kernel.syscall import Fd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.errno import EBUSY, EEXIST, EINVAL, EOPNOTSUPP, ERANGE
from bpf2py.uapi.program_types import AttachType

# include/uapi/linux/if_link.h: XDP_FLAGS_*.
MODES = {None: 0, "generic": 1 << 1, "native": 1 << 2, "offload": 1 << 3}
UPDATE_IF_NOEXIST, REPLACE = 1 << 0, 1 << 4


class DeviceProgram(KernelLink):
    """The XDP program of a device; closing takes it off, if it is still the one there. It outlives a killed process."""

    __slots__ = ("_device", "_mode", "_netlink", "_program")

    def __init__(self, netlink: Netlink, device: int, program: Fd, mode: int, hook: str) -> None:
        super().__init__(None, hook)
        self._netlink = netlink  # kept open: it reaches the device even from another network namespace
        self._device = device
        self._program = program
        self._mode = mode

    @property
    def fd(self) -> int:
        """The netlink socket's descriptor, negative once closed."""
        return self._netlink.fd

    def info(self) -> dict[str, Any]:
        """Nothing: there is no link object."""
        return {}

    def update(self, program_fd: int, old_fd: int | None) -> int:
        """Put another program in place of the one put there by this object."""
        expected = self._program.number if old_fd is None else old_fd
        try:
            self._netlink.set_xdp("update", self._device, program_fd, self._mode | REPLACE, expected)
        except BpfError as error:
            return -(error.errno or EINVAL)
        self._program.close()
        self._program = Fd(os.dup(program_fd))
        return 0

    def _undo(self) -> None:
        """Take the program off; harmless when the device is gone or has another program by now."""
        try:
            self._netlink.set_xdp("detach", self._device, -1, self._mode | REPLACE, self._program.number)
        except BpfError:
            pass

    def _close_descriptors(self) -> None:
        self._netlink.close()
        self._program.close()


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``device`` (name or index), ``mode`` ("native": in the driver, "generic": after it, "offload"),
    ``netlink`` (True: no link, for devices that other tools manage by netlink too).
    """
    what = f"program {spec.name}: attach"
    device = required(spec, options, "device", "'eth0'")
    mode, netlink = options.pop("mode", None), bool(options.pop("netlink", False))
    no_more_options(spec, options)
    if spec.attach_type not in (AttachType.XDP, None):
        raise AttachError(f"{what}: SEC({spec.section!r}) programs are put into a DEVMAP or CPUMAP, not attached")
    if mode not in MODES:
        raise AttachError(f"{what}: mode must be 'native', 'generic' or 'offload', is {mode!r}")
    index = ifindex_of(what, device)
    reasons = {
        EBUSY: "the device has an XDP program already",
        EEXIST: "the device has an XDP program already, in this mode or another",
        EOPNOTSUPP: f"the device's driver has no {mode or 'native'} XDP; try mode='generic'",
        ERANGE: "the device's MTU or features do not allow XDP in this mode",
    }
    hook = f"xdp/{device}"
    if netlink:
        return [_by_netlink(program, what, index, MODES[mode], hook, reasons)]
    return [make_link(program, spec, index, AttachType.XDP, hook, flags=MODES[mode], reasons=reasons)]


def _by_netlink(
    program: ProgramFd, what: str, index: int, mode: int, hook: str, reasons: dict[int, str]
) -> DeviceProgram:
    netlink = Netlink(what)
    try:
        netlink.set_xdp(f"{what}: {hook}", index, program.fd, mode | UPDATE_IF_NOEXIST)
    except NetlinkError as error:
        netlink.close()
        reason = reasons.get(error.errno or 0)
        message = f"{what}: {hook}: {reason}" if reason else error.message
        raise AttachError(message, errno=error.errno, command=error.command) from None
    except BaseException:
        netlink.close()
        raise
    return DeviceProgram(netlink, index, Fd(os.dup(program.fd)), mode, hook)
