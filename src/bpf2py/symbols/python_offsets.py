"""Where CPython keeps what: read from the interpreter itself (3.13 and later), from a table for 3.11 and 3.12.

Since 3.13 ``_PyRuntime`` begins with ``_Py_DebugOffsets`` (Include/internal/pycore_debug_offsets.h, in 3.13 pycore_runtime.h). The
table is what tools/python_offsets.py prints, which compiles a program with an interpreter's own headers.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from bpf2py.errors import NotSupported

__all__ = [
    "COOKIE",
    "DEBUG_OFFSETS_SIZE",
    "Offsets",
    "debug_offsets",
    "generation_counters",
    "known_offsets",
    "published_offsets",
]

COOKIE = b"xdebugpy"


class Offsets(NamedTuple):
    """Bytes from the beginning of each structure; names as in ``struct bpf2py_python_process``."""

    interpreters_head: int
    interpreter_next: int
    threads_head: int
    thread_next: int
    native_thread_id: int
    cframe: int
    current_frame: int
    previous: int
    executable: int
    instruction: int
    owner: int
    is_entry: int
    filename: int
    qualname: int
    linetable: int
    firstlineno: int
    code: int
    unicode_length: int
    unicode_state: int
    unicode_data: int
    unicode_wide: int
    bytes_size: int
    bytes_data: int


_TABLE = {
    (3, 11): Offsets(
        interpreters_head=40, interpreter_next=0, threads_head=16, thread_next=8, native_thread_id=160, cframe=56,
        current_frame=8, previous=48, executable=32, instruction=56, owner=69, is_entry=68, filename=112, qualname=128,
        linetable=136, firstlineno=72, code=184, unicode_length=16, unicode_state=32, unicode_data=48, unicode_wide=72,
        bytes_size=16, bytes_data=32,
    ),
    (3, 12): Offsets(
        interpreters_head=40, interpreter_next=0, threads_head=72, thread_next=8, native_thread_id=144, cframe=56,
        current_frame=0, previous=8, executable=0, instruction=56, owner=70, is_entry=0, filename=112, qualname=128,
        linetable=136, firstlineno=68, code=192, unicode_length=16, unicode_state=32, unicode_data=40, unicode_wide=56,
        bytes_size=16, bytes_data=32,
    ),
}  # fmt: skip

# Members of _Py_DebugOffsets, each 8 bytes, in their order.
_RUNTIME = "size finalizing interpreters_head"
_THREAD = "size prev next interp current_frame thread_id native_thread_id datastack_chunk status"
_SIMPLE = (
    "pyobject:size ob_type|type:size tp_name tp_repr tp_flags|tuple:size ob_item ob_size|list:size ob_item ob_size"
)
_REST = (
    "dict:size ma_keys ma_values|float:size ob_fval|long:size lv_tag ob_digit|bytes:size ob_size ob_sval|"
    "unicode:size state length asciiobject_size"
)
_GENERATOR = "gen:size gi_name gi_iframe gi_frame_state"
_LAYOUTS = {
    (3, 13): f"runtime:{_RUNTIME}|interpreter:size id next threads_head gc imports_modules sysdict builtins ceval_gil "
    "gil_runtime_state gil_enabled gil_locked gil_holder|"
    f"thread:{_THREAD}|frame:size previous executable instr_ptr localsplus owner|"
    "code:size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds co_code_adaptive|"
    f"{_SIMPLE}|{_REST}",
    (
        3,
        14,
    ): f"runtime:{_RUNTIME}|interpreter:size id next threads_head threads_main gc imports_modules sysdict builtins "
    "ceval_gil gil_runtime_state gil_enabled gil_locked gil_holder code_object_generation tlbc_generation|"
    f"thread:{_THREAD}|frame:size previous executable instr_ptr localsplus owner stackpointer tlbc_index|"
    "code:size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds co_code_adaptive co_tlbc|"
    f"{_SIMPLE}|set:size used table mask|{_REST}|gc:size collecting|{_GENERATOR}",
    (
        3,
        15,
    ): f"runtime:{_RUNTIME}|interpreter:size id next threads_head threads_main gc imports_modules sysdict builtins "
    "ceval_gil gil_runtime_state gil_enabled gil_locked gil_holder code_object_generation tlbc_generation|"
    "thread:size prev next interp current_frame base_frame last_profiled_frame last_profiled_frame_seq thread_id "
    "native_thread_id datastack_chunk status holds_gil gil_requested current_exception exc_state|err_stackitem:exc_value|"
    "frame:size previous executable instr_ptr localsplus owner stackpointer tlbc_index|"
    "code:size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds co_code_adaptive co_tlbc|"
    "pyobject:size ob_type|type:size tp_name tp_repr tp_flags tp_basicsize tp_dictoffset|heap_type:size ht_cached_keys|"
    f"tuple:size ob_item ob_size|list:size ob_item ob_size|set:size used table mask|{_REST}|"
    f"gc:size collecting frame generation_stats_size generation_stats unused|{_GENERATOR}",
}
_HEAD = struct.Struct("<8sQQ")
DEBUG_OFFSETS_SIZE = _HEAD.size + 8 * max(len(layout.replace("|", " ").split()) for layout in _LAYOUTS.values())
_GENERATION_STATS = 128  # 3.11 to 3.13, Include/internal/pycore_gc.h: offset in struct _gc_runtime_state
MOST = 1 << 24  # no structure is larger


def debug_offsets(data: bytes) -> tuple[tuple[int, int], Offsets]:
    """((major, minor), offsets) from what ``_PyRuntime`` begins with.

    Raises:
        NotSupported: a free-threaded build, or a version this library does not know.
        ValueError: there are none: an older interpreter, or not one.
    """
    version, found = published_offsets(data)
    ascii_size = found["unicode.asciiobject_size"]
    return version, Offsets(
        interpreters_head=found["runtime.interpreters_head"],
        interpreter_next=found["interpreter.next"],
        threads_head=found["interpreter.threads_head"],
        thread_next=found["thread.next"],
        native_thread_id=found["thread.native_thread_id"],
        cframe=0,
        current_frame=found["thread.current_frame"],
        previous=found["frame.previous"],
        executable=found["frame.executable"],
        instruction=found["frame.instr_ptr"],
        owner=found["frame.owner"],
        is_entry=0,
        filename=found["code.filename"],
        qualname=found["code.qualname"],
        linetable=found["code.linetable"],
        firstlineno=found["code.firstlineno"],
        code=found["code.co_code_adaptive"],
        unicode_length=found["unicode.length"],
        unicode_state=found["unicode.state"],
        unicode_data=ascii_size,
        unicode_wide=ascii_size + 16,  # PyCompactUnicodeObject has two words more
        bytes_size=found["bytes.ob_size"],
        bytes_data=found["bytes.ob_sval"],
    )


def published_offsets(data: bytes) -> tuple[tuple[int, int], dict[str, int]]:
    """((major, minor), offsets by structure and member) from what ``_PyRuntime`` begins with; see `debug_offsets`."""
    if len(data) < _HEAD.size or data[:8] != COOKIE:
        raise ValueError("there are no debug offsets")
    _, number, free_threaded = _HEAD.unpack_from(data)
    version = (number >> 24 & 0xFF, number >> 16 & 0xFF)
    if free_threaded:
        raise NotSupported(
            f"Python {version[0]}.{version[1]} without the GIL: its stacks cannot be read while it runs",
            feature="free threading",
        )
    layout = _LAYOUTS.get(version)
    if layout is None:
        raise NotSupported(
            f"Python {version[0]}.{version[1]}: where it keeps its stacks is not known to this version of bpf2py, which knows "
            f"3.11 to {max(_LAYOUTS)[0]}.{max(_LAYOUTS)[1]}",
            feature="Python stacks",
        )
    found: dict[str, int] = {}
    at = _HEAD.size
    for part in layout.split("|"):
        name, _, members = part.partition(":")
        for member in members.split():
            found[f"{name}.{member}"] = int.from_bytes(data[at : at + 8], "little")
            at += 8
    if at > len(data) or any(value > MOST for value in found.values()):
        raise ValueError("the debug offsets are not plausible")
    return version, found


def generation_counters(data: bytes) -> int:
    """From what ``_PyRuntime`` begins with: where 3.13 counts its garbage collections, by generation.

    Its collector chooses the generation itself. Returns the offset of ``interp`` in the thread's state in the upper 32 bits, and
    that of the counters (``gc.generation_stats``) in the interpreter's in the lower ones; 0 for other versions.
    """
    try:
        version, found = published_offsets(data)
    except (NotSupported, ValueError):
        return 0
    if version != (3, 13):
        return 0
    return found["thread.interp"] << 32 | found["interpreter.gc"] + _GENERATION_STATS


def known_offsets(version: tuple[int, int]) -> Offsets:
    """Those of 3.11 and 3.12. Raises NotSupported for other versions."""
    found = _TABLE.get(version)
    if found is None:
        raise NotSupported(
            f"Python {version[0]}.{version[1]}: its stacks cannot be read; 3.11 to {max(_LAYOUTS)[0]}.{max(_LAYOUTS)[1]} can",
            feature="Python stacks",
        )
    return found
