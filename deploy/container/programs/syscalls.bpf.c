/* System calls by command: an example of an annotated program. Counts of processes that are gone expire (--expire-after). */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf2py/metrics.h>

struct caller {
	__u32 pid METRIC_EXPIRES("process");
	char command[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10240);
	__type(key, struct caller);
	__type(value, __u64);
} calls SEC(".maps") METRIC_COUNTER METRIC_HELP("System calls");

SEC("raw_tp/sys_enter")
int count_call(void *ctx)
{
	struct caller caller = { .pid = bpf_get_current_pid_tgid() >> 32 };
	__u64 zero = 0, *count;

	bpf_get_current_comm(caller.command, sizeof(caller.command));
	count = bpf_map_lookup_elem(&calls, &caller);
	if (!count) { /* another CPU may be faster */
		bpf_map_update_elem(&calls, &caller, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&calls, &caller);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
