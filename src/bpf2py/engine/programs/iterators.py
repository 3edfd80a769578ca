"""Iterator programs of the engine: run for each object there is, and what they write (Linux 5.8).

As in the kernel, the program runs once more after the last object, with null in its place (kernel/bpf/bpf_iter.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from bpf2py.btf.types import Ref
from bpf2py.engine.maps import PROGRAM_SIDE
from bpf2py.engine.programs.contexts import context_type
from bpf2py.engine.programs.kernel_objects import KnownMembers, known, member, opaque, task_members
from bpf2py.engine.programs.prog_test_run import run_program
from bpf2py.errors import AttachError
from bpf2py.uapi.map_types import MapType, type_name

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.maps.handle import EngineMap
    from bpf2py.engine.programs.loaded import LoadedProgram

__all__ = ["check_options", "read"]

PER_CPU_COPIES = (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.PERCPU_ARRAY)
WALKED = (MapType.HASH, MapType.LRU_HASH, MapType.ARRAY, *PER_CPU_COPIES)
Objects = Iterator[dict[str, Any]]


def check_options(program: LoadedProgram, options: Mapping[str, Any]) -> None:
    """Raise AttachError when an iterator over a map's elements is given no map, or one that cannot be walked so."""
    if program.spec.target != "bpf_map_elem":
        return
    what = f"program {program.name}: attach"
    if "map" not in options:
        raise AttachError(
            f'{what}: SEC("iter/bpf_map_elem") needs attach(map=...)', errno=22, command="BPF_LINK_CREATE"
        )
    kind = options["map"].info.type
    if kind not in WALKED:
        raise AttachError(
            f"{what}: the elements of a {type_name(kind)} map cannot be iterated by a program",
            errno=22,
            command="BPF_LINK_CREATE",
        )


def read(engine: Machine, program: LoadedProgram, options: Mapping[str, Any]) -> bytes:
    """Run an iterator program over everything it is for; what it writes. Raises what running it raises."""
    walk = _WALKS.get(program.spec.target, _nothing)
    found = context_type(program)
    members = _NAMES.get(program.spec.target, ())
    names = [name for name in members if found is not None and member(*found, name)]
    meta = None if found is None else _meta_type(*found)
    written = bytearray()
    last: dict[str, Any] = dict.fromkeys(members)
    for count, fields in enumerate(chain(walk(engine, options), (last,))):
        # The last call has the number of the last object (seen on Linux 6.18).
        number = count if fields is not last else max(count - 1, 0)
        given: dict[str, Any] = {name: fields[name] for name in names}
        owned: list[int] = []
        try:
            if meta is not None:
                given["meta"] = known(*meta, {"seq": opaque(engine, owned), "session_id": 1, "seq_num": number})
            result = run_program(engine, program, None, b"", (), given)
        finally:
            for address in owned:
                engine.memory.free(address)
        written += result.data
        if result.return_value:
            break  # the kernel would try again later
    return bytes(written)


def _meta_type(btf: Btf, type_id: int) -> tuple[Btf, int] | None:
    """(types, id of the struct) the context's member `meta` points to, None where it has none."""
    place = member(btf, type_id, "meta")
    if place is None:
        return None
    pointer = btf.resolved(place[0])
    assert isinstance(pointer, Ref)
    return btf, pointer.type_id


def _nothing(engine: Machine, options: Mapping[str, Any]) -> Objects:
    """Objects the engine has none of."""
    return iter(())


def _tasks(engine: Machine, options: Mapping[str, Any]) -> Objects:
    task = engine.task
    wanted = options.get("tid") or options.get("pid") or task.pid
    if wanted in (task.pid, task.tgid):
        yield {"task": KnownMembers({"__type__": "task_struct", **task_members(task)})}


def _maps(engine: Machine, options: Mapping[str, Any]) -> Objects:
    for core in sorted(engine.cores.values(), key=lambda core: core.info.id):
        yield {"map": _map(core.info)}


def _map(info: Any) -> KnownMembers:
    return KnownMembers(
        {
            "__type__": "bpf_map", "id": info.id, "name": info.name, "map_type": info.type, "key_size": info.key_size,
            "value_size": info.value_size, "max_entries": info.max_entries, "map_flags": info.flags,
        }
    )  # fmt: skip


def _programs(engine: Machine, options: Mapping[str, Any]) -> Objects:
    for program in sorted(engine.programs.values(), key=lambda program: int(program.ident)):
        aux = {"id": program.ident, "name": program.name[:15]}
        yield {"prog": KnownMembers({"__type__": "bpf_prog", "type": int(program.type), "aux": aux})}


def _elements(engine: Machine, options: Mapping[str, Any]) -> Objects:
    handle: EngineMap = options["map"]._handle
    info = handle.info
    memory, slot = engine.memory, handle.slot()
    lookup = engine.operation(PROGRAM_SIDE[info.type]["map_lookup_elem"])
    key = memory.allocate(info.key_size)
    copy = memory.allocate(handle.value_bytes) if info.type in PER_CPU_COPIES else 0
    try:
        first = True
        while slot.get_next_key(first) == 0:
            slot.key[:], first = slot.next_key, False
            memory.write(key, bytes(slot.key))
            value = lookup(handle.header, key, 0, 0, 0)
            if copy:
                if slot.lookup():
                    continue
                memory.write(copy, bytes(slot.value))
                value = copy
            if value:
                yield {"map": _map(info), "key": key, "value": value}
    finally:
        memory.free(key)
        if copy:
            memory.free(copy)


# Members of the context struct beside `meta`, which are null after the last object.
_NAMES = {
    "task": ("task",), "bpf_map": ("map",), "bpf_map_elem": ("map", "key", "value"), "bpf_prog": ("prog",),
    "bpf_link": ("link",), "task_file": ("task", "file"), "task_vma": ("task", "vma"), "cgroup": ("cgroup",),
}  # fmt: skip
_WALKS: dict[str, Callable[[Machine, Mapping[str, Any]], Objects]] = {
    "task": _tasks,
    "bpf_map": _maps,
    "bpf_map_elem": _elements,
    "bpf_prog": _programs,
}
