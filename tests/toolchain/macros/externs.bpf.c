#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

extern int CONFIG_HZ __kconfig;
extern enum libbpf_tristate CONFIG_BPF_SYSCALL __kconfig __weak;
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern const int some_symbol __ksym __weak SEC(".ksyms");
__noinline int sub(struct task_struct *t __arg_trusted __arg_nullable, int *p __arg_nonnull, void *c __arg_ctx, void *a __arg_arena) { return *p; }
__hidden __weak int hidden(void) { return 1; }
static __always_inline int inlined(void) { return KERNEL_VERSION(6, 1, 300) == 0x601ff; }
SEC("socket") int prog(void *ctx) {
	int x = 3;
	barrier(); barrier_var(x);
	if (bpf_ksym_exists(bpf_rcu_read_lock)) bpf_rcu_read_lock();
	return CONFIG_HZ + CONFIG_BPF_SYSCALL + (CONFIG_BPF_SYSCALL == TRI_MODULE) + x + sub(0, &x, ctx, 0) + hidden() + inlined() + (long)&some_symbol;
}
SEC("?socket") int unreachable(void *ctx) { if (0) __bpf_unreachable(); return ctx == NULL; }
