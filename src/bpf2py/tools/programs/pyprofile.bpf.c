/* What Python programs do on the CPUs: their own stacks and those of the native code, sampled. */
#include "python_tools.h"

SEC("perf_event")
int on_sample(struct bpf_perf_event_data *ctx)
{
	struct python_sample *sample;

	if (!(__u32)bpf_get_current_pid_tgid() || !is_wanted() || !runs_python(1))
		return 0;
	sample = bpf_ringbuf_reserve(&events, sizeof(*sample), 0);
	if (!sample) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	fill(ctx, sample);
	bpf_ringbuf_submit(sample, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
