"""Keys and values as they are written on the command line."""

from __future__ import annotations

import json
import os

from bpf2py._typing import Any
from bpf2py.btf.codec import BytesCodec, CharArrayCodec, Codec
from bpf2py.btf.values import StructCodec, UnionCodec
from bpf2py.errors import BpfError, EncodeError, PermissionDenied
from bpf2py.maps.base import Map
from bpf2py.maps.percpu import PerCpuCodec


def parse(codec: Codec[Any], text: str, what: str) -> Any:
    """A key or value from text.

    ``5``, ``0x1f``, ``bash`` or ``10.0.0.0/8`` as the type says; a struct as ``pid=1,comm=bash`` or JSON; ``hex:0a 0b``
    for raw bytes.

    Raises BpfError, naming what is expected, when the text does not fit.
    """
    text = text.strip()
    try:
        if text.startswith("hex:"):
            return codec.decode(_hex(text[4:], codec.size))
        value = _parse(codec, text)
        codec.encode(value)
        return value
    except (EncodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
        message = error.message if isinstance(error, EncodeError) else str(error)
        raise BpfError(
            f"{what} {_short(text)!r} does not fit {codec.name}: {_short(message)}; {_expected(codec)}"
        ) from None


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}..."


def _is_prefix(codec: Codec[Any]) -> bool:
    from bpf2py.maps.lpm import LpmKeyCodec  # with ipaddress, which reading most maps has no use for

    return isinstance(codec, LpmKeyCodec)


def _only_member(codec: Codec[Any], text: str) -> str:
    """``member=text`` for a struct of one member whose value is given bare: without a ``=``, which may be a misspelt member's."""
    alone = isinstance(codec, StructCodec) and len(codec.fields) == 1 and not codec.fields[0].anonymous
    return f"{codec.fields[0].name}={text}" if alone and text[:1] not in "{[" and "=" not in text else text  # type: ignore[attr-defined]


def _parse(codec: Codec[Any], text: str) -> Any:
    text = _only_member(codec, text)
    if _is_prefix(codec):
        return text
    if isinstance(codec, CharArrayCodec):
        return json.loads(text) if text.startswith('"') else text
    if text[:1] in "{[":
        return json.loads(text)
    if isinstance(codec, StructCodec | UnionCodec):
        pairs = [part.split("=", 1) for part in text.split(",")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("a struct is written member=value,member=value or as JSON")
        members = {field.name: field.codec for field in codec.fields if not field.anonymous}
        found = {}
        for name, value in pairs:
            member = members.get(name.strip())
            found[name.strip()] = _parse(member, value.strip()) if member is not None else _scalar(value.strip())
        return found
    if "=" in text and text.split("=", 1)[0] in ("key", "value", "index"):
        text = text.split("=", 1)[1]
    if isinstance(codec, BytesCodec):
        try:
            return int(text, 0)
        except ValueError:
            return _hex(text, codec.size)
    return _scalar(text)


def _scalar(text: str) -> Any:
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return json.loads(text)
    except ValueError:
        return text


def _hex(text: str, size: int) -> bytes:
    data = bytes.fromhex(text.replace("0x", ""))
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes given, {size} are needed")
    return data


def _expected(codec: Codec[Any]) -> str:
    if isinstance(codec, StructCodec):
        members = ",".join(f"{name}=..." for name in codec.cls._fields)
        return f"write it as {members} or as JSON"
    return f"write it as a {codec.name}, or as hex: and {codec.size} bytes"


def from_json(codec: Codec[Any], value: object) -> Any:
    """The way back from `bpf2py.cli.render.to_json`: bytes come as hex."""
    if isinstance(codec, PerCpuCodec) and isinstance(value, list):
        return [from_json(codec.element, item) for item in value]
    if isinstance(value, list) and _is_prefix(codec):
        return int(value[0]), bytes.fromhex(value[1])
    if isinstance(codec, BytesCodec) and isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(codec, StructCodec) and isinstance(value, dict):
        members = {field.name: field.codec for field in codec.fields if not field.anonymous}
        return {name: from_json(members[name], item) if name in members else item for name, item in value.items()}
    return value


def open_map(reference: str) -> Map[Any, Any]:
    """The map meant by an id, a pin path or a name. Raises BpfError when there is none, or several of that name."""
    if reference.isdecimal():
        found: Map[Any, Any] = Map.from_id(int(reference))
        return found
    if "/" in reference:
        pinned: Map[Any, Any]
        try:
            pinned = Map.from_pin(reference)
        except PermissionDenied:
            if not os.access(reference, os.R_OK):
                raise
            pinned = Map.from_pin(reference, read_only=True)
        return pinned
    from bpf2py.kernel import inspect

    ids = [info.id for info in inspect.maps() if info.name == reference[:15]]
    if not ids:
        raise BpfError(f"there is no map {reference!r}; `bpf2py map list` shows the ones there are")
    if len(ids) > 1:
        raise BpfError(f"several maps are named {reference!r}: give one of the ids {', '.join(map(str, ids))}")
    named: Map[Any, Any] = Map.from_id(ids[0])
    return named
