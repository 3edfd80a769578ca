#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(key_size, 4); __uint(value_size, 4); __uint(max_entries, 8); } calls SEC(".maps");
SEC("socket") int prog(void *ctx) { bpf_tail_call_static(ctx, &calls, 3); bpf_tail_call(ctx, &calls, 4); return 0; }
