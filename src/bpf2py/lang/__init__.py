"""eBPF programs written in Python: a typed subset of it, which is compiled, never executed.

A program's file says ``from bpf2py.lang import *``; `bpf2py.load` takes it as it takes C::

    from bpf2py.lang import *

    counts = Hash[u32, u64](max_entries=10_240)

    @tracepoint("sched/sched_process_exec")
    def on_exec(ctx: TracepointContext) -> int:
        counts[current_tgid()] += 1
        return 0

Everything here is for reading such a file: for type checkers and editors, and so that importing it does nothing. A program that
is not of the language is refused by `bpf2py.errors.SourceError`, a SyntaxError that names line and column.
"""

from __future__ import annotations

from enum import IntEnum as IntEnum
from typing import TYPE_CHECKING

from bpf2py.lang.arrays import array as array
from bpf2py.lang.arrays import bits as bits
from bpf2py.lang.arrays import char as char
from bpf2py.lang.arrays import list_head as list_head
from bpf2py.lang.arrays import rb_root as rb_root
from bpf2py.lang.constants import *
from bpf2py.lang.helpers import *
from bpf2py.lang.hooks import *
from bpf2py.lang.integers import *
from bpf2py.lang.map_classes import *
from bpf2py.lang.memory import *
from bpf2py.lang.own_functions import *
from bpf2py.lang.programs import *

if not TYPE_CHECKING:  # or they would take it for all there is
    import types as _types

    __all__ = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _types.ModuleType)]
    __all__ = [name for name in __all__ if name not in ("annotations", "TYPE_CHECKING")]
