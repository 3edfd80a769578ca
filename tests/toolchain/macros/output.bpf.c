#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

SEC("socket") int prog(void *ctx) {
	char buffer[32]; u64 big = 1; int small = -2;
	bpf_printk("none"); bpf_printk("%d", small); bpf_printk("%d %llu %p", small, big, ctx);
	bpf_printk("%d %d %d %d", 1, 2, small, 4); bpf_printk("%d%d%d%d%d%d%d%d%d%d%d%p", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ctx);
	BPF_SNPRINTF(buffer, sizeof(buffer), "none");
	return BPF_SNPRINTF(buffer, sizeof(buffer), "%d %s %p", small, "text", ctx);
}
SEC("iter/task") int it(struct bpf_iter__task *ctx) { BPF_SEQ_PRINTF(ctx->meta->seq, "-\n"); return BPF_SEQ_PRINTF(ctx->meta->seq, "%d\n", ctx->task->pid) > 0; }
