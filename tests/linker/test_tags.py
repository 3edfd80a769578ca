"""What the kernel gets from bpf2py is what it gets from bpftool: the same program tag, a hash of the instructions."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import bpf2py
from bpf2py.toolchain.compiler import compile

# libbpf refuses a value type on a RINGBUF, which is how its records are typed here.
EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.bpf.c"))
    if "BPF_MAP_TYPE_RINGBUF" not in path.read_text()
]
BPFTOOL = shutil.which("bpftool")
CORE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
struct task_struct___now { int pid; struct mm_struct *mm; } __attribute__((preserve_access_index));
int seen; const volatile int limit = 5;
static __noinline int sum(int x) { return x + limit; }
static long each(__u32 i, void *ctx) { seen += sum(i); return 0; }
SEC("raw_tracepoint/sched_switch") int offsets(struct bpf_raw_tracepoint_args *ctx) {
    struct task_struct *task = (void *)ctx->args[1];
    struct task_struct___now *now = (void *)task;
    unsigned long start = BPF_CORE_READ(task, mm, start_code) + BPF_CORE_READ(now, pid);
    seen += start + bpf_core_field_size(task->comm) + bpf_core_type_size(struct task_struct);
    return BPF_CORE_READ_BITFIELD_PROBED(task, sched_reset_on_fork) + bpf_core_field_exists(task->tgid);
}
SEC("tp_btf/sched_switch") int BPF_PROG(direct, bool preempt, struct task_struct *prev, struct task_struct *next) {
    seen = next->pid + bpf_core_enum_value(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF) + sum(prev->tgid);
    return 0;
}
SEC("socket") int loops(struct __sk_buff *skb) { bpf_loop(skb->len & 7, each, 0, 0); return sum(2); }
char LICENSE[] SEC("license") = "GPL";
"""

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(BPFTOOL is None, reason="bpftool is not installed: nothing to compare the programs with"),
]


def tags_by_bpftool(data: bytes, directory: Path, bpffs: Path) -> dict[str, str]:
    assert BPFTOOL is not None
    (directory / "object.o").write_bytes(data)
    command = [BPFTOOL, "prog", "loadall", str(directory / "object.o"), str(bpffs / "all")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {}
    for pinned in (bpffs / "all").iterdir():
        shown = subprocess.run([BPFTOOL, "-j", "prog", "show", "pinned", str(pinned)], capture_output=True, check=True)
        found[pinned.name] = str(json.loads(shown.stdout)["tag"])
    return found


def check(data: bytes, directory: Path, bpffs: Path) -> None:
    expected = tags_by_bpftool(data, directory, bpffs)
    with bpf2py.load(data) as obj:
        tags = {name: bytes(program.info.tag).hex() for name, program in obj.programs.items()}
    assert tags == expected


@pytest.mark.parametrize("source", EXAMPLES, ids=lambda path: path.name)
def test_examples(source: Path, tmp_path: Path, bpffs: Path) -> None:
    check(compile(source), tmp_path, bpffs)


def test_relocations_and_subprograms(compile_bpf: Callable[[str], bytes], tmp_path: Path, bpffs: Path) -> None:
    data = compile_bpf(CORE)
    check(data, tmp_path, bpffs)
    with bpf2py.load(data) as obj:
        assert len({program.info.tag for program in obj.programs.values()}) == 3


GLOBALS = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
const volatile int limit = 5;
const volatile long start = 6;
const int table[4] = {1, 2, 3, 4};
static const volatile char mode = 7;
int __attribute__((weak)) fallback = 3;
const volatile short in_a_section SEC(".rodata.more") = 1, another SEC(".rodata.more") = 2;
int written, counted = 4;
struct guarded { struct bpf_spin_lock lock; struct bpf_timer timer; int n; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct guarded); }
    guarded SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, long); }
    stored SEC(".maps");
static long each(__u32 i, void *ctx) { written += table[i & 3] + another; return 0; }
static int fired(void *map, int *key, struct guarded *value) { written += mode; return 0; }
SEC("tp_btf/sched_switch") int uses_types(void *ctx) {
    int key = 0;
    struct guarded *value = bpf_map_lookup_elem(&guarded, &key);
    long *own = bpf_task_storage_get(&stored, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (value) { bpf_timer_init(&value->timer, &guarded, 1); bpf_timer_set_callback(&value->timer, fired); }
    bpf_loop(limit, each, 0, 0);
    return own ? *own + start + in_a_section + fallback + counted : 0;
}
SEC("tc") int locks(struct __sk_buff *skb) {
    int key = 0;
    struct guarded *value = bpf_map_lookup_elem(&guarded, &key);
    if (!value) return 0;
    bpf_spin_lock(&value->lock); value->n += limit; bpf_spin_unlock(&value->lock);
    return start;
}
char LICENSE[] SEC("license") = "GPL";
"""


def test_several_constants_and_what_needs_types(
    compile_bpf: Callable[[str], bytes], tmp_path: Path, bpffs: Path
) -> None:
    data = compile_bpf(GLOBALS)
    check(data, tmp_path, bpffs)
    with bpf2py.load(data) as obj:
        assert obj.warnings == []
        assert {program.info.btf_id > 0 for program in obj.programs.values()} == {True}
        constants = {name: v.value for name, v in obj.variables.items() if v.spec.constant}
    assert [constants[name] for name in ("limit", "start", "another")] == [5, 6, 2]


TYPEDEFS = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
int seen;
SEC("raw_tp/sched_switch") int typedefs(void *ctx) {
    seen = bpf_core_enum_value(socket_state, SS_CONNECTED) + bpf_core_enum_value_exists(socket_state, SS_DISCONNECTING);
    seen += bpf_core_type_exists(socket_state) + bpf_core_type_size(socket_state) + bpf_core_type_size(pid_t);
    return bpf_core_type_matches(socket_state) + bpf_core_type_exists(wait_queue_head_t);
}
char LICENSE[] SEC("license") = "GPL";
"""


def test_typedefs_of_types_without_a_name(compile_bpf: Callable[[str], bytes], tmp_path: Path, bpffs: Path) -> None:
    check(compile_bpf(TYPEDEFS), tmp_path, bpffs)
