"""Kernel functions the engine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.programs.kernel_objects import current_task
from bpf2py.uapi.errno import EINVAL

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


def _nothing(engine: Machine, *_: int) -> int:
    return 0


def _same(engine: Machine, pointer: int, *_: int) -> int:
    return pointer


bpf_rcu_read_lock = bpf_rcu_read_unlock = bpf_preempt_disable = bpf_preempt_enable = _nothing
bpf_local_irq_save = bpf_local_irq_restore = bpf_task_release = bpf_get_task_exe_file = _nothing
bpf_res_spin_lock = bpf_res_spin_unlock = bpf_res_spin_lock_irqsave = bpf_res_spin_unlock_irqrestore = _nothing
bpf_cast_to_kern_ctx = bpf_rdonly_cast = bpf_task_acquire = _same


def bpf_task_from_pid(engine: Machine, pid: int, *_: int) -> int:
    """The task a program runs in, if it is that one; there are no others (Linux 6.2)."""
    return current_task(engine) if pid & 0xFFFFFFFF == engine.current.task.pid else 0


bpf_task_from_vpid = bpf_task_from_pid


MOST_FLAGS = 2  # BPF_TASK_ITER_PROC_THREADS


def bpf_iter_task_new(engine: Machine, iterator: int, _task: int, flags: int, *_: int) -> int:
    """Start with the one task there is (Linux 6.7)."""
    flags &= 0xFFFFFFFF
    engine.write(iterator, int(flags <= MOST_FLAGS).to_bytes(8, "little") + bytes(16))
    return 0 if flags <= MOST_FLAGS else -EINVAL


def bpf_iter_task_next(engine: Machine, iterator: int, *_: int) -> int:
    """The task, and null after it."""
    left = engine.read(iterator, 8)
    engine.write(iterator, bytes(8))
    return current_task(engine) if any(left) else 0


def bpf_iter_task_destroy(engine: Machine, iterator: int, *_: int) -> int:
    """Nothing was taken."""
    return 0
