"""Facts backends give of maps, programs and runs."""

from __future__ import annotations

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpf2py.btf.reader import Btf
    from bpf2py.spec import map_spec
    from bpf2py.spec.map_spec import MapSpec
else:
    map_spec = module("bpf2py.spec.map_spec")


class MapInfo(NamedTuple):
    """What a backend knows of a map (struct bpf_map_info)."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    map_extra: int = 0
    btf_id: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0


def spec_of(info: MapInfo, btf: Btf | None) -> MapSpec:
    """The definition of a map that was opened, as far as its facts tell; typed by `btf`, which is the map's."""
    spec = map_spec.MapSpec(
        info.name or f"id {info.id}", info.type, info.key_size, info.value_size, info.max_entries, info.flags
    )
    if btf is not None:
        spec.btf, spec.key_type_id, spec.value_type_id = btf, info.btf_key_type_id, info.btf_value_type_id
    return spec


class ProgramInfo(NamedTuple):
    """What a backend knows of a program (struct bpf_prog_info).

    `tag` is the kernel's hash of the instructions, `run_time_ns` and `run_count` count while statistics are enabled, `load_time_ns`
    is the time since boot. `recursion_misses` are runs the kernel left out because the program, or another one on its CPU, ran
    already (Linux 5.12): what an interrupt hits while it runs; 0 on the engine, which runs one at a time.
    """

    type: int
    id: int
    name: str
    tag: bytes
    xlated_len: int
    jited_len: int
    map_ids: tuple[int, ...]
    btf_id: int
    load_time_ns: int
    run_time_ns: int
    run_count: int
    verified_instructions: int
    gpl_compatible: bool
    created_by_uid: int = 0
    recursion_misses: int = 0


class TestRunResult(NamedTuple):
    """What a test run gave.

    Attributes:
        return_value: the program's return value, unsigned 32 bits.
        data: the packet as the program left it, what an iterator program wrote (on the engine), or empty.
        context: the context as the program left it, or empty.
        duration_ns: mean time of a run in nanoseconds, as the kernel measured it (0 where it does not).
    """

    return_value: int
    data: bytes
    context: bytes
    duration_ns: int
