/* Counts the files each process opens, and remembers the newest name. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct opens {
	__u64 count;
	char newest[32];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct opens);
} opens SEC(".maps");

struct sys_enter_openat {
	__u64 common;
	__s64 number;
	__u64 dfd;
	const char *filename;
	__u64 flags;
	__u64 mode;
};

SEC("tracepoint/syscalls/sys_enter_openat")
int count_open(struct sys_enter_openat *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct opens empty = {}, *found;

	bpf_map_update_elem(&opens, &pid, &empty, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&opens, &pid);
	if (!found)
		return 0;
	__sync_fetch_and_add(&found->count, 1);
	bpf_probe_read_user_str(found->newest, sizeof(found->newest), ctx->filename);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
