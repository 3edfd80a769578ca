#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

struct inner { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, u32); __type(value, u32); };
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, u32); __type(value, u64); __uint(max_entries, 8);
	 __uint(pinning, LIBBPF_PIN_BY_NAME); __ulong(map_extra, 0x100000001ULL); __ulong(other, 2); } m SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(key_size, 4); __uint(max_entries, 8);
	 __array(values, int(void *)); } calls SEC(".maps");
struct { __uint(max_entries, 2); __array(values, struct inner); } outer SEC(".maps");
struct held { struct task_struct __kptr *task; struct task_struct __kptr_untrusted *old; int __percpu_kptr *count; struct mm_struct __uptr *mm; };
