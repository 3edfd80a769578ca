"""Objects that programs allocate (Linux 6.2), lists and trees of them (6.2, 6.3), and the iterator over bits (6.11).

A struct bpf_list_head holds the addresses of the first node and the last, a struct bpf_list_node those of its neighbours. A tree is
kept as the list of its nodes in order: what a program sees of it is the order.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bpf2py.engine.helpers import Fault
from bpf2py.errors import BpfError
from bpf2py.uapi.errno import E2BIG, EFAULT, EINVAL

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


_PAIR = struct.Struct("<QQ")
LIST, TREE = 24, 32  # sizeof(struct bpf_list_node), sizeof(struct bpf_rb_node): the last word says what a node is in
MAX_WORDS = 511  # BITS_ITER_NR_WORDS_MAX


def bpf_obj_new_impl(engine: Machine, type_id: int, _meta: int, *_: int) -> int:
    """The address of a new object of a type of the program's."""
    btf = engine.current.program.object_spec.types
    try:
        size = btf.size_of(type_id & 0xFFFFFFFF) if btf is not None else 0
        address = engine.memory.allocate(max(size, 1)) if size else 0
    except BpfError:
        return 0
    if address:
        engine.objects[address] = 1
    return address


def bpf_refcount_acquire_impl(engine: Machine, address: int, _meta: int, *_: int) -> int:
    """Another owner of an object."""
    _owned(engine, address)
    engine.objects[address] += 1
    return address


def bpf_obj_drop_impl(engine: Machine, address: int, _meta: int, *_: int) -> int:
    """One owner less; the object goes with the last."""
    _owned(engine, address)
    engine.objects[address] -= 1
    if not engine.objects[address]:
        del engine.objects[address]
        engine.memory.free(address)
    return 0


def _owned(engine: Machine, address: int) -> None:
    if address not in engine.objects:
        raise Fault(f"{address:#x} is not an object it made")


def _get(engine: Machine, address: int) -> tuple[int, int]:
    first, second = _PAIR.unpack(engine.read(address, 16))
    return first, second


def _link(engine: Machine, head: int, before: int, node: int, after: int, owner_at: int) -> None:
    """Put a node between two others, either of which may be the head."""
    engine.write(node, _PAIR.pack(after, before))
    engine.write(node + owner_at, head.to_bytes(8, "little"))
    engine.write(before, node.to_bytes(8, "little"))  # before.next, or head.first
    engine.write(after + 8, node.to_bytes(8, "little"))  # after.previous, or head.last


def _unlink(engine: Machine, node: int, owner_at: int) -> None:
    following, previous = _get(engine, node)
    engine.write(previous, following.to_bytes(8, "little"))
    engine.write(following + 8, previous.to_bytes(8, "little"))
    engine.write(node, bytes(owner_at + 8))


def _ends(engine: Machine, head: int) -> tuple[int, int]:
    """(first, last) of a list, the head itself where it is empty."""
    first, last = _get(engine, head)
    if not first:
        engine.write(head, _PAIR.pack(head, head))
        return head, head
    return first, last


def _push(engine: Machine, head: int, node: int, offset: int, back: bool) -> int:
    if any(engine.read(node + LIST - 8, 8)):
        bpf_obj_drop_impl(engine, node - offset, 0)  # it is in a list already
        return -EINVAL
    first, last = _ends(engine, head)
    _link(engine, head, last if back else head, node, head if back else first, LIST - 8)
    return 0


def bpf_list_push_front_impl(engine: Machine, head: int, node: int, _meta: int, offset: int, *_: int) -> int:
    """Put an object in front of a list; -EINVAL, and it is dropped, where it is in one."""
    return _push(engine, head, node, offset, False)


def bpf_list_push_back_impl(engine: Machine, head: int, node: int, _meta: int, offset: int, *_: int) -> int:
    """The same at the end."""
    return _push(engine, head, node, offset, True)


def _pop(engine: Machine, head: int, back: bool) -> int:
    node = _ends(engine, head)[back]
    if node == head:
        return 0
    _unlink(engine, node, LIST - 8)
    return node


def bpf_list_pop_front(engine: Machine, head: int, *_: int) -> int:
    """Take the first node out of a list, null when there is none."""
    return _pop(engine, head, False)


def bpf_list_pop_back(engine: Machine, head: int, *_: int) -> int:
    """Take the last node out."""
    return _pop(engine, head, True)


def bpf_list_front(engine: Machine, head: int, *_: int) -> int:
    """The first node, which stays (Linux 6.16)."""
    node = _ends(engine, head)[0]
    return node if node != head else 0


def bpf_list_back(engine: Machine, head: int, *_: int) -> int:
    """The last node, which stays (Linux 6.16)."""
    node = _ends(engine, head)[1]
    return node if node != head else 0


def bpf_rbtree_add_impl(engine: Machine, root: int, node: int, less: int, _meta: int, offset: int, *_: int) -> int:
    """Put an object into a tree, after those that are not greater; -EINVAL, and it is dropped, where it is in one."""
    if any(engine.read(node + TREE - 8, 8)):
        bpf_obj_drop_impl(engine, node - offset, 0)
        return -EINVAL
    other, _last = _ends(engine, root)
    program = engine.current.program
    while other != root and not engine.execute(program, node, callback=(less, other)) & 0xFF:
        other = _get(engine, other)[0]
    _link(engine, root, _get(engine, other)[1], node, other, TREE - 8)
    return 0


def bpf_rbtree_first(engine: Machine, root: int, *_: int) -> int:
    """The least node, null when there is none."""
    return bpf_list_front(engine, root)


def bpf_rbtree_remove(engine: Machine, root: int, node: int, *_: int) -> int:
    """Take a node out, null where it is not in this tree."""
    if int.from_bytes(engine.read(node + TREE - 8, 8), "little") != root:
        return 0
    _unlink(engine, node, TREE - 8)
    return node


def bpf_iter_bits_new(engine: Machine, iterator: int, words: int, count: int, *_: int) -> int:
    """Start with the bits of so many 64-bit words."""
    count &= 0xFFFFFFFF
    engine.write(iterator, bytes(16))
    if not words or not count:
        return -EINVAL
    if count > MAX_WORDS:
        return -E2BIG
    try:
        raw = engine.read(words, 8 * count)
    except Fault:
        return -EFAULT
    block = engine.memory.allocate(8 + len(raw))
    engine.write(block, (0xFFFFFFFF).to_bytes(8, "little") + raw)
    engine.write(iterator, _PAIR.pack(block, count))
    return 0


def bpf_iter_bits_next(engine: Machine, iterator: int, *_: int) -> int:
    """The address of the number of the next bit that is set, null after the last."""
    block, count = _get(engine, iterator)
    if not block:
        return 0
    bits = int.from_bytes(engine.read(block + 8, 8 * count), "little")
    at = int.from_bytes(engine.read(block, 4), "little") + 1 & 0xFFFFFFFF
    left = bits >> at
    if not left:
        return 0
    engine.write(block, (at + (left & -left).bit_length() - 1).to_bytes(4, "little"))
    return block


def bpf_iter_bits_destroy(engine: Machine, iterator: int, *_: int) -> int:
    """Give up what `bpf_iter_bits_new` took."""
    block, _count = _get(engine, iterator)
    if block:
        engine.memory.free(block)
        engine.write(iterator, bytes(16))
    return 0
