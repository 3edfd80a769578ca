"""Every helper with every kind of argument, on kernel and engine: edge values, flags, bad addresses, and the same answers.

A row is a piece of C, the section it runs in, and the values of `in.a`, `in.b`, ...; what it leaves in `out`, `buf` and the packet,
and its verdict, are compared. What the verifier does not let through cannot be compared and is left out.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.errors import BpfError
from bpf2py.uapi.cpus import possible_cpus

pytestmark = [pytest.mark.kernel, pytest.mark.since("6.18")]

MOST = 250  # of the combinations of one row
HEADER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct bpf_map;
#ifdef __TARGET_ARCH_arm64 /* a sign alone, and until Linux 6.13 any sum that folds to the same */
#define SIGN(compared) ({ long _c = (compared); (_c > 0) - (_c < 0); })
#define FOLDED(sum) ({ long _s = (sum); if (_s > 0) _s = (_s & 0xffff) + (_s >> 16); if (_s > 0) _s = (_s & 0xffff) + (_s >> 16); \\
    _s == 0xffff ? 0 : _s; })
#else
#define SIGN(compared) (compared)
#define FOLDED(sum) (sum)
#endif
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 size) __ksym __weak;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *ptr, __u32 start, __u32 end) __ksym __weak;
extern _Bool bpf_dynptr_is_null(const struct bpf_dynptr *ptr) __ksym __weak;
extern _Bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *ptr) __ksym __weak;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *ptr) __ksym __weak;
extern int bpf_dynptr_clone(const struct bpf_dynptr *ptr, struct bpf_dynptr *clone) __ksym __weak;
extern int bpf_strlen(const char *text) __ksym __weak;
extern int bpf_strnlen(const char *text, __u64 limit) __ksym __weak;
extern int bpf_strcmp(const char *a, const char *b) __ksym __weak;
extern int bpf_strcasecmp(const char *a, const char *b) __ksym __weak;
extern int bpf_strchr(const char *text, char c) __ksym __weak;
extern int bpf_strchrnul(const char *text, char c) __ksym __weak;
extern int bpf_strnchr(const char *text, __u64 limit, char c) __ksym __weak;
extern int bpf_strrchr(const char *text, char c) __ksym __weak;
extern int bpf_strspn(const char *text, const char *accept) __ksym __weak;
extern int bpf_strcspn(const char *text, const char *reject) __ksym __weak;
extern int bpf_strstr(const char *text, const char *part) __ksym __weak;
extern int bpf_strnstr(const char *text, const char *part, __u64 limit) __ksym __weak;

#define KEYED(name, kind, entries, flags, key_type) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, entries); __uint(map_flags, flags); \\
        __type(key, key_type); __type(value, __u64); } name SEC(".maps")
#define FDS(name, kind) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 4); \\
        __type(key, __u32); __type(value, __u32); } name SEC(".maps")
#define QUEUED(name, kind) \\
    struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 4); __type(value, __u64); } name SEC(".maps")
#define RING(name, kind) struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 4096); } name SEC(".maps")
KEYED(hash, HASH, 4, 0, __u32);
KEYED(array, ARRAY, 4, 0, __u32);
KEYED(percpu_array, PERCPU_ARRAY, 4, 0, __u32);
KEYED(percpu_hash, PERCPU_HASH, 4, 0, __u32);
KEYED(lru, LRU_HASH, 4, 0, __u32);
KEYED(lpm, LPM_TRIE, 4, 1, __u64);
KEYED(of_sockets, SK_STORAGE, 0, 1, __u32);
QUEUED(queue, QUEUE);
QUEUED(stack, STACK);
QUEUED(bloom, BLOOM_FILTER);
RING(ring, RINGBUF);
RING(user_ring, USER_RINGBUF);
FDS(perf, PERF_EVENT_ARRAY);
FDS(progs, PROG_ARRAY);
FDS(cgroups, CGROUP_ARRAY);
FDS(devices, DEVMAP);
FDS(devices_hash, DEVMAP_HASH);
FDS(cpus, CPUMAP);
FDS(sockets, XSKMAP);
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 4); __type(key, __u32); __uint(value_size, 80); }
    stacks SEC(".maps");

struct numbers { __u64 a, b, c, d, e; } in;
__s64 out[8];
unsigned char buf[128], src[128], tmp[128];
static long each(struct bpf_map *map, const void *key, void *value, void *ctx) { return in.c & 1; }
static long turn(__u32 i, void *ctx) { return in.c && i + 1 == in.c; }
static long drain(struct bpf_dynptr *record, void *ctx) { return 0; }
#define VALUE(pointer) ({ __u64 *found = (pointer); found ? (__s64)*found : -999; })
#define TEXT ((char *)src)
"""
CONTEXTS = {"tc": "struct __sk_buff", "socket": "struct __sk_buff", "xdp": "struct xdp_md"}


class Row(NamedTuple):
    """What is tried, where, and with which numbers."""

    section: str
    body: str
    values: tuple[Sequence[int], ...] = ()


FLAGS = [0, 1, 2, 3, 4, 5, 8, 1 << 32, 1 << 63, (1 << 64) - 1]
EDGES = [
    0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 24, 63, 64, 255, 256, 4096, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 1 << 63,
    (1 << 64) - 1,
]  # fmt: skip
KEYS = [0, 1, 3, 4, 5, 0xFFFFFFFF]
ADDRESSES = [0, 1, 8, 4095, 1 << 47, (1 << 64) - 8, (1 << 64) - 1]
SIZES = [0, 1, 8, 64]
PACKET_OFFSETS = [*EDGES, 50, 52, 53, 66, 67, 74]
CHECKSUM_PLACES = [0, 1, 14, 24, 25, 72, 73, 74, 0xFFFF, 0x10000, 1 << 31]


def negative(*numbers: int) -> list[int]:
    return [-number & 0xFFFFFFFF for number in numbers]


def updates() -> Iterator[tuple[str, Row]]:
    update = (
        "__u64 value = 7; out[0] = bpf_map_update_elem(&{0}, &key, &value, in.c); out[1] = VALUE(bpf_map_lookup_elem(&{0}, &key));"
        "out[2] = bpf_map_delete_elem(&{0}, &key);"
    )
    for name in ("hash", "array", "percpu_array", "percpu_hash", "lru"):
        yield f"update_{name}", Row("raw_tp/x", "__u32 key = in.a;" + update.format(name), (KEYS, [0], FLAGS))
        walk = f"__u32 key = 1; __u64 value = 2; bpf_map_update_elem(&{name}, &key, &value, 0);"
        walk += f"out[0] = bpf_for_each_map_elem(&{name}, each, 0, in.a);"
        yield f"for_each_{name}", Row("raw_tp/x", walk, (FLAGS, [0], [0, 1]))
    prefixes = [0, 8, 32, 33, 255, 5 << 32 | 16, 0xFFFFFFFF]
    yield "update_lpm", Row("raw_tp/x", "__u64 key = in.a;" + update.format("lpm"), (prefixes, [0], FLAGS))
    for name in ("percpu_array", "percpu_hash"):
        body = f"__u32 key = in.a; __u64 value = 5; bpf_map_update_elem(&{name}, &key, &value, 0);"
        body += f"out[0] = bpf_map_lookup_percpu_elem(&{name}, &key, in.b) != 0;"
        yield f"lookup_percpu_{name}", Row("raw_tp/x", body, (KEYS, EDGES))
    for name in ("queue", "stack", "bloom"):
        body = f"__u64 value = in.a, seen; out[0] = bpf_map_push_elem(&{name}, &value, in.b); seen = in.a;"
        body += f"out[1] = bpf_map_peek_elem(&{name}, &seen); out[2] = seen;"
        if name != "bloom":
            body += f"seen = 9; out[3] = bpf_map_pop_elem(&{name}, &seen); out[4] = seen;"
        yield f"push_{name}", Row("raw_tp/x", body, ([1, 2], FLAGS))


def rings() -> Iterator[tuple[str, Row]]:
    yield "ringbuf_output", Row("syscall", "out[0] = bpf_ringbuf_output(&ring, src, in.a & 127, in.b);", (SIZES, FLAGS))
    for end in ("submit", "discard"):
        body = "void *record = bpf_ringbuf_reserve(&ring, 16, in.a); out[0] = !!record;"
        body += f"if (record) bpf_ringbuf_{end}(record, in.b);"
        yield f"ringbuf_{end}", Row("syscall", body, (FLAGS, FLAGS))
    for size in (0, 1, 8, 4000, 4080, 4088, 4089, 4096, 8192):
        body = f"void *record = bpf_ringbuf_reserve(&ring, {size}, 0); out[0] = !!record;"
        body += "if (record) bpf_ringbuf_discard(record, 0);"
        yield f"ringbuf_reserve_{size}", Row("syscall", body)
    yield "ringbuf_query", Row("syscall", "out[0] = bpf_ringbuf_query(&ring, in.a);", (EDGES,))
    yield "user_ringbuf_drain", Row("syscall", "out[0] = bpf_user_ringbuf_drain(&user_ring, drain, 0, in.a);", (FLAGS,))
    lengths = [
        *EDGES,
        0xFFFFFFFF | 5 << 32,
        3 | 1 << 32,
        1 << 52,
        200 << 32 | 1,
        60 << 32 | 1,
        61 << 32 | 1,
        74 << 32,
        75 << 32,
    ]
    for section in ("raw_tp/x", "tc", "socket", "xdp"):
        body = "out[0] = bpf_perf_event_output(ctx, &perf, in.b, src, in.a & 127);"
        yield f"perf_event_output_{section[:3]}", Row(section, body, (SIZES, lengths))
    yield "perf_event_read", Row("raw_tp/x", "out[0] = bpf_perf_event_read(&perf, in.a);", (EDGES,))
    for size in (8, 16, 24, 32):
        yield (
            f"perf_event_read_value_{size}",
            Row("raw_tp/x", f"out[0] = bpf_perf_event_read_value(&perf, in.a, (void *)buf, {size});", (EDGES,)),
        )


def memory() -> Iterator[tuple[str, Row]]:
    for kind in ("kernel", "user"):
        for text in ("", "_str"):
            body = f"out[0] = bpf_probe_read_{kind}{text}(buf, in.a & 127, (void *)in.b);"
            yield f"probe_read_{kind}{text}", Row("raw_tp/x", body, (SIZES, ADDRESSES))
    for name in ("probe_read_kernel", "probe_read_kernel_str", "probe_read", "probe_read_str"):
        yield f"{name}_good", Row("raw_tp/x", f"out[0] = bpf_{name}(buf, in.a & 127, src);", ([0, 1, 2, 5, 8, 30, 64],))
    yield (
        "copy_from_user",
        Row("syscall", "out[0] = bpf_copy_from_user(buf, in.a & 127, (void *)in.b);", (SIZES, ADDRESSES)),
    )


def tasks() -> Iterator[tuple[str, Row]]:
    body = "struct bpf_pidns_info info = {}; out[0] = bpf_get_ns_current_pid_tgid(in.a, in.b, &info, 8); out[1] = info.pid != 0;"
    yield "ns_pid", Row("raw_tp/x", body, ([0, 1, 5, 1 << 32], [0, 1, 1 << 32]))
    for size in (4, 9, 16):
        yield f"ns_pid_{size}", Row("raw_tp/x", f"out[0] = bpf_get_ns_current_pid_tgid(0, 0, (void *)buf, {size});")
    stack = [0, 255, 256, 512, 1024, 2048, 4096, 1 << 32, 1 << 63, 0x900]
    body = "out[0] = bpf_get_stack(ctx, buf, in.a & 127, in.b); if (out[0] > 0) out[0] = 0; __builtin_memset(buf, 0, sizeof(buf));"
    yield "get_stack", Row("raw_tp/x", body, ([0, 4, 8, 12, 64], stack))
    body = "out[0] = bpf_get_stackid(ctx, &stacks, in.a); if (out[0] > 0) out[0] = 0;"
    yield "get_stackid", Row("raw_tp/x", body, ([4096, 8192, 0xFFFFF000, 1 << 11, 1 << 63],))
    yield "under_cgroup", Row("raw_tp/x", "out[0] = bpf_current_task_under_cgroup(&cgroups, in.a);", (EDGES,))
    yield "skb_under_cgroup", Row("tc", "out[0] = bpf_skb_under_cgroup(ctx, &cgroups, in.a);", (EDGES,))
    ancestors = ([0, 30, 0xFFFFFFFF, 1 << 31],)
    yield "ancestor", Row("raw_tp/x", "out[0] = bpf_get_current_ancestor_cgroup_id(in.a) != 0;", ancestors)
    yield "send_signal", Row("raw_tp/x", "out[0] = bpf_send_signal(in.a);", ([0, 65, 1000, 0xFFFFFFFF],))
    yield "tail_call", Row("raw_tp/x", "bpf_tail_call(ctx, &progs, in.a); out[0] = 1;", (EDGES,))
    body = "out[0] = bpf_loop(in.a, turn, 0, in.b);"
    yield "loop", Row("syscall", body, ([0, 1, 10, 1 << 16, (1 << 23) + 1, 0xFFFFFFFF], [0, 1, 1 << 63], [0, 3]))


FORMATS = [
    "%d", "%5d|%-5d", "%s", "%10s|%-10s|", "%x%X%u", "%llx %lld", "%c%c", "%px", "%ps", "%pB", "%pI4", "%pi4", "%pI6", "%pi6",
    "%pks", "%pus", "%s%s", "%s %d", "%sa", "%s.", "%s%%", "%pa", "%pI5", "%pk", "%z", "%", "%%", "%5", "%-", "%.5d", "%#x",
    "%lc", "%hd", "%lls", "%i", "%ld", "%5c|", "%-5c|", "%05d", "%+5d", "%010x", "%lu%lu%lu%lu",
    "%5%", "%-%", "a\\nb", "a\\tb", "a\\x01b",
    "%d %d %d %d",
    "%08llx", "%+s", "%0s", "% x", "%pS", "%px.", "%pxa", "%pz", "%-20s|", "%20px|", "%-20px|", "%020px|", "%s%s%s%s", "%pI4abc",
    "%20pI4|", "%999999999d", "%9999999999d", "\\x80",
]  # fmt: skip


def texts() -> Iterator[tuple[str, Row]]:
    for number, form in enumerate(FORMATS):
        head = f'static const char form[] = "{form}"; __u64 values[4] = {{in.a, in.b, in.c, in.d}};'
        for count in (4,) if number % 4 else (0, 1, 4):
            body = f"{head} out[0] = bpf_snprintf((char *)buf, in.e & 63, form, values, {8 * count});"
            yield f"snprintf_{number}_{count}", Row("syscall", body, ([65, (1 << 64) - 5], [66], [1], [9], [63, 5]))
        texts = f'static const char form[] = "{form}"; __u64 at = (__u64)src, values[4] = {{at, at, at, at}};'
        if re.search("%[^s%]*[diuxXc]|%p[BsS](?![s])", form):
            continue  # would show an address
        body = f"{texts} out[0] = bpf_snprintf((char *)buf, in.e & 63, form, values, 32);"
        yield f"snprintf_{number}_texts", Row("syscall", body, ([0], [0], [0], [0], [63, 5, 0]))
        body = f'static const char form[] = "{form}"; out[0] = bpf_trace_printk(form, sizeof(form), in.a, in.b, in.c);'
        yield f"trace_printk_{number}", Row("syscall", body, ([65], [66], [67]))
        body = f"{head} out[0] = bpf_trace_vprintk(form, sizeof(form), values, in.e & 31);"
        yield f"trace_vprintk_{number}", Row("syscall", body, ([65], [66], [67], [68], [0, 8, 16, 24, 4]))
    for text in ("abcd", "a\\0cd"):
        body = f'char form[4] = {{"{text}"}}; out[0] = bpf_trace_printk(form, 4, 0, 0, 0);'
        yield f"trace_printk_{'unterminated' if text == 'abcd' else 'short'}", Row("syscall", body)
    bases = [0, 8, 10, 16, 2, 32, 256, 1 << 32, 1 << 63]
    for name, kind in (("strtol", "long"), ("strtoul", "unsigned long")):
        body = f"{kind} value = 5; out[0] = bpf_{name}(TEXT, (in.a & 126) + 1, in.b, &value); out[1] = value;"
        yield name, Row("syscall", body, ([0, 2, 4, 64], bases))
    yield (
        "strncmp",
        Row(
            "syscall",
            'static const char t[] = "12ab"; out[0] = SIGN(bpf_strncmp(TEXT, (in.a & 126) + 1, t));',
            ([0, 2, 4, 64],),
        ),
    )
    arguments = {
        "strlen": "{}", "strnlen": "{}, in.a", "strcmp": "{}, (char *)tmp", "strcasecmp": "{}, (char *)tmp", "strchr": "{}, in.a",
        "strchrnul": "{}, in.a", "strnchr": "{}, in.b, in.a", "strrchr": "{}, in.a", "strspn": "{}, (char *)tmp",
        "strcspn": "{}, (char *)tmp", "strstr": "{}, (char *)tmp", "strnstr": "{}, (char *)tmp, in.a",
    }  # fmt: skip
    for name, form in arguments.items():
        numbers = ([0, 1, 2, 3, 49, 97, 98, 255, 256, 1 << 32], [0, 2, 5, 100])
        yield name, Row("syscall", f"out[0] = bpf_{name}({form.format('TEXT')});", numbers)
        body = f"out[0] = bpf_{name}({form.format('(char *)in.c')});"
        yield f"{name}_bad", Row("syscall", body, ([97], [5], [0, 8, 4095, 1 << 47, (1 << 64) - 8]))


def packets() -> Iterator[tuple[str, Row]]:
    adjust = [0, 4, 20, 100, *negative(4, 20, 40, 60), 0xFFF, 0x1000]
    adjust_flags = [
        0,
        1,
        2,
        4,
        6,
        8,
        0x10,
        0x18,
        0x1A,
        0x20,
        0x40,
        0x42,
        0x80,
        0x100,
        0x180,
        0x200,
        14 << 56 | 0x42,
        30 << 56 | 2,
    ]
    checksum_flags = [0, 1, 2, 3, 4, 8, 15, 16, 0x10, 0x12, 0x20, 0x22, 0x24, 0x40, 0x42, 0x62, 0x80, 0x82, 0x92, 0x100]
    mtu = ([0, 1, 99999, *negative(1)], [0, 1, 60, 65536, 70000], [0, 1, *negative(1), 2000, 0x80000000], [0, 1, 2])
    mtu_call = "__u32 length = in.b; out[0] = bpf_check_mtu(ctx, in.a, &length, in.c, in.d); out[5] = length;"
    calls: dict[str, tuple[Sequence[int], ...]] = {
        "bpf_skb_load_bytes(ctx, in.a, buf, 8)": (PACKET_OFFSETS,),
        "bpf_skb_store_bytes(ctx, in.a, src, 8, in.b)": (PACKET_OFFSETS, FLAGS),
        "bpf_skb_load_bytes_relative(ctx, in.a, buf, 8, in.b)": (PACKET_OFFSETS, [0, 1, 2, 1 << 32]),
        "bpf_skb_pull_data(ctx, in.a)": ([*EDGES, 60, 73, 74, 75],),
        "bpf_skb_change_tail(ctx, in.a, in.b)": ([*EDGES, 13, 14, 33, 34, 100, 16064, 16065, 65535], FLAGS),
        "bpf_skb_change_head(ctx, in.a, in.b)": ([0, 1, 14, 100, 1000, 15990, 15991, 0xFFFFFFFF], FLAGS),
        "bpf_skb_adjust_room(ctx, in.a, in.b, in.c)": (adjust, [0, 1, 2], adjust_flags),
        "bpf_skb_vlan_push(ctx, in.a, in.b)": ([0, 0x81, 0xA888, 0x800, 0x10081], [0, 5, 0xFFF, 0xFFFF, 0x10005]),
        "bpf_skb_vlan_pop(ctx)": (),
        "bpf_skb_change_type(ctx, in.a)": (EDGES,),
        "bpf_set_hash(ctx, in.a)": (EDGES,),
        "bpf_l3_csum_replace(ctx, in.a, in.b, in.c, in.d)": (
            CHECKSUM_PLACES,
            [0, 5, 0xFFFF],
            [7, 0xFFFFFFFF],
            [0, 1, 2, 3, 4, 8, 16],
        ),
        "bpf_l4_csum_replace(ctx, in.a, in.b, in.c, in.d)": (
            CHECKSUM_PLACES,
            [0, 5, 0xFFFF],
            [7, 0xFFFFFFFF],
            checksum_flags,
        ),
        "FOLDED(bpf_csum_diff((void *)src, in.a & 60, (void *)tmp, in.b & 60, in.c))": (
            [0, 4, 8, 60],
            [0, 4, 60],
            [0, 1, 0xFFFF, 0xFFFFFFFF],
        ),
        "bpf_csum_update(ctx, in.a)": (EDGES,),
        "bpf_csum_level(ctx, in.a)": (EDGES,),
        "bpf_redirect(in.a, in.b)": ([0, 1, 5], FLAGS),
        "bpf_redirect_peer(in.a, in.b)": ([0, 1, 5], FLAGS),
        "bpf_redirect_neigh(in.a, 0, 0, in.b)": ([0, 1, 5], FLAGS),
        "bpf_get_socket_uid(ctx)": (),
        "bpf_get_socket_cookie(ctx) != 0": (),
        "bpf_get_cgroup_classid(ctx)": (),
        "bpf_get_route_realm(ctx)": (),
        "bpf_get_hash_recalc(ctx) != 0": (),
        "bpf_skb_cgroup_id(ctx)": (),
        "bpf_clone_redirect(ctx, in.a, in.b)": ([0, 99999], FLAGS),
        "bpf_skb_ecn_set_ce(ctx)": (),
        "bpf_skb_set_tstamp(ctx, in.a, in.b)": ([0, 1, 5], [0, 1, 2, 3, 1 << 32]),
    }
    seen = "out[1] = ctx->len; out[2] = ctx->protocol; out[3] = ctx->vlan_tci; out[4] = ctx->vlan_present; out[6] = ctx->pkt_type;"
    for call, values in calls.items():
        yield f"tc_{call.split('(')[0]}", Row("tc", f"out[0] = {call}; {seen}", values)
    yield "tc_check_mtu", Row("tc", mtu_call, mtu)
    pushes = (
        "bpf_skb_vlan_push(ctx, in.a, 1); bpf_skb_vlan_push(ctx, in.b, 2); if (in.c) bpf_skb_vlan_push(ctx, in.a, 3);"
    )
    for pops in (1, 2, 3):
        body = f"{pushes} for (int i = 0; i < {pops}; i++) out[0] = bpf_skb_vlan_pop(ctx);"
        body += f"{seen} out[5] = *(volatile __u32 *)&ctx->vlan_proto;"
        yield f"tc_vlan_{pops}", Row("tc", body, ([0x81, 0xA888], [0x81, 0xA888], [0, 1]))
    body = "struct bpf_sock *sk = ctx->sk; __u64 value = 7; if (!sk || !(sk = bpf_sk_fullsock(sk))) return 0;"
    body += "out[0] = VALUE(bpf_sk_storage_get(&of_sockets, sk, in.b ? &value : 0, in.a));"
    body += "out[1] = bpf_sk_storage_delete(&of_sockets, sk); out[2] = bpf_sk_storage_delete(&of_sockets, sk);"
    yield "tc_sk_storage", Row("tc", body, (FLAGS, [0, 1]))
    maps = ([0, 1, 2, 0xFFFFFFFF, 1 << 32], [0, 1, 2, 3, 4, 7, 8, 9, 16, 24, 0x20, 1 << 32])
    frames: dict[str, tuple[Sequence[int], ...]] = {
        "bpf_xdp_load_bytes(ctx, in.a, buf, 8)": (PACKET_OFFSETS,),
        "bpf_xdp_store_bytes(ctx, in.a, src, 8)": (PACKET_OFFSETS,),
        "bpf_xdp_adjust_head(ctx, in.a)": ([*EDGES, 60, 61, *negative(4, 216, 217)],),
        "bpf_xdp_adjust_meta(ctx, in.a)": ([*EDGES, *negative(4, 32, 36, 216, 220)],),
        "bpf_xdp_adjust_tail(ctx, in.a)": ([*EDGES, 3446, 3447, *negative(60, 61)],),
        "bpf_redirect(in.a, in.b)": ([0, 1, 5], FLAGS),
        "bpf_xdp_get_buff_len(ctx)": (),
        **{f"bpf_redirect_map(&{name}, in.a, in.b)": maps for name in ("devices", "devices_hash", "cpus", "sockets")},
    }
    seen = "out[1] = ctx->data_end - ctx->data; out[2] = ctx->data - ctx->data_meta;"
    for number, (call, values) in enumerate(frames.items()):
        yield f"xdp_{number}_{call.split('(')[0]}", Row("xdp", f"out[0] = {call}; {seen}", values)
    yield "xdp_check_mtu", Row("xdp", mtu_call, mtu)


def dynptrs() -> Iterator[tuple[str, Row]]:
    body = "struct bpf_dynptr p; out[0] = bpf_dynptr_from_mem(src, in.a & 127, in.b, &p);"
    body += "out[1] = bpf_dynptr_read(buf, 8, &p, in.c, in.d); out[2] = bpf_dynptr_data(&p, 0, 8) != 0;"
    yield (
        "from_mem",
        Row("syscall", body, (SIZES, [0, 1, 1 << 63], [0, 1, 8, 9, 56, 57, 0xFFFFFFFF, 1 << 32], [0, 1, 1 << 63])),
    )
    places = [0, 1, 112, 113, 127, 128, 129, 0xFFFFFFFF, 1 << 32]
    body = "struct bpf_dynptr p; bpf_dynptr_from_mem(buf, 128, 0, &p); out[0] = bpf_dynptr_write(&p, in.b, src, in.a & 31, in.c);"
    yield "write", Row("syscall", body, ([0, 1, 8, 16], places, [0, 1, 2, 1 << 63]))
    body = "struct bpf_dynptr p; bpf_dynptr_from_mem(buf, 128, 0, &p); out[0] = bpf_dynptr_data(&p, in.a, 8) != 0;"
    yield "data", Row("syscall", body, ([*places, 120, 121],))
    body = "struct bpf_dynptr p; out[0] = bpf_ringbuf_reserve_dynptr(&ring, in.a, in.b, &p);"
    body += "out[1] = bpf_dynptr_write(&p, 0, src, 8, 0);"
    body += "if (in.c) bpf_ringbuf_submit_dynptr(&p, in.d); else bpf_ringbuf_discard_dynptr(&p, in.d);"
    reserve = ([0, 8, 4088, 4089, 5000, 1 << 24, 0xFFFFFFFF], [0, 1, 1 << 63], [0, 1], [0, 1, 2])
    yield "ringbuf", Row("syscall", body, reserve)
    for section, kind in (("tc", "skb"), ("socket", "skb"), ("xdp", "xdp")):
        body = f"struct bpf_dynptr p; char part[8]; out[0] = bpf_dynptr_from_{kind}(ctx, in.a, &p);"
        body += "out[1] = bpf_dynptr_read(buf, 8, &p, in.b, in.c); out[2] = bpf_dynptr_write(&p, in.b, src, 8, in.d);"
        body += "out[3] = bpf_dynptr_size(&p); out[4] = bpf_dynptr_is_null(&p); out[5] = bpf_dynptr_is_rdonly(&p);"
        body += "out[6] = bpf_dynptr_slice(&p, in.b, part, 8) != 0;"
        yield (
            f"of_{section}",
            Row(section, body, ([0, 1], [0, 1, 52, 53, 66, 67, 75, 0xFFFFFFFF], [0, 1], [0, 1, 2, 3, 4, 8])),
        )
    body = "struct bpf_dynptr p, q; bpf_dynptr_from_mem(src, 64, 0, &p); out[0] = bpf_dynptr_adjust(&p, in.a, in.b);"
    body += "out[1] = bpf_dynptr_size(&p); out[2] = bpf_dynptr_clone(&p, &q); out[3] = bpf_dynptr_size(&q);"
    body += "out[4] = bpf_dynptr_read(buf, 4, &q, 0, 0);"
    yield "adjust", Row("syscall", body, ([0, 1, 5, 64, 65, 0xFFFFFFFF], [0, 1, 5, 64, 65, 0xFFFFFFFF]))
    body = "struct bpf_dynptr p, q; bpf_dynptr_from_mem(src, 64, 1, &p); out[0] = bpf_dynptr_size(&p);"
    body += (
        "out[1] = bpf_dynptr_is_null(&p); out[2] = bpf_dynptr_is_rdonly(&p); out[3] = bpf_dynptr_adjust(&p, 0, 1);"
        "out[4] = bpf_dynptr_clone(&p, &q);"
    )
    body += "out[5] = bpf_dynptr_is_null(&q); out[6] = bpf_dynptr_write(&p, 0, src, 1, 0);"
    body += "out[7] = bpf_dynptr_read(buf, 1, &p, 0, 0);"
    yield "null", Row("syscall", body)


GROUPS: dict[str, Callable[[], Iterator[tuple[str, Row]]]] = {
    "maps": updates, "rings": rings, "memory": memory, "tasks": tasks, "texts": texts, "packets": packets, "dynptrs": dynptrs,
}  # fmt: skip
# What is in src: text for helpers that parse some, the first of them for all others.
PARSED = [b"12ab", b"12abc def", b"ab\0xx", b"", b"0x1f", b"-5", b"A1b2"]
PARSERS = ("str",)
IP = struct.pack(">BBHHHBBHII", 0x45, 1, 60, 7, 0, 64, 17, 0x1234, 0x7F000001, 0x7F000002)
PACKET = bytes(12) + b"\x08\x00" + IP + bytes(range(40))


def source(rows: dict[str, Row]) -> str:
    text = HEADER
    for name, row in rows.items():
        context = CONTEXTS.get(row.section, "void")
        text += f'SEC("?{row.section}") int p_{name}({context} *ctx) {{ {row.body} return {2 if row.section == "xdp" else 1}; }}\n'
    return text + 'char LICENSE[] SEC("license") = "GPL";'


def requests(name: str, row: Row) -> list[tuple[tuple[int, ...], bytes]]:
    numbers = list(itertools.product(*row.values))
    if len(numbers) > MOST:
        numbers = random.Random(len(name)).sample(numbers, MOST)
    return list(itertools.product(numbers, PARSED if name.startswith(PARSERS) else PARSED[:1]))


def answer(obj: Any, name: str, row: Row, numbers: tuple[int, ...], text: bytes) -> object:
    variables = obj.variables
    variables["in"].value = dict(itertools.zip_longest("abcde", numbers, fillvalue=0))
    variables["out"].value = [0] * 8
    variables["buf"].value = [0x7A] * 128
    variables["src"].value = list(text.ljust(128, b"\0"))
    variables["tmp"].value = list(b"ab".ljust(128, b"\0"))
    given: dict[str, Any] = (
        {"data": PACKET} if row.section in CONTEXTS else {"context": bytes(96)} if "tp" in row.section else {}
    )
    try:
        result = obj.programs[f"p_{name}"].test_run(**given)
    except BpfError as error:
        return str(error)
    return list(variables["out"].value), bytes(variables["buf"].value), result.return_value, result.data


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Runs of the kernel's programs stay on a CPU, whose values of per-CPU maps the next run finds."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    yield
    os.sched_setaffinity(0, cpus)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("group", GROUPS)
def test_calls(compile_bpf: Callable[[str], bytes], group: str) -> None:
    rows = dict(GROUPS[group]())
    spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(source(rows)))
    compared, wrong = 0, []
    for name, row in rows.items():
        for program in spec.programs.values():
            program.autoload = program.name == f"p_{name}"
        try:
            kernel = bpf2py.load(spec)
        except BpfError:
            continue
        with kernel, bpf2py.load(spec, backend=Engine(possible_cpus=possible_cpus())) as engine:
            for numbers, text in requests(name, row):
                found = [answer(obj, name, row, numbers, text) for obj in (kernel, engine)]
                compared += 1
                if found[0] != found[1]:
                    wrong.append(
                        f"{name} {list(map(hex, numbers))} {text!r}:\n  kernel {found[0]}\n  engine {found[1]}"
                    )
    assert not wrong, f"{len(wrong)} of {compared} differ:\n" + "\n".join(wrong[:10])
    assert compared > 50
