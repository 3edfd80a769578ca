"""Codecs: Python value <-> the bytes of a BTF type.

| BTF type                        | Python value                                                       |
|---------------------------------|--------------------------------------------------------------------|
| integers, pointers              | int, range-checked                                                 |
| bool                            | bool                                                               |
| float, double                   | float                                                              |
| enum                            | IntEnum member, int for a value without a name; see `use_classes`  |
| char[N]                         | str up to the first NUL (keys: trailing NULs stripped), or bytes   |
| unsigned char[N], __u8[N]       | bytes                                                              |
| other arrays                    | list (keys: tuple)                                                 |
| struct                          | `StructValue`: attributes by member name                           |
| union                           | `UnionValue`: every member is a view of the same bytes             |
| no type known                   | bytes                                                              |

Every codec also accepts bytes of exactly the right size as a value that is encoded already.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence, Sized

from bpf2py._typing import Any, Generic, Literal, NamedTuple, TypeVar, cast
from bpf2py.btf.types import Enum
from bpf2py.errors import EncodeError

T = TypeVar("T")

Chars = Literal["str", "bytes"]


class CodecOptions(NamedTuple):
    """How values are decoded.

    Attributes:
        key: the value serves as a key: decode to something hashable, without losing a byte.
        chars: char arrays as ``"str"`` (UTF-8, undecodable bytes surrogate-escaped) or ``"bytes"``.
    """

    key: bool = False
    chars: Chars = "str"


DEFAULT_OPTIONS = CodecOptions()


class Codec(Generic[T]):
    """Translates values of one type; `size` is its size in bytes.

    `leaf` is the struct format of the encoded form: a letter where `struct` alone gives the value, else ``{size}s``. `parts` counts
    the type's members and theirs, an array as one element.
    """

    __slots__ = ("leaf", "name", "parts", "size")

    def __init__(self, name: str, size: int, leaf: str | None = None) -> None:
        self.name = name
        self.size = size
        self.leaf = leaf if leaf is not None else f"{size}s"
        self.parts = 1

    def encode(self, value: object) -> bytes:
        """The value as `size` bytes. Raises EncodeError when it does not fit."""
        raise NotImplementedError

    def decode(self, data: bytes | bytearray | memoryview) -> T:
        """The value of exactly `size` bytes, which are copied where they are kept."""
        raise NotImplementedError

    def encode_into(self, buffer: bytearray, value: object) -> None:
        """Encode into a buffer of exactly `size` bytes."""
        buffer[:] = self.encode(value)

    def decode_many(self, data: bytes | bytearray | memoryview) -> list[T]:
        """The values of back-to-back encodings."""
        size, decode = self.size, self.decode
        if not size:
            return []
        view = memoryview(data)
        return [decode(view[at : at + size]) for at in range(0, len(view), size)]

    def encode_many(self, values: Iterable[Any]) -> bytes:
        """The encodings of the values, back to back."""
        return b"".join(map(self.encode, values))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.size} bytes>"


def raw_bytes(value: object, codec: Codec[Any]) -> bytes:
    """Accept an encoded value; raises EncodeError for a wrong size or anything that is not a buffer."""
    if isinstance(value, bytes | bytearray | memoryview):
        if len(value) == codec.size:
            return bytes(value)
        raise EncodeError(f"{len(value)} bytes given, {codec.name} has {codec.size}")
    tobytes = getattr(value, "tobytes", None)  # numpy scalars and records
    if tobytes is not None and getattr(value, "nbytes", -1) == codec.size:
        return bytes(tobytes())
    raise EncodeError(f"{value!r} is not a valid {codec.name}")


def within(step: str, error: EncodeError) -> EncodeError:
    """The error of a part, said of the whole: ``.many[1].y: 70000 does not fit short``."""
    path, reason = error.__dict__.get("path", ""), error.__dict__.get("reason", error.message)
    outer = EncodeError(f"{step}{path}: {reason}")
    outer.__dict__.update(path=step + path, reason=reason)
    return outer


class BytesCodec(Codec[bytes]):
    """`size` bytes as they are. Integers are accepted for 1, 2, 4 and 8 bytes."""

    __slots__ = ()

    def __init__(self, size: int, name: str = "bytes") -> None:
        super().__init__(name, size)

    def encode(self, value: object) -> bytes:
        if isinstance(value, int) and self.size in (1, 2, 4, 8):
            try:
                return value.to_bytes(self.size, "little", signed=value < 0)
            except OverflowError:
                raise EncodeError(f"{value} does not fit {self.size} bytes") from None
        return raw_bytes(value, self)

    def decode(self, data: bytes | bytearray | memoryview) -> bytes:
        return bytes(data)


class ByteArrayCodec(BytesCodec):
    """unsigned char[N]: bytes; a list of integers is accepted, and shorter bytes are padded with zeros."""

    __slots__ = ()

    def encode(self, value: object) -> bytes:
        if isinstance(value, list | tuple):
            try:
                value = bytes(value)
            except (ValueError, TypeError):
                raise EncodeError(f"{value!r} is not a sequence of integers from 0 to 255") from None
        if isinstance(value, bytes | bytearray | memoryview) and len(value) < self.size:
            return bytes(value).ljust(self.size, b"\0")
        return raw_bytes(value, self)


_INT_LEAVES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h", (4, False): "I", (4, True): "i"}
_INT_LEAVES |= {(8, False): "Q", (8, True): "q"}


class IntCodec(Codec[int]):
    """Integers of 1, 2, 4 or 8 bytes, little-endian."""

    __slots__ = ("_pack", "_pack_into", "_unpack", "signed")

    def __init__(self, name: str, size: int, signed: bool) -> None:
        leaf = _INT_LEAVES[size, signed]
        super().__init__(name, size, leaf)
        packer = struct.Struct("<" + leaf)
        self._pack, self._unpack, self._pack_into = packer.pack, packer.unpack, packer.pack_into
        self.signed = signed

    def encode(self, value: object) -> bytes:
        try:
            return self._pack(value)
        except struct.error:
            return self._explain(value)

    def encode_into(self, buffer: bytearray, value: object) -> None:
        try:
            self._pack_into(buffer, 0, value)
        except struct.error:
            buffer[:] = self._explain(value)

    def _explain(self, value: Any) -> bytes:
        if hasattr(value, "__index__"):
            bits = self.size * 8
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if self.signed else (0, (1 << bits) - 1)
            raise EncodeError(f"{int(value)} does not fit {self.name} ({low}..{high})")
        return raw_bytes(value, self)

    def decode(self, data: bytes | bytearray | memoryview) -> int:
        return cast("int", self._unpack(data)[0])

    def decode_many(self, data: bytes | bytearray | memoryview) -> list[int]:
        count = len(data) // self.size
        return list(struct.unpack(f"<{count}{self.leaf}", data))

    def encode_many(self, values: Iterable[Any]) -> bytes:
        values = values if isinstance(values, list | tuple) else list(values)
        try:
            return struct.pack(f"<{len(values)}{self.leaf}", *values)
        except struct.error:
            return b"".join(map(self.encode, values))


class BigIntCodec(Codec[int]):
    """__int128 and other integers `struct` has no letter for."""

    __slots__ = ("signed",)

    def __init__(self, name: str, size: int, signed: bool) -> None:
        super().__init__(name, size)
        self.signed = signed

    def encode(self, value: object) -> bytes:
        if not isinstance(value, int):
            return raw_bytes(value, self)
        try:
            return value.to_bytes(self.size, "little", signed=self.signed)
        except OverflowError:
            raise EncodeError(f"{value} does not fit {self.name} ({self.size * 8} bits)") from None

    def decode(self, data: bytes | bytearray | memoryview) -> int:
        return int.from_bytes(data, "little", signed=self.signed)


class BoolCodec(Codec[bool]):
    """bool: any non-zero byte is True."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name, 1, "?")

    def encode(self, value: object) -> bytes:
        if value is True or value is False or (isinstance(value, int) and value in (0, 1)):
            return b"\1" if value else b"\0"
        return raw_bytes(value, self)

    def decode(self, data: bytes | bytearray | memoryview) -> bool:
        return data[0] != 0


class KeyBoolCodec(BoolCodec):
    """bool in a key, where a byte above 1 makes another key: it stays a number."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.leaf = "1s"

    def encode(self, value: object) -> bytes:
        return bytes((value,)) if isinstance(value, int) and 0 <= value < 256 else raw_bytes(value, self)

    def decode(self, data: bytes | bytearray | memoryview) -> bool:
        return data[0] != 0 if data[0] < 2 else data[0]  # type: ignore[return-value]


class FloatCodec(Codec[float]):
    """float and double."""

    __slots__ = ("_packer",)

    def __init__(self, name: str, size: int) -> None:
        leaf = {2: "e", 4: "f", 8: "d"}[size]
        super().__init__(name, size, leaf)
        self._packer = struct.Struct("<" + leaf)

    def encode(self, value: object) -> bytes:
        try:
            return self._packer.pack(value)
        except (struct.error, OverflowError):
            if isinstance(value, int | float):
                raise EncodeError(f"{value} does not fit {self.name}") from None
            return raw_bytes(value, self)

    def decode(self, data: bytes | bytearray | memoryview) -> float:
        return cast("float", self._packer.unpack(data)[0])


class EnumCodec(Codec[int]):
    """An enum: members of an IntEnum made from BTF; values without a name stay plain integers."""

    __slots__ = ("_btf_type", "_integer", "_members", "_names")

    _members: dict[int, int] | None

    def __init__(self, btf_type: Enum) -> None:
        name = f"enum {btf_type.name}".rstrip()
        self._btf_type = btf_type
        self._integer = IntCodec(name, btf_type.size, btf_type.signed)
        super().__init__(name, btf_type.size, self._integer.leaf)
        self._members = None
        self._names = {e.name: e.value for e in btf_type.values}

    @property
    def members(self) -> dict[int, int]:
        """IntEnum member by value."""
        if self._members is None:
            pairs = [(e.name, e.value) for e in self._btf_type.values]
            try:
                cls = enum.IntEnum(self._btf_type.name or "enum", pairs)  # type: ignore[misc]
                self._members = {int(member): member for member in cls}
            except (ValueError, TypeError, AttributeError):
                self._members = {}  # a name Python's enums reserve
        return self._members

    def encode(self, value: object) -> bytes:
        if isinstance(value, str):
            if value not in self._names:
                raise EncodeError(f"{value!r} is not a member of {self.name}: {', '.join(self._names)}")
            value = self._names[value]
        return self._integer.encode(value)

    def decode(self, data: bytes | bytearray | memoryview) -> int:
        return self.from_leaf(self._integer.decode(data))

    def from_leaf(self, value: int) -> int:
        """The member of a value."""
        return (self._members or self.members).get(value, value)

    def decode_many(self, data: bytes | bytearray | memoryview) -> list[int]:
        return [self.from_leaf(value) for value in self._integer.decode_many(data)]


class _Members(dict[int, int]):
    """Enum members by value; values without a name get one made by the class."""

    def __init__(self, cls: type[enum.IntEnum]) -> None:
        super().__init__((member.value, member) for member in cls)
        self._cls = cls

    def __missing__(self, value: int) -> int:
        return self._cls(value)


class OpenEnumCodec(EnumCodec):
    """An enum whose class is given and takes any value: what is decoded is always of that class."""

    __slots__ = ()

    _members: dict[int, int]

    def __init__(self, btf_type: Enum, cls: type[enum.IntEnum]) -> None:
        super().__init__(btf_type)
        self._members = _Members(cls)

    def from_leaf(self, value: int) -> int:
        return self._members[value]

    def decode_many(self, data: bytes | bytearray | memoryview) -> list[int]:
        members = self._members
        return [members[value] for value in self._integer.decode_many(data)]


class CharArrayCodec(Codec[str | bytes]):
    """char[N]: str or bytes by option; see `CodecOptions`."""

    __slots__ = ("_as_bytes", "_key", "_known")

    def __init__(self, size: int, options: CodecOptions) -> None:
        super().__init__(f"char[{size}]", size)
        self._known: dict[bytes, str | bytes] = {}
        self._key = options.key
        self._as_bytes = options.chars == "bytes"

    def encode(self, value: object) -> bytes:
        if isinstance(value, str):
            try:
                value = value.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raise EncodeError(f"{value!r} cannot be encoded as UTF-8") from None
        if isinstance(value, bytes | bytearray | memoryview):
            if len(value) > self.size:
                raise EncodeError(f"{bytes(value)!r} has {len(value)} bytes, {self.name} holds {self.size}")
            return bytes(value).ljust(self.size, b"\0")
        return raw_bytes(value, self)

    def decode(self, data: bytes | bytearray | memoryview) -> str | bytes:
        raw = bytes(data)
        # Command names and the like come again and again.
        known = self._known.get(raw)
        if known is None:
            known = self._decode(raw)
            if len(raw) <= 64 and len(self._known) < 1024:
                self._known[raw] = known
        return known

    def _decode(self, raw: bytes) -> str | bytes:
        if self._key:
            raw = raw.rstrip(b"\0")
        else:
            end = raw.find(0)
            if end >= 0:
                raw = raw[:end]
        return raw if self._as_bytes else raw.decode("utf-8", "surrogateescape")


class ArrayCodec(Codec[Sequence[Any]]):
    """Arrays: list, or tuple for keys. Fewer elements than the array has are refused."""

    __slots__ = ("_key", "count", "element")

    def __init__(self, element: Codec[Any], count: int, options: CodecOptions) -> None:
        super().__init__(f"{element.name}[{count}]", element.size * count)
        self.element = element
        self.count = count
        self.parts = element.parts
        self._key = options.key

    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return raw_bytes(value, self)
        if not isinstance(value, Iterable) or not isinstance(value, Sized):
            return raw_bytes(value, self)
        length = len(value)
        if length != self.count and self.element.size:
            raise EncodeError(f"{length} elements given, {self.name} has {self.count}")
        try:
            return self.element.encode_many(value)
        except EncodeError:
            for index, item in enumerate(value):
                try:
                    self.element.encode(item)
                except EncodeError as error:
                    raise within(f"[{index}]", error) from None
            raise

    def decode(self, data: bytes | bytearray | memoryview) -> Sequence[Any]:
        values = self.element.decode_many(data)
        return tuple(values) if self._key else values
