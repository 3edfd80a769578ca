"""What generated modules stand on: the object file, read when first used, and its types as classes."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bpf2py.btf.codec import codec_for
from bpf2py.btf.types import Kind
from bpf2py.btf.values import StructCodec, UnionCodec
from bpf2py.errors import ObjectError
from bpf2py.spec.object_spec import ObjectSpec

E = TypeVar("E", bound=IntEnum)

if TYPE_CHECKING:
    from bpf2py.object import Object
    from bpf2py.programs import Program


class ObjectFile:
    """The object a generated module belongs to: a file beside it, or embedded text.

    Args:
        module: the module's ``__file__``.
        name: the object file's name, or the object's name where it is embedded.
        embedded: the object, compressed and in base 85; None for a file.
    """

    def __init__(self, module: str, name: str, embedded: str | None = None) -> None:
        self._path = Path(module).with_name(name)
        self._name = name
        self._embedded = embedded
        self._spec: ObjectSpec | None = None

    def spec(self) -> ObjectSpec:
        """A copy of the spec, to be changed and loaded. Raises FileNotFoundError when the object file is missing."""
        return self._read().copy()

    def _read(self) -> ObjectSpec:
        if self._spec is None:
            if self._embedded is not None:
                data = zlib.decompress(base64.b85decode(self._embedded))
                self._spec = ObjectSpec.from_bytes(data, self._name)
            else:
                self._spec = ObjectSpec.from_file(self._path)
        return self._spec

    def type(self, name: str, kind: str) -> Any:
        """The class of a struct or union of the object."""
        spec = self._read()
        if spec.types is None:
            raise ObjectError(f"{self._name}: the object has no types")
        codec = codec_for(spec.types, spec.types.find(name, Kind[kind]))
        if not isinstance(codec, StructCodec | UnionCodec):
            raise ObjectError(f"{self._name}: {name} is no struct or union")
        return codec.cls


def embed(data: bytes) -> str:
    """An object as the text `ObjectFile` takes."""
    return base64.b85encode(zlib.compress(data, 9)).decode("ascii")


def load(file: ObjectFile, backend: Any, change: Callable[[ObjectSpec], None] | None, options: dict[str, Any]) -> Any:
    """Load the object, after `change` has had its way with the spec."""
    from bpf2py.loading import load as load_spec

    spec = file.spec()
    if change is not None:
        change(spec)
    return load_spec(spec, backend, **options)


def unnamed(cls: type[E], value: object) -> E | None:
    """A member for a value an enum has no name for."""
    if not isinstance(value, int):
        return None
    member = int.__new__(cls, value)
    member._name_, member._value_ = str(value), value
    return member


def program(obj: Object, name: str) -> Program:
    """A program of a loaded object. One that was not loaded (``autoload = False``) raises KeyError when it is used."""
    found = obj.programs.get(name)
    return found if found is not None else cast("Program", _NotLoaded(name))


class _NotLoaded:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise KeyError(f"program {self._name} was not loaded (autoload is off)")
