"""What generated modules stand on: the object file, read when first used, and its types as classes."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from bpf2py.btf.codec import Codec
from bpf2py.btf.codec_for import codec_for, use_classes
from bpf2py.btf.values import StructValue, UnionValue
from bpf2py.codegen.paths import locate
from bpf2py.errors import BtfError, ObjectError
from bpf2py.loading import ObjectOptions

if TYPE_CHECKING:
    from bpf2py.backends import BackendChoice
    from bpf2py.codegen.variables import TypedVariable
    from bpf2py.object import Object
    from bpf2py.programs import Program
    from bpf2py.spec.object_spec import ObjectSpec

C = TypeVar("C", bound=type[Any])


# Not `chars`, for annotations say str; the rest has types of the module.
LoadOptions = ObjectOptions


class OpenEnum(IntEnum):
    """An IntEnum that takes any integer, as C does: values without a name are members called by their number."""

    @classmethod
    def _missing_(cls, value: object) -> OpenEnum | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = str(value), value
        return member

    def __reduce_ex__(self, _protocol: object) -> tuple[type[OpenEnum], tuple[int]]:
        # By value: Python 3.11.2 (Debian 12's) pickles the name, by which a value without one is not found again.
        return type(self), (self._value_,)


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
        self._classes: dict[str, type[Any]] = {}

    def type(self, path: str) -> Callable[[C], C]:
        """Decorator of the class for the type at a path (see `bpf2py.codegen.paths`)."""

        def register(cls: C) -> C:
            self._classes[path] = cls
            if issubclass(cls, StructValue | UnionValue):
                cls._fields = cls.__dict__["__match_args__"]
                cls._codec = cast("Any", _LazyCodec(self, path))
            return cls

        return register

    def spec(self) -> ObjectSpec:
        """A copy of the spec, to be changed and loaded. Raises FileNotFoundError when the object file is missing."""
        return self._read().copy()

    def codec(self, path: str) -> Codec[Any]:
        """The codec of the type at a path."""
        spec = self._read()
        assert spec.types is not None
        return codec_for(spec.types, locate(spec, path))

    def _read(self) -> ObjectSpec:
        if self._spec is None:
            from bpf2py.spec.object_spec import ObjectSpec

            if self._embedded is not None:
                spec = ObjectSpec.from_bytes(zlib.decompress(base64.b85decode(self._embedded)), self._name)
            else:
                spec = ObjectSpec.from_file(self._path)
            if spec.types is None:
                raise ObjectError(f"{self._name}: the object has no types")
            try:
                use_classes(spec.types, {locate(spec, path): cls for path, cls in self._classes.items()})
            except BtfError as error:
                raise ObjectError(f"{error}; module and object do not belong together: run bpf2py gen again") from None
            self._spec = spec
        return self._spec


class _LazyCodec:
    """The `_codec` of a class until it is used: importing a module reads no object."""

    def __init__(self, file: ObjectFile, path: str) -> None:
        self._file = file
        self._path = path

    def __get__(self, value: object, owner: type[Any]) -> Any:
        codec = self._file.codec(self._path)
        for cls in owner.__mro__:
            if cls.__dict__.get("_codec") is self:
                type.__setattr__(cls, "_codec", codec)
        return codec


def embed(data: bytes) -> str:
    """An object as the text `ObjectFile` takes."""
    return base64.b85encode(zlib.compress(data, 9)).decode("ascii")


def load(
    file: ObjectFile,
    backend: BackendChoice,
    options: LoadOptions,
    change: Callable[[ObjectSpec], None] | None,
    *,
    max_entries: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    autoload: Mapping[str, Any] | None = None,
) -> Object:
    """Load the object with a changed spec; `change` has the last word.

    Raises KeyError for a name the object does not have, and what `bpf2py.load` raises.
    """
    from bpf2py.loading import load as load_spec
    from bpf2py.loading import override

    spec = file.spec()
    override(spec, variables, max_entries, autoload)
    if change is not None:
        change(spec)
    return load_spec(spec, backend, **options)


def program(obj: Object, name: str) -> Program:
    """A program of a loaded object. One that was not loaded (``autoload = False``) raises KeyError when it is used."""
    found = obj.programs.get(name)
    return found if found is not None else cast("Program", _NotLoaded(name))


def variable(obj: Object, name: str) -> TypedVariable[Any]:
    """A global variable of a loaded object, as a `TypedVariable`."""
    from bpf2py.codegen.variables import TypedVariable

    found = obj.variables[name]
    return TypedVariable(found.spec, found._section)


class _NotLoaded:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> NoReturn:
        raise KeyError(f"program {self._name} was not loaded (autoload is off)")
