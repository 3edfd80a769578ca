/* Garbage collections of Python programs: by the interpreter's own probes, or by its function that collects. */
struct pygc_event;
#define RECORD struct pygc_event
#define ASKS_EARLY
#include "python_tools.h"
#include <bpf/usdt.bpf.h>

#define GENERATIONS 3

struct pygc_event {
	struct python_sample at; /* the value is how long it took */
	__s64 collected;
	__s32 generation; /* -1: not known */
	__u32 unused;
};

struct counters { /* struct gc_generation_stats */
	__s64 collections, collected, uncollectable;
};

struct call {
	__u64 stack; /* where the return address is: a collection may ask for another one, which then does nothing */
	__u32 tid, unused;
};

struct begun {
	__u64 begin_ns, at; /* address of the counters, 0 where the generation is known without */
	__s64 generation;
	struct counters before[GENERATIONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10240);
	__type(key, struct call);
	__type(value, struct begun);
} started SEC(".maps");

const volatile __u64 least_ns;
const volatile __u64 return_address = 8; /* bytes of the stack that returning takes off: on x86-64 8, on aarch64 0 */

static __always_inline int begins(__u64 stack, __s64 generation, __u64 at)
{
	struct call call = {.stack = stack, .tid = bpf_get_current_pid_tgid()};
	struct begun begun = {.begin_ns = bpf_ktime_get_ns(), .generation = generation, .at = at};

	if (!is_wanted())
		return 0;
	runs_python(0);
	if (at && bpf_probe_read_user(begun.before, sizeof(begun.before), (void *)at))
		begun.at = 0;
	bpf_map_update_elem(&started, &call, &begun, BPF_ANY);
	return 0;
}

static __noinline int ends(void *ctx, __u64 stack, __s64 collected)
{
	struct call call = {.stack = stack, .tid = bpf_get_current_pid_tgid()};
	struct begun *begun = bpf_map_lookup_elem(&started, &call);
	__u64 now = bpf_ktime_get_ns();
	struct pygc_event *event;
	__s64 generation;

	if (!begun)
		return 0;
	generation = begun->generation;
	if (begun->at) {
		struct counters after[GENERATIONS];

		if (!bpf_probe_read_user(after, sizeof(after), (void *)begun->at)) {
			generation = -1;
			for (int i = 0; i < GENERATIONS; i++)
				if (after[i].collections != begun->before[i].collections)
					generation = i;
		}
		if (generation < 0)
			goto done; /* there was nothing to do, or a collection was going on */
	}
	if (now - begun->begin_ns < least_ns)
		goto done;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		goto done;
	}
	event->at.time_ns = now;
	event->at.value = now - begun->begin_ns;
	event->at.cgroup = bpf_get_current_cgroup_id();
	event->at.pid = bpf_get_current_pid_tgid() >> 32;
	event->at.tid = call.tid;
	event->at.kernel = 0;
	event->at.user = 0;
	bpf_get_current_comm(event->at.comm, sizeof(event->at.comm));
	event->collected = collected;
	event->generation = generation;
	event->unused = 0;
	bpf2py_python_stack(ctx, &event->at.python);
	bpf_ringbuf_submit(event, 0);
done:
	bpf_map_delete_elem(&started, &call);
	return 0;
}

SEC("usdt")
int BPF_USDT(on_start, long generation)
{
	return begins(0, (__s32)generation, 0);
}

SEC("usdt")
int BPF_USDT(on_done, long collected)
{
	return ends(ctx, 0, collected);
}

/* The cookie: how to get from the thread's state to the counters of generations, 0 where the argument says which it is, and who
 * asks within a collection does not come here.
 */
SEC("uprobe")
int on_collect(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), interpreter = 0;
	__s32 generation = PT_REGS_PARM2(ctx);

	if (cookie)
		bpf_probe_read_user(&interpreter, sizeof(interpreter), (void *)PT_REGS_PARM1(ctx) + (cookie >> 32));
	return begins(PT_REGS_SP(ctx), generation, interpreter ? interpreter + (__u32)cookie : 0);
}

SEC("uretprobe")
int on_collected(struct pt_regs *ctx)
{
	return ends(ctx, PT_REGS_SP(ctx) - return_address, PT_REGS_RC(ctx));
}

char LICENSE[] SEC("license") = "GPL";
