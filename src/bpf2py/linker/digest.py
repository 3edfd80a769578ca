"""The hash by which the kernel knows a program: SHA-256 of its instructions (Linux 6.18; before, SHA-1).

Descriptors of maps, and where in a map's value something lies, are taken as zeros (bpf_prog_calc_tag() in kernel/bpf/core.c), so
that the same program has the same hash in every process. Its first 8 bytes are the program's tag.
"""

from __future__ import annotations

import hashlib

from bpf2py.isa.opcodes import LD_IMM64

__all__ = ["program_digest"]

_MAP_FD, _MAP_VALUE = 1, 2


def program_digest(code: bytes | bytearray) -> bytes:
    """The hash of a program's instructions as they are given to BPF_PROG_LOAD."""
    plain = bytearray(code)
    at = 0
    while at + 16 <= len(plain):
        wide = plain[at] == LD_IMM64
        if wide and plain[at + 1] >> 4 in (_MAP_FD, _MAP_VALUE):
            plain[at + 4 : at + 8] = plain[at + 12 : at + 16] = bytes(4)
        at += 16 if wide else 8
    return hashlib.sha256(plain).digest()
