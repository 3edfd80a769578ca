"""What <bpf/usdt.bpf.h> and user space agree on: the map that tells USDT programs where a probe's arguments are."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["MAX_ARGS", "SECTIONS", "SPECS_MAP", "SPEC_SIZE", "encode_spec"]

SECTIONS = ("usdt", "usdt.s")  # in front of the slash
SPECS_MAP = "__bpf_usdt_specs"
MAX_ARGS = 12  # BPF_USDT_MAX_ARG_CNT
_U64 = (1 << 64) - 1
_ARG = struct.Struct("<QIhBb")  # struct __bpf_usdt_arg_spec
_TAIL = struct.Struct("<Qh6x")
SPEC_SIZE = MAX_ARGS * _ARG.size + _TAIL.size


def encode_spec(rows: Sequence[tuple[int, int, int, int, int]], cookie: int) -> bytes:
    """A struct __bpf_usdt_spec; a row is an argument's (value or offset, kind, register's offset, signed, shift)."""
    packed = b"".join(_ARG.pack(value & _U64, *rest) for value, *rest in rows)
    return packed.ljust(MAX_ARGS * _ARG.size, b"\0") + _TAIL.pack(cookie & _U64, len(rows))
