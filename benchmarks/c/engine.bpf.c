/* What the engine's speed is compared with the kernel's JIT compiler on: the same object runs on both. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define TURNS 1024

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); } array SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 2048); __type(key, __u32); __type(value, __u64); } hash SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 2048); __type(key, __u32); __type(value, __u64); } lru SEC(".maps");

struct work { __u32 turns; __u32 seed; __u64 result; };

static long alu(__u32 index, void *context)
{
	struct work *work = context;
	__u64 a = work->result + index, b = work->seed;

	for (int i = 0; i < TURNS; i++) {
		a ^= a << 13;
		a += b * 2654435761u;
		b = (b >> 7) | (a << 57);
		a -= b & 0xff;
	}
	work->result = a + b;
	return 0;
}

static long array_lookup(__u32 index, void *context)
{
	struct work *work = context;
	__u64 sum = 0;

	for (__u32 i = 0; i < TURNS; i++) {
		__u32 key = (i * 7 + index) & 1023;
		__u64 *value = bpf_map_lookup_elem(&array, &key);

		if (value)
			sum += *value;
	}
	work->result += sum;
	return 0;
}

static long hash_lookup(__u32 index, void *context)
{
	struct work *work = context;
	__u64 sum = 0;

	for (__u32 i = 0; i < TURNS; i++) {
		__u32 key = (i * 7 + index) & 1023;
		__u64 *value = bpf_map_lookup_elem(&hash, &key);

		if (value)
			sum += *value;
	}
	work->result += sum;
	return 0;
}

static long hash_update(__u32 index, void *context)
{
	for (__u32 i = 0; i < TURNS; i++) {
		__u32 key = (i * 7 + index) & 1023;
		__u64 value = i;

		bpf_map_update_elem(&hash, &key, &value, BPF_ANY);
	}
	return 0;
}

static long lru_update(__u32 index, void *context)
{
	for (__u32 i = 0; i < TURNS; i++) {
		__u32 key = i * 7 + index * TURNS;
		__u64 value = i;

		bpf_map_update_elem(&lru, &key, &value, BPF_ANY);
	}
	return 0;
}

#define RUN(name)                                                           \
	SEC("syscall") int run_##name(struct work *context)                 \
	{                                                                   \
		struct work work = { context->turns, context->seed, 1 };    \
		bpf_loop(work.turns, name, &work, 0);                       \
		context->result = work.result;                              \
		return 0;                                                   \
	}

RUN(alu)
RUN(array_lookup)
RUN(hash_lookup)
RUN(hash_update)
RUN(lru_update)

char LICENSE[] SEC("license") = "GPL";
