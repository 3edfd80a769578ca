"""Dynptrs of packets: kernel functions that take and give them, compared with the kernel's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine

pytestmark = [pytest.mark.kernel, pytest.mark.since("6.5")]

SOURCE = """#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, u64 flags, struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, SIZE offset, void *buffer, SIZE buffer__szk) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *ptr, SIZE offset, void *buffer, SIZE buffer__szk) __ksym;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *ptr, SIZE start, SIZE end) __ksym;
extern bool bpf_dynptr_is_null(const struct bpf_dynptr *ptr) __ksym;
extern bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *ptr) __ksym;
extern SIZE bpf_dynptr_size(const struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_clone(const struct bpf_dynptr *ptr, struct bpf_dynptr *clone) __ksym;

u32 flags, start, end, offset;
struct { s64 made, adjusted, null, rdonly, size, cloned, read, wrote, cloned_size; u8 bytes[8], slice[8]; u32 data, writable; }
    result;

static __always_inline void use(struct bpf_dynptr *ptr, struct bpf_dynptr *clone)
{
    u8 buffer[8] = {}, *found;

    result.null = bpf_dynptr_is_null(ptr);
    result.cloned = bpf_dynptr_clone(ptr, clone);
    result.adjusted = bpf_dynptr_adjust(ptr, start, end);
    result.rdonly = bpf_dynptr_is_rdonly(ptr);
    result.size = (int)bpf_dynptr_size(ptr);
    result.cloned_size = (int)bpf_dynptr_size(clone);
    result.read = bpf_dynptr_read(result.bytes, 8, ptr, offset, 0);
    found = bpf_dynptr_slice(ptr, offset, buffer, sizeof(buffer));
    if (found)
        __builtin_memcpy(result.slice, found, 8);
    result.data = bpf_dynptr_data(ptr, 0, 1) != NULL;
}

static __always_inline void change(struct bpf_dynptr *ptr)
{
    u8 buffer[8] = {}, *found;

    result.wrote = bpf_dynptr_write(ptr, offset, "abcd", 4, 0);
    found = bpf_dynptr_slice_rdwr(ptr, offset, buffer, sizeof(buffer));
    result.writable = found != NULL;
    if (found)
        found[7] = 'Z';
}

SEC("tc") int of_skb(struct __sk_buff *skb)
{
    struct bpf_dynptr ptr, clone;

    result.made = bpf_dynptr_from_skb(skb, flags, &ptr);
    use(&ptr, &clone);
    change(&ptr);
    return 0;
}

SEC("xdp") int of_xdp(struct xdp_md *xdp)
{
    struct bpf_dynptr ptr, clone;

    result.made = bpf_dynptr_from_xdp(xdp, flags, &ptr);
    use(&ptr, &clone);
    change(&ptr);
    return XDP_PASS;
}

SEC("cgroup_skb/egress") int of_readers(struct __sk_buff *skb)
{
    struct bpf_dynptr ptr, clone;

    result.made = bpf_dynptr_from_skb(skb, flags, &ptr);
    use(&ptr, &clone);
    result.wrote = bpf_dynptr_write(&ptr, offset, "abcd", 4, 0);
    return 1;
}
char LICENSE[] SEC("license") = "GPL";
"""
FRAME = bytes(range(12)) + b"\x08\x00\x45" + bytes(range(100, 165))


@pytest.fixture(scope="module")
def spec(compile_bpf: Callable[[str], bytes]) -> bpf2py.ObjectSpec:
    # Sizes have 64 bits since 6.19.
    return bpf2py.ObjectSpec.from_bytes(compile_bpf(SOURCE.replace("SIZE", "u32")), "dynptr")


@pytest.mark.parametrize("name", ["of_skb", "of_xdp", "of_readers"])
@pytest.mark.parametrize("translator", ["native", "python"])
def test_as_in_the_kernel(spec: bpf2py.ObjectSpec, name: str, translator: str) -> None:
    random_ = random.Random(name)
    own = spec.copy()
    for program in own.programs.values():
        program.autoload = program.name == name
    with bpf2py.load(own) as kernel, bpf2py.load(own, backend=Engine(translator=translator)) as engine:
        for _ in range(60):
            edges = (0, 1, 7, 8, 40, 60, 72, 73, 79, 80, 81, 1 << 31, (1 << 32) - 1)
            values = {what: random_.choice(edges) for what in ("start", "end", "offset")}
            if random_.random() < 0.6:
                values |= {
                    "start": random_.randrange(20),
                    "end": random_.randrange(20, 70),
                    "offset": random_.randrange(20),
                }
            values["flags"] = int(random_.random() < 0.1)
            answers: list[Any] = []
            for obj in (kernel, engine):
                obj.variables["result"].value = bytes(obj.spec.variables["result"].size)
                for what, value in values.items():
                    obj.variables[what].value = value
                run = obj.programs[name].test_run(data=FRAME)
                answers.append((run.return_value, run.data, bytes(obj.variables["result"].value)))
            assert answers[0] == answers[1], values
