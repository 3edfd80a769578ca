/* What the tools for Python have in common: whom they watch, as the tools in Python eBPF have it, and their records. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf2py/python.h>

const volatile __u32 only_pid, only_followed;
const volatile __u64 only_cgroup;
const volatile char only_comm[16];
__u64 lost;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} followed SEC(".maps");

#define DEPTH 127

struct native_stack {
	__u64 frames[DEPTH];
};

/* A STACK_TRACE map keeps one stack in a bucket; this one all of them. Preallocated: in a sample there may be no memory. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct native_stack);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct native_stack);
} stack_scratch SEC(".maps");

__u64 no_room; /* stacks that were not kept */

#ifndef RECORD
#define RECORD struct python_sample
#endif

struct python_sample {
	__u64 time_ns;
	__u64 cgroup;
	__u64 value; /* nanoseconds, or what else the tool measures */
	__u32 pid, tid;
	__u64 kernel, user; /* numbers of stacks, 0 where there is none */
	char comm[16];
	struct bpf2py_python_stack python;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
	__type(value, RECORD);
} events SEC(".maps");

/* Processes of which user space has not told yet whether they run Python: it is asked at the 1st, 2nd, 4th, 8th ... event. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, __u32);
} questions SEC(".maps");

__u64 others; /* events of processes that do not run Python, as far as is known */

static __always_inline int is_wanted(void)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (only_pid && pid != only_pid)
		return 0;
	if (only_followed && !bpf_map_lookup_elem(&followed, &pid))
		return 0;
	if (only_comm[0]) {
		char comm[16];

		bpf_get_current_comm(comm, sizeof(comm));
		for (int i = 0; i < 16; i++) {
			if (comm[i] != only_comm[i])
				return 0;
			if (!comm[i])
				break;
		}
	}
	if (only_cgroup) {
		for (int level = 0; level < 16; level++)
			if (bpf_get_current_ancestor_cgroup_id(level) == only_cgroup)
				return 1;
		return 0;
	}
	return 1;
}

static __noinline __u64 taken(void *ctx, __u64 flags)
{
	__u64 number = 14695981039346656037ULL; /* FNV-1a, of whole addresses */
	struct native_stack *stack;
	__u32 zero = 0;
	long size;

	stack = bpf_map_lookup_elem(&stack_scratch, &zero);
	if (!stack)
		return 0;
	size = bpf_get_stack(ctx, stack, sizeof(*stack), flags);
	if (size <= 0)
		return 0;
	for (int i = 0; i < DEPTH; i++) {
		if (i * 8 < size)
			number = (number ^ stack->frames[i]) * 1099511628211ULL;
		else
			stack->frames[i] = 0;
	}
	if (!bpf_map_lookup_elem(&stacks, &number) && bpf_map_update_elem(&stacks, &number, stack, BPF_ANY))
		__sync_fetch_and_add(&no_room, 1);
	return number;
}

static __always_inline void fill(void *ctx, struct python_sample *sample)
{
	__u64 id = bpf_get_current_pid_tgid();

	sample->time_ns = bpf_ktime_get_ns();
	sample->value = 0;
	sample->cgroup = bpf_get_current_cgroup_id();
	sample->pid = id >> 32;
	sample->tid = id;
	sample->kernel = taken(ctx, 0);
	sample->user = taken(ctx, BPF_F_USER_STACK);
	bpf_get_current_comm(sample->comm, sizeof(sample->comm));
	bpf2py_python_stack(ctx, &sample->python);
}

static __always_inline int runs_python(int counts)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *count, one = 1;

	if (bpf_map_lookup_elem(&bpf2py_python_processes, &pid))
		return 1;
	if (counts)
		__sync_fetch_and_add(&others, 1);
	count = bpf_map_lookup_elem(&asked, &pid);
	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&asked, &pid, &one, BPF_ANY);
	if (!count || !(*count & (*count - 1)))
		bpf_ringbuf_output(&questions, &pid, sizeof(pid), 0);
	return 0;
}

/* It runs another program from now on. */
SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_delete_elem(&asked, &pid);
	bpf_map_delete_elem(&bpf2py_python_processes, &pid);
	return 0;
}

#ifdef ASKS_EARLY
/* Files are opened before anything else is done: then it is found out in time which processes run Python. */
SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(void *ctx)
{
	if (is_wanted())
		runs_python(0);
	return 0;
}
#endif
