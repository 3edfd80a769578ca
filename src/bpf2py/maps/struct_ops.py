"""STRUCT_OPS: BPF_MAP_TYPE_STRUCT_OPS, Linux 5.6."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.codec import BytesCodec, IntCodec
from bpf2py.errors import NotSupported
from bpf2py.maps.base import Map
from bpf2py.programs import Link, Links, Program
from bpf2py.spec.map_spec import MapSpec

if TYPE_CHECKING:
    from bpf2py.seam.protocol import LinkHandle, StructOpsHandle


class StructOpsMap(Map[int, bytes]):
    """An implementation of a kernel interface, such as a TCP congestion control; `attach()` registers it.

    Comes from an object's ``SEC(".struct_ops")`` or ``SEC(".struct_ops.link")`` variable.

    Attributes:
        programs: the loaded programs its function pointers may lead to, by name.
        links: those of the object, which owns what `attach()` makes.
    """

    _bound: StructOpsHandle | None = None
    programs: Mapping[str, Program]
    links: Links | None = None

    @classmethod
    def bound(cls, handle: StructOpsHandle, spec: MapSpec) -> StructOpsMap:
        """The map of a handle that is bound to the kernel's struct."""
        index = IntCodec("index", 4, signed=False)
        made = cls(handle, spec.name, index, BytesCodec(handle.info.value_size), spec)
        made._bound, made.programs = handle, {}
        return made

    def attach(self) -> Link:
        """Register the implementation, until the object or the link is closed (and nothing uses it any more).

        Raises BpfOSError when the kernel refuses it: EEXIST means that one of this name is registered.
        """
        if self._bound is None or self.spec is None or self.spec.struct_ops is None:
            raise NotSupported(
                f"map {self.name}: attach: only a map made from an object can be attached", feature="struct_ops"
            )
        used = self.spec.struct_ops.functions.values()
        descriptors = {name: self.programs[name].fileno() for name in used}
        self._update(0, self._bound.registration(descriptors))
        if self.spec.struct_ops.link:
            return Link([self._bound.attach()], self.name, self.links)
        return Link([_Registration(self)], self.name, self.links)


class _Registration:
    """A registration without a link: deleting the element takes it away."""

    def __init__(self, bpf_map: StructOpsMap) -> None:
        self.hook = f"struct_ops/{bpf_map.name}"
        self._handle = bpf_map._handle.duplicate()
        self._owner = os.getpid()

    @property
    def fd(self) -> int:
        return self._handle.fd

    def info(self) -> dict[str, Any]:
        return {}

    def pin(self, path: str) -> int:
        return -errno.EINVAL

    def opened_at(self, path: str) -> LinkHandle:
        raise NotSupported(f"{self.hook}: a registration without a link has no pins", feature="BPF_OBJ_PIN")

    def update(self, program_fd: int, old_fd: int | None) -> int:
        return -errno.EINVAL

    def iterate(self) -> int:
        return -errno.EINVAL

    def detach(self) -> int:
        self.close()
        return 0

    def close(self) -> None:
        if self._handle.fd >= 0 and os.getpid() == self._owner:
            slot = self._handle.slot()
            slot.key[:] = bytes(4)
            slot.delete()
        self._handle.close()


if TYPE_CHECKING:

    def _proof(handle: _Registration) -> LinkHandle:
        return handle
