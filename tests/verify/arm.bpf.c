// Every hook that hands over registers or arguments, for machines that have others than x86-64.
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/usdt.bpf.h>

struct seen {
    __u64 count;
    __s64 first, second;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16);
    __type(key, char[16]);
    __type(value, struct seen);
} hooks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 20);
} numbers SEC(".maps");

__u32 pid;
__u64 next;

static __always_inline int saw(const char *name, __s64 first, __s64 second)
{
    struct seen fresh = {}, *seen;
    char key[16] = {};

    if (bpf_get_current_pid_tgid() >> 32 != pid)
        return 0;
    for (int i = 0; i < 15 && name[i]; i++)
        key[i] = name[i];
    seen = bpf_map_lookup_elem(&hooks, key);
    if (!seen) {
        bpf_map_update_elem(&hooks, key, &fresh, BPF_ANY);
        seen = bpf_map_lookup_elem(&hooks, key);
        if (!seen)
            return 0;
    }
    seen->count++;
    seen->first = first;
    seen->second = second;
    return 0;
}

struct enter {
    __u64 common;
    __s64 number;
    __u64 args[6];
};

SEC("tracepoint/syscalls/sys_enter_getpgid") int by_tracepoint(struct enter *ctx)
{
    __u64 *number;

    if (bpf_get_current_pid_tgid() >> 32 == pid) {
        number = bpf_ringbuf_reserve(&numbers, 8, 0);
        if (number) {
            *number = next++;
            bpf_ringbuf_submit(number, 0);
        }
    }
    return saw("tracepoint", ctx->args[0], ctx->number);
}

SEC("raw_tp/sys_enter") int by_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
    if (ctx->args[1] == 155) // __NR_getpgid of asm-generic/unistd.h
        return saw("raw_tp", ctx->args[1], 0);
    return 0;
}

SEC("kprobe/security_task_getpgid") int BPF_KPROBE(by_kprobe, void *task) { return saw("kprobe", task != 0, 0); }

SEC("kretprobe/security_task_getpgid") int BPF_KRETPROBE(by_kretprobe, int result) { return saw("kretprobe", result, 0); }

SEC("ksyscall/getpgid") int BPF_KSYSCALL(by_ksyscall, int of) { return saw("ksyscall", of, 0); }

SEC("kretsyscall/getpgid") int BPF_KRETPROBE(by_kretsyscall, int result) { return saw("kretsyscall", result, 0); }

SEC("fentry/security_task_getpgid") int BPF_PROG(by_fentry, void *task) { return saw("fentry", task != 0, 0); }

SEC("fexit/security_task_getpgid") int BPF_PROG(by_fexit, void *task, int result) { return saw("fexit", task != 0, result); }

SEC("uprobe//lib/aarch64-linux-gnu/libc.so.6:getpgid") int BPF_UPROBE(by_uprobe, int of) { return saw("uprobe", of, 0); }

SEC("uretprobe//lib/aarch64-linux-gnu/libc.so.6:getpgid") int BPF_URETPROBE(by_uretprobe, int result)
{
    return saw("uretprobe", result, 0);
}

SEC("usdt//root/libprobe.so:tests:called") int BPF_USDT(by_usdt, int first, long second)
{
    return saw("usdt", first, second);
}

char LICENSE[] SEC("license") = "GPL";
