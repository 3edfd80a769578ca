"""`MapSpec`: what a map shall be, before any kernel is asked."""

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any, IntEnum
from bpf2py.uapi.map_types import MapFlags, MapType, map_type, type_name

if TYPE_CHECKING:
    from bpf2py.btf.codec import Codec
    from bpf2py.btf.reader import Btf
    from bpf2py.spec.struct_ops import StructOps


class Pinning(IntEnum):
    """Where a map asks to be pinned (`__uint(pinning, ...)`)."""

    NONE = 0
    BY_NAME = 1


class MapSpec:
    """A map definition, read from an object or made by hand; every attribute may be changed before loading.

    Attributes:
        name: name in the object; the kernel keeps its first 15 characters.
        type: map type, an int where it is newer than this library.
        key_size, value_size: bytes.
        max_entries: elements; bytes for RINGBUF and USER_RINGBUF.
        flags: BPF_F_* creation flags.
        map_extra: type-specific (hash functions of BLOOM_FILTER, address of ARENA); Linux 5.16.
        numa_node: node the memory comes from, or None.
        pinning: whether the map is shared through the BPF file system under its name.
        key_type_id, value_type_id: types in `btf`, 0 when untyped.
        key, value: codecs that replace the BTF types, or None.
        inner: definition of the inner maps of a map of maps.
        contents: elements put in after creation: (key, value) pairs; a str value names a map or program.
        data: initial bytes of a data section (.data, .rodata, .bss), else None; zeros are made when asked for.
        data_size: their number.
        struct_ops: what a STRUCT_OPS map is made from, else None.
        frozen: made read-only for user space once filled (.rodata).
        exclusive: the one program that may use the map: its name in the object, or the hash of its instructions (`Program.digest`);
            None for all (Linux 6.18).
    """

    __slots__ = (
        "_data",
        "btf",
        "contents",
        "data_size",
        "exclusive",
        "flags",
        "frozen",
        "inner",
        "key",
        "key_size",
        "key_type_id",
        "map_extra",
        "max_entries",
        "name",
        "numa_node",
        "pinning",
        "section_type_id",
        "struct_ops",
        "type",
        "value",
        "value_size",
        "value_type_id",
    )

    def __init__(
        self,
        name: str,
        type: MapType | int,
        key_size: int = 0,
        value_size: int = 0,
        max_entries: int = 0,
        flags: MapFlags | int = 0,
        *,
        map_extra: int = 0,
        numa_node: int | None = None,
        pinning: Pinning = Pinning.NONE,
        btf: Btf | None = None,
        key_type_id: int = 0,
        value_type_id: int = 0,
        key: Codec[Any] | None = None,
        value: Codec[Any] | None = None,
        inner: MapSpec | None = None,
        contents: list[tuple[Any, Any]] | None = None,
        data: bytearray | None = None,
        data_size: int | None = None,
        frozen: bool = False,
        section_type_id: int = 0,
        exclusive: str | bytes | None = None,
    ) -> None:
        self.name = name
        self.type = map_type(type)
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = MapFlags(flags)
        self.map_extra = map_extra
        self.numa_node = numa_node
        self.pinning = pinning
        self.btf = btf
        self.key_type_id = key_type_id
        self.value_type_id = value_type_id
        self.key = key
        self.value = value
        self.inner = inner
        self.contents = contents if contents is not None else []
        self._data = data
        self.data_size = len(data) if data is not None else data_size
        self.frozen = frozen
        self.section_type_id = section_type_id
        self.exclusive = exclusive
        self.struct_ops: StructOps | None = None

    @property
    def type_name(self) -> str:
        """The map type in the kernel's words, such as ``"LRU_HASH"``."""
        return type_name(self.type)

    @property
    def data(self) -> bytearray | None:
        """Initial bytes of a data section, to be changed in place; None for other maps."""
        if self._data is None and self.data_size is not None:
            self._data = bytearray(self.data_size)
        return self._data

    @data.setter
    def data(self, data: bytearray | None) -> None:
        self._data = data
        self.data_size = len(data) if data is not None else None

    @property
    def is_section(self) -> bool:
        """Whether this is the map of a data section; an arena has a section's variables besides its own contents."""
        return self.data_size is not None and self.type != MapType.ARENA

    @property
    def untouched(self) -> bool:
        """Whether this is a data section of zeros that nobody asked for yet."""
        return self._data is None and self.data_size is not None

    def copy(self) -> MapSpec:
        """An independent copy; the BTF is shared."""
        new = MapSpec.__new__(MapSpec)
        for slot in MapSpec.__slots__:
            setattr(new, slot, getattr(self, slot))
        new.contents = list(self.contents)
        new._data = bytearray(self._data) if self._data is not None else None
        new.inner = self.inner.copy() if self.inner is not None else None
        return new

    def __repr__(self) -> str:
        return (
            f"<MapSpec {self.name}: {self.type_name} key_size={self.key_size} value_size={self.value_size} "
            f"max_entries={self.max_entries} flags={int(self.flags):#x}>"
        )
