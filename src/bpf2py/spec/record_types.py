"""Which types the records of a ring or perf buffer have whose map does not say it.

The instructions say how many bytes a program writes into which map. A struct of that size among the object's types, or among those
of its variables (debug information), is what it writes when there is only one, or only one whose name is that of the map. Types of
other maps' keys and values are what it writes only where nothing else fits.
"""

from __future__ import annotations

import contextlib

from bpf2py._typing import Any, NamedTuple
from bpf2py.btf.codec import Codec
from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.errors import BtfError
from bpf2py.spec.dwarf import variable_structs
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import Function, RefKind

__all__ = ["RecordTypes", "calls", "named_structs", "record_types", "sizes_written"]

PERF_EVENT_OUTPUT, RINGBUF_OUTPUT, RINGBUF_RESERVE = 25, 130, 131
# (register of the map, register of the size) of helpers that write records.
_WRITERS = {PERF_EVENT_OUTPUT: (2, 5), RINGBUF_OUTPUT: (1, 3), RINGBUF_RESERVE: (1, 2)}
_MOV64_K, _MOV32_K, _MOV64_X, _LD_IMM64, _CALL, _EXIT = 0xB7, 0xB4, 0xBF, 0x18, 0x85, 0x95
_JUMPS = (0x05, 0x06)  # classes


class RecordTypes(NamedTuple):
    """What is known of a map's records.

    Attributes:
        by_size: the type of records of so many bytes.
        unclear: the names that fit, of sizes several types have.
    """

    by_size: dict[int, Codec[Any]]
    unclear: list[str]


def calls(spec: ObjectSpec) -> set[int]:
    """The numbers of the helpers an object's functions call."""
    return {
        int.from_bytes(function.code[at + 4 : at + 8], "little")
        for function in spec.functions.values()
        for at in range(0, len(function.code), 8)
        if function.code[at] == _CALL and function.code[at + 1] >> 4 == 0
    }


def sizes_written(spec: ObjectSpec) -> dict[str, set[int]]:
    """How many bytes programs write into maps at a time, where the instructions say a constant."""
    found: dict[str, set[int]] = {}
    for function in spec.functions.values():
        for name, size in _writes(function):
            found.setdefault(name, set()).add(size)
    return found


def _writes(function: Function) -> list[tuple[str, int]]:
    maps = {ref.offset: ref.name for ref in function.refs if ref.kind == RefKind.MAP}
    code = function.code
    targets = _targets(code)
    known: dict[int, str | int] = {}
    found = []
    at = 0
    while at + 8 <= len(code):
        if at in targets:
            known.clear()  # what the registers hold depends on where it came from
        opcode, registers = code[at], code[at + 1]
        target, source = registers & 15, registers >> 4
        if opcode == _CALL:
            writer = _WRITERS.get(int.from_bytes(code[at + 4 : at + 8], "little")) if source == 0 else None
            if writer is not None:
                name, size = known.get(writer[0]), known.get(writer[1])
                if isinstance(name, str) and isinstance(size, int):
                    found.append((name, size))
            for register in range(6):
                known.pop(register, None)
        elif opcode == _LD_IMM64:
            known.pop(target, None)
            if at in maps:
                known[target] = maps[at]
            at += 8
        elif opcode in (_MOV64_K, _MOV32_K):
            known[target] = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
        elif opcode == _MOV64_X and source in known and code[at + 2 : at + 4] == b"\0\0":
            known[target] = known[source]
        elif opcode & 7 not in _JUMPS and opcode & 7 not in (2, 3):  # not a jump, and not a store
            known.pop(target, None)
        at += 8
    return found


def _targets(code: bytes) -> set[int]:
    """Where jumps lead to."""
    found = set()
    for at in range(0, len(code) - 7, 8):
        if code[at] & 7 in _JUMPS and code[at] not in (_CALL, _EXIT):
            distance = int.from_bytes(code[at + 2 : at + 4], "little", signed=True)
            found.add(at + 8 + 8 * distance)
    return found


def record_types(spec: ObjectSpec, data: bytes) -> dict[str, RecordTypes]:
    """The types of records, by the map they are written to; maps that say their own are left out.

    Args:
        spec: the object.
        data: the object file it was read from, for its debug information.
    """
    sizes = {name: found for name, found in sizes_written(spec).items() if not _says_itself(spec, name)}
    if not sizes:
        return {}
    candidates = _candidates(spec, data, set().union(*sizes.values()))
    made = {}
    for name, wanted in sizes.items():
        by_size: dict[int, Codec[Any]] = {}
        unclear: list[str] = []
        for size in sorted(wanted):
            fitting = candidates.get(size, {})
            chosen = _choose(name, list(fitting))
            if chosen is not None:
                by_size[size] = fitting[chosen]
            else:
                unclear += fitting
        made[name] = RecordTypes(by_size, sorted(unclear))
    return made


def _says_itself(spec: ObjectSpec, name: str) -> bool:
    found = spec.maps.get(name)
    return found is None or (found.btf is not None and bool(found.value_type_id))


def _candidates(spec: ObjectSpec, data: bytes, sizes: set[int]) -> dict[int, dict[str, Codec[Any]]]:
    """Named structs and unions of these sizes, by size and name; the types of other maps' elements only where nothing else fits."""
    found: dict[int, dict[str, Codec[Any]]] = {}
    shared: dict[int, dict[str, Codec[Any]]] = {}
    sources = []
    elements = _element_types(spec)
    if spec.types is not None:
        sources.append((spec.types, named_structs(spec.types)))
    variables = variable_structs(data, spec.name)
    if variables is not None:
        sources.append(variables)
    for btf, names in sources:
        for name, ident in names.items():
            try:
                size = btf.size_of(ident)
                if name and size in sizes:
                    fitting = shared if name in elements else found
                    fitting.setdefault(size, {}).setdefault(name, codec_for(btf, ident))
            except BtfError:
                continue
    return shared | found


def named_structs(types: Btf) -> dict[str, int]:
    """The structs and unions of an object that have names, by these; damaged ones are left out."""
    found: dict[str, int] = {}
    for ident in (*types.ids_of_kind(Kind.STRUCT), *types.ids_of_kind(Kind.UNION)):
        try:
            name = types.type(ident).name
        except BtfError:
            continue
        if name:
            found.setdefault(name, ident)
    return found


def _element_types(spec: ObjectSpec) -> set[str]:
    """The names of the structs that are keys and values of other maps: variables of those types are for these."""
    found = set()
    for map_spec in spec.maps.values():
        if map_spec.btf is not None:
            for ident in (map_spec.key_type_id, map_spec.value_type_id):
                with contextlib.suppress(BtfError):
                    found.add(getattr(map_spec.btf.resolved(ident), "name", "") if ident else "")
    return found


def _choose(map_name: str, names: list[str]) -> str | None:
    """The only one, or the only one the map's name begins with: ``event`` for a map ``events``."""
    if len(names) == 1:
        return names[0]
    alike = [name for name in names if map_name.startswith(name.removesuffix("_t"))]
    return alike[0] if len(alike) == 1 else None
