"""Kernel functions the engine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.kernel_objects import current_task

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


def _nothing(engine: Machine, *_: int) -> int:
    return 0


def _same(engine: Machine, pointer: int, *_: int) -> int:
    return pointer


bpf_rcu_read_lock = bpf_rcu_read_unlock = bpf_preempt_disable = bpf_preempt_enable = _nothing
bpf_local_irq_save = bpf_local_irq_restore = bpf_task_release = bpf_get_task_exe_file = _nothing
bpf_cast_to_kern_ctx = bpf_rdonly_cast = bpf_task_acquire = _same


def bpf_task_from_pid(engine: Machine, pid: int, *_: int) -> int:
    """The task a program runs in, if it is that one; there are no others (Linux 6.2)."""
    return current_task(engine) if pid & 0xFFFFFFFF == engine.current.task.pid else 0


bpf_task_from_vpid = bpf_task_from_pid
