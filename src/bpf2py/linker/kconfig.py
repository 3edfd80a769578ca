"""`extern ... __kconfig` variables: laid out in a read-only map, filled from the kernel's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bpf2py._typing import Any, NamedTuple
from bpf2py.btf.codec import BoolCodec, CharArrayCodec, Codec, EnumCodec, IntCodec
from bpf2py.btf.codec_for import codec_for
from bpf2py.errors import BtfError, EncodeError, RelocationError
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.variable_spec import KCONFIG, ExternSpec
from bpf2py.uapi.map_types import MapFlags, MapType

SECTION = KCONFIG
MAX_SIZE = 1 << 20  # bytes of all of them; the longest strings have some thousand
TRISTATE = {"n": 0, "y": 1, "m": 2}  # enum libbpf_tristate


class Kconfig(NamedTuple):
    """The map that holds the values, and each variable's offset in it."""

    map: MapSpec
    offsets: dict[str, int]


def kconfig_externs(spec: ObjectSpec) -> list[ExternSpec]:
    """The object's kconfig externs."""
    return [extern for extern in spec.externs.values() if extern.section == SECTION]


def build(
    spec: ObjectSpec,
    lookup: Callable[[str], str | None],
    special: Callable[[str], int | None],
    overrides: Mapping[str, int | str],
) -> Kconfig:
    """Lay out and fill the section.

    Args:
        lookup: the text after ``CONFIG_X=``, None where it is not set.
        special: values of the LINUX_* names, None for ones not known.
        overrides: values to take instead, by name.

    Raises:
        RelocationError: a variable that is not weak has no value, or one that does not fit its type.
    """
    assert spec.types is not None
    data = bytearray()
    offsets: dict[str, int] = {}
    for extern in kconfig_externs(spec):
        try:
            codec = codec_for(spec.types, extern.type_id)
            align = spec.types.align_of(extern.type_id)
            if len(data) + codec.size > MAX_SIZE:
                raise BtfError(
                    f"{codec.size} bytes are more than values of the configuration have together ({MAX_SIZE})"
                )
        except BtfError as error:
            raise RelocationError(f"extern {extern.name}: {error.message}") from None
        data += bytes(-len(data) % align)
        offsets[extern.name] = len(data)
        data += _value(extern, codec, lookup, special, overrides)
    spec_of_map = MapSpec(
        SECTION,
        MapType.ARRAY,
        4,
        len(data),
        1,
        MapFlags.MMAPABLE | MapFlags.RDONLY_PROG,
        data=data,
        frozen=True,
    )
    return Kconfig(spec_of_map, offsets)


def _value(
    extern: ExternSpec,
    codec: Codec[Any],
    lookup: Callable[[str], str | None],
    special: Callable[[str], int | None],
    overrides: Mapping[str, int | str],
) -> bytes:
    name = extern.name
    try:
        if name in overrides:
            return codec.encode(overrides[name])
        if name.startswith("LINUX_"):
            number = special(name)
            if number is not None:
                return codec.encode(bool(number) if isinstance(codec, BoolCodec) else number)
        elif name.startswith("CONFIG_"):
            text = _lookup(lookup, extern)
            if text is not None:
                return _parse(codec, text)
    except EncodeError as error:
        raise RelocationError(f"extern {name}: {error.message}") from None
    if extern.weak:
        return bytes(codec.size)
    raise RelocationError(
        f"extern {name}: the kernel's configuration has no such value; declare it __weak, or give kconfig={{{name!r}: ...}}"
    )


def _lookup(lookup: Callable[[str], str | None], extern: ExternSpec) -> str | None:
    try:
        return lookup(extern.name)
    except RelocationError as error:
        if extern.weak:
            return None  # a configuration that cannot be read is like one without the option
        raise RelocationError(f"extern {extern.name}: {error.message}") from None


def _parse(codec: Codec[Any], text: str) -> bytes:
    if text in TRISTATE:
        if isinstance(codec, BoolCodec):
            if text == "m":
                raise EncodeError("it is built as a module (m), which a bool cannot hold; use enum libbpf_tristate")
            return codec.encode(text == "y")
        if isinstance(codec, EnumCodec):
            return codec.encode(TRISTATE[text])
        if isinstance(codec, IntCodec) and codec.size == 1:
            return text.encode()
        raise EncodeError(f"it is {text!r}, which {codec.name} cannot hold")
    if text.startswith('"'):
        if not isinstance(codec, CharArrayCodec):
            raise EncodeError(f"it is the string {text}, which {codec.name} cannot hold")
        # A string that is too long is cut and still ends with NUL.
        return codec.encode(text[1:-1].encode()[: codec.size - 1])
    try:
        number = int(text, 0)
    except ValueError:
        raise EncodeError(f"its value {text!r} is neither y, n, m, a string nor a number") from None
    return codec.encode(number)
