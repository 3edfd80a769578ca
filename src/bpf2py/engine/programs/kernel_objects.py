"""Structs of the simulated kernel: Python values laid out as an object's types say, for programs that follow pointers to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Array, Int, Kind, Ref, Struct
from bpf2py.engine.state import note_task_struct
from bpf2py.errors import BtfError, EncodeError

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.run import Run
    from bpf2py.engine.task import Task

__all__ = ["KnownMembers", "current_task", "materialize", "struct_at", "task_members"]

MIN_STRUCT = 64
OPAQUE = 4096  # bytes of a struct the object's types say nothing about


class KnownMembers(dict[str, Any]):
    """Members of a struct, of which those count that the object's types have."""


def struct_at(engine: Machine, run: Run, btf: Btf, type_id: int, value: Mapping[str, Any]) -> int:
    """The address of a struct with these members, which lives as long as the run; members not named are 0."""
    return materialize(engine, btf, type_id, value, run.owned)


def materialize(engine: Machine, btf: Btf, type_id: int, value: Mapping[str, Any], owned: list[int]) -> int:
    """The address of a new struct; what was allocated for it is added to `owned`.

    Args:
        value: members by name: numbers, text for char arrays and char pointers, dicts for structs and pointers to structs.

    Raises:
        EncodeError: there is no such member, or its value does not fit.
    """
    size = max(btf.size_of(type_id), MIN_STRUCT)
    address = engine.memory.allocate(size)
    owned.append(address)
    _fill(engine, btf, type_id, address, value, owned)
    return address


def _fill(engine: Machine, btf: Btf, type_id: int, address: int, value: Mapping[str, Any], owned: list[int]) -> None:
    for name, item in value.items():
        found = member(btf, type_id, name)
        if found is None:
            raise EncodeError(f"struct {_name(btf, type_id)} has no member {name!r}")
        member_type, bit_offset, bits = found
        _put(engine, btf, member_type, address, bit_offset, bits, item, owned)


def _name(btf: Btf, type_id: int) -> str:
    return str(getattr(btf.resolved(type_id), "name", "") or "(anonymous)")


def member(btf: Btf, type_id: int, name: str) -> tuple[int, int, int] | None:
    """(type, offset in bits, width of a bitfield or 0) of a member, also of one within anonymous structs and unions."""
    struct = btf.resolved(type_id)
    if not isinstance(struct, Struct):
        return None
    for item in struct.members:
        if item.name == name:
            return item.type_id, item.bit_offset, item.bits
        if not item.name:
            found = member(btf, item.type_id, name)
            if found is not None:
                return found[0], found[1] + item.bit_offset, found[2]
    return None


def _put(
    engine: Machine, btf: Btf, type_id: int, address: int, bit_offset: int, bits: int, item: Any, owned: list[int]
) -> None:
    at = address + bit_offset // 8
    if bits:
        # Read, change, write the bytes the bits are in.
        shift = bit_offset % 8
        size = (shift + bits + 7) // 8
        old = int.from_bytes(engine.memory.read(at, size), "little")
        mask = (1 << bits) - 1 << shift
        engine.memory.write(at, (old & ~mask | whole(item) << shift & mask).to_bytes(size, "little"))
        return
    kind = btf.resolved(type_id)
    if isinstance(kind, Struct) and isinstance(item, Mapping):
        _fill(engine, btf, type_id, at, item, owned)
    elif isinstance(kind, Ref) and kind.kind == Kind.PTR:
        engine.memory.write(at, pointer(engine, btf, kind.type_id, item, owned).to_bytes(8, "little"))
    elif isinstance(kind, Array) and isinstance(item, str | bytes):
        raw = item.encode() if isinstance(item, str) else item
        engine.memory.write(at, raw[: btf.size_of(type_id)])
    elif isinstance(kind, Array) and isinstance(item, list | tuple) and any(isinstance(i, Mapping) for i in item):
        step = btf.size_of(kind.type_id)
        for position, element in enumerate(item):
            _put(engine, btf, kind.type_id, at + position * step, 0, 0, element, owned)
    else:
        codec = codec_for(btf, type_id)
        engine.memory.write(at, codec.encode(item))


def whole(item: object) -> int:
    """A number given for a bitfield. Raises EncodeError for anything else."""
    if not isinstance(item, int):
        raise EncodeError(f"a bitfield holds a whole number, not {item!r}")
    return item


def pointer(engine: Machine, btf: Btf, target: int, item: object, owned: list[int]) -> int:
    """What a pointer to `target` holds for a Python value: an address, or something made for it."""
    if item is None:
        return 0
    if isinstance(item, int):
        return item & (1 << 64) - 1
    if isinstance(item, Mapping):
        name = item.get("__type__")
        if name is not None:
            found = btf.ids_by_name(str(name))
            target = next((i for i in found if btf.kind(i) == Kind.STRUCT), 0)
            kept = {key: part for key, part in item.items() if key != "__type__"}
            if not target:
                if isinstance(item, KnownMembers):
                    return opaque(engine, owned)
                raise EncodeError(f"the object's types have no struct {name}")
            item = known(btf, target, kept) if isinstance(item, KnownMembers) else kept
        return materialize(engine, btf, target, item, owned)
    if isinstance(item, str | bytes):
        raw = (item.encode() if isinstance(item, str) else item) + b"\0"
        address = engine.memory.allocate(len(raw))
        owned.append(address)
        engine.memory.write(address, raw)
        return address
    raise EncodeError(f"a pointer is given as a number, text, a dict of the struct's members or None, not {item!r}")


def current_task(engine: Machine) -> int:
    """The address of the current task's struct task_struct, as the program's types lay it out; the same during a run."""
    run = engine.current
    if run.task_address:
        return run.task_address
    btf = run.program.object_spec.types
    address = 0
    if btf is not None:
        try:
            type_id = btf.find("task_struct", Kind.STRUCT)
        except BtfError:
            type_id = 0
        if type_id:
            address = struct_at(engine, run, btf, type_id, known(btf, type_id, task_members(run.task)))
    if not address:
        address = opaque(engine, run.owned)
    run.task_address = address
    note_task_struct(engine.memory, address)
    engine.owns_storage(address, run.task.pid)
    return address


def opaque(engine: Machine, owned: list[int]) -> int:
    """The address of a struct of zeros."""
    address = engine.memory.allocate(OPAQUE)
    owned.append(address)
    return address


def task_members(task: Task) -> dict[str, Any]:
    """What programs find in the struct task_struct of a task."""
    found: dict[str, Any] = {
        "pid": task.pid,
        "tgid": task.tgid,
        "comm": task.comm[:15],
        "real_parent": {"pid": task.ppid, "tgid": task.ppid},
        "parent": {"pid": task.ppid, "tgid": task.ppid},
        "group_leader": {"pid": task.tgid, "tgid": task.tgid},
        "cred": {
            "uid": {"val": task.uid},
            "gid": {"val": task.gid},
            "euid": {"val": task.uid},
            "egid": {"val": task.gid},
        },
        "real_cred": {"uid": {"val": task.uid}, "gid": {"val": task.gid}},
    }
    found.update(task.fields)
    return found


def known(btf: Btf, type_id: int, value: Mapping[str, Any]) -> dict[str, Any]:
    """Only the members the object's types have: a program declares those it uses."""
    result: dict[str, Any] = {}
    for name, item in value.items():
        found = member(btf, type_id, name)
        if found is None:
            continue
        if isinstance(item, Mapping):
            kind = btf.resolved(found[0])
            target = kind.type_id if isinstance(kind, Ref) else found[0]
            if not isinstance(btf.resolved(target), Struct):
                continue
            item = known(btf, target, item)
        elif isinstance(btf.resolved(found[0]), Struct) or (
            isinstance(item, str) and isinstance(btf.resolved(found[0]), Int)
        ):
            continue
        result[name] = item
    return result
