"""STACK_TRACE: call stacks by number, Linux 4.6."""

from __future__ import annotations

import struct

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.btf.codec import Codec, IntCodec, raw_bytes
from bpf2py.maps.mapping import MappingMap
from bpf2py.spec.map_spec import MapSpec
from bpf2py.symbols.symbolizer import Frame, Symbolizer
from bpf2py.uapi.map_types import MapFlags

if TYPE_CHECKING:
    from bpf2py.seam.protocol import MapHandle


class BuildIdFrame(NamedTuple):
    """A user-space frame of a BPF_F_STACK_BUILD_ID map: offset in the file with this build id.

    `build_id` is empty and `offset` an address where the file could not be told (struct bpf_stack_build_id).
    """

    build_id: str
    offset: int


class CallStack(list[int]):
    """Addresses, innermost first.

    Example:
        >>> for frame in stacks[number].frames(pid):                            # doctest: +SKIP
        ...     print(frame)
    """

    def frames(self, pid: int | None = None, symbolizer: Symbolizer | None = None) -> list[Frame]:
        """The functions: of the kernel, or, with a process' number, of a stack in user space.

        Args:
            pid: whose stack it is, where the program asked for that of user space (BPF_F_USER_STACK).
            symbolizer: one that is kept, where many stacks are named.
        """
        return (symbolizer or Symbolizer()).stack(self, pid)


class StackCodec(Codec[Any]):
    """Frames, innermost first, up to the first empty one."""

    __slots__ = ("_build_ids",)

    def __init__(self, size: int, build_ids: bool) -> None:
        super().__init__("call stack", size)
        self._build_ids = build_ids

    def decode(self, data: bytes | bytearray | memoryview) -> list[Any]:
        if not self._build_ids:
            frames = [address for (address,) in struct.iter_unpack("<Q", data)]
            return CallStack(frames[: frames.index(0)] if 0 in frames else frames)
        found = []
        for status, build_id, offset in struct.iter_unpack("<i20sQ", data):
            if status == 0:
                break
            found.append(BuildIdFrame(build_id.hex() if status == 1 else "", offset))
        return found

    def encode(self, value: object) -> bytes:
        return raw_bytes(value, self)


class StackTraceMap(MappingMap[int, list[Any]]):
    """The stacks bpf_get_stackid() stored: number -> addresses, innermost first (`BuildIdFrame`s with BPF_F_STACK_BUILD_ID).

    User space reads and deletes; only programs store. `CallStack.frames()` names the functions, `bpf2py.symbols.Stacks` counts
    and draws them.
    """

    def __init__(
        self, handle: MapHandle, name: str, key: Codec[Any], value: Codec[Any], spec: MapSpec | None = None
    ) -> None:
        build_ids = bool(handle.info.flags & MapFlags.STACK_BUILD_ID)
        super().__init__(
            handle, name, IntCodec("stack id", 4, signed=False), StackCodec(handle.info.value_size, build_ids), spec
        )

    def stack(self, number: int) -> CallStack:
        """The stack whose number bpf_get_stackid() gave a program.

        It is empty for a negative one, which is an errno: the kernel could walk nothing (-EFAULT), or another stack had the place
        (-EEXIST, without BPF_F_REUSE_STACKID). It is empty as well when the stack was deleted meanwhile.
        """
        found = self.get(number) if number >= 0 else None
        return CallStack(found or ())
