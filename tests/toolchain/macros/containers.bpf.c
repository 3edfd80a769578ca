#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

struct outer { int a; struct { int b; } inner; };
_Static_assert(sizeof(offsetof(struct task_struct, comm)) == 8, "unsigned long");
SEC("socket") int prog(void *ctx) { int *p = ctx; return container_of(p, struct outer, inner.b)->a + offsetof(struct outer, inner); }
