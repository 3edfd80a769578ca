"""Names for addresses, and stacks: functions of the kernel and of processes, counted, drawn and saved.

`Symbolizer` names addresses; `Stacks` counts stacks and draws them as a flame graph, or saves them for speedscope and pprof.
"""

from __future__ import annotations

from bpf2py._lazy import lazily
from bpf2py._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.symbols.mangled import demangle
    from bpf2py.symbols.python import PythonFrame, PythonStacks, merged
    from bpf2py.symbols.python_tasks import PythonTasks, WaitingTask
    from bpf2py.symbols.stacks import Stacks
    from bpf2py.symbols.symbolizer import Frame, Symbolizer

__all__ = [
    "Frame",
    "PythonFrame",
    "PythonStacks",
    "PythonTasks",
    "Stacks",
    "Symbolizer",
    "WaitingTask",
    "demangle",
    "merged",
]

__getattr__, __dir__ = lazily(
    __name__,
    globals(),
    {
        "Frame": "symbols.symbolizer",
        "PythonFrame": "symbols.python",
        "PythonStacks": "symbols.python",
        "PythonTasks": "symbols.python_tasks",
        "Stacks": "symbols.stacks",
        "Symbolizer": "symbols.symbolizer",
        "WaitingTask": "symbols.python_tasks",
        "demangle": "symbols.mangled",
        "merged": "symbols.python",
    },
)
