"""Traffic control through a clsact qdisc: SEC("tc"), SEC("classifier"), where there is no tcx (before Linux 6.6) or by wish.

Such a filter is not a link: it belongs to the device. It is taken away when its `Link` is closed, but stays when the
process is killed. The qdisc stays: others may have come to use it.
"""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.errors import AttachError, BpfError
from bpf2py.kernel.attach import no_more_options, required
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.netlink import PARENTS, Filter, Netlink, NetlinkError
from bpf2py.kernel.network import ifindex_of
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.errno import EEXIST, EINVAL, ENOENT
from bpf2py.uapi.program_types import AttachType

_DIRECTIONS = {AttachType.TCX_INGRESS: "ingress", AttachType.TCX_EGRESS: "egress"}


class FilterLink(KernelLink):
    """A classifier of a clsact qdisc; closing it takes it away."""

    __slots__ = ("_name", "_netlink", "_place")

    def __init__(self, netlink: Netlink, place: Filter, name: str, hook: str) -> None:
        super().__init__(None, hook)
        self._netlink = netlink  # kept open: it reaches the device even from another network namespace
        self._place = place
        self._name = name

    @property
    def fd(self) -> int:
        """The netlink socket's descriptor, negative once closed."""
        return self._netlink.fd

    def info(self) -> dict[str, Any]:
        """What `tc filter show` calls handle and pref; there is no link object."""
        return {"handle": self._place.handle, "priority": self._place.priority}

    def update(self, program_fd: int, old_fd: int | None) -> int:
        """Put another program in place; without the kernel's check of which one is there."""
        if old_fd is not None:
            return -EINVAL
        try:
            self._netlink.set_filter("update", self._place, program_fd, self._name, replace=True)
        except BpfError as error:
            return -(error.errno or EINVAL)
        return 0

    def _undo(self) -> None:
        """Take the filter away; harmless when the device, the qdisc or somebody else did so before."""
        try:
            self._netlink.delete_filter("detach", self._place)
        except BpfError:
            pass

    def _close_descriptors(self) -> None:
        self._netlink.close()


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach, as a classifier whose return value is the action.

    Options: ``device`` (name or index), ``direction`` for SEC("tc"), ``priority`` (lower ones run first; default: before those
    that are there), ``handle``, ``qdisc`` ("clsact").
    """
    what = f"program {spec.name}: attach"
    device = required(spec, options, "device", "'eth0'")
    direction = options.pop("direction", None)
    priority, handle = int(options.pop("priority", 0)), int(options.pop("handle", 0))
    qdisc = options.pop("qdisc", "clsact")
    no_more_options(spec, options)
    if qdisc != "clsact":
        raise AttachError(f"{what}: qdisc must be 'clsact', is {qdisc!r}")
    if spec.attach_type is not None:
        direction = _DIRECTIONS.get(spec.attach_type, direction)
    if direction not in PARENTS:
        raise AttachError(
            f"{what}: SEC({spec.section!r}) does not say which way: .attach(device=..., direction='ingress')"
        )
    if not 0 <= priority <= 0xFFFF:
        raise AttachError(f"{what}: priority must be 1..65535, is {priority}")
    index = ifindex_of(what, device)
    hook = f"tc/{direction}/{device}"
    netlink = Netlink(what)
    try:
        netlink.add_clsact(f"{what}: {device}", index)
        place = Filter(index, PARENTS[direction], handle, priority)
        place = netlink.set_filter(f"{what}: {hook}", place, program.fd, spec.name)
    except NetlinkError as error:
        netlink.close()
        message = error.message
        if error.errno == EEXIST:
            message = f"{what}: {hook}: there is a filter with priority {priority} and handle {handle:#x} already"
        elif error.errno == ENOENT and not error.reason:
            message = f"{what}: this kernel has no BPF classifier (CONFIG_NET_CLS_BPF)"
        raise AttachError(message, errno=error.errno, command=error.command) from None
    except BaseException:
        netlink.close()
        raise
    return [FilterLink(netlink, place, spec.name, hook)]
