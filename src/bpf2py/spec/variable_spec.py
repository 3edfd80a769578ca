"""`VariableSpec`: a global variable of an object, to be changed before loading; `ExternSpec`: one the kernel provides."""

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.errors import EncodeError
from bpf2py.spec.map_spec import MapSpec

if TYPE_CHECKING:
    from bpf2py.btf.codec import Codec


class VariableSpec:
    """A global variable in a data section.

    Attributes:
        name: the C name.
        map: the data section's map, such as that of ``.rodata``.
        offset, size: bytes in that section.
        type_id: its type in the object's BTF, 0 when unknown (the value is then bytes).
        constant: whether it is read-only for programs (.rodata).

    >>> spec.variables["sampling"].value = 7        # before loading   # doctest: +SKIP
    """

    __slots__ = ("_codec", "map", "name", "offset", "size", "type_id")

    def __init__(self, name: str, map: MapSpec, offset: int, size: int, type_id: int) -> None:
        self.name = name
        self.map = map
        self.offset = offset
        self.size = size
        self.type_id = type_id
        self._codec: Codec[Any] | None = None

    @property
    def constant(self) -> bool:
        """Whether programs see it as a constant (.rodata)."""
        return self.map.frozen

    @property
    def codec(self) -> Codec[Any]:
        """Translates between the variable's bytes and its Python value."""
        if self._codec is None:
            from bpf2py.btf.codec import BytesCodec
            from bpf2py.btf.codec_for import codec_for

            codec: Codec[Any] = BytesCodec(self.size)
            if self.map.btf is not None and self.type_id:
                typed = codec_for(self.map.btf, self.type_id)
                # Only a struct with a flexible member may be longer than its type; else the bytes are the truth.
                if typed.size == self.size or (typed.size < self.size and getattr(typed, "flexible", None) is not None):
                    codec = typed
            self._codec = codec
        return self._codec

    @property
    def value(self) -> Any:
        """The initial value. Setting it raises EncodeError when the value does not fit the type."""
        if self.map.untouched:
            return self.codec.decode(bytes(self.size))
        assert self.map.data is not None
        return self.codec.decode(bytes(self.map.data[self.offset : self.offset + self.size]))

    @value.setter
    def value(self, value: Any) -> None:
        assert self.map.data is not None
        try:
            encoded = self.codec.encode(value)
        except EncodeError as error:
            raise EncodeError(f"variable {self.name}: {error.message}") from None
        # A struct with a flexible member is longer than its type: what follows stays.
        self.map.data[self.offset : self.offset + len(encoded)] = encoded

    def __repr__(self) -> str:
        return f"<VariableSpec {self.name}: {self.size} bytes at {self.map.name}+{self.offset}>"


KCONFIG = ".kconfig"  # the section of kernel configuration values


class ExternSpec(NamedTuple):
    """Something the object expects from outside: a kconfig value, a kernel symbol or a kfunc.

    Attributes:
        name: C name.
        section: ``.kconfig`` or ``.ksyms``.
        type_id: VAR's type, or FUNC_PROTO of a function; 0 without BTF.
        weak: may be missing.
        function: whether it is a function.
    """

    name: str
    section: str
    type_id: int
    weak: bool
    function: bool
