"""Helpers of the storage maps: a value for each socket, inode, task or cgroup, which programs name by its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.helpers import Fault
from bpf2py.engine.maps.cgroup_storage import CGROUP_STORAGE, local_storage
from bpf2py.uapi.errno import EINVAL

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


CREATE = 1  # BPF_LOCAL_STORAGE_GET_F_CREATE


def _get(engine: Machine, header: int, owner: int, value: int, flags: int, *_: int) -> int:
    if not owner or flags > CREATE:
        return 0
    return engine.function("storage_get")(header, engine.storage_owner(owner), value, flags)


def _delete(engine: Machine, header: int, owner: int, *_: int) -> int:
    if not owner:
        return -EINVAL
    return engine.function("storage_delete")(header, engine.storage_owner(owner))


sk_storage_get = inode_storage_get = task_storage_get = cgrp_storage_get = _get
sk_storage_delete = inode_storage_delete = task_storage_delete = cgrp_storage_delete = _delete


def get_local_storage(engine: Machine, header: int, *_: int) -> int:
    """The value of the cgroup the program is attached to, of this CPU where each has one; `test_run` has one of zeros."""
    core, run = engine.core_at(header), engine.current
    if core.info.type not in CGROUP_STORAGE:
        raise Fault(f"bpf_get_local_storage() takes a CGROUP_STORAGE map, not {core.info.name}")
    slot = core.stride * engine.current_cpu if core.info.type == CGROUP_STORAGE[1] else 0
    found = local_storage(core, run.cgroup, int(run.program.spec.attach_type or 0)) if run.cgroup else None
    if found is None:
        found = run.storage.get(header)
    if found is None:
        found = run.storage[header] = engine.memory.allocate(max(core.value_bytes, 8))
        run.owned.append(found)
    return found + slot
