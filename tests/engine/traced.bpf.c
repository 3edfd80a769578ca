/* Events of a traced child. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct task_struct { int pid; int tgid; char comm[16]; } __attribute__((preserve_access_index));
struct pt_regs_of_child { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax; };
struct enter { __u64 common; __s64 number; __u64 args[6]; };
struct leave { __u64 common; __s64 number; __s64 result; };
struct exec { __u64 common; __u32 filename; __s32 pid; __s32 old_pid; };
struct fork { __u64 common; __u32 parent_comm; __s32 parent_pid; __u32 child_comm; __s32 child_pid; };
struct exit { __u64 common; char comm[16]; __s32 pid; __s32 prio; };

struct path { char name[200]; };

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, struct path); __type(value, __s64); } opened SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, struct path); __type(value, __u32); } executed SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u32); } parents SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u32); } pending SEC(".maps");

int raw_enters, raw_exits, exits, wrong_arguments;
long written;

SEC("tracepoint/syscalls/sys_enter_openat") int open_enter(struct enter *ctx)
{
	struct path path = {};
	__s64 unknown = -1000;
	__u32 pid = bpf_get_current_pid_tgid(), one = 1;

	bpf_probe_read_user_str(path.name, sizeof(path.name), (void *)ctx->args[1]);
	bpf_map_update_elem(&opened, &path, &unknown, BPF_ANY);
	bpf_map_update_elem(&pending, &pid, &one, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat") int open_exit(struct leave *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid();

	return bpf_map_delete_elem(&pending, &pid);
}

SEC("tracepoint/syscalls/sys_exit_write") int write_exit(struct leave *ctx) { if (ctx->result > 0) written += ctx->result; return 0; }

SEC("tracepoint/sched/sched_process_exec") int exec(struct exec *ctx)
{
	struct path path = {};
	__u32 uid = bpf_get_current_uid_gid();

	bpf_probe_read_kernel_str(path.name, sizeof(path.name), (char *)ctx + (ctx->filename & 0xffff));
	bpf_map_update_elem(&executed, &path, &uid, BPF_ANY);
	return 0;
}

SEC("tracepoint/sched/sched_process_fork") int fork(struct fork *ctx)
{
	__u32 child = ctx->child_pid, parent = ctx->parent_pid;

	bpf_map_update_elem(&parents, &child, &parent, BPF_ANY);
	return 0;
}

SEC("tracepoint/sched/sched_process_exit") int exited(struct exit *ctx) { exits++; return 0; }

SEC("raw_tp/sys_enter") int raw_enter(__u64 *ctx)
{
	struct pt_regs_of_child *regs = (void *)ctx[0];
	unsigned long number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &regs->orig_ax);
	if (number != ctx[1])
		wrong_arguments++;
	raw_enters++;
	return 0;
}

SEC("raw_tp/sys_exit") int raw_exit(__u64 *ctx) { raw_exits++; return 0; }

char LICENSE[] SEC("license") = "GPL";
