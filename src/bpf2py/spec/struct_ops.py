"""`StructOps`: a kernel interface implemented in BPF, as an object has it."""

from __future__ import annotations

__all__ = ["StructOps"]


class StructOps:
    """What a STRUCT_OPS map is made from.

    Attributes:
        type_id: the struct's type in the object's BTF, such as ``struct tcp_congestion_ops``.
        data: the instance's bytes as the object has them; function pointers are zero.
        functions: program by byte offset of the function pointer.
        link: attached by a link (``.struct_ops.link``, Linux 6.4), else by storing the value.
    """

    __slots__ = ("data", "functions", "link", "type_id")

    def __init__(self, type_id: int, data: bytearray, link: bool) -> None:
        self.type_id = type_id
        self.data = data
        self.link = link
        self.functions: dict[int, str] = {}

    def copy(self) -> StructOps:
        """An independent copy."""
        new = StructOps(self.type_id, bytearray(self.data), self.link)
        new.functions = dict(self.functions)
        return new
