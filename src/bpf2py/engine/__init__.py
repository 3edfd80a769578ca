"""The embedded engine: eBPF programs and maps in the process, without the kernel and without privileges."""

from bpf2py.engine.engine import Engine
from bpf2py.engine.task import Task

__all__ = ["Engine", "Task"]
