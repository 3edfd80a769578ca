#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

struct pair { u64 a, b; };
SEC("raw_tp/x") int BPF_PROG(none) { return ctx != 0; }
SEC("tp_btf/x") int BPF_PROG(three, bool a, struct task_struct *b, unsigned int c) { return a + b->pid + c; }
SEC("fentry/x") int BPF_PROG(twelve, int a, int b, int c, int d, int e, int f, int g, int h, int i, int j, int k, u8 l) { return a + l; }
SEC("fentry/x") int BPF_PROG2(by_value, struct pair, p, int, i, struct pair, q) { return p.b + i + q.a; }
SEC("fentry/x") int BPF_PROG2(by_none) { return 0; }
SEC("kprobe/x") int BPF_KPROBE(kprobe6, int a, void *b, struct task_struct *c, u64 d, u8 e, long f) { return a + !b + BPF_CORE_READ(c, pid) + d + e + f; }
SEC("kprobe/x") int BPF_KPROBE(kprobe0) { return PT_REGS_IP(ctx) + PT_REGS_SP(ctx) + PT_REGS_FP(ctx) + PT_REGS_RET(ctx) + PT_REGS_RC(ctx); }
SEC("kretprobe/x") int BPF_KRETPROBE(kretprobe1, int ret) { return ret; }
SEC("kretprobe/x") int BPF_KRETPROBE(kretprobe0) { u64 ip = 0; BPF_KRETPROBE_READ_RET_IP(ip, ctx); return ip; }
SEC("kprobe/x") int BPF_KPROBE(caller) { u64 ip = 0; BPF_KPROBE_READ_RET_IP(ip, ctx); return ip; }
SEC("uprobe") int BPF_UPROBE(uprobe1, int a) { return a; }
SEC("uretprobe") int BPF_URETPROBE(uretprobe1, long a) { return a; }
SEC("ksyscall/openat") int BPF_KSYSCALL(openat, int dir, const char *name, int flags, int mode, long five, long six) { return dir + flags + mode + !name + five + six; }
SEC("ksyscall/sync") int BPF_KPROBE_SYSCALL(sync) { return 0; }
SEC("kprobe/y") int raw(struct pt_regs *ctx) {
	struct pt_regs *regs = PT_REGS_SYSCALL_REGS(ctx);
	return PT_REGS_PARM1_CORE(ctx) + PT_REGS_PARM6_CORE(ctx) + PT_REGS_RC_CORE(ctx) + PT_REGS_IP_CORE(ctx) + PT_REGS_PARM4_CORE_SYSCALL(regs) + PT_REGS_PARM1_CORE_SYSCALL(regs) + PT_REGS_PARM4_SYSCALL(ctx) + PT_REGS_PARM1_SYSCALL(ctx);
}
