"""Facts backends give of maps, programs and runs."""

from __future__ import annotations

from typing import NamedTuple


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


class ProgramInfo(NamedTuple):
    """What a backend knows of a program (struct bpf_prog_info).

    `tag` is the kernel's hash of the instructions, `run_time_ns` and `run_count` count while statistics are enabled, `load_time_ns`
    is the time since boot.
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
