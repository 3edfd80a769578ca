/* What an event loop of Python does between two waits for events, where that takes long: its stacks, on the CPU and off it. */
struct block_event;
#define RECORD struct block_event
#define ASKS_EARLY
#include "python_tools.h"

enum { SAMPLE, WAIT, END };
enum { POLLED = -1 }; /* in place of an epoll's number: the loop waits in poll() or select() */

struct block_event {
	struct python_sample at; /* the value: how long, nanoseconds */
	__u64 begin_ns; /* when the loop went on after its last wait */
	__u32 kind, unused;
};

struct loop {
	__u64 begin_ns; /* 0 while it waits for events */
	__s32 epoll;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct loop);
} loops SEC(".maps");

/* Of threads that left the CPU within a callback. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct block_event);
} off SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct block_event);
} scratch SEC(".maps");

const volatile __u64 threshold_ns, period_ns;
const volatile __u64 least_off_ns = 1000000; /* shorter waits are not worth a record */

static __always_inline void describe(struct block_event *event, struct loop *loop, __u32 kind, __u64 now)
{
	event->at.time_ns = now;
	event->at.cgroup = bpf_get_current_cgroup_id();
	event->at.pid = bpf_get_current_pid_tgid() >> 32;
	event->at.tid = bpf_get_current_pid_tgid();
	event->at.kernel = 0;
	event->at.user = 0;
	bpf_get_current_comm(event->at.comm, sizeof(event->at.comm));
	event->begin_ns = loop->begin_ns;
	event->kind = kind;
	event->unused = 0;
}

static __noinline int waits(void *ctx, __s32 epoll)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct loop *loop = bpf_map_lookup_elem(&loops, &tid);
	__u64 now = bpf_ktime_get_ns();

	if (!loop) {
		struct loop new = {.epoll = epoll};

		if (is_wanted() && runs_python(0))
			bpf_map_update_elem(&loops, &tid, &new, BPF_ANY);
		return 0;
	}
	if (epoll == POLLED && loop->epoll != POLLED)
		return 0; /* a callback's own wait, as of a socket with a timeout: the loop has an epoll */
	if (loop->begin_ns && loop->epoll == epoll && now - loop->begin_ns >= threshold_ns) {
		struct block_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

		if (event) {
			describe(event, loop, END, now);
			event->at.value = now - loop->begin_ns;
			event->at.python.pid = event->at.pid;
			event->at.python.count = 0;
			event->at.python.error = 0;
			bpf_ringbuf_submit(event, 0);
		} else {
			__sync_fetch_and_add(&lost, 1);
		}
	}
	loop->begin_ns = 0;
	loop->epoll = epoll;
	return 0;
}

static __always_inline int goes_on(int polled)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct loop *loop = bpf_map_lookup_elem(&loops, &tid);

	if (loop && polled == (loop->epoll == POLLED))
		loop->begin_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_epoll_wait")
int enter_wait(struct trace_event_raw_sys_enter *ctx)
{
	return waits(ctx, ctx->args[0]);
}

SEC("tracepoint/syscalls/sys_exit_epoll_wait")
int exit_wait(void *ctx)
{
	return goes_on(0);
}

SEC("tracepoint/syscalls/sys_enter_epoll_pwait")
int enter_pwait(struct trace_event_raw_sys_enter *ctx)
{
	return waits(ctx, ctx->args[0]);
}

SEC("tracepoint/syscalls/sys_exit_epoll_pwait")
int exit_pwait(void *ctx)
{
	return goes_on(0);
}

SEC("tracepoint/syscalls/sys_enter_epoll_pwait2")
int enter_epoll_pwait2(struct trace_event_raw_sys_enter *ctx)
{
	return waits(ctx, ctx->args[0]);
}

SEC("tracepoint/syscalls/sys_exit_epoll_pwait2")
int exit_epoll_pwait2(void *ctx)
{
	return goes_on(0);
}

SEC("tracepoint/syscalls/sys_enter_poll")
int enter_poll(void *ctx)
{
	return waits(ctx, POLLED);
}

SEC("tracepoint/syscalls/sys_exit_poll")
int exit_poll(void *ctx)
{
	return goes_on(1);
}

SEC("tracepoint/syscalls/sys_enter_ppoll")
int enter_ppoll(void *ctx)
{
	return waits(ctx, POLLED);
}

SEC("tracepoint/syscalls/sys_exit_ppoll")
int exit_ppoll(void *ctx)
{
	return goes_on(1);
}

SEC("tracepoint/syscalls/sys_enter_select")
int enter_select(void *ctx)
{
	return waits(ctx, POLLED);
}

SEC("tracepoint/syscalls/sys_exit_select")
int exit_select(void *ctx)
{
	return goes_on(1);
}

SEC("tracepoint/syscalls/sys_enter_pselect6")
int enter_pselect6(void *ctx)
{
	return waits(ctx, POLLED);
}

SEC("tracepoint/syscalls/sys_exit_pselect6")
int exit_pselect6(void *ctx)
{
	return goes_on(1);
}

/* The loop's end; what the thread does from now on is not the loop's, and another one may get the same number. */
SEC("tracepoint/syscalls/sys_enter_close")
int enter_close(struct trace_event_raw_sys_enter *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct loop *loop = bpf_map_lookup_elem(&loops, &tid);

	if (loop && loop->epoll == (__s32)ctx->args[0])
		bpf_map_delete_elem(&loops, &tid);
	return 0;
}

SEC("perf_event")
int on_sample(struct bpf_perf_event_data *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct loop *loop = bpf_map_lookup_elem(&loops, &tid);
	struct block_event *event;

	if (!loop || !loop->begin_ns)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	describe(event, loop, SAMPLE, bpf_ktime_get_ns());
	event->at.value = period_ns;
	bpf2py_python_stack(ctx, &event->at.python);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* The one who leaves the CPU is still the current thread. */
static __always_inline void leaves(void *ctx, __u64 now)
{
	__u32 zero = 0, tid = bpf_get_current_pid_tgid();
	struct loop *loop = bpf_map_lookup_elem(&loops, &tid);
	struct task_struct *task = (void *)bpf_get_current_task();
	struct block_event *event;

	if (!loop || !loop->begin_ns)
		return;
	if (BPF_CORE_READ(task, exit_state)) {
		bpf_map_delete_elem(&loops, &tid);
		return;
	}
	event = bpf_map_lookup_elem(&scratch, &zero);
	if (!event)
		return;
	describe(event, loop, WAIT, now);
	bpf2py_python_stack(ctx, &event->at.python);
	if (bpf_map_update_elem(&off, &tid, event, BPF_ANY))
		__sync_fetch_and_add(&lost, 1);
}

SEC("raw_tp/sched_switch")
int on_switch(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *following = (void *)ctx->args[2];
	__u64 now = bpf_ktime_get_ns();
	struct block_event *event;
	__u32 tid;

	leaves(ctx, now);
	tid = BPF_CORE_READ(following, pid);
	event = bpf_map_lookup_elem(&off, &tid);
	if (!event)
		return 0;
	event->at.value = now - event->at.time_ns;
	event->at.time_ns = now;
	if (event->at.value >= least_off_ns && bpf_ringbuf_output(&events, event, sizeof(*event), 0))
		__sync_fetch_and_add(&lost, 1);
	bpf_map_delete_elem(&off, &tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
