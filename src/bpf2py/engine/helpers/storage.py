"""Helpers of the storage maps: a value for each socket, inode, task or cgroup, which programs name by its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
