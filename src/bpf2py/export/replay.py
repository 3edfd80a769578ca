"""Recordings put back: events into the ring buffer of an engine's (or the kernel's) program, elements into a map."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import bpf2py
from bpf2py.backends import BackendChoice
from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.errors import BpfError, MapFull, NotSupported
from bpf2py.export.recording import rows
from bpf2py.isa.instruction import Instruction, encode
from bpf2py.maps.base import AnyMap
from bpf2py.maps.fd_values import event_codec_of
from bpf2py.maps.mapping import MappingMap
from bpf2py.object import Object
from bpf2py.spec.layout import Layout
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import Function, ProgramSpec, Ref, RefKind
from bpf2py.uapi.map_types import MapType, type_name
from bpf2py.uapi.program_types import ProgramType

__all__ = ["replay"]

RINGBUF_RESERVE, RINGBUF_SUBMIT = 131, 132
MOST = 32760  # bytes of a record: as far as a load reaches


def replay(
    path: str | os.PathLike[str], bpf_map: AnyMap, backend: BackendChoice = None, *, type: Codec[Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Put what was recorded into a map, row by row: a record into a ring buffer, an element into a map with keys.

    An iterator: each step puts in one row and yields it, so that consumers can be run in between; ``for _ in replay(...): pass``
    puts in all.

    Args:
        path: the recording.
        bpf_map: of the object that is tried.
        backend: that object's.
        type: the records' type, where the map does not say it.

    Raises MapFull when the ring has no room: nobody reads; EncodeError for a row that is not of the map's type.
    """
    if bpf_map.type == MapType.RINGBUF:
        return _records(path, bpf_map, backend, type)
    if isinstance(bpf_map, MappingMap):
        return _elements(path, bpf_map)
    raise NotSupported(
        f"map {bpf_map.name}: nothing is replayed into a {type_name(bpf_map.info.type)}", feature="replay"
    )


def _elements(path: str | os.PathLike[str], bpf_map: AnyMap) -> Iterator[dict[str, Any]]:
    for row, about in rows(path):
        if "key" not in row:
            raise BpfError(f"{path}: it has events of {about.get('map')}, and {bpf_map.name} is a map of elements")
        bpf_map.put(row["key"], row["value"])
        yield row


def _records(
    path: str | os.PathLike[str], ring: AnyMap, backend: BackendChoice, codec: Codec[Any] | None
) -> Iterator[dict[str, Any]]:
    codec = codec if codec is not None else event_codec_of(ring.spec)
    writers: dict[int, Object] = {}
    try:
        for row, about in rows(path):
            if "event" not in row:
                raise BpfError(f"{path}: it has elements of {about.get('map')}, and {ring.name} is a ring of records")
            event = row["event"]
            raw = bytes(event) if isinstance(codec, BytesCodec) or isinstance(event, bytes) else codec.encode(event)
            writer = writers.get(len(raw))
            if writer is None:
                writer = writers[len(raw)] = bpf2py.load(_writer(ring, len(raw)), backend, maps={ring.name: ring})
            if writer.programs["put"].test_run(context=raw.ljust(8, b"\0")).return_value:
                raise MapFull(f"map {ring.name}: replay: the ring is full, and nobody reads")
            yield row
    finally:
        for writer in writers.values():
            writer.close()


def _writer(ring: AnyMap, size: int) -> ObjectSpec:
    """A program that copies so many bytes of its context into a record of the ring; 1 where there is no room."""
    if not 0 < size <= MOST:
        raise NotSupported(f"map {ring.name}: replay: records of {size} bytes; 1 to {MOST} can be", feature="replay")
    copy, at = [], 0
    while at < size:
        width, opcode = next((w, c) for w, c in ((8, 0x18), (4, 0x00), (2, 0x08), (1, 0x10)) if at + w <= size)
        copy += [
            Instruction(0x61 | opcode, 3, 6, at),
            Instruction(0x63 | opcode, 0, 3, at),
        ]  # r3 = ctx[at]; record[at] = r3
        at += width
    code = encode(
        [
            Instruction(0xBF, 6, 1),  # r6 = r1
            Instruction(0x18, 1, next_imm=0),  # r1 = ring
            Instruction(0xB7, 2, imm=size),  # r2 = size
            Instruction(0xB7, 3),  # r3 = 0
            Instruction(0x85, imm=RINGBUF_RESERVE),
            Instruction(0x55, 0, offset=2),  # if r0 goto +2
            Instruction(0xB7, 0, imm=1),  # r0 = 1
            Instruction(0x95),
            *copy,
            Instruction(0xBF, 1, 0),  # r1 = r0
            Instruction(0xB7, 2),  # r2 = 0
            Instruction(0x85, imm=RINGBUF_SUBMIT),
            Instruction(0xB7, 0),  # r0 = 0
            Instruction(0x95),
        ]
    )
    function = Function("put", "syscall", 1, 0, code, False)
    function.refs.append(Ref(8, RefKind.MAP, ring.name))
    program = ProgramSpec(function)
    program.type = ProgramType.SYSCALL
    declared = MapSpec(ring.name, MapType.RINGBUF, max_entries=ring.max_entries, flags=ring.flags)
    spec = ObjectSpec.__new__(ObjectSpec)
    spec.name, spec.license, spec.kernel_version, spec.types = "replay", "GPL", 0, None
    spec.maps, spec.programs, spec.variables, spec.externs = {ring.name: declared}, {"put": program}, {}, {}
    spec.functions, spec.layout = {(1, 0): function}, Layout({}, {})
    return spec
