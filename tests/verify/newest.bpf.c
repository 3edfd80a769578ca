/* What kernels after 6.18 brought. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

__u64 entries, first, cookies, arguments, sessions, exits;
__s64 returned = -1;

struct {
	__uint(type, 35 /* BPF_MAP_TYPE_RHASH, Linux 7.2 */);
	__uint(max_entries, 1000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} resizable SEC(".maps");

SEC("fentry.multi/vfs_unlin*")
int on_entry(__u64 *ctx)
{
	__u32 key = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, *count = bpf_map_lookup_elem(&resizable, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&resizable, &key, &one, BPF_ANY);
	entries++;
	cookies += bpf_get_attach_cookie(ctx);
	arguments = bpf_get_func_arg_cnt(ctx);
	bpf_get_func_arg(ctx, 0, &first);
	return 0;
}

SEC("fexit.multi/vmlinux:security_path_unlink")
int on_exit(__u64 *ctx)
{
	__u64 value = 7;

	exits++;
	bpf_get_func_ret(ctx, &value);
	returned = value;
	return 0;
}

SEC("fsession/security_path_unlink")
int BPF_PROG(session, const struct path *directory, struct dentry *entry)
{
	sessions++;
	return 0;
}

SEC("fsession.multi/security_path_unlink")
int on_both(__u64 *ctx)
{
	sessions += 100;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
