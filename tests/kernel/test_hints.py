"""Hints for the commonest rejections: from real programs the running kernel rejects, and from logs of other kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.kernel.conftest import EMULATED

import bpf2py
from bpf2py.kernel.verifier_log import hint_for, summarize

MAPS = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64[4]);
    } table SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
static __noinline int deeper(int x) { volatile char buffer[300]; buffer[x & 255] = x; return buffer[(x + 1) & 255]; }
static volatile __u64 total;
"""
NULL = "compare the pointer with NULL"
BOUND = "bound the index or offset"
PACKET = "data + offset + size <= data_end"
LOOP = "bound the loop by a constant"
BUDGET = "1 million instructions"
RELEASE = "release what was acquired"
STACK = "the stack holds 512 bytes"
INITIALISE = "initialise the variable"
HELPER = "not available to this program type"
GPL = 'char LICENSE[] SEC("license") = "GPL"'
KERNEL = "BPF_CORE_READ()"
READ_ONLY = "read-only"

# (name, section and context, body, hint)
REJECTED = [
    ("null", "socket", "void", "__u32 k = bpf_get_prandom_u32(); __u64 *v = bpf_map_lookup_elem(&table, &k); return *v;", NULL),
    ("ringbuf", "tp/a/b", "void", "__u64 *e = bpf_ringbuf_reserve(&events, 8, 0); *e = 1; bpf_ringbuf_submit(e, "
     "0); return 0;", NULL),
    ("packet", "xdp", "struct xdp_md", "return *(char *)(long)ctx->data;", PACKET),
    ("bounds", "xdp", "struct xdp_md", "char *p = (void *)(long)ctx->data; return p + 4 <= (char "
     "*)(long)ctx->data_end ? p[4] : 0;", PACKET),
    ("stack", "socket", "void", "volatile char b[300]; b[bpf_get_prandom_u32() & 255] = 1; return deeper(b[7]);", STACK),
    ("register", "socket", "void", 'long x; asm volatile("%0 = r4" : "=r"(x)); return x;', INITIALISE),
    ("range", "socket", "struct __sk_buff", "__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&table, &k); return v "
     "? v[ctx->len] : 0;", BOUND),
    ("end", "socket", "struct __sk_buff", "__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&table, &k); return v ? "
     "v[4] : 0;", BOUND),
    ("negative", "socket", "struct __sk_buff", "__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&table, &k); int i = ctx->mark; "
     "return v && i < 4 ? v[i] : 0;", BOUND),
    ("helper", "tp/a/b", "void", "return bpf_redirect(1, 0);", HELPER),
    ("reference", "tp/a/b", "void", "__u64 *e = bpf_ringbuf_reserve(&events, 8, 0); if (e) *e = 1; return 0;", RELEASE),
    ("forever", "socket", "void", "for (;;) if (bpf_ktime_get_ns() == 5) break; return 0;", LOOP),
    ("long", "socket", "void", "for (long i = 0; i < 3000000; i++) total += bpf_get_prandom_u32(); return 0;", BUDGET),
    ("scalar", "socket", "struct __sk_buff", "return *(int *)(long)ctx->mark;", KERNEL),
    ("context", "socket", "struct __sk_buff", "return *(int *)((char *)ctx + 1000);", KERNEL),
    ("constant", "socket", "void", "*(volatile __u64 *)&limit = 1; return 0;", READ_ONLY),
    ("result", "cgroup_skb/egress", "void", "return 17;", None),
]  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "section", "context", "body", "hint"), REJECTED, ids=[row[0] for row in REJECTED])
def test_real_rejections(
    build: Callable[[str], bpf2py.ObjectSpec], name: str, section: str, context: str, body: str, hint: str | None
) -> None:
    if name == "long" and EMULATED:
        pytest.skip("verifying a million instructions takes minutes in an emulated kernel")
    limit = "const volatile __u64 limit = 5;" if name == "constant" else ""
    spec = build(f'{MAPS}{limit}SEC("{section}") int reject({context} *ctx) {{ {body} }}')
    with pytest.raises(bpf2py.VerifierError) as caught:
        bpf2py.load(spec)
    if hint is None:
        assert caught.value.hint is None, caught.value.hint
    else:
        assert hint in (caught.value.hint or ""), f"{caught.value}\n{caught.value.log[-1500:]}"


@pytest.mark.kernel
def test_a_helper_for_gpl_programs_only(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    spec = build('SEC("tp/a/b") int reject(void *ctx) { bpf_printk("x"); return 0; }')
    spec.license = "Proprietary"
    with pytest.raises(bpf2py.VerifierError) as caught:
        bpf2py.load(spec)
    assert GPL in (caught.value.hint or "")


# What other kernels write: 5.4 to 5.15 by their selftests, the later ones as recorded.
LOGS = [
    ("0: (bf) r6 = r1\n1: (79) r0 = *(u64 *)(r0 +0)\nR0 invalid mem access 'map_value_or_null'\nprocessed 2 "
     "insns (limit 1000000)", NULL),
    ("7: (71) r0 = *(u8 *)(r0 +0)          ; R0_w=mem_or_null(id=3,ref_obj_id=3,off=0,imm=0)\n"
     "R0 invalid mem access 'mem_or_null'\n", NULL),
    ("12: (79) r1 = *(u64 *)(r0 +8)\nR0 invalid mem access 'ptr_or_null_'\n", NULL),
    ("11: (85) call bpf_sk_release#86\nPossibly NULL pointer passed to trusted arg0\n", NULL),
    ("5: (71) r0 = *(u8 *)(r1 +13)\ninvalid access to packet, off=13 size=1, R1(id=0,off=0,r=0)\nR1 offset is "
     "outside of the packet\n", PACKET),
    ("2: (69) r0 = *(u16 *)(r1 +12)        ; R1_w=pkt(r=0)\ninvalid access to packet, off=12 size=2, R1(id=0,off=12,r=0)\n"
     "R1 offset is outside of the packet\nprocessed 3 insns", PACKET),
    ("combined stack size of 2 calls is 624. Too large\n", STACK),
    ("3: (95) exit\nR0 !read_ok\nprocessed 4 insns", INITIALISE),
    ("4: (85) call bpf_map_lookup_elem#1\ninvalid indirect read from stack off -4+0 size 4\n", INITIALISE),
    ("4: (85) call bpf_map_lookup_elem#1\ninvalid indirect read from stack R2 off -4+0 size 4\n", INITIALISE),
    ("5: (61) r1 = *(u32 *)(r10 -8)\ninvalid read from stack off -8+0 size 4\n", INITIALISE),
    ("9: (61) r0 = *(u32 *)(r0 +0)\ninvalid access to map value, value_size=8 off=8 size=4\nR0 min value is "
     "outside of the array range\n", BOUND),
    ("9: (61) r0 = *(u32 *)(r0 +0)\nR0 unbounded memory access, make sure to bounds check any array access into "
     "a map\n", BOUND),
    ("9: (61) r0 = *(u32 *)(r0 +0)\nR0 unbounded memory access, make sure to bounds check any such access\n", BOUND),
    ("9: (61) r0 = *(u32 *)(r0 +0)\nR0 min value is negative, either use unsigned index or do a if (index >=0) "
     "check.\n", BOUND),
    ("9: (85) call bpf_probe_read#4\nR2 min value is negative, either use unsigned or 'var &= const'\n", BOUND),
    ("9: (85) call bpf_perf_event_output#25\nR5 unbounded memory access, use 'var &= const' or 'if (var < const)'\n", BOUND),
    ("2: (85) call bpf_redirect#23\nunknown func bpf_redirect#23\n", HELPER),
    ("2: (85) call bpf_redirect#23\nprogram of this type cannot use helper bpf_redirect#23\n", HELPER),
    ("2: (85) call bpf_trace_printk#6\ncannot call GPL-restricted function from non-GPL compatible program\n", GPL),
    ("2: (85) call bpf_trace_printk#6\ncannot call GPL only function from proprietary program\n", GPL),
    ("20: (95) exit\nUnreleased reference id=2 alloc_insn=5\n", RELEASE),
    ("20: (95) exit\nUnreleased reference id=2 alloc_insn=5\nBPF_EXIT instruction in main prog would lead to "
     "reference leak\n", RELEASE),
    ("20: (85) call bpf_tail_call#12\ntail_call would lead to reference leak\n", RELEASE),
    ("back-edge from insn 5 to 2\n", LOOP),
    ("5: (05) goto pc-3\ninfinite loop detected at insn 2\ncur state: R0=scalar() R10=fp0\nold state: "
     "R0=scalar() R10=fp0\n", LOOP),
    ("BPF program is too large. Processed 1000001 insn\nprocessed 1000001 insns (limit 1000000) max_states_per_insn 4", BUDGET),
    ("12: (05) goto pc-3\nThe sequence of 8193 jumps is too complex.\n", BUDGET),
    ("2: (61) r0 = *(u32 *)(r1 +0)\nR1 invalid mem access 'inv'\n", KERNEL),
    ("2: (61) r0 = *(u32 *)(r1 +0)         ; R1_w=scalar()\nR1 invalid mem access 'scalar'\n", KERNEL),
    ("2: (61) r0 = *(u32 *)(r1 +1000)      ; R1=ctx()\ninvalid bpf_context access off=1000 size=4\n", KERNEL),
    ("6: (7b) *(u64 *)(r0 +0) = r1\nwrite into map forbidden, value_size=8 off=0 size=8\n", READ_ONLY),
    ("1: (95) exit\nAt program exit the register R0 has value (0x11; 0x0) should have been in (0x0; 0x3)\n", None),
    ("1: (95) exit\nAt program exit the register R0 has smin=17 smax=17 should have been in [0, 3]\n", None),
    ("0: (b7) r0 = 0\nsome words nobody has written a hint for\n", None),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("log", "hint"), LOGS, ids=[str(number) for number in range(len(LOGS))])
def test_logs_of_other_kernels(log: str, hint: str | None) -> None:
    summary = summarize(log)
    found = hint_for(summary)
    if hint is None:
        assert found is None
    else:
        assert hint in (found or ""), summary


# As Linux 7.3 writes it.
REPORTED = """0: R1=ctx() R10=fp0
; int f(void *ctx) { long x; asm volatile("%0 = r4" : "=r"(x)); return x; } @ f.bpf.c:13
0: (bf) r0 = r4
R4 !read_ok

Verification failed: Register Type Safety: Unreadable register

Reason:
  R4 has never been initialized on this path, so the verifier cannot use it as an
  input.

At:
  reject @ f.bpf.c:13:47
  Source context:
>>> 13 | int f(void *ctx) { long x; asm volatile("%0 = r4" : "=r"(...
       | ^-- error: R4 is not readable
  Instruction context:
  >>> 0 | (bf) r0 = r4
      1 | (95) exit

Causal path:
  no retained diagnostic events on this path

Suggestion:
  Initialize R4 on every path before this instruction.

processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_the_report_of_newer_kernels() -> None:
    """It comes after the old message, which stays what the error says; its reason is added."""
    found = summarize(REPORTED)
    assert (found.lines, found.instruction, found.text) == (["R4 !read_ok"], 0, "r0 = r4")
    assert found.reason == "R4 has never been initialized on this path, so the verifier cannot use it as an input."
    assert found.suggestion == "Initialize R4 on every path before this instruction."
    assert INITIALISE in (hint_for(found) or ""), "ours, where there is one"
    unknown = summarize(REPORTED.replace("R4 !read_ok", "something new is wrong"))
    assert hint_for(unknown) == found.suggestion
    assert summarize(REPORTED.partition("\nVerification")[0])[:4] == found[:4]
    assert summarize(REPORTED.partition("Suggestion:")[0]).suggestion == "", "a log may be cut anywhere"
