// SPDX-License-Identifier: MIT
/* What programs of kinds/ do, written in C: each function has the name FILE_FUNCTION, each map FILE_MAP. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} loops_out SEC(".maps");

static void put(__u32 index, __u64 value)
{
	bpf_map_update_elem(&loops_out, &index, &value, BPF_ANY);
}

SEC("syscall")
int loops_f(void *ctx)
{
	__u64 total = 0, s = 0, i2 = 0;
	__u32 arr[4];
	int j, n = (__u32)bpf_get_current_pid_tgid() & 63;

	for (int i = 0; i < 8; i++)
		if (i != 3)
			total += i;
	put(0, total);
	bpf_for(j, 0, n)
		s += j;
	for (int k = 10; k > 0; k -= 2)
		s += k;
	while (i2 < 20)
		i2 += 3;
	put(1, s);
	put(2, i2);
	for (__u32 x = 0; x < 4; x++)
		arr[x] = x * x;
	for (__u32 x = 0; x < 4; x++)
		s += arr[x];
	put(3, s);
	return 0;
}

static __noinline __u64 sum(__u64 a, __u64 b)
{
	return a + b;
}

__u64 sub_counter;

__noinline int sub_check(__u32 a)
{
	sub_counter += a;
	return 7;
}

SEC("syscall")
int sub_f(void *ctx)
{
	return sub_check(3) + (int)sum(8, 4);
}

static long add_index(__u64 index, __u64 *total)
{
	*total += index;
	return 0;
}

SEC("syscall")
int loopcb_f(void *ctx)
{
	__u64 s = 0;

	bpf_loop(10, add_index, &s, 0);
	return s;
}

struct inner {
	__u16 a;
	__u8 b[6];
};

struct big {
	__u8 t;
	struct inner inner;
	struct inner many[3];
	__u32 grid[2][3];
} __attribute__((packed));

SEC("syscall")
int wide_f(void *ctx)
{
	struct big b = {};
	__u32 table[4] = {1, 2, 3}, n = 9, total = 0;

	b.t = 4;
	b.inner.a = n;
	for (int i = 0; i < 6; i++)
		b.inner.b[i] = n + i;
	b.many[1] = b.inner;
	b.grid[1][2] = table[2] + n * 2;
	b.many[1].b[0] += 1;
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 3; k++)
			total += b.grid[i][k];
	for (int i = 0; i < 3; i++)
		total += b.many[i].b[0];
	return total + b.grid[1][2] + b.t;
}

SEC("tc")
int throw_f(struct __sk_buff *ctx)
{
	return ctx->len > 5 ? 3 : 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} mom_inner1 SEC(".maps");

SEC("syscall")
int mom_f(void *ctx)
{
	__u64 seven = 7, one = 1;
	__u32 five = 5, six = 6;

	bpf_map_update_elem(&mom_inner1, &five, &seven, BPF_ANY);
	bpf_map_update_elem(&mom_inner1, &six, &one, BPF_ANY);
	return 7;
}

struct enum_flags {
	__u32 a : 3, b : 5;
	__u32 act;
	union {
		__u32 v4;
		__u32 v6[4];
	} addr;
} enum_g = { .a = 1, .act = 1 };

SEC("xdp")
int enum_f(struct xdp_md *ctx)
{
	if (enum_g.act == 1 || enum_g.act == 2)
		enum_g.b = 4;
	else
		return 0;
	enum_g.addr.v6[2] = 4;
	return enum_g.a == 1 && enum_g.b >= 1 && enum_g.b < 9 ? XDP_PASS : XDP_DROP;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, __s64);
} arith_r SEC(".maps");

SEC("syscall")
int arith_f(void *ctx)
{
	/* Floor division, wrapping and shifts, worked out by hand */
	static const __s64 results[] = {-4, 1, 4294967295LL, 4, -4, 0, 9, -7, 32, 13};

	for (__u32 i = 0; i < 10; i++)
		bpf_map_update_elem(&arith_r, &(__u32){i}, &(__s64){results[i]}, BPF_ANY);
	return 0;
}

SEC("xdp")
int tail_b(struct xdp_md *ctx)
{
	return 2;
}

SEC("xdp")
int tail_a(struct xdp_md *ctx)
{
	return 2;
}

SEC("xdp")
int xdp_fw(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("syscall")
int timer_f(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
