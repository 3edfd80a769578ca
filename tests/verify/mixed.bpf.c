// Programs of which some load on every kernel, some on newer ones, and some on none.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, __u64); } m SEC(".maps");
extern void bpf_preempt_disable(void) __ksym;
extern void bpf_preempt_enable(void) __ksym;
SEC("tracepoint/syscalls/sys_enter_getpid") int good(void *ctx)
{
    __u32 key = 1;
    __u64 value = 2;

    bpf_map_update_elem(&m, &key, &value, 0);
    return 0;
}
SEC("tracepoint/syscalls/sys_enter_getpid") int newer(void *ctx)
{
    bpf_preempt_disable();
    bpf_preempt_enable();
    return 0;
}
SEC("tracepoint/syscalls/sys_enter_getpid") int bad(void *ctx)
{
    __u32 key = 1;
    __u64 *value = bpf_map_lookup_elem(&m, &key);

    return *value;
}
SEC("?tracepoint/syscalls/sys_enter_getpid") int asked_for(void *ctx) { return 0; }
SEC("tracepoint/syscalls/nothing_such") int no_hook(void *ctx) { return 0; }
static __noinline int twice(int n)
{
    volatile char room[64] = {};
    return n * 2 + room[n & 63];
}
SEC("raw_tp/sys_enter") int calls(void *ctx) { return twice(bpf_get_smp_processor_id() & 7); }
char LICENSE[] SEC("license") = "GPL";
