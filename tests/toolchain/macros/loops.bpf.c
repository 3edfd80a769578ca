#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

SEC("socket") int prog(void *ctx) {
	int i, sum = 0, *p;
	bpf_for(i, 0, 10) { if (i == 7) break; int j; bpf_for(j, 0, i) sum += j; }
	bpf_repeat(5) sum++;
	bpf_for_each(num, p, 3, 9) sum += *p;
	return sum;
}
