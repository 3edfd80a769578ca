"""Codecs of BTF structs and unions, whose values are of classes made from the type."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import or_

from bpf2py._typing import Any, NamedTuple
from bpf2py.btf.codec import (
    ArrayCodec,
    BigIntCodec,
    BoolCodec,
    ByteArrayCodec,
    CharArrayCodec,
    Codec,
    CodecOptions,
    EnumCodec,
    IntCodec,
    raw_bytes,
    within,
)
from bpf2py.btf.reader import Btf
from bpf2py.btf.structs import StructValue, UnionValue, plain, python_name, with_padding
from bpf2py.btf.types import Enum, Int, Kind, Member, Struct
from bpf2py.errors import BtfError, EncodeError

__all__ = [
    "Field",
    "StructCodec",
    "StructValue",
    "UnionCodec",
    "UnionValue",
    "make_struct_codec",
    "plain",
    "python_name",
]

MAX_MEMBERS = 1 << 16  # of a struct with its anonymous members: vlen has 16 bits


class Field(NamedTuple):
    """A member as Python sees it: `offset` in bytes, or for bitfields `bit_offset` and `bits` > 0."""

    name: str
    offset: int
    codec: Codec[Any]
    bit_offset: int = 0
    bits: int = 0
    anonymous: bool = False


def bits_get(word: int, shift: int, bits: int, signed: bool) -> int:
    """A bitfield of a little-endian word."""
    value = (word >> shift) & ((1 << bits) - 1)
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def bits_put(value: object, shift: int, bits: int, signed: bool, name: str) -> int:
    """A bitfield's value in its place. Raises EncodeError when it has too many bits."""
    if not hasattr(value, "__index__"):
        raise within(f".{name}", EncodeError(f"{value!r} is not an integer"))
    number = int(value)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= number <= high:
        raise within(f".{name}", EncodeError(f"{number} does not fit {bits} bits ({low}..{high})"))
    return (number & ((1 << bits) - 1)) << shift


def _bit_signed(codec: Codec[Any]) -> bool:
    if isinstance(codec, IntCodec | BigIntCodec):
        return codec.signed
    return isinstance(codec, EnumCodec) and codec.leaf.islower()


def _bit_value(codec: Codec[Any], value: int) -> Any:
    if isinstance(codec, EnumCodec):
        return codec.from_leaf(value)
    return bool(value) if isinstance(codec, BoolCodec) else value


def _enum_number(codec: Codec[Any], value: Any) -> Any:
    if isinstance(codec, EnumCodec) and isinstance(value, str):
        return codec._integer.decode(codec.encode(value))
    return value


class StructCodec(Codec[StructValue]):
    """A struct: one `struct` format for the fixed part, generated code between it and attributes."""

    __slots__ = (
        "_encode_object", "_exact", "_groups", "_make", "_make_many", "_packer", "_strided", "cls", "fields", "flexible"
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        size: int,
        fields: list[Field],
        class_name: str,
        cls: type[StructValue] | None = None,
        exact: bool = False,
    ) -> None:
        super().__init__(name, size)
        self._exact = exact
        self.fields = fields
        self.flexible = fields[-1] if fields and _is_flexible(fields[-1]) else None
        visible = tuple(n for field in fields for n in _visible(field))
        slots = [field.name for field in fields]
        if len(set(visible)) != len(visible) or len(set(slots)) != len(slots):
            raise BtfError(f"{name}: two members have the same name", section=".BTF")
        delegates = {n: _delegate(f.name, n) for f in fields if f.anonymous for n in _visible(f)}
        if cls is None:
            body: dict[str, Any] = {"__slots__": tuple(slots), "__doc__": f"{name}."}
            body |= {"_fields": visible, "__match_args__": visible, "_codec": self}
            # Slots such as __state would be mangled with any class name but "_".
            self.cls: type[StructValue] = type("_", (StructValue,), body | delegates)
            self.cls.__name__ = self.cls.__qualname__ = class_name
        else:
            self.cls = cls
            _same_members(name, cls, visible)
            for slot in slots:  # what is mangled in a class statement has its own name, too
                if slot.startswith("__") and not slot.endswith("__"):
                    delegates[slot] = cls.__dict__[f"_{cls.__name__.lstrip('_')}{slot}"]
            for member, descriptor in delegates.items():
                setattr(cls, member, descriptor)
        self._compile()

    def _compile(self) -> None:
        """Generate `make(*leaves) -> value` and `encode_object(value) -> bytes`."""
        leaves: list[str] = []
        make: list[str] = []
        pack: list[str] = []
        namespace: dict[str, Any] = {"new": self.cls.__new__, "cls": self.cls, "from_bytes": int.from_bytes}
        at, index = 0, 0
        fields = self.fields
        gaps: list[tuple[int, str]] = []  # (offset, expression) of padding, where it is kept

        def gap(start: int, size: int) -> str:
            if not self._exact:
                return f"{size}x"
            gaps.append((start, f"g{start}"))
            arguments.append(f"g{start}")
            return f"{size}s"

        arguments: list[str] = []
        written: list[str] = []  # the leaves without what only reading gives
        while index < len(fields):
            field, n = fields[index], len(pack)
            if field.bits:
                last, start = index, field.bit_offset // 8
                end = (field.bit_offset + field.bits + 7) // 8
                # Those that share bytes are one word; others may be far away.
                while last + 1 < len(fields) and fields[last + 1].bits and fields[last + 1].bit_offset // 8 < end:
                    last += 1
                    end = max(end, (fields[last].bit_offset + fields[last].bits + 7) // 8)
                group = fields[index : last + 1]
                leaf, index = f"{end - start}s", last + 1
                make.append(f" word = from_bytes(f{n}, 'little')")
                unused = (1 << (end - start) * 8) - 1
                for f in group:
                    unused &= ~(((1 << f.bits) - 1) << (f.bit_offset - start * 8))
                if unused and self._exact:
                    namespace[f"u{n}"] = unused
                    gaps.append((start, f"(word{n} & u{n}).to_bytes({end - start}, 'little')"))
                    make.append(f" word{n} = word")
                terms = []
                for f in group:
                    shift, signed = f.bit_offset - start * 8, _bit_signed(f.codec)
                    key = f"{n}_{shift}"
                    namespace |= {f"v{key}": _bit_value, f"c{key}": f.codec, "get": bits_get, "put": _put}
                    make.append(f" o.{f.name} = v{key}(c{key}, get(word, {shift}, {f.bits}, {signed}))")
                    terms.append(f"put(c{key}, o.{f.name}, {shift}, {f.bits}, {signed}, {f.name!r})")
                pack.append(f"({' | '.join(terms)}).to_bytes({end - start}, 'little')")
            else:
                index += 1
                codec, start, end = field.codec, field.offset, field.offset + field.codec.size
                leaf = codec.leaf
                namespace[f"c{n}"], namespace[f"d{n}"], namespace[f"e{n}"] = codec, codec.decode, codec.encode
                if isinstance(codec, EnumCodec):
                    namespace[f"d{n}"], namespace["enum_number"] = codec.from_leaf, _enum_number
                    make.append(f" o.{field.name} = d{n}(f{n})")
                    pack.append(f"enum_number(c{n}, o.{field.name})")
                elif len(leaf) == 1 and leaf != "?":
                    make.append(f" o.{field.name} = f{n}")
                    pack.append(f"o.{field.name}")
                elif leaf == "?":
                    leaf = "1s"
                    make.append(f" o.{field.name} = f{n} != b'\\0'")
                    pack.append(f"e{n}(o.{field.name})")
                else:
                    make.append(f" o.{field.name} = d{n}(f{n})")
                    pack.append(f"e{n}(o.{field.name})")
            if start < at or end > self.size:
                raise BtfError(f"{self.name}: member {field.name} overlaps another or the end", section=".BTF")
            if start > at:
                leaves.append(gap(at, start - at))
                written.append(f"{start - at}x")
            leaves.append(leaf)
            written.append(leaf)
            arguments.append(f"f{n}")
            at = end
        if self.size > at:
            leaves.append(gap(at, self.size - at))
            written.append(f"{self.size - at}x")
        if gaps:
            namespace |= {"keep": _keep_padding, "size": self.size, "zero": b"\0"}
            found = "".join(f"({start}, {expression}), " for start, expression in gaps)
            anything = " or ".join(f"{expression}.strip(zero)" for _, expression in gaps)
            make.append(f" if {anything}: return keep(o, size, ({found}))")
        self._packer = struct.Struct("<" + "".join(leaves))
        namespace["pack"] = struct.Struct("<" + "".join(written)).pack if gaps else self._packer.pack
        source = f"def make({', '.join(arguments)}):\n o = new(cls)\n" + "\n".join([*make, " return o"])
        source += f"\ndef encode_object(o):\n return pack({', '.join(pack)})\n"
        # One loop for many values saves a call for each.
        loop = [line.replace(" return ", " o = ") for line in make]
        source += "def make_many(rows):\n found = []\n append = found.append\n"
        source += f" for {', '.join(arguments)}{',' if arguments else '_'} in rows:\n  o = new(cls)\n"
        source += "\n".join([f" {line}" for line in loop] + ["  append(o)", " return found", ""])
        exec(compile(source, f"<codec of {self.name}>", "exec"), namespace)
        self._make: Callable[..., StructValue] = namespace["make"]
        self._make_many: Callable[[Iterable[tuple[Any, ...]]], list[StructValue]] = namespace["make_many"]
        self._strided: tuple[int, int, struct.Struct] = (0, 0, self._packer)
        self._encode_object: Callable[[Any], bytes] = namespace["encode_object"]

    def fill(self, target: StructValue, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Initialise a value: positional members in order, the others by name, the rest zero."""
        cls = self.cls
        if len(args) > len(cls._fields):
            raise EncodeError(f"{self.name} has {len(cls._fields)} members, {len(args)} given")
        zero = self.decode(bytes(self.size))
        for field in self.fields:
            setattr(target, field.name, getattr(zero, field.name))
        for name, value in zip(cls._fields, args, strict=False):
            setattr(target, name, value)
        for name, value in kwargs.items():
            attribute = name if name in cls._fields else python_name(name)
            if attribute not in cls._fields:
                raise EncodeError(f"{self.name} has no member {name!r}: {', '.join(cls._fields)}")
            setattr(target, attribute, value)

    def encode(self, value: object) -> bytes:
        if type(value) is not self.cls:
            if isinstance(value, StructValue) and value._padding and value._fields == self.cls._fields:
                try:
                    data = self._encode_object(value)
                except (struct.error, EncodeError, TypeError, OverflowError):
                    data = self._encode_slowly(value)
                return bytes(map(or_, data, value._padding)) if len(value._padding) == self.size else data
            if isinstance(value, Mapping):
                value = self.cls(**{str(name): item for name, item in value.items()})
            elif isinstance(value, tuple | list):
                if len(value) != len(self.cls._fields):
                    raise EncodeError(f"{self.name} has {len(self.cls._fields)} members, {len(value)} given")
                value = self.cls(*value)
            elif isinstance(value, StructValue):
                value = self.cls(**{name: getattr(value, name) for name in value._fields})
            else:
                return raw_bytes(value, self)
        try:
            return self._encode_object(value)
        except (struct.error, EncodeError, TypeError, OverflowError):
            return self._encode_slowly(value)

    def _encode_slowly(self, value: StructValue) -> bytes:
        """Field by field, so that an error names the member; also takes fields given as encoded bytes."""
        buffer = bytearray(self.size)
        for field in self.fields:
            item = getattr(value, field.name)
            if field.bits:
                word = _put(field.codec, item, field.bit_offset % 8, field.bits, _bit_signed(field.codec), field.name)
                start = field.bit_offset // 8
                for i, byte in enumerate(word.to_bytes((field.bits + field.bit_offset % 8 + 7) // 8, "little")):
                    buffer[start + i] |= byte
                continue
            try:
                buffer[field.offset : field.offset + field.codec.size] = field.codec.encode(item)
            except EncodeError as error:
                raise within(f".{field.name}", error) from None
        return bytes(buffer)

    def decode(self, data: bytes | bytearray | memoryview) -> StructValue:
        if self.flexible is not None and len(data) > self.size:
            return self._decode_flexible(data)
        return self._make(*self._packer.unpack(data))

    def _decode_flexible(self, data: bytes | bytearray | memoryview) -> StructValue:
        assert self.flexible is not None
        value = self._make(*self._packer.unpack(memoryview(data)[: self.size]))
        tail = memoryview(data)[self.flexible.offset :]
        codec = self.flexible.codec
        if isinstance(codec, ArrayCodec):
            size = codec.element.size or 1
            setattr(value, self.flexible.name, codec.element.decode_many(tail[: len(tail) // size * size]))
        elif isinstance(codec, CharArrayCodec):
            setattr(value, self.flexible.name, codec.decode(tail))
        else:
            setattr(value, self.flexible.name, bytes(tail))
        return value

    def decode_many(self, data: bytes | bytearray | memoryview) -> list[StructValue]:
        if not self.size:
            return []
        return self._make_many(self._packer.iter_unpack(data))

    def decode_spread(self, data: memoryview, start: int, count: int, stride: int) -> list[StructValue] | None:
        """`count` values, `stride` bytes apart from `start` on, where they are.

        None where the room between two of them is neither before the first one nor after the last one, too.
        """
        before = min(start, stride - self.size)
        if start - before + count * stride > len(data):
            return None
        if self._strided[:2] != (before, stride):
            form = f"<{before}x{self._packer.format[1:]}{stride - self.size - before}x"
            self._strided = before, stride, struct.Struct(form)
        whole = data[start - before : start - before + count * stride]
        return self._make_many(self._strided[2].iter_unpack(whole))


def _keep_padding(value: StructValue, size: int, gaps: tuple[tuple[int, bytes], ...]) -> StructValue:
    padding = bytearray(size)
    for start, data in gaps:
        padding[start : start + len(data)] = data
    return with_padding(value, bytes(padding))


def _put(codec: Codec[Any], value: Any, shift: int, bits: int, signed: bool, name: str) -> int:
    return bits_put(_enum_number(codec, value), shift, bits, signed, name)


def _is_flexible(field: Field) -> bool:
    return (
        not field.bits
        and field.codec.size == 0
        and isinstance(field.codec, ArrayCodec | CharArrayCodec | ByteArrayCodec)
    )


def _visible(field: Field) -> tuple[str, ...]:
    return field.codec.cls._fields if field.anonymous and isinstance(field.codec, UnionCodec) else (field.name,)


def _same_members(name: str, cls: type[StructValue | UnionValue], members: tuple[str, ...]) -> None:
    if cls._fields != members:
        raise BtfError(f"{name} has the members {members}, its class {cls.__module__}.{cls.__name__} {cls._fields}")


def _delegate(slot: str, member: str) -> property:
    return property(
        lambda self: getattr(getattr(self, slot), member),
        lambda self, value: setattr(getattr(self, slot), member, value),
    )


class UnionCodec(Codec[UnionValue]):
    """A union: the bytes, and a view for each member.

    Attributes:
        cls: the class of what is decoded.
        fields: the members.
        public: the class by which modules know it, `cls` or a base of it.
    """

    __slots__ = ("cls", "fields", "public")

    def __init__(
        self,
        name: str,
        size: int,
        fields: list[Field],
        class_name: str,
        cls: type[UnionValue] | None = None,
        default: bool = True,
    ) -> None:
        super().__init__(name, size)
        self.fields = fields
        views: dict[str, Any] = {}
        names = []
        for field in fields:
            if field.offset + field.codec.size > size or field.bit_offset + field.bits > size * 8:
                raise BtfError(f"{name}: member {field.name} is larger than the union", section=".BTF")
            for member in _visible(field):
                names.append(member)
                views[member] = _view(field, member)
        if len(set(names)) != len(names):
            raise BtfError(f"{name}: two members have the same name", section=".BTF")
        members = tuple(names)
        if cls is not None:
            _same_members(name, cls, members)
        if cls is None or not default:  # a key's views differ from a value's
            body = {"__slots__": (), "_fields": members, "__match_args__": members, "_codec": self}
            about = {"__doc__": f"{name}."} if cls is None else {"__doc__": cls.__doc__, "__module__": cls.__module__}
            self.cls: type[UnionValue] = type(class_name, (cls or UnionValue,), body | about | views)
        else:
            self.cls = cls
            for member, view in views.items():
                setattr(cls, member, view)
        self.public = cls or self.cls

    def encode(self, value: object) -> bytes:
        if isinstance(value, UnionValue) and len(value._raw) == self.size:
            return bytes(value._raw)
        if isinstance(value, Mapping):
            return bytes(self.cls(**{str(name): item for name, item in value.items()})._raw)
        return raw_bytes(value, self)

    def decode(self, data: bytes | bytearray | memoryview) -> UnionValue:
        value = self.cls.__new__(self.cls)
        value._raw = bytearray(data)
        return value


def _view(field: Field, member: str) -> property:
    offset, codec = field.offset, field.codec
    if field.bits:
        start, end = field.bit_offset // 8, (field.bit_offset + field.bits + 7) // 8
        shift, signed = field.bit_offset % 8, _bit_signed(codec)

        def get_bits(self: UnionValue) -> Any:
            word = int.from_bytes(self._raw[start:end], "little")
            return _bit_value(codec, bits_get(word, shift, field.bits, signed))

        def set_bits(self: UnionValue, value: object) -> None:
            word = int.from_bytes(self._raw[start:end], "little") & ~(((1 << field.bits) - 1) << shift)
            word |= _put(codec, value, shift, field.bits, signed, member)
            self._raw[start:end] = word.to_bytes(end - start, "little")

        return property(get_bits, set_bits)

    def get(self: UnionValue) -> Any:
        return codec.decode(self._raw[offset : offset + codec.size])

    def put(self: UnionValue, value: object) -> None:
        try:
            self._raw[offset : offset + codec.size] = codec.encode(value)
        except EncodeError as error:
            raise within(f".{member}", error) from None

    return property(get, put)


def make_struct_codec(
    btf: Btf,
    btf_type: Struct,
    options: CodecOptions,
    codec_of: Callable[[int], Codec[Any]],
    cls: type[Any] | None = None,
) -> Codec[Any]:
    """The codec of a struct or union; `codec_of` gives those of its members, `cls` is its class if it has one already."""
    word = "struct" if btf_type.kind == Kind.STRUCT else "union"
    shown = btf_type.name.encode("ascii", "backslashreplace").decode()  # class and code must have encodable names
    name = f"{word} {shown}" if shown else f"anonymous {word}"
    class_name = cls.__name__ if cls is not None else python_name(btf_type.name) if btf_type.name else word
    fields = list(_fields(btf, btf_type, options, codec_of, 0, 0, btf_type.kind == Kind.UNION, [0, 0]))
    parts = 1 + sum(field.codec.parts for field in fields)
    if parts > MAX_MEMBERS:  # of no size, or a union's: a value would be larger than any memory
        raise BtfError(f"{btf.name}: {name} has too many members, with those of its members", section=".BTF")
    made = _make_codec(name, btf_type, options, fields, class_name, cls)
    made.parts = parts
    return made


def _make_codec(
    name: str, btf_type: Struct, options: CodecOptions, fields: list[Field], class_name: str, cls: type[Any] | None
) -> Codec[Any]:
    if btf_type.kind == Kind.UNION:
        default = options == CodecOptions()
        return UnionCodec(name, btf_type.size, fields, class_name, cls, default)
    fields.sort(key=lambda field: field.bit_offset // 8 if field.bits else field.offset)
    return StructCodec(name, btf_type.size, fields, class_name, cls, exact=options.key)


def _fields(
    btf: Btf,
    btf_type: Struct,
    options: CodecOptions,
    codec_of: Callable[[int], Codec[Any]],
    base_bits: int,
    depth: int,
    in_union: bool,
    counter: list[int],
) -> Iterator[Field]:
    if depth > 32:
        raise BtfError(f"{btf.name}: struct {btf_type.name} is nested too deeply", section=".BTF")
    for member in btf_type.members:
        counter[1] += 1
        if counter[1] > MAX_MEMBERS:
            raise BtfError(f"{btf.name}: struct {btf_type.name} has too many members", section=".BTF")
        bit_offset = base_bits + member.bit_offset
        inner = btf.resolved(member.type_id)
        if not member.name:
            if isinstance(inner, Struct) and (inner.kind == Kind.STRUCT or in_union):
                # C11: members of an anonymous struct or union belong to the outer one.
                yield from _fields(btf, inner, options, codec_of, bit_offset, depth + 1, in_union, counter)
            elif isinstance(inner, Struct):
                counter[0] += 1
                yield Field(f"_union{counter[0]}", bit_offset // 8, codec_of(member.type_id), anonymous=True)
            continue  # an unnamed bitfield is padding
        yield _field(btf, member, inner, bit_offset, codec_of)


def _field(btf: Btf, member: Member, inner: Any, bit_offset: int, codec_of: Callable[[int], Codec[Any]]) -> Field:
    name = python_name(member.name)
    codec = codec_of(member.type_id)
    if member.bits:
        if not isinstance(inner, Int | Enum) or member.bits > inner.size * 8:
            raise BtfError(f"{btf.name}: bitfield {member.name} is not an integer or too wide", section=".BTF")
        return Field(name, 0, codec, bit_offset, member.bits)
    if bit_offset % 8:
        raise BtfError(f"{btf.name}: member {member.name} does not start at a byte", section=".BTF")
    return Field(name, bit_offset // 8, codec)
