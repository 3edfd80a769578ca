"""Helpers that say where and as whom a program runs, and what time it is."""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING

from bpf2py.engine.helpers import Fault
from bpf2py.engine.programs.kernel_objects import current_task
from bpf2py.engine.state import note_pid_namespace
from bpf2py.uapi.errno import E2BIG, EAGAIN, EINVAL

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


ROOT_CGROUP = 1  # its id
HZ = 250


def ktime_get_ns(engine: Machine, *_: int) -> int:
    """Nanoseconds of the engine's clock."""
    return engine.now()


ktime_get_coarse_ns = ktime_get_ns


def ktime_get_boot_ns(engine: Machine, *_: int) -> int:
    """Nanoseconds since the machine started, sleep included; the engine's clock where that is not the real one."""
    if engine.clock is None and hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return engine.now()


def ktime_get_tai_ns(engine: Machine, *_: int) -> int:
    """Nanoseconds of International Atomic Time; the engine's clock where that is not the real one."""
    if engine.clock is None and hasattr(time, "CLOCK_TAI"):
        return time.clock_gettime_ns(time.CLOCK_TAI)
    return engine.now()


def jiffies64(engine: Machine, *_: int) -> int:
    """Ticks, 250 a second."""
    return engine.now() * HZ // 1_000_000_000


@functools.cache
def _pid_namespace() -> tuple[int, int] | None:
    """(device, inode) of the PID namespace, None on systems that have none."""
    try:
        found = os.stat("/proc/self/ns/pid")
    except OSError:
        return None
    return found.st_dev, found.st_ino


def get_ns_current_pid_tgid(engine: Machine, dev: int, ino: int, nsdata: int, size: int, *_: int) -> int:
    """struct bpf_pidns_info of the task; there is one PID namespace, that of this process."""
    space = _pid_namespace()
    if size & 0xFFFFFFFF != 8 or (space is not None and (dev, ino) != space):
        engine.write(nsdata, bytes(engine.length(size)))
        return -EINVAL
    task = engine.current.task
    if space is not None:
        note_pid_namespace(engine.memory, *space)
    engine.write(nsdata, task.pid.to_bytes(4, "little") + task.tgid.to_bytes(4, "little"))
    return 0


def get_current_comm(engine: Machine, buffer: int, size: int, *_: int) -> int:
    """The task's name, always terminated, the rest zeros."""
    size = engine.length(size)
    if not size:
        return -EINVAL
    text = engine.current.task.comm.encode()[: min(15, size - 1)]
    engine.write(buffer, text.ljust(size, b"\0"))
    return 0


def get_current_task(engine: Machine, *_: int) -> int:
    """The address of a struct task_struct as the object's types lay it out."""
    return current_task(engine)


get_current_task_btf = get_current_task


def task_pt_regs(engine: Machine, *_: int) -> int:
    """The address of the registers user space had: the context of probes that have them."""
    return engine.current.context


def get_current_cgroup_id(engine: Machine, *_: int) -> int:
    """The task's cgroup."""
    return engine.current.task.cgroup_id


def get_current_ancestor_cgroup_id(engine: Machine, level: int, *_: int) -> int:
    """The root at level 0, the task's own cgroup at level 1."""
    level &= 0xFFFFFFFF
    own = engine.current.task.cgroup_id
    return ROOT_CGROUP if level == 0 else own if level == 1 and own != ROOT_CGROUP else 0


def _under_cgroup(engine: Machine, header: int, index: int, own: int) -> int:
    core = engine.core_at(header)
    index &= 0xFFFFFFFF
    if index >= core.info.max_entries:
        return -E2BIG
    cgroup = core.held.get(index.to_bytes(4, "little"))
    return -EAGAIN if cgroup is None else int(cgroup in (own, ROOT_CGROUP))


def current_task_under_cgroup(engine: Machine, header: int, index: int, *_: int) -> int:
    """Whether the task's cgroup is the one in the map, or that is the root."""
    return _under_cgroup(engine, header, index, engine.current.task.cgroup_id)


def skb_under_cgroup(engine: Machine, _skb: int, header: int, index: int, *_: int) -> int:
    """The same of the packet's socket, which is in the root."""
    return _under_cgroup(engine, header, index, ROOT_CGROUP)


def get_numa_node_id(engine: Machine, *_: int) -> int:
    """There is one node."""
    return 0


def send_signal(engine: Machine, number: int, *_: int) -> int:
    """Noted in `Engine.signals`; simulated tasks take no signals."""
    number &= 0xFFFFFFFF
    if number > 64:
        return -EINVAL
    if number:  # 0 only asks whether one could
        engine.signals.add((engine.current.task.pid, number))
    return 0


send_signal_thread = send_signal


def get_retval(engine: Machine, *_: int) -> int:
    """What `set_retval` set, 0 before."""
    return engine.current.retval


def set_retval(engine: Machine, value: int, *_: int) -> int:
    """Set the result of the operation a cgroup program watches."""
    engine.current.retval = (value & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
    return 0


def get_func_ip(engine: Machine, *_: int) -> int:
    """The address of the function a probe is in."""
    return engine.symbol(engine.current.program.spec.target) or 0


def get_attach_cookie(engine: Machine, *_: int) -> int:
    """What `attach(cookie=...)` was given."""
    return engine.current.cookie


def get_func_arg(engine: Machine, context: int, number: int, value: int, *_: int) -> int:
    """An argument of the traced function."""
    count = engine.current.arguments
    if number >= count:
        return -EINVAL
    engine.write(value, engine.read(context + 8 * number, 8))
    return 0


def get_func_ret(engine: Machine, context: int, value: int, *_: int) -> int:
    """The result of the traced function, which stands after its arguments."""
    engine.write(value, engine.read(context + 8 * engine.current.arguments, 8))
    return 0


def get_func_arg_cnt(engine: Machine, *_: int) -> int:
    """How many arguments the traced function has."""
    return engine.current.arguments


def per_cpu_ptr(engine: Machine, pointer: int, cpu: int, *_: int) -> int:
    """Per-CPU variables of the simulated kernel are the same on each CPU."""
    return pointer if cpu < engine.possible_cpus else 0


def this_cpu_ptr(engine: Machine, pointer: int, *_: int) -> int:
    """See `per_cpu_ptr`."""
    return pointer


def kptr_xchg(engine: Machine, place: int, pointer: int, *_: int) -> int:
    """Exchange the pointer in a map's value."""
    if place % 8:
        raise Fault(f"the pointer at {place:#x} is not aligned")
    before = int.from_bytes(engine.read(place, 8), "little")
    engine.write(place, pointer.to_bytes(8, "little"))
    return before
