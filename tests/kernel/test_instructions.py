"""Objects for every instruction set version, exceptions, loops the verifier need not see the end of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import bpf2py

pytestmark = pytest.mark.kernel

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int low = -7, shift = 3;
long wide = 1;
signed char narrow = -5;
SEC("syscall") int run(void *ctx)
{
    long sum = 0;

    for (int i = 0; i < 10; i++)
        sum += i < low ? 1 : i * shift;
    __sync_fetch_and_add(&wide, 41);
#if CPU >= 3
    if (__sync_val_compare_and_swap(&wide, 42, 43) == 42)
        sum += 1000;
#endif
#if CPU >= 4
    sum += (long)narrow + low / shift + low % shift;
#endif
    return sum;
}
char LICENSE[] SEC("license") = "GPL";
"""
THROW = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern void bpf_throw(__u64 cookie) __ksym;
int limit = 3, reached;
static __noinline int check(int x) { if (x > limit) bpf_throw(40 + x); return x; }
SEC("tc") int run(struct __sk_buff *skb) { int got = check(skb->mark); reached++; return got; }
char LICENSE[] SEC("license") = "GPL";
"""
MAY_GOTO = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
long total, wanted = 100000;
SEC("syscall") int run(void *ctx)
{
    long i = 0;

    while (1) {
        asm volatile goto("1: .byte 0xe5; .byte 0; .long ((%l[end] - 1b - 8) / 8) & 0xffff; .short 0" :::: end);
        if (i >= wanted)
            break;
        i++;
    }
end:
    total = i;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("cpu", [1, 2, 3, pytest.param(4, marks=pytest.mark.since("6.6"))])
def test_every_instruction_set_version(compile_bpf: Callable[[str], bytes], cpu: int) -> None:
    data = bpf2py.compile(SOURCE, cflags=(f"-mcpu=v{cpu}", f"-DCPU={cpu}"))
    with bpf2py.load(data) as obj:
        value = obj.programs["run"].test_run().return_value
        expected = 135 + (1000 if cpu >= 3 else 0) + (-5 - 2 - 1 if cpu >= 4 else 0)
        assert value == expected
        assert obj.variables["wide"].value == (43 if cpu >= 3 else 42)


@pytest.mark.since("6.7")
def test_exceptions_end_the_program(compile_bpf: Callable[[str], bytes]) -> None:
    import struct

    with bpf2py.load(compile_bpf(THROW)) as obj:
        for mark, result in ((2, 2), (5, 45)):
            context = struct.pack("<II", 0, 0) + struct.pack("<I", mark) + bytes(180)
            assert obj.programs["run"].test_run(data=bytes(64), context=context).return_value == result
        assert obj.variables["reached"].value == 1, "the code after the throw was not reached"


@pytest.mark.since("6.9")
def test_loops_with_may_goto(compile_bpf: Callable[[str], bytes]) -> None:
    with bpf2py.load(compile_bpf(MAY_GOTO)) as obj:
        obj.programs["run"].test_run()
        assert obj.variables["total"].value == 100000


def test_big_endian_objects_are_refused(compile_bpf: Callable[[str], bytes]) -> None:
    data = bytearray(compile_bpf(SOURCE.replace("CPU", "3")))
    data[5] = 2  # ELFDATA2MSB
    with pytest.raises(bpf2py.ObjectError, match="big-endian objects are not supported; compile with -target bpfel"):
        bpf2py.load(bytes(data))
