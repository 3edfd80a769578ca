"""Whether a control group is another one, or below it."""

from bpf2py.lang import *
from bpf2py.lang.kernel import cgroup


def is_within(address: u64, wanted: u64) -> bool:
    """Of the struct cgroup at an address; `wanted` is a control group's number."""
    group = Ptr[cgroup](address)
    for _ in range(16):
        if group.kn.id == wanted:
            return True
        parent = u64(group.self.parent)  # `self` is the first member
        if parent == 0:
            return False
        group = Ptr[cgroup](parent)
    return False
