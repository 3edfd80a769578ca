// SPDX-License-Identifier: MIT
/* The programs of pairs.py, in C. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define MAP(kind, name, k, v, n, ...) \
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, n); __type(key, k); __type(value, v); __VA_ARGS__ } \
	name SEC(".maps")
#define CONTAINS(what) __attribute__((btf_decl_tag("contains:" what)))
#define NEW(type) ((type *)bpf_obj_new_impl(bpf_core_type_id_local(type), NULL))
#ifndef container_of
#define container_of(p, type, field) ((type *)((void *)(p) - __builtin_offsetof(type, field)))
#endif

MAP(ARRAY, out, __u32, __u64, 512);

static __always_inline void say(__u32 index, __u64 value)
{
	bpf_map_update_elem(&out, &index, &value, BPF_ANY);
}

static __always_inline __u32 rol32(__u32 word, __u32 shift)
{
	return word << shift | word >> (32 - shift);
}

static __always_inline __u32 jhash(__u8 *data, __u32 length, __u32 initval)
{
	__u32 a, b, c;

	a = b = c = 0xdeadbeef + length + initval;
	for (__u32 i = 0; i < length; i++) {
		a += data[i];
		a -= c; a ^= rol32(c, 4); c += b;
		b -= a; b ^= rol32(a, 6); a += c;
		c -= b; c ^= rol32(b, 8);
	}
	return c;
}

SEC("tc")
int hashes(struct __sk_buff *ctx)
{
	__u8 text[16];
	__u32 low = 1, high = 0;
	__u64 fnv = 0xcbf29ce484222325;

	for (int i = 0; i < 16; i++)
		text[i] = i * 7 + 3;
	say(0, jhash(text, 16, 5));
	for (int i = 0; i < 16; i++) {
		low = (low + text[i]) % 65521;
		high = (high + low) % 65521;
	}
	say(1, high << 16 | low);
	for (int i = 0; i < 16; i++)
		fnv = (fnv ^ text[i]) * 0x100000001b3;
	say(2, fnv);
	return 0;
}

int values[12] = {5, -3, 99, 0, 7, -3, 12, 44, -100, 6, 6, 1};

SEC("tc")
int sorting(struct __sk_buff *ctx)
{
	int a[12];
	__s64 total = 0;

	for (int i = 0; i < 12; i++)
		a[i] = values[i];
	for (int i = 0; i < 11; i++)
		for (int j = 0; j < 11 - i; j++)
			if (a[j] > a[j + 1]) {
				int t = a[j];

				a[j] = a[j + 1];
				a[j + 1] = t;
			}
	for (int i = 0; i < 12; i++)
		total = total * 31 + a[i];
	say(4, total);
	return a[0];
}

struct packed { __u8 kind; __be16 length; __u64 cookie; } __attribute__((packed));
struct flags { __u32 low : 3, high : 5, rest : 24; };
union number { __u64 whole; __u32 halves[2]; __u8 bytes[8]; };

SEC("tc")
int layouts(struct __sk_buff *ctx)
{
	struct packed p = { 3, bpf_htons(513), 0x0102030405060708 };
	struct flags f = { .low = 5, .high = 17 };
	union number n = { 0x1122334455667788 };
	__u8 *raw = (void *)&p;
	__u64 total = 0;

	for (int i = 0; i < 11; i++)
		total = total * 3 + raw[i];
	say(6, total);
	f.low += 6;
	f.rest = 0xabcdef;
	f.high--;
	say(7, (__u64)f.low << 40 | (__u64)f.high << 32 | f.rest);
	n.bytes[0] ^= 0xff;
	n.halves[1] += 2;
	say(8, n.whole);
	return sizeof(p) * 100 + sizeof(f) * 10 + sizeof(n);
}

__u32 word = 5;
__u64 long_word = 7;

SEC("tc")
int atomics(struct __sk_buff *ctx)
{
	word = 5;
	long_word = 7;
	say(10, __sync_fetch_and_add(&word, 3));
	say(11, __sync_fetch_and_or(&word, 0x70));
	say(12, __sync_fetch_and_and(&long_word, 5));
	say(13, __sync_fetch_and_xor(&long_word, 0xff));
	say(14, __sync_lock_test_and_set(&word, 99));
	say(15, __sync_val_compare_and_swap(&word, 99, 1));
	say(16, __sync_val_compare_and_swap(&word, 99, 2));
	__sync_fetch_and_sub(&long_word, 1);
	__sync_fetch_and_add(&word, 10);
	say(17, long_word);
	return word;
}

SEC("tc")
int texts(struct __sk_buff *ctx)
{
	char buffer[32] = {}, digits[8] = "-77", other[8] = "abcdef";
	__u64 total = 0;
	long number = 0;
	long n = BPF_SNPRINTF(buffer, sizeof(buffer), "%04x-%d-%llu", 17, -5, 1ull << 40);

	for (int i = 0; i < 32; i++)
		total = total * 131 + (__u8)buffer[i];
	say(20, total);
	say(21, bpf_strtol(digits, 8, 0, &number));
	say(22, number);
	say(23, bpf_strncmp(other, 3, "abc"));
	say(24, 1);
	return n;
}

struct sum { __u64 total; __u32 rounds; };

static long inner_round(__u64 index, struct sum *sum)
{
	sum->total += index;
	return 0;
}

static long outer_round(__u64 index, struct sum *sum)
{
	sum->rounds++;
	bpf_loop(index, inner_round, sum, 0);
	return index >= 6;
}

SEC("tc")
int callbacks(struct __sk_buff *ctx)
{
	struct sum sum = {};

	say(26, bpf_loop(100, outer_round, &sum, 0));
	say(27, sum.total);
	return sum.rounds;
}

SEC("tc")
int counted(struct __sk_buff *ctx)
{
	__u64 total = 0, bits = 0xf0f0;
	__u32 n = ctx->len & 31;
	int i, *bit;

	bpf_for(i, 0, n) {
		if (i == 5)
			continue;
		if (i > 20)
			break;
		total += i;
	}
	for (int k = n; k > 0; k -= 3)
		total = total * 3 + k;
	bpf_for(i, 3, 9)
		total += i;
	bpf_for_each(bits, bit, &bits, 1)
		total = total * 2 + *bit;
	say(28, total);
	return 0;
}

static __noinline __u64 gcd(__u64 a, __u64 b)
{
	for (int i = 0; i < 64 && b; i++) {
		__u64 rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

__noinline int weighted(struct sum *sum, __u32 factor)
{
	if (!sum)
		return -1;
	sum->total *= factor;
	return sum->rounds;
}

__noinline int of_packet(struct __sk_buff *ctx, __u32 more)
{
	return ctx->len + more;
}

SEC("tc")
int functions(struct __sk_buff *ctx)
{
	struct sum sum = { 6, 4 };

	say(30, gcd(1071, 462));
	say(31, weighted(&sum, 7));
	say(32, sum.total);
	return of_packet(ctx, 1000);
}

extern void bpf_throw(__u64 cookie) __ksym;

static __noinline int refuse(struct __sk_buff *ctx, __u32 limit)
{
	if (ctx->len > limit)
		bpf_throw(33);
	return 4;
}

SEC("tc")
int thrown(struct __sk_buff *ctx)
{
	return refuse(ctx, 1000) * 10 + refuse(ctx, 1);
}

__u64 calls;
int last_call(struct __sk_buff *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, int (void *));
} chain SEC(".maps") = { .values = { (void *)&last_call, (void *)&last_call } };

SEC("tc")
int last_call(struct __sk_buff *ctx)
{
	calls++;
	if (calls % 40)
		bpf_tail_call(ctx, &chain, 1);
	return calls;
}

static __noinline int jump(struct __sk_buff *ctx)
{
	bpf_tail_call(ctx, &chain, 0);
	return 77;
}

SEC("tc")
int first_call(struct __sk_buff *ctx)
{
	calls = 0;
	return jump(ctx) + 1;
}

struct pair { __u32 a, b; };
struct stats { __u64 count; __u32 last; char name[8]; };

MAP(HASH, table, struct pair, struct stats, 8);
MAP(LRU_HASH, recent, __u32, __u32, 16);
MAP(PERCPU_HASH, each_cpu, __u32, __u64, 4);

static long visit(void *map, struct pair *key, struct stats *value, struct sum *sum)
{
	sum->total += key->a * value->count;
	value->last++;
	return 0;
}

static long add_up(void *map, struct pair *key, struct stats *value, __u64 *total)
{
	if (key->a != 5)
		*total += value->count + value->last;
	return 0;
}

SEC("tc")
int hashed(struct __sk_buff *ctx)
{
	struct pair first = { 2, 4 }, third = { 3, 9 }, far = { 100 };
	struct stats zero = {}, *found;
	struct sum sum = {};
	__u64 total = 0, four = 4;
	__u32 key = 4, seven = 7, one = 1;

	for (__u32 i = 0; i < 6; i++) {
		struct pair at = { i, i * i };
		struct stats value = { .count = i + 10, .name = "n" };

		bpf_map_update_elem(&table, &at, &value, 0);
	}
	say(34, bpf_map_update_elem(&table, &first, &zero, BPF_NOEXIST));
	say(35, bpf_map_update_elem(&table, &far, &zero, BPF_EXIST));
	found = bpf_map_lookup_elem(&table, &first);
	if (!found)
		return -1;
	found->count *= 2;
	bpf_map_delete_elem(&table, &third);
	say(36, bpf_map_delete_elem(&table, &third));
	say(37, bpf_for_each_map_elem(&table, visit, &sum, 0));
	say(38, sum.total);
	bpf_for_each_map_elem(&table, add_up, &total, 0);
	say(39, total);
	bpf_map_update_elem(&recent, &key, &seven, 0);
	__u64 *cpu = bpf_map_lookup_elem(&each_cpu, &one);
	if (cpu)
		*cpu += 4;
	else
		bpf_map_update_elem(&each_cpu, &one, &four, 0);
	cpu = bpf_map_lookup_elem(&each_cpu, &one);
	return cpu ? 70 + *cpu : -2;
}

struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 3); __type(value, struct pair); } fifo SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK); __uint(max_entries, 3); __type(value, __u32); } lifo SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 64);
	__uint(map_extra, 4);
	__type(value, __u32);
} seen SEC(".maps");

SEC("tc")
int queues(struct __sk_buff *ctx)
{
	struct pair pair = {};
	__u32 top = 0, three = 3;

	for (__u32 n = 0; n < 4; n++) {
		__u32 i = n;
		struct pair p = { i, i + 100 };

		say(40 + i, bpf_map_push_elem(&fifo, &p, 0));
		bpf_map_push_elem(&lifo, &i, 0);
		bpf_map_push_elem(&seen, &i, 0);
	}
	say(44, bpf_map_peek_elem(&fifo, &pair));
	say(45, bpf_map_pop_elem(&fifo, &pair));
	say(46, (__u64)pair.a * 1000 + pair.b);
	bpf_map_pop_elem(&lifo, &top);
	say(47, top);
	bpf_map_pop_elem(&fifo, &pair);
	bpf_map_pop_elem(&fifo, &pair);
	say(48, bpf_map_pop_elem(&fifo, &pair));
	return !bpf_map_peek_elem(&seen, &three);
}

struct prefix { __u32 prefixlen; __be32 address; };

MAP(LPM_TRIE, routes, struct prefix, __u32, 16, __uint(map_flags, BPF_F_NO_PREALLOC););

static __always_inline void route(__u32 length, __u32 address, __u32 value)
{
	struct prefix key = { length, bpf_htonl(address) };

	bpf_map_update_elem(&routes, &key, &value, 0);
}

static __always_inline __u32 routed_to(__u32 address)
{
	struct prefix key = { 32, bpf_htonl(address) };
	__u32 *hit = bpf_map_lookup_elem(&routes, &key);

	return hit ? *hit : 9;
}

SEC("tc")
int routed(struct __sk_buff *ctx)
{
	route(8, 0x0a000000, 1);
	route(16, 0x0a010000, 2);
	route(32, 0x0a010203, 3);
	return ((routed_to(0x0a010203) * 10 + routed_to(0x0a010204)) * 10 + routed_to(0x0a020000)) * 10 + routed_to(0x0b000000);
}

struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); }
	small SEC(".maps"), other SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} maps SEC(".maps") = { .values = { &small, &other } };

SEC("tc")
int nested_maps(struct __sk_buff *ctx)
{
	__u32 one = 1;

	for (__u32 i = 0; i < 3; i++) {
		void *m = bpf_map_lookup_elem(&maps, &i);
		__u64 *p;

		if (!m) {
			say(50, i + 70);
			continue;
		}
		p = bpf_map_lookup_elem(m, &one);
		if (p) {
			*p += i + 5;
			say(51 + i, *p);
		}
	}
	return 0;
}

struct guarded { struct bpf_spin_lock lock; __u64 hits[4]; __u64 total; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, struct guarded); }
	guarded SEC(".maps");

SEC("tc")
int locked(struct __sk_buff *ctx)
{
	__u32 one = 1;
	struct guarded *v = bpf_map_lookup_elem(&guarded, &one);
	__u64 total;

	if (!v)
		return -1;
	bpf_spin_lock(&v->lock);
	for (int i = 0; i < 4; i++) {
		v->hits[i] += i;
		v->total += v->hits[i];
	}
	total = v->total;
	bpf_spin_unlock(&v->lock);
	say(54, total);
	bpf_spin_lock(&v->lock);
	v->total = 3;
	bpf_spin_unlock(&v->lock);
	return v->total;
}

struct record { __u32 id, length; char text[16]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } records SEC(".maps");

SEC("tc")
int ringed(struct __sk_buff *ctx)
{
	struct record own = { .id = 77, .text = "output" };
	struct bpf_dynptr d;

	for (int i = 0; i < 5; i++) {
		struct record *r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);

		if (!r)
			return -1;
		r->id = i;
		r->length = ctx->len;
		__builtin_memset(r->text, 0, sizeof(r->text));
		__builtin_memcpy(r->text, "record", 6);
		if (i % 2)
			bpf_ringbuf_discard(r, 0);
		else
			bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	}
	say(56, bpf_ringbuf_output(&records, &own, sizeof(own), 0));
	if (bpf_ringbuf_reserve_dynptr(&records, 24, 0, &d)) {
		bpf_ringbuf_discard_dynptr(&d, 0);
		return -2;
	}
	bpf_dynptr_write(&d, 0, &own, 24, 0);
	bpf_ringbuf_submit_dynptr(&d, 0);
	say(57, bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA));
	return 0;
}

struct leaf { __u64 key, data; struct bpf_rb_node node; };
struct tree { struct bpf_rb_root root CONTAINS("leaf:node"); struct bpf_spin_lock lock; };

MAP(ARRAY, trees, __u32, struct tree, 1);

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct leaf, node)->key < container_of(b, struct leaf, node)->key;
}

SEC("tc")
int treed(struct __sk_buff *ctx)
{
	__u32 zero = 0;
	struct tree *tree = bpf_map_lookup_elem(&trees, &zero);
	__u64 total = 0;

	if (!tree)
		return -1;
	for (int i = 0; i < 5; i++) {
		struct leaf *leaf = NEW(struct leaf);

		if (!leaf)
			return -2;
		leaf->key = i * 3 % 5;
		leaf->data = i;
		bpf_spin_lock(&tree->lock);
		bpf_rbtree_add_impl(&tree->root, &leaf->node, (void *)less, NULL, 0);
		bpf_spin_unlock(&tree->lock);
	}
	for (int i = 0; i < 5; i++) {
		struct bpf_rb_node *first, *got = NULL;
		struct leaf *item;

		bpf_spin_lock(&tree->lock);
		first = bpf_rbtree_first(&tree->root);
		if (first)
			got = bpf_rbtree_remove(&tree->root, first);
		bpf_spin_unlock(&tree->lock);
		if (!got)
			return -3;
		item = container_of(got, struct leaf, node);
		total = total * 10 + item->data;
		bpf_obj_drop_impl(item, NULL);
	}
	say(60, total);
	return 0;
}

struct item { __u32 value; struct bpf_list_node link; };
struct chain_of { struct bpf_list_head head CONTAINS("item:link"); struct bpf_spin_lock lock; };

MAP(ARRAY, chains, __u32, struct chain_of, 1);

static __always_inline __u32 take(struct chain_of *list, bool front)
{
	struct bpf_list_node *node;
	struct item *item;
	__u32 value;

	bpf_spin_lock(&list->lock);
	node = front ? bpf_list_pop_front(&list->head) : bpf_list_pop_back(&list->head);
	bpf_spin_unlock(&list->lock);
	if (!node)
		return 99;
	item = container_of(node, struct item, link);
	value = item->value;
	bpf_obj_drop_impl(item, NULL);
	return value;
}

SEC("tc")
int listed(struct __sk_buff *ctx)
{
	__u32 zero = 0, total = 0;
	struct chain_of *list = bpf_map_lookup_elem(&chains, &zero);

	if (!list)
		return -1;
	for (__u32 i = 0; i < 4; i++) {
		struct item *item = NEW(struct item);

		if (!item)
			return -2;
		item->value = i;
		bpf_spin_lock(&list->lock);
		if (i & 1)
			bpf_list_push_front_impl(&list->head, &item->link, NULL, 0);
		else
			bpf_list_push_back_impl(&list->head, &item->link, NULL, 0);
		bpf_spin_unlock(&list->lock);
	}
	total = total * 10 + take(list, true);
	total = total * 10 + take(list, false);
	total = total * 10 + take(list, true);
	total = total * 10 + take(list, true);
	return total * 100 + take(list, true);
}

extern struct bpf_cpumask *bpf_cpumask_create(void) __ksym;
extern void bpf_cpumask_release(struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_set_cpu(__u32 cpu, struct bpf_cpumask *mask) __ksym;
extern bool bpf_cpumask_test_cpu(__u32 cpu, const struct cpumask *mask) __ksym;
extern __u32 bpf_cpumask_first(const struct cpumask *mask) __ksym;
extern __u32 bpf_cpumask_weight(const struct cpumask *mask) __ksym;

SEC("syscall")
int masks(void *ctx)
{
	struct bpf_cpumask *mask = bpf_cpumask_create();
	const struct cpumask *plain = (void *)mask;
	__u32 result;

	if (!mask)
		return -1;
	bpf_cpumask_set_cpu(1, mask);
	result = bpf_cpumask_first(plain) * 100 + bpf_cpumask_weight(plain) * 10;
	if (bpf_cpumask_test_cpu(0, plain))
		result++;
	bpf_cpumask_release(mask);
	return result;
}

struct asked { __u64 first; __u32 second, answer; };

SEC("syscall")
int arguments(struct asked *ctx)
{
	ctx->answer = (__u32)ctx->first * ctx->second;
	ctx->first++;
	return 5;
}

SEC("syscall")
int own_task(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct task_struct *task = bpf_task_from_pid(id);
	bool same;

	if (!task)
		return -1;
	same = task->pid == (int)id && task->tgid == (int)(id >> 32);
	bpf_task_release(task);
	return same;
}

MAP(ARRAY, scratch, __u32, __u8[64], 1);

SEC("tc")
int pointers(struct __sk_buff *ctx)
{
	__u32 zero = 0, x = 0x01020304;
	__u8 *memory = bpf_map_lookup_elem(&scratch, &zero), *part;
	struct bpf_dynptr d, copy;
	__u16 y = 0;

	if (!memory)
		return -1;
	if (bpf_dynptr_from_mem(memory, 64, 0, &d))
		return -2;
	bpf_dynptr_write(&d, 8, &x, 4, 0);
	bpf_dynptr_clone(&d, &copy);
	say(64, bpf_dynptr_adjust(&copy, 9, 20));
	say(65, bpf_dynptr_size(&copy));
	bpf_dynptr_read(&y, 2, &copy, 0, 0);
	say(66, y);
	part = bpf_dynptr_data(&d, 8, 2);
	if (part)
		say(67, part[1]);
	return memory[8];
}

SEC("xdp")
int sliced(struct xdp_md *ctx)
{
	struct bpf_dynptr d;
	__u8 room[20];
	struct iphdr *ip;

	if (bpf_dynptr_from_xdp(ctx, 0, &d))
		return XDP_ABORTED;
	ip = bpf_dynptr_slice(&d, 14, room, 20);
	if (!ip)
		return XDP_DROP;
	say(70, ip->ttl);
	say(71, bpf_ntohl(ip->saddr));
	return ip->protocol == IPPROTO_UDP ? XDP_TX : XDP_PASS;
}

SEC("xdp")
int encapsulated(struct xdp_md *ctx)
{
	struct ethhdr *eth, *old;
	struct iphdr *ip, *inside;
	__u32 sum = 0;
	void *data, *end;

	if (bpf_xdp_adjust_head(ctx, -20))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + 54 > end)
		return XDP_DROP;
	eth = data;
	old = data + 20;
	ip = data + 14;
	inside = data + 34;
	__builtin_memcpy(eth->h_dest, old->h_source, 6);
	__builtin_memcpy(eth->h_source, old->h_dest, 6);
	eth->h_proto = old->h_proto;
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(bpf_ntohs(inside->tot_len) + 20);
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_IPIP;
	ip->check = 0;
	ip->saddr = bpf_htonl(0xc0a80001);
	ip->daddr = inside->daddr;
	for (int i = 0; i < 10; i++)
		sum += ((__u16 *)ip)[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~(sum + (sum >> 16));
	if (bpf_xdp_adjust_tail(ctx, -4))
		return XDP_ABORTED;
	return XDP_TX;
}

SEC("tc")
int translated(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + 14;
	struct udphdr *udp;
	__be32 old, new = bpf_htonl(0x0a0a0a0a);
	__u32 l4;

	if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_UDP)
		return 0;
	old = ip->daddr;
	l4 = 14 + ip->ihl * 4;
	bpf_l3_csum_replace(ctx, 14 + offsetof(struct iphdr, check), old, new, 4);
	bpf_l4_csum_replace(ctx, l4 + offsetof(struct udphdr, check), old, new, BPF_F_PSEUDO_HDR | 4);
	bpf_skb_store_bytes(ctx, 14 + offsetof(struct iphdr, daddr), &new, 4, 0);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + l4 + sizeof(*udp) > end)
		return 2;
	udp = data + l4;
	udp->dest = bpf_htons(5353);
	ctx->mark = 17;
	ctx->cb[2] = ctx->len;
	return -1;
}

SEC("tc")
int parsed(struct __sk_buff *ctx)
{
	struct bpf_dynptr data;
	struct ethhdr eth;
	struct iphdr ip;
	__be16 ports[2];

	if (bpf_skb_load_bytes(ctx, 0, &eth, sizeof(eth)))
		return -1;
	switch (bpf_ntohs(eth.h_proto)) {
	case 0x0800:
		if (bpf_skb_load_bytes(ctx, 14, &ip, sizeof(ip)) < 0)
			return -2;
		bpf_dynptr_from_skb(ctx, 0, &data);
		if (bpf_dynptr_read(ports, 4, &data, 14 + ip.ihl * 4, 0))
			return -3;
		say(74, (__u64)bpf_ntohs(ports[0]) << 16 | bpf_ntohs(ports[1]));
		return ip.protocol;
	case 0x86dd:
		return 6;
	}
	return 0;
}

SEC("cgroup_skb/ingress")
int allowed(struct __sk_buff *ctx)
{
	struct iphdr *ip = (void *)(long)ctx->data;

	say(76, ctx->len);
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return 1;
	say(77, ip->ttl);
	return ip->ttl != 64;
}

SEC("sk_lookup")
int looked_up(struct bpf_sk_lookup *ctx)
{
	say(78, ctx->local_port);
	return ctx->family == 2 ? SK_PASS : SK_DROP;
}

struct tokens { __u64 tokens, refilled; };

MAP(HASH, buckets, __u32, struct tokens, 16);

static __always_inline bool admit(__u32 id, __u64 now)
{
	struct tokens *bucket = bpf_map_lookup_elem(&buckets, &id);
	__u64 earned;

	if (!bucket) {
		struct tokens fresh = { 2, now };

		bpf_map_update_elem(&buckets, &id, &fresh, 0);
		return true;
	}
	earned = (now - bucket->refilled) / 1000;
	if (earned) {
		bucket->tokens = bucket->tokens + earned > 3 ? 3 : bucket->tokens + earned;
		bucket->refilled += earned * 1000;
	}
	if (!bucket->tokens)
		return false;
	bucket->tokens--;
	return true;
}

SEC("tc")
int limited(struct __sk_buff *ctx)
{
	__u32 bits = 0;

	for (int step = 0; step < 12; step++)
		bits = bits << 1 | admit(7, 5000 + step * 400);
	return bits;
}

enum machine_state { CLOSED, OPEN, HALF };
struct machine { enum machine_state state; __u32 failures; };

SEC("tc")
int machines(struct __sk_buff *ctx)
{
	struct machine m = {};
	__u64 path = 0;

	for (int i = 0; i < 16; i++) {
		bool ok = 0xb188 >> i & 1;

		if (m.state == CLOSED) {
			m.failures = ok ? 0 : m.failures + 1;
			if (m.failures >= 3)
				m.state = OPEN;
		} else if (m.state == OPEN) {
			m.state = HALF;
		} else if (ok) {
			m.state = CLOSED;
			m.failures = 0;
		} else {
			m.state = OPEN;
		}
		path = path * 3 + m.state;
	}
	say(80, path);
	return m.failures;
}

char LICENSE[] SEC("license") = "GPL";
