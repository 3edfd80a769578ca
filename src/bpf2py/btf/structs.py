"""Python values of BTF structs and unions."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from functools import cache

from bpf2py._lazy import import_module, module
from bpf2py._typing import TYPE_CHECKING, Any, ClassVar
from bpf2py.errors import EncodeError

if TYPE_CHECKING:
    import weakref
    from weakref import WeakKeyDictionary
else:
    weakref = module("weakref")


class StructValue:
    """A C struct: attributes by member name, also ``value["member"]`` with the exact C name.

    Equal to another value, a dict or a tuple with the same contents; mutable, and hashable by its contents (do not
    change one that serves as a dict key). A member that is a Python keyword gets a trailing underscore. A map's key whose
    padding is not zero keeps it, is not equal to one that differs in it, and goes back into the map as it came.
    Missing arguments are zero: ``Point(x=1)``. Copied member by member; pickled when its class is that of a module.
    """

    __slots__ = ()
    _codec: ClassVar[Any]  # its StructCodec
    _fields: ClassVar[tuple[str, ...]] = ()
    _padding: ClassVar[bytes] = b""  # of a `_padded` class an attribute of each value

    def __init__(self, /, *args: object, **kwargs: object) -> None:
        self._codec.fill(self, args, kwargs)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, python_name(name))

    def __setitem__(self, name: str, value: object) -> None:
        setattr(self, python_name(name), value)

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __bytes__(self) -> bytes:
        return bytes(self._codec.encode(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StructValue):
            return self._fields == other._fields and tuple(self) == tuple(other) and self._padding == other._padding
        if isinstance(other, Mapping):
            return self._asdict() == other and not self._padding
        if isinstance(other, tuple):
            return tuple(self) == other and not self._padding
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(_hashable(value) for value in self))  # padding tells few values apart

    def __repr__(self) -> str:
        body = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        padding = f", padding {self._padding.hex(' ')}" if self._padding else ""
        return f"{type(self).__name__}({body}{padding})"

    def __reduce__(self) -> tuple[Any, ...]:
        # An anonymous union is not a value of its own, and its class has no name: its bytes are copied.
        slots = ((field, getattr(self, field.name)) for field in self._codec.fields)
        cls = type(self).__mro__[1] if self._padding else type(self)
        return _restore, (cls, {f.name: bytes(item) if f.anonymous else item for f, item in slots}, self._padding)

    def _asdict(self) -> dict[str, Any]:
        """The members as a dict, nested structs and unions too."""
        return {name: plain(getattr(self, name)) for name in self._fields}

    def _replace(self, /, **changes: Any) -> Any:
        """A copy with some members changed."""
        new = import_module("copy").deepcopy(self)  # which imports much
        for name, value in changes.items():
            if name not in self._fields:
                raise EncodeError(f"{self._codec.name} has no member {name!r}")
            setattr(new, name, value)
        return new


class UnionValue:
    """A C union: every member is a view of the same bytes; setting one changes what the others show.

    >>> value.ipv4 = 0x7F000001      # doctest: +SKIP
    """

    __slots__ = ("_raw",)
    _codec: ClassVar[Any]  # its UnionCodec
    _fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, /, **members: object) -> None:
        self._raw = bytearray(self._codec.size)
        for name, value in members.items():
            attribute = name if name in self._fields else python_name(name)
            if attribute not in self._fields:
                raise EncodeError(f"{self._codec.name} has no member {name!r}: {', '.join(self._fields)}")
            setattr(self, attribute, value)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, python_name(name))

    def __setitem__(self, name: str, value: object) -> None:
        setattr(self, python_name(name), value)

    def __bytes__(self) -> bytes:
        return bytes(self._raw)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, UnionValue):
            return self._raw == other._raw
        if isinstance(other, Mapping):
            return bool(other) and all(n in self._fields and plain(self[n]) == v for n, v in other.items())
        if isinstance(other, bytes | bytearray):
            return self._raw == other
        return NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self._raw))

    def __repr__(self) -> str:
        body = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({body})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_union, (self._codec.public, bytes(self._raw))

    def _asdict(self) -> dict[str, Any]:
        """What each member shows, as a dict."""
        return {name: plain(getattr(self, name)) for name in self._fields}


def _restore(cls: type[StructValue], slots: dict[str, Any], padding: bytes = b"") -> StructValue:
    """A struct from its members: what copying and pickling end in."""
    codecs = {field.name: field.codec for field in cls._codec.fields if field.anonymous}
    value = cls.__new__(cls)
    if padding:
        value = with_padding(value, padding)
    for name, item in slots.items():
        setattr(value, name, codecs[name].decode(item) if name in codecs else item)
    return value


@cache
def _padded_classes() -> WeakKeyDictionary[type[StructValue], type[StructValue]]:
    """The subclasses with padding there are."""
    return weakref.WeakKeyDictionary()


def with_padding(value: StructValue, padding: bytes) -> StructValue:
    """The value with bytes of padding, as many as the struct has, that are not zero."""
    cls = type(value)
    classes = _padded_classes()
    padded = classes.get(cls)
    if padded is None:
        padded = classes[cls] = type(cls.__name__, (cls,), {"__slots__": ("_padding",), "__module__": cls.__module__})
    found = padded.__new__(padded)
    for field in cls._codec.fields:
        if hasattr(value, field.name):
            setattr(found, field.name, getattr(value, field.name))
    found._padding = padding  # type: ignore[misc]
    return found


def _restore_union(cls: type[UnionValue], raw: bytes) -> UnionValue:
    _ = cls._codec  # completes the class of a module that was only imported
    value = cls.__new__(cls)
    value._raw = bytearray(raw)
    return value


def plain(value: object) -> Any:
    """A value with structs and unions replaced by dicts, for JSON and comparisons."""
    if isinstance(value, StructValue | UnionValue):
        return value._asdict()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return value


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


_RESERVED = frozenset({"_codec", "_fields", "_asdict", "_replace", "_raw", "_padding", "mro"})


def python_name(name: str) -> str:
    """A C member name as a Python attribute: keywords and names in use get a trailing underscore."""
    if not name.isidentifier() or not name.isascii():  # Python would normalise other letters
        name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
        name = name if name.isidentifier() else f"_{name}"
    if keyword.iskeyword(name) or name in _RESERVED or (name.startswith("__") and name.endswith("__")):
        return f"{name}_"
    return name
