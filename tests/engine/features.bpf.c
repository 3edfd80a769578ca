/* What programs may do, for the engine's tests. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));

struct file {
	struct { unsigned int flags; } f_op;
	const char *name;
	long size;
} __attribute__((preserve_access_index));

struct element { struct bpf_timer timer; __u64 fired; __u64 lock_free; };
struct locked { struct bpf_spin_lock lock; __u32 value; };

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, struct element); } timers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct locked); } locks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } per_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, __u32); __type(value, __u32); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 64); __type(key, __u32); __uint(value_size, 8 * 16); } stacks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");

long result;
long numbers[8];
char text[32];

int target(void *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&target } };

SEC("raw_tp/one") int target(void *ctx) { result += 1000; return 17; }
SEC("raw_tp/tail") int tail(void *ctx) { result = 1; bpf_tail_call(ctx, &jumps, 1); return 3; }
SEC("raw_tp/no_tail") int no_tail(void *ctx) { result = 1; bpf_tail_call(ctx, &jumps, 0); return 3; }
SEC("raw_tp/endless") int endless(void *ctx) { result++; bpf_tail_call(ctx, &jumps, 0); return 3; }

SEC("raw_tp/args") int arguments(__u64 *ctx) { for (int i = 0; i < 5; i++) numbers[i] = ctx[i]; return 0; }

SEC("kprobe/do_thing") int BPF_KPROBE(probe, int a, long b) { numbers[0] = a; numbers[1] = b; numbers[2] = PT_REGS_PARM3(ctx); return 0; }
SEC("kretprobe/do_thing") int BPF_KRETPROBE(probe_return, long value) { result = value; return 0; }
SEC("fentry/do_thing") int BPF_PROG(traced, struct file *file, int mode) { result = file->size + mode; bpf_probe_read_kernel_str(text, sizeof(text), file->name); return 0; }

static int add(__u32 index, void *context) { numbers[2] += index; *(long *)context += 1; return 0; }
static long each(void *map, const void *key, void *value, void *context) { *(long *)context += *(__u64 *)value; return 0; }

SEC("raw_tp/callbacks") int callbacks(void *ctx)
{
	long count = 0, sum = 0;

	bpf_loop(10, add, &count, 0);
	numbers[0] = count;
	numbers[1] = bpf_for_each_map_elem(&seen, each, &sum, 0);
	numbers[3] = sum;
	return 0;
}

SEC("raw_tp/who") int who(void *ctx)
{
	numbers[0] = bpf_get_current_pid_tgid();
	numbers[1] = bpf_get_current_uid_gid();
	numbers[2] = bpf_get_smp_processor_id();
	numbers[3] = bpf_ktime_get_ns();
	numbers[4] = bpf_get_prandom_u32();
	bpf_get_current_comm(text, sizeof(text));
	__u32 zero = 0;
	__u64 *mine = bpf_map_lookup_elem(&per_cpu, &zero);
	if (mine)
		*mine += 1;
	return 0;
}

SEC("raw_tp/task") int current_task(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	numbers[0] = BPF_CORE_READ(task, pid);
	numbers[1] = BPF_CORE_READ(task, real_parent, tgid);
	bpf_probe_read_kernel_str(text, sizeof(text), BPF_CORE_READ(task, comm));
	BPF_CORE_READ_STR_INTO(&text, task, comm);
	return 0;
}

static int expired(void *map, __u32 *key, struct element *element)
{
	element->fired = bpf_ktime_get_ns();
	numbers[*key & 7]++;
	return 0;
}

SEC("tc") int start_timer(struct __sk_buff *skb)
{
	__u32 key = skb->mark & 3;
	struct element *element = bpf_map_lookup_elem(&timers, &key);

	if (!element)
		return 1;
	numbers[4] = bpf_timer_init(&element->timer, &timers, 1);
	bpf_timer_set_callback(&element->timer, expired);
	numbers[5] = bpf_timer_start(&element->timer, 1000 * (key + 1), 0);
	return 0;
}

SEC("tc") int lock(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct locked *value = bpf_map_lookup_elem(&locks, &zero);

	if (!value)
		return 1;
	bpf_spin_lock(&value->lock);
	value->value++;
	bpf_spin_unlock(&value->lock);
	return 0;
}

SEC("raw_tp/events") int events(__u64 *ctx)
{
	__u64 value = ctx[0], *record = bpf_ringbuf_reserve(&ring, 8, 0);

	if (record) {
		*record = value;
		bpf_ringbuf_submit(record, 0);
	}
	numbers[0] = bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &value, sizeof(value));
	numbers[1] = bpf_get_stackid(ctx, &stacks, 0);
	numbers[2] = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	return 0;
}

struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, __u64); } of_task SEC(".maps");

SEC("tp_btf/switch") int store_in_task(void *ctx)
{
	__u64 *mine = bpf_task_storage_get(&of_task, (struct task_struct *)bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (mine)
		result = ++*mine;
	return 0;
}

SEC("raw_tp/null") int null(void *ctx) { long *bad = (long *)numbers[0]; long value; asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(value) : "r"(bad)); numbers[1] = value; return 0; }
SEC("raw_tp/store") int store(void *ctx) { long *bad = (long *)numbers[0]; asm volatile("*(u64 *)(%0 + 0) = %1" :: "r"(bad), "r"(1L) : "memory"); return 0; }
SEC("raw_tp/forever") int forever(void *ctx) { while (!*(volatile long *)&numbers[7]) result++; return 0; }

char LICENSE[] SEC("license") = "GPL";
