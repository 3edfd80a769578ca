from bpf2py.lang import *

from bpf2py.lang.kernel import (
    bpf_rb_node,
    bpf_spin_lock,
    bpf_rbtree_add,
    bpf_rbtree_first,
    bpf_rbtree_remove,
    bpf_list_node,
)


class Node(Struct):
    key: u64
    rb: bpf_rb_node


glock: bpf_spin_lock
root: rb_root[Node, "rb"]


def less(a: Ptr[bpf_rb_node], b: Ptr[bpf_rb_node]) -> bool:
    return container_of(a, Node, "rb").key < container_of(b, Node, "rb").key


@tc
def f(ctx: SkbContext) -> int:
    n = obj_new(Node)
    if n is None:
        return 1
    m = obj_new(Node)
    if m is None:
        obj_drop(n)
        return 2
    n.key = 5
    m.key = 3
    with glock:
        bpf_rbtree_add(addr(root), addr(n.rb), less)
        bpf_rbtree_add(addr(root), addr(m.rb), less)
    result: u64 = 0
    got: Ptr[bpf_rb_node] | None = None
    with glock:
        first = bpf_rbtree_first(addr(root))
        if first is not None:
            got = bpf_rbtree_remove(addr(root), first)
    if got is not None:
        node = container_of(got, Node, "rb")
        result = node.key
        obj_drop(node)
    return s32(result)
