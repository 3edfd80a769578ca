"""What the engine's static check refuses, with the place in the source; and that it refuses nothing the kernel takes."""

from __future__ import annotations

import ctypes
import itertools
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.engine.raw_programs import RawProgram

import bpf2py
from bpf2py.engine import Engine
from bpf2py.engine.code.code import Op
from bpf2py.engine.code.constants import calculate, compare
from bpf2py.errors import NotSupported, VerifierError
from bpf2py.isa import opcodes as isa
from bpf2py.isa.instruction import Instruction as Insn
from bpf2py.isa.instruction import encode

HEADER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } m SEC(".maps");
"""
GPL = '\nchar LICENSE[] SEC("license") = "GPL";\n'
LOOKUP = "__u32 key = 1; __u64 *value = bpf_map_lookup_elem(&m, &key);"
WRONG = {
    "a value that may be null": (f"{LOOKUP} *value = 1; return 0;", "map_value_or_null", "*value = 1"),
    "arithmetic on it": (
        f"{LOOKUP} char *p = (char *)value; p += 1; asm volatile(\"\" : \"+r\"(p)); return *p;", "may be null", None,
    ),
    "beyond a value": (
        f"{LOOKUP} if (value) return value[1]; return 0;", "invalid access to map value, value_size=8 off=8 size=8", "value[1]",
    ),
    "a number as a pointer": ("return *(int *)40;", "invalid mem access 'scalar'", None),
    "beyond the stack": (
        'char b[8]; char *p = b; asm volatile("%0 += 600" : "+r"(p)); *p = 1; asm volatile("" :: "r"(b) : "memory"); return 0;',
        "invalid access to the stack", None,
    ),
    "a key that is not on the stack": (
        '__u32 key = 1; char *p = (char *)&key; asm volatile("%0 += 2" : "+r"(p)); bpf_map_delete_elem(&m, p); return 0;',
        "invalid access to the stack: off=-2 size=4", None,
    ),
    "a map that is none": (
        "__u32 key = 1; bpf_map_delete_elem(&key, &key); return 0;", "must be a map, it holds a stack pointer", None,
    ),
    "a map as a key": ("bpf_map_delete_elem(&m, &m); return 0;", "cannot be a map", None),
    "a helper for packets": (
        "char b[4]; return bpf_skb_load_bytes((void *)ctx, 0, b, 4);", "cannot use helper bpf_skb_load_bytes", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("where", ["engine", pytest.param("kernel", marks=pytest.mark.kernel)])
def test_refused(compile_bpf: Callable[[str], bytes], name: str, where: str) -> None:
    """By the engine with these words, and by the kernel as well."""
    body, words, line = WRONG[name]
    source = f'{HEADER} SEC("raw_tp/x") int program(void *ctx) {{\n{body}\n}}{GPL}'
    with pytest.raises(VerifierError) as caught:
        bpf2py.load(compile_bpf(source), backend=Engine() if where == "engine" else "kernel").close()
    if where == "engine":
        assert words in str(caught.value)
        assert caught.value.source_line is not None
        assert line is None or line in caught.value.source_line


@pytest.mark.parametrize("where", ["engine", pytest.param("kernel", marks=pytest.mark.kernel)])
def test_helpers_for_gpl_programs(compile_bpf: Callable[[str], bytes], where: str) -> None:
    body = 'char b[4]; bpf_probe_read_kernel(b, 4, ctx); asm volatile("" :: "r"(b) : "memory"); return 0;'
    source = f'{HEADER} SEC("raw_tp/x") int program(void *ctx) {{ {body} }} char LICENSE[] SEC("license") = "MIT";'
    with pytest.raises(VerifierError, match=r"GPL-?(restricted|only)|GPL restricted"):
        bpf2py.load(compile_bpf(source), backend=Engine() if where == "engine" else "kernel").close()


def test_helpers_of_newer_kernels(compile_bpf: Callable[[str], bytes]) -> None:
    callback = "static long callback(int i, void *context) { return 0; }"
    source = (
        f'{HEADER} {callback} SEC("raw_tp/x") int program(void *ctx) {{ return bpf_loop(3, callback, 0, 0); }}{GPL}'
    )
    code = compile_bpf(source)
    bpf2py.load(code, backend=Engine(kernel="5.17")).close()
    with pytest.raises(VerifierError, match=r"bpf_loop#181: it needs Linux 5.17, the engine simulates 5.15"):
        bpf2py.load(code, backend=Engine(kernel="5.15"))


def test_helpers_and_kfuncs_the_engine_lacks(compile_bpf: Callable[[str], bytes]) -> None:
    body = "char b[28] = {}; return bpf_skb_set_tunnel_key(skb, (void *)b, 28, 0);"
    helper = f'{HEADER} SEC("tc") int program(struct __sk_buff *skb) {{ {body} }}{GPL}'
    with pytest.raises(NotSupported, match="the engine does not have the helper bpf_skb_set_tunnel_key") as caught:
        bpf2py.load(compile_bpf(helper), backend=Engine())
    assert caught.value.feature == "bpf_skb_set_tunnel_key"
    kfunc = f'{HEADER} extern void bpf_nothing(void) __ksym; SEC("tc") int program(void *skb) {{ bpf_nothing(); return 0; }}{GPL}'
    with pytest.raises(NotSupported, match="does not have the kfunc bpf_nothing"):
        bpf2py.load(compile_bpf(kfunc), backend=Engine())


def _program(*code: Insn) -> bytes:
    return encode(code)


EXIT, ZERO = Insn(isa.EXIT), Insn(isa.BPF_ALU64 | isa.BPF_MOV, 0)
FORMS = {
    "an unknown opcode": (_program(Insn(0xFF), EXIT), "unknown opcode ff"),
    "a register that is none": (_program(Insn(0xB7, 11), EXIT), "R11 is invalid"),
    "the frame pointer": (_program(Insn(0xB7, 10), EXIT), "frame pointer is read only"),
    "a division by zero": (_program(Insn(0x37, 0), EXIT), "div by zero"),
    "a wide shift": (_program(Insn(0x67, 0, 0, 0, 64), EXIT), "invalid shift 64"),
    "a jump out of the program": (_program(Insn(5, 0, 0, 5), EXIT), "jump out of range from insn 0 to 6"),
    "a jump in front of it": (_program(Insn(5, 0, 0, -2), EXIT), "jump out of range from insn 0 to -1"),
    "a jump into a load": (_program(Insn(0x15, 0, 0, 1), Insn.load_imm64(0, 1), EXIT), "into the middle of a 64-bit load"),
    "code nobody reaches": (_program(ZERO, EXIT, ZERO, EXIT), "unreachable insn 2"),
    "no end": (_program(ZERO), "last insn is not an exit or jmp"),
    "beyond the stack": (_program(Insn(0x7A, 10, 0, -520), ZERO, EXIT), "invalid access to the stack"),
    "above the stack": (_program(Insn(0x7A, 10, 0, 0), ZERO, EXIT), "invalid access to the stack"),
    "a call to nowhere": (_program(Insn(0x85, 0, 1, 0, 7), EXIT), "where no function starts"),
    "reserved fields": (_program(Insn(0x95, 1), EXIT), "BPF_EXIT uses reserved fields"),
    "an atomic of a byte": (_program(Insn(0xD3, 10, 0, -8), ZERO, EXIT), "invalid atomic operand size"),
    "an atomic that is none": (_program(Insn(0xDB, 10, 0, -8, 0x33), ZERO, EXIT), "invalid atomic opcode"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_ill_formed(name: str) -> None:
    code, words = FORMS[name]
    with pytest.raises(Exception, match=words):
        RawProgram(Engine(), code)


@pytest.mark.kernel
@pytest.mark.parametrize("name", FORMS)
def test_ill_formed_for_the_kernel_as_well(name: str) -> None:
    from tests.engine.random_programs import load_in_kernel

    fd = load_in_kernel(FORMS[name][0])
    if fd >= 0:
        os.close(fd)
    assert fd < 0


def test_recursion() -> None:
    code = _program(Insn(0x85, 0, 1, 0, -1), EXIT)
    with pytest.raises(Exception, match="recursive call"):
        RawProgram(Engine(), code)


EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.bpf.c"))
OTHERS = sorted(
    path for path in (Path(__file__).parents[1]).rglob("*.bpf.c") if path.parent.name in ("engine", "attach")
)


@pytest.mark.parametrize("path", EXAMPLES + OTHERS, ids=lambda path: path.name)
def test_nothing_the_kernel_takes_is_refused(path: Path) -> None:
    """Each program by itself: what the engine does not have it may say, but its check must not object."""
    spec = bpf2py.ObjectSpec.from_bytes(bpf2py.compile(path))
    checked = 0
    for name in spec.programs:
        alone = spec.copy()
        for other in alone.programs.values():
            other.autoload = other.name == name
        try:
            bpf2py.load(alone, backend=Engine()).close()
        except NotSupported:
            continue
        except VerifierError as error:
            pytest.fail(f"{name}: {error}")
        checked += 1
    assert checked or path.parent.name == "attach"


RESULTLESS = """
__u64 sum, calls;
static __attribute__((noinline)) void note(__u32 number) { if (number & 1) return; sum += number; }
static __attribute__((noinline)) void noted(__u32 number) { note(number); note(number + 1); __sync_fetch_and_add(&calls, 1); }
static int each(__u32 index, void *ctx) { noted(index); return 0; }
SEC("raw_tp/x") int program(void *ctx)
{
    noted(4);
    bpf_loop(3, each, 0, 0);
    return 0;
}
"""


@pytest.mark.parametrize("where", ["native", "python", pytest.param("kernel", marks=pytest.mark.kernel)])
def test_static_functions_need_no_result(compile_bpf: Callable[[str], bytes], where: str) -> None:
    backend = "kernel" if where == "kernel" else Engine(translator=where)
    with bpf2py.load(compile_bpf(HEADER + RESULTLESS + GPL), backend=backend) as obj:
        obj.programs["program"].test_run(context=bytes(8))
        assert (obj.variables["sum"].value, obj.variables["calls"].value) == (4 + 0 + 2 + 2, 4)


NO_RESULT = {
    "a program": 'SEC("raw_tp/x") __attribute__((naked)) int program(void *ctx) { asm volatile("exit"); }',
    "a global function": """
        __attribute__((noinline)) int nothing(int number) { asm volatile("" :: "r"(number)); return number; }
        __attribute__((naked, noinline)) int global(int number) { asm volatile("exit"); }
        SEC("raw_tp/x") int program(void *ctx) { return nothing(global(1)); }""",
    "a callback": """
        static __attribute__((naked)) int each(__u32 index, void *ctx) { asm volatile("exit"); }
        SEC("raw_tp/x") int program(void *ctx) { bpf_loop(2, each, 0, 0); return 0; }""",
}


@pytest.mark.parametrize("name", NO_RESULT)
@pytest.mark.parametrize("where", ["engine", pytest.param("kernel", marks=pytest.mark.kernel)])
def test_others_need_a_result(compile_bpf: Callable[[str], bytes], name: str, where: str) -> None:
    with pytest.raises(VerifierError, match=r"R0 !read_ok|missing btf func_info"):  # clang gives naked functions none
        bpf2py.load(
            compile_bpf(HEADER + NO_RESULT[name] + GPL), backend=Engine() if where == "engine" else "kernel"
        ).close()


FLAVOURS = """
struct task { int pid; } __attribute__((preserve_access_index));
struct task___old { int pid; long state; } __attribute__((preserve_access_index));
struct task___new { int pid; long __state; } __attribute__((preserve_access_index));
struct only___a { int first; int second; } __attribute__((preserve_access_index));
struct only___b { int second; } __attribute__((preserve_access_index));
int has_pid, has_old, has_new, second;
SEC("raw_tp/x") int program(void *ctx)
{
    struct task *plain = ctx;
    struct task___old *old = ctx;
    struct task___new *new = ctx;
    struct only___a *a = ctx;
    struct only___b *b = ctx;

    has_pid = bpf_core_field_exists(plain->pid) + bpf_core_field_exists(old->pid) + bpf_core_field_exists(new->pid);
    has_old = bpf_core_field_exists(old->state);
    has_new = bpf_core_field_exists(new->__state);
    second = bpf_core_field_offset(a->second) * 10 + bpf_core_field_offset(b->second);
    return 0;
}
"""


def test_flavours_of_a_type_do_not_stand_for_it(compile_bpf: Callable[[str], bytes]) -> None:
    source = HEADER + "#include <bpf/bpf_core_read.h>" + FLAVOURS + GPL
    with bpf2py.load(compile_bpf(source), backend=Engine()) as obj:
        obj.programs["program"].test_run(context=bytes(8))
        found = [obj.variables[name].value for name in ("has_pid", "has_old", "has_new", "second")]
        assert found == [3, 0, 0, 44]


GUARDED = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
char LICENSE[] SEC("license") = "GPL";
struct task_struct___old { volatile long state; } __attribute__((preserve_access_index));
struct task_struct___new { unsigned int __state; } __attribute__((preserve_access_index));
extern int LINUX_KERNEL_VERSION __kconfig;
extern int no_such_function(int) __ksym __weak;
const volatile bool filter = false;
const volatile __u32 level = 3;
const volatile struct { __u64 wide; __s8 negative; } deep = {1, -1};
__u64 seen;

static __always_inline long state_of(struct task_struct *task)
{
	struct task_struct___new *t = (void *)task;
	if (bpf_core_field_exists(t->__state))
		return BPF_CORE_READ(t, __state);
	return BPF_CORE_READ((struct task_struct___old *)(void *)task, state);
}
/* Each branch that is not taken calls what there is not, with registers nothing was written to. */
#define NEVER asm volatile("call 4242" ::: "r0", "r1", "r2", "r3", "r4", "r5", "memory")
SEC("raw_tp/sched_switch") int relocations(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	seen = state_of(task) + BPF_CORE_READ(task, pid);
	return 0;
}
SEC("raw_tp/sched_switch") int booleans(void *ctx) { if (filter) NEVER; if (!level) NEVER; return 0; }
SEC("raw_tp/sched_switch") int numbers(void *ctx)
{
	if (level > 3) NEVER;
	if ((level << 4) + 2 != 50) NEVER;
	if (deep.negative >= 0) NEVER;
	if (deep.wide - 2 < 1000) NEVER;
	return 0;
}
SEC("raw_tp/sched_switch") int versions(void *ctx) { if (LINUX_KERNEL_VERSION < (4 << 16)) NEVER; return 0; }
SEC("raw_tp/sched_switch") int functions(void *ctx) { if (bpf_ksym_exists(no_such_function)) return no_such_function(7); return 1; }
SEC("raw_tp/sched_switch") int changeable(void *ctx) { if (seen) NEVER; return 0; }
SEC("raw_tp/sched_switch") int loops(void *ctx)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < 3; i++)
		if (bpf_get_prandom_u32() < 2 && level == 2) NEVER;
	return 0;
}
"""


@pytest.mark.parametrize("backend", [pytest.param("kernel", marks=pytest.mark.kernel), "native", "python"])
def test_what_constants_rule_out_is_not_looked_at(compile_bpf: Callable[[str], bytes], backend: str) -> None:
    data = compile_bpf(GUARDED)
    for name in bpf2py.ObjectSpec.from_bytes(data).programs:
        spec = bpf2py.ObjectSpec.from_bytes(data)
        for program in spec.programs.values():
            program.autoload = program.name == name
        made: Any = backend if backend == "kernel" else Engine(translator=backend)
        if name == "changeable":
            with pytest.raises(bpf2py.VerifierError, match="invalid func unknown#4242"):
                bpf2py.load(spec, backend=made)
            continue
        with bpf2py.load(spec, backend=made) as obj:
            if backend == "kernel":
                continue
            assert obj.programs[name].run(0, {"__type__": "task_struct", "__state": 2}, 0, 0).return_value == (
                name == "functions"
            )
            assert obj.variables["seen"].value == (2 if name == "relocations" else 0)


def test_arithmetic_on_constants_is_the_processors() -> None:
    """The check's numbers against ctypes', over edge values of every operation and width."""
    edges = [
        0,
        1,
        2,
        7,
        31,
        63,
        64,
        255,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        (1 << 64) - 1,
    ]
    for width in (isa.BPF_ALU, isa.BPF_ALU64):
        for operation in (0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0):
            for left, right in itertools.product(edges, edges):
                op = Op(width | operation | isa.BPF_X, 0, 1, 0, 0)
                wanted = evaluate(op.opcode, left, right)
                found = calculate(op, left, right)
                assert found is not None
                assert found & (1 << 64) - 1 == wanted, (hex(op.opcode), left, right)


def evaluate(opcode: int, left: int, right: int) -> int:
    bits = 64 if opcode & 7 == isa.BPF_ALU64 else 32
    signed, unsigned = (ctypes.c_int64, ctypes.c_uint64) if bits == 64 else (ctypes.c_int32, ctypes.c_uint32)
    a, b = unsigned(left).value, unsigned(right).value
    shift = b % bits
    results: dict[int, int] = {
        0x00: a + b, 0x10: a - b, 0x20: a * b, 0x40: a | b, 0x50: a & b, 0x60: a << shift, 0x70: a >> shift, 0xA0: a ^ b,
        0xB0: b, 0xC0: signed(a).value >> shift,
    }  # fmt: skip
    return int(unsigned(results[opcode & 0xF0]).value)


def test_comparisons_of_constants() -> None:
    edges = [0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1]
    rows = {
        0x10: (operator.eq, False), 0x20: (operator.gt, False), 0x30: (operator.ge, False), 0x50: (operator.ne, False),
        0x60: (operator.gt, True), 0x70: (operator.ge, True), 0xA0: (operator.lt, False), 0xB0: (operator.le, False),
        0xC0: (operator.lt, True), 0xD0: (operator.le, True),
    }  # fmt: skip
    for width, types in (
        (isa.BPF_JMP, (ctypes.c_uint64, ctypes.c_int64)),
        (isa.BPF_JMP32, (ctypes.c_uint32, ctypes.c_int32)),
    ):
        for operation, (function, is_signed) in rows.items():
            for left, right in itertools.product(edges, edges):
                kind = types[is_signed]
                op = Op(width | operation | isa.BPF_X, 0, 1, 0, 0)
                assert compare(op, left, right) == function(kind(left).value, kind(right).value)
        assert compare(Op(width | 0x40, 0, 1, 0, 0), 6, 9) is False
        assert compare(Op(width | 0x40, 0, 1, 0, 0), 6, 2) is True
