from bpf2py.lang import *

from bpf2py.lang.kernel import bpf_rb_root, bpf_rb_node, bpf_spin_lock


class Node(Struct):
    key: u64
    rb: bpf_rb_node


@tc
def f(ctx: SkbContext) -> int:
    n = obj_new(Node)
    if n is None:
        return 1
    n.key = 4
    k = n.key
    obj_drop(n)
    return s32(k)
