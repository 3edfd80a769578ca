"""The bpf() commands with the kernel version that brought each (include/uapi/linux/bpf.h, enum bpf_cmd)."""

from __future__ import annotations

from bpf2py._typing import IntEnum


class Command(IntEnum):
    """enum bpf_cmd, with the kernel's names less the BPF_ prefix."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    TASK_FD_QUERY = 20
    MAP_LOOKUP_AND_DELETE_ELEM = 21
    MAP_FREEZE = 22
    BTF_GET_NEXT_ID = 23
    MAP_LOOKUP_BATCH = 24
    MAP_LOOKUP_AND_DELETE_BATCH = 25
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    ENABLE_STATS = 32
    ITER_CREATE = 33
    LINK_DETACH = 34
    PROG_BIND_MAP = 35
    TOKEN_CREATE = 36
    PROG_STREAM_READ_BY_FD = 37
    PROG_ASSOC_STRUCT_OPS = 38


SINCE: dict[Command, str] = {
    Command.MAP_CREATE: "3.18",
    Command.MAP_LOOKUP_ELEM: "3.18",
    Command.MAP_UPDATE_ELEM: "3.18",
    Command.MAP_DELETE_ELEM: "3.18",
    Command.MAP_GET_NEXT_KEY: "3.18",
    Command.PROG_LOAD: "3.18",
    Command.OBJ_PIN: "4.4",
    Command.OBJ_GET: "4.4",
    Command.PROG_ATTACH: "4.10",
    Command.PROG_DETACH: "4.10",
    Command.PROG_TEST_RUN: "4.12",
    Command.PROG_GET_NEXT_ID: "4.13",
    Command.MAP_GET_NEXT_ID: "4.13",
    Command.PROG_GET_FD_BY_ID: "4.13",
    Command.MAP_GET_FD_BY_ID: "4.13",
    Command.OBJ_GET_INFO_BY_FD: "4.13",
    Command.PROG_QUERY: "4.15",
    Command.RAW_TRACEPOINT_OPEN: "4.17",
    Command.BTF_LOAD: "4.18",
    Command.BTF_GET_FD_BY_ID: "4.18",
    Command.TASK_FD_QUERY: "4.18",
    Command.MAP_LOOKUP_AND_DELETE_ELEM: "4.20",
    Command.MAP_FREEZE: "5.2",
    Command.BTF_GET_NEXT_ID: "5.4",
    Command.MAP_LOOKUP_BATCH: "5.6",
    Command.MAP_LOOKUP_AND_DELETE_BATCH: "5.6",
    Command.MAP_UPDATE_BATCH: "5.6",
    Command.MAP_DELETE_BATCH: "5.6",
    Command.LINK_CREATE: "5.7",
    Command.LINK_UPDATE: "5.7",
    Command.LINK_GET_FD_BY_ID: "5.8",
    Command.LINK_GET_NEXT_ID: "5.8",
    Command.ENABLE_STATS: "5.8",
    Command.ITER_CREATE: "5.8",
    Command.LINK_DETACH: "5.9",
    Command.PROG_BIND_MAP: "5.10",
    Command.TOKEN_CREATE: "6.9",
    Command.PROG_STREAM_READ_BY_FD: "6.17",
    Command.PROG_ASSOC_STRUCT_OPS: "6.19",
}
