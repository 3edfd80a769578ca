#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
char LICENSE[] SEC("license") = "GPL";

_Static_assert(bpf_htons(0x1234) == 0x3412 && bpf_ntohs(0x1234) == 0x3412, "16");
_Static_assert(bpf_htonl(0x12345678) == 0x78563412 && bpf_ntohl(0x12345678) == 0x78563412, "32");
_Static_assert(bpf_cpu_to_be64(0x123456789abcdef0) == 0xf0debc9a78563412 && bpf_be64_to_cpu(1) == 1ULL << 56, "64");
_Static_assert(bpf_htons(-2) == 0xfeff && bpf_htonl(-2) == 0xfeffffff, "negative");
SEC("socket") int prog(u64 *p) {
	switch ((u16)p[0]) { case bpf_htons(0x0800): return 1; }
	return bpf_htons(p[1]) + bpf_ntohl(p[2]) + bpf_cpu_to_be64(p[3]) + bpf_be64_to_cpu(p[4]) + bpf_htonl(p[5]) + bpf_ntohs(p[6]);
}
