from __future__ import annotations

import ctypes
import os
import platform

import pytest

from bpf2py.isa.helpers import HELPERS, HELPERS_BY_NAME, helper_name


def test_the_table_is_complete_and_in_order() -> None:
    assert list(HELPERS) == list(range(1, 212))
    assert len(HELPERS_BY_NAME) == 211
    versions = [tuple(map(int, helper.since.split("."))) for helper in HELPERS.values()]
    assert versions == sorted(versions)  # numbers were given in the order of the releases


def test_signatures() -> None:
    printk = HELPERS_BY_NAME["trace_printk"]
    assert [p.type for p in printk.parameters] == ["const char *", "__u32", "..."]
    assert [p.name for p in HELPERS_BY_NAME["map_update_elem"].parameters] == ["map", "key", "value", "flags"]
    assert HELPERS_BY_NAME["ktime_get_ns"].parameters == ()
    assert HELPERS_BY_NAME["get_current_task_btf"].prototype == "struct task_struct *bpf_get_current_task_btf(void)"
    assert (helper_name(211), helper_name(212)) == ("bpf_cgrp_storage_delete", "bpf_helper_212")


# expected_attach_type by program type, for the types that need no BTF id
TYPES = {1: 0, 2: 0, 3: 0, 5: 0, 6: 0, 7: 0, 8: 0, 13: 0, 14: 0, 16: 0, 17: 0, 18: 8, 21: 39, 25: 21, 30: 36, 31: 0}


def verdict(helper: int, program_type: int, attach_type: int) -> str:
    """The verifier's log on a program of no GPL licence that does nothing but call a helper."""
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    code = bytes([0x85, 0, 0, 0]) + helper.to_bytes(4, "little") + bytes.fromhex("b700000000000000 9500000000000000")
    instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"MIT")
    log, attr = ctypes.create_string_buffer(1 << 14), bytearray(72)
    attr[0:8] = program_type.to_bytes(4, "little") + (3).to_bytes(4, "little")
    for offset, value in (
        (8, ctypes.addressof(instructions)),
        (16, ctypes.addressof(licence)),
        (24, 1 | len(log) << 32),  # log_level, log_size
        (32, ctypes.addressof(log)),
        (40, 0x10 << 32 if program_type == 31 else 0),  # kern_version, prog_flags: sleepable
        (64, attach_type << 32),  # prog_ifindex, expected_attach_type
    ):
        attr[offset : offset + 8] = value.to_bytes(8, "little")
    fd = ctypes.CDLL(None).syscall(number, 5, (ctypes.c_char * 72).from_buffer(attr), 72)
    if fd >= 0:
        os.close(fd)
    return log.value.decode(errors="replace")


@pytest.mark.kernel
def test_gpl_only_is_what_the_verifier_says() -> None:
    restricted, allowed = set(), set()
    for number in HELPERS:
        for program_type, attach_type in TYPES.items():
            log = verdict(number, program_type, attach_type)
            if "GPL-restricted" in log or "GPL only" in log:
                restricted.add(number)
            elif log and "unknown func" not in log and "cannot use helper" not in log and "invalid func" not in log:
                allowed.add(number)
    gpl_only = {number for number, helper in HELPERS.items() if helper.gpl_only}
    assert len(restricted) > 20
    assert len(allowed) > 80
    assert restricted <= gpl_only
    # Two helpers are implemented twice, once for each licence.
    assert (allowed & gpl_only) - restricted == set()
