from bpf2py.lang import *

from bpf2py.lang.kernel import bpf_arena_alloc_pages, bpf_arena_free_pages


class Node(Struct):
    value: u64
    next: Ptr["Node"] | None


arena = Arena(max_entries=10)
head: Ptr[Node] | None = None


def total() -> u64:
    n = head
    result: u64 = 0
    for i in range(10):
        if n is None:
            break
        result += n.value
        n = n.next
    return result


@syscall
def f(ctx: Context) -> int:
    global head
    page = bpf_arena_alloc_pages(arena, None, 1, -1, 0)
    if page is None:
        return 1
    n = page.cast(Node)
    for i in range(5):
        n[i].value = i + 1
        n[i].next = head
        head = n + i
    return s32(total())
