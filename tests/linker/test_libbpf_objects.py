"""Objects that use what libbpf accepts: loaded by bpftool and here, the programs are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.linker.test_tags import check, pytestmark  # noqa: F401  (what the tags' tests need, these do)

VMLINUX = ("kfunc", "struct_ops", "kptr")  # they use the kernel's types, which take long to compile
HEAD = """
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
char LICENSE[] SEC("license") = "GPL";
#define __kptr __attribute__((btf_type_tag("kptr")))
#define __arg_ctx __attribute__((btf_decl_tag("arg:ctx")))
"""
CASES = {
    "hidden": """
__hidden __noinline int h(int x){ return x*3; } __noinline int g(int x){ return x+h(x); }
SEC("socket") int p(struct __sk_buff *s) { return g(s->len); return 0; }
""",
    "weak func": """
__weak int w(int x){ return x*3; }
SEC("socket") int p(struct __sk_buff *s) { return w(s->len); return 0; }
""",
    "text order": """
static __noinline int a(int x){ return x*3; } static __noinline int b(int x){ return a(x)*5;
    } __noinline int c(int x){ return b(x)+a(x); }
SEC("tc") int q(struct __sk_buff *s) { return c(s->len); }
SEC("socket") int p(struct __sk_buff *s) { return b(s->len) + c(2) + a(1); }
""",
    "two in a section": """
SEC("socket") int p(struct __sk_buff *s) { return 1; }
SEC("socket") int q(struct __sk_buff *s) { return 2; }
SEC("socket") int r(struct __sk_buff *s) { return 3; }
""",
    "alias": """
SEC("socket") int p(struct __sk_buff *s) { return 1; }
extern int q(struct __sk_buff *s) __attribute__((alias("p")));
""",
    "alias weak": """
SEC("socket") int p(struct __sk_buff *s) { return 1; }
extern int q(struct __sk_buff *s) __attribute__((weak, alias("p")));
SEC("tc") int r(struct __sk_buff *s) { return 1; }
""",
    "map both": """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __uint(key_size, 4);
    __type(value, long); __uint(value_size, 8); } m SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "map ulong": """
struct { __uint(type, BPF_MAP_TYPE_BLOOM_FILTER); __uint(max_entries, 3); __type(value, long); __uint(map_extra, 3);
    } m SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { long v=1; return bpf_map_peek_elem(&m,&v); return 0; }
""",
    "map typedef def": """
typedef struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, long);
    } def_t; def_t m SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "map named struct twice": """
struct def { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, long);
    } m SEC(".maps"), n SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) || bpf_map_lookup_elem(&n,&k);
    return 0; }
""",
    "map hidden": """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, long);
    } m SEC(".maps") __hidden;
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "map weak": """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, long);
    } m SEC(".maps") __weak;
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "map of maps": """
struct in { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int);
    } i1 SEC(".maps"), i2 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4); __uint(key_size, 4);
    __array(values, struct in); } m SEC(".maps") = { .values = { (void *)&i1, [3] = (void*)&i2 } };
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "map of maps value_size": """
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4);
    __array(values, struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); }); } m SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "prog array": """
int t(struct __sk_buff *s);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4);
    __array(values, int (void *)); } m SEC(".maps") = { .values = { [2] = (void *)&t } };
SEC("socket") int t(struct __sk_buff *s) { return 7; }
SEC("socket") int p(struct __sk_buff *s) { bpf_tail_call(s,&m,2); return 0; }
""",
    "prog array types": """
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __type(key, int); __type(value, int);
    } m SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { bpf_tail_call(s,&m,2); return 0; }
""",
    "perf array max": """
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(max_entries, 2); __type(key, int); __type(value, int);
    } m SEC(".maps");
SEC("raw_tp/sys_enter") int p(void *ctx) { int x=1; return bpf_perf_event_output(ctx,&m,BPF_F_CURRENT_CPU,&x,4); }
""",
    "ringbuf 1000": """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1000); } m SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { int x=1; return bpf_ringbuf_output(&m,&x,4,0); return 0; }
""",
    "stack trace typed": """
typedef __u64 st[127];
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 10); __type(key, int); __type(value, st);
    } m SEC(".maps");
SEC("raw_tp/sys_enter") int p(void *ctx) { return bpf_get_stackid(ctx,&m,0); }
""",
    "cgroup storage u64": """
struct { __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE); __type(key, __u64); __type(value, long); } m SEC(".maps");
SEC("cgroup_skb/egress") int p(void *ctx) { long *v=bpf_get_local_storage(&m,0); return *v&1; }
""",
    "map DEVMAP_HASH": """
struct { __uint(type, BPF_MAP_TYPE_DEVMAP_HASH); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 8);
    } m SEC(".maps");
SEC("xdp") int p(void *ctx) { return &m != 0; }
""",
    "map USER_RINGBUF": """
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 4096); } m SEC(".maps");
SEC("xdp") int p(void *ctx) { return &m != 0; }
""",
    "arg ctx": """
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } m SEC(".maps");
__noinline int h(void *c __arg_ctx) { int x=1; return bpf_perf_event_output(c,&m,BPF_F_CURRENT_CPU,&x,4); }
SEC("raw_tp/sys_enter") int p(void *ctx) { return h(ctx); }
SEC("perf_event") int q(void *ctx) { return h(ctx); }
SEC("kprobe") int r(void *ctx) { return h(ctx); }
SEC("tp") int t(void *ctx) { return h(ctx); }
""",
    "weak data": """
int __weak w = 4; int __weak z; const volatile int __weak r = 7;
SEC("socket") int p(struct __sk_buff *s) { return w++ + z++ + r; return 0; }
""",
    "hidden data": """
int __hidden w = 4; __attribute__((visibility("internal"))) int z; const volatile int __hidden r = 7;
SEC("socket") int p(struct __sk_buff *s) { return w++ + z++ + r; return 0; }
""",
    "common": """
int tentative;
SEC("socket") int p(struct __sk_buff *s) { return tentative++; return 0; }
""",
    "const struct": """
struct cfg { int a; long b; char c[5]; }; const volatile struct cfg cfg = { 1, 2, "abc" }; struct cfg arr[3];
SEC("socket") int p(struct __sk_buff *s) { arr[0] = *(struct cfg*)&cfg; return arr[0].a; return 0; }
""",
    "strings": """
SEC("socket") int p(struct __sk_buff *s) { static const char fmt[] = "hi %d"; bpf_trace_printk(fmt, sizeof(fmt), 3);
    bpf_printk("x %d", 1); const char *q = "abc"; return q[s->len & 1]; return 0; }
""",
    "func addr callback global": """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, long); } m SEC(".maps");
static long cb(void *map, int *k, long *v, void *c) { return 0; }
SEC("socket") int p(struct __sk_buff *s) { return bpf_for_each_map_elem(&m, cb, 0, 0); return 0; }
""",
    "tail own": """
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4);
    } m SEC(".maps");
static __noinline int sub(struct __sk_buff *s) { bpf_tail_call(s,&m,1); return 3; }
SEC("socket") int p(struct __sk_buff *s) { return sub(s); return 0; }
""",
    "kconfig": """
extern int LINUX_KERNEL_VERSION __kconfig; extern _Bool LINUX_HAS_BPF_COOKIE __kconfig;
    extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig; extern _Bool CONFIG_NOTHING_HERE __kconfig __weak;
extern char CONFIG_NOPE[8] __kconfig __weak; extern enum libbpf_tristate CONFIG_TRI __kconfig __weak;
    extern long CONFIG_L __kconfig __weak; extern short CONFIG_S __kconfig __weak;
SEC("socket") int p(struct __sk_buff *s) { return LINUX_KERNEL_VERSION + LINUX_HAS_BPF_COOKIE +
    LINUX_HAS_SYSCALL_WRAPPER + CONFIG_NOTHING_HERE + CONFIG_NOPE[1] + CONFIG_TRI + CONFIG_L +
    CONFIG_S; return 0; }
""",
    "kfunc": """
struct task_struct *bpf_task_from_pid(s32 pid) __ksym; void bpf_task_release(struct task_struct *p) __ksym;
SEC("tp_btf/task_newtask") int p(void *ctx) { struct task_struct *t = bpf_task_from_pid(1); if (t) bpf_task_release(t);
    return 0; }
""",
    "struct_ops": """
SEC("struct_ops/init") void BPF_PROG(init, struct sock *sk) { }
SEC("struct_ops/ssthresh") __u32 BPF_PROG(ssthresh, struct sock *sk) { return 2; }
SEC("struct_ops/undo") __u32 BPF_PROG(undo, struct sock *sk) { return 2; }
SEC("struct_ops/cong_avoid") void BPF_PROG(cong, struct sock *sk, __u32 ack, __u32 acked) { }
SEC(".struct_ops") struct tcp_congestion_ops cc = { .init = (void*)init, .ssthresh = (void*)ssthresh,
    .undo_cwnd = (void*)undo, .cong_avoid = (void*)cong, .name = "h2_cc" };
""",
    "timer": """
struct v { struct bpf_timer t; struct bpf_spin_lock l; int x; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, struct v);
    } m SEC(".maps");
static int cb(void *m, int *k, struct v *v) { return 0; }
SEC("tc") int p(void *ctx) { int k=0; struct v *v = bpf_map_lookup_elem(&m,&k); if (!v) return 0;
    bpf_timer_init(&v->t,&m,1); bpf_timer_set_callback(&v->t, cb); bpf_spin_lock(&v->l); v->x++;
    bpf_spin_unlock(&v->l); return 0; }
""",
    "kptr": """
struct v { struct task_struct __kptr *t; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, struct v);
    } m SEC(".maps");
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "decl tags": """
struct v { int a __attribute__((btf_decl_tag("x"))); int __attribute__((btf_type_tag("user"))) *b; };
struct v g __attribute__((btf_decl_tag("y")));
SEC("socket") int p(struct __sk_buff *s) { return g.a; return 0; }
""",
    "enum64": """
enum big { BIG = 1ULL << 40, NEG = -5 }; enum big e = BIG;
SEC("socket") int p(struct __sk_buff *s) { return e == BIG; return 0; }
""",
    "float type": """
struct f { float a; double b; }; struct f *unused;
SEC("socket") int p(struct __sk_buff *s) { return 0; return 0; }
""",
    "map in data": """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, long); } m SEC(".maps");
void *keep = &m;
SEC("socket") int p(struct __sk_buff *s) { int k=0; return bpf_map_lookup_elem(&m,&k) ? 1 : 0; return 0; }
""",
    "loops": """
SEC("socket") int p(struct __sk_buff *s) { int t=0; for (int i=0;i<20;i++) t += s->mark >> i; while (t > 100) t /= 2;
    return t; return 0; }
""",
    "atomics": """
long c; int d;
SEC("socket") int p(struct __sk_buff *s) { __sync_fetch_and_add(&c, 1); __sync_fetch_and_xor(&d, 3);
    return __sync_val_compare_and_swap(&d, 1, 2) + __sync_lock_test_and_set(&c, 5); return 0; }
""",
    "uprobe forms": """
SEC("uprobe//proc/self/exe:0x10") int p(void *c){return 0;}
SEC("uretprobe/libc.so.6:malloc") int q(void *c){return 0;}
SEC("kprobe/f+0x5") int r(void *c){return 0;}
""",
    "empty prog section": """
SEC("socket") int p(struct __sk_buff *s) { return 0; }
__asm__(".section kprobe/x,\\"ax\\",@progbits");
""",
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_programs(name: str, compile_bpf: Callable[[str], bytes], tmp_path: Path, bpffs: Path) -> None:
    types = '#include "vmlinux.h"\n' if name in VMLINUX else "#include <stdbool.h>\n#include <linux/bpf.h>\n"
    check(compile_bpf(types + HEAD + CASES[name]), tmp_path, bpffs)
