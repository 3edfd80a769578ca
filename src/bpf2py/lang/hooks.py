"""A decorator for every section in the section table: ``@xdp``, ``@kprobe("...")``, ``@cgroup_connect4``.

The types for checkers are in ``hooks.pyi``, which tools/lang_stubs.py writes from the same table.
"""

from __future__ import annotations

from bpf2py.lang.hooks_table import HOOKS
from bpf2py.lang.programs import Hook

globals().update({name: Hook(definition.name) for name, definition in HOOKS.items()})
__all__ = list(HOOKS)
