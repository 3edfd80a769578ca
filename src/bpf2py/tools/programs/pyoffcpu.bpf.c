/* What Python programs wait for: their stacks as they leave the CPU, and for how long they do. */
#include "python_tools.h"

const volatile __u64 least_ns;
__u64 missed; /* threads that leave a CPU though nobody saw them come back */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct python_sample);
} started SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct python_sample);
} scratch SEC(".maps");

/* The one who leaves the CPU is still the current thread. */
static __always_inline void leaves(void *ctx)
{
	__u32 zero = 0, tid = bpf_get_current_pid_tgid();
	struct task_struct *task = (void *)bpf_get_current_task();
	struct python_sample *sample;

	if (!tid || !is_wanted() || BPF_CORE_READ(task, exit_state) || !runs_python(1))
		return;
	sample = bpf_map_lookup_elem(&scratch, &zero);
	if (!sample)
		return;
	fill(ctx, sample);
	if (bpf_map_lookup_elem(&started, &tid))
		__sync_fetch_and_add(&missed, 1);
	if (bpf_map_update_elem(&started, &tid, sample, BPF_ANY))
		__sync_fetch_and_add(&lost, 1);
}

SEC("raw_tp/sched_switch")
int on_switch(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *following = (void *)ctx->args[2];
	__u64 now = bpf_ktime_get_ns();
	struct python_sample *sample;
	__u32 tid;

	leaves(ctx);
	tid = BPF_CORE_READ(following, pid);
	sample = bpf_map_lookup_elem(&started, &tid);
	if (!sample)
		return 0;
	sample->value = now - sample->time_ns;
	if (sample->value >= least_ns && bpf_ringbuf_output(&events, sample, sizeof(*sample), 0))
		__sync_fetch_and_add(&lost, 1);
	bpf_map_delete_elem(&started, &tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
