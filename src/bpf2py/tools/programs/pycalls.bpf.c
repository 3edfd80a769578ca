/* Files that Python programs open, and addresses they connect to, with the Python stack that did it. */
#define RECORD struct python_call
#include "python_tools.h"

#define DATA 1024
enum { OPEN, CONNECT };

struct python_call {
	struct python_sample at;
	__u32 kind;
	__s32 result;
	__s32 fd; /* of connect() */
	__s32 size; /* of the data; negative where it could not be read */
	__u8 data[DATA]; /* a path with its NUL, or a socket address */
};

struct attempt {
	__u64 begin_ns, address;
	__u32 kind, size;
	__s32 fd;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct attempt);
} attempts SEC(".maps");

const volatile __u32 only_failed, connects;

static __always_inline int enter(__u32 kind, __s32 fd, __u64 address, __u32 size)
{
	struct attempt attempt = {.begin_ns = bpf_ktime_get_ns(), .address = address, .kind = kind, .size = size, .fd = fd};
	__u32 tid = bpf_get_current_pid_tgid();

	/* Files are opened before anything connects: then it is found out in time which processes run Python. */
	int aside = connects && kind == OPEN;

	if (is_wanted() && runs_python(!aside) && !aside)
		bpf_map_update_elem(&attempts, &tid, &attempt, BPF_ANY);
	return 0;
}

static __noinline int leave(void *ctx, __s64 result)
{
	__u32 tid = bpf_get_current_pid_tgid(), size;
	struct attempt *attempt = bpf_map_lookup_elem(&attempts, &tid);
	struct python_call *call;

	if (!attempt)
		return 0;
	if (only_failed && result >= 0)
		goto done;
	call = bpf_ringbuf_reserve(&events, sizeof(*call), 0);
	if (!call) {
		__sync_fetch_and_add(&lost, 1);
		goto done;
	}
	call->at.time_ns = bpf_ktime_get_ns();
	call->at.value = call->at.time_ns - attempt->begin_ns;
	call->at.pid = bpf_get_current_pid_tgid() >> 32;
	call->at.tid = tid;
	call->at.cgroup = bpf_get_current_cgroup_id();
	call->at.kernel = 0;
	call->at.user = 0;
	bpf_get_current_comm(call->at.comm, sizeof(call->at.comm));
	call->kind = attempt->kind;
	call->result = result;
	call->fd = attempt->fd;
	size = attempt->size;
	if (attempt->kind == OPEN) {
		call->size = bpf_probe_read_user_str(call->data, DATA, (void *)attempt->address);
	} else {
		if (size > 128) /* sizeof(struct sockaddr_storage) */
			size = 128;
		call->size = bpf_probe_read_user(call->data, size, (void *)attempt->address) ? -1 : size;
	}
	bpf2py_python_stack(ctx, &call->at.python);
	bpf_ringbuf_submit(call, 0);
done:
	bpf_map_delete_elem(&attempts, &tid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_open")
int enter_open(struct trace_event_raw_sys_enter *ctx)
{
	return enter(OPEN, -1, ctx->args[0], 0);
}

SEC("tracepoint/syscalls/sys_exit_open")
int exit_open(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx, ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct trace_event_raw_sys_enter *ctx)
{
	return enter(OPEN, -1, ctx->args[1], 0);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx, ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_openat2")
int enter_openat2(struct trace_event_raw_sys_enter *ctx)
{
	return enter(OPEN, -1, ctx->args[1], 0);
}

SEC("tracepoint/syscalls/sys_exit_openat2")
int exit_openat2(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx, ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_connect")
int enter_connect(struct trace_event_raw_sys_enter *ctx)
{
	return enter(CONNECT, ctx->args[0], ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx, ctx->ret);
}

char LICENSE[] SEC("license") = "GPL";
