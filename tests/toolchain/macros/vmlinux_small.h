/* A kernel in miniature: enough for every macro, and compiled in no time. */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
typedef signed char __s8; typedef short __s16; typedef int __s32; typedef long long __s64;
typedef __u16 __be16; typedef __u32 __be32; typedef __u32 __wsum; typedef __u64 __be64;
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64; typedef _Bool bool;
enum bpf_map_type { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_PROG_ARRAY = 3 };
struct bpf_iter_num { __u64 __opaque[1]; };
struct mm_struct { u64 pgd; };
struct task_struct {
	int pid; u8 flag_a : 1; u8 flag_b : 3; int wide : 20; struct mm_struct *mm; struct task_struct *real_parent; char comm[16];
};
struct pt_regs { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss; };
struct user_pt_regs { u64 regs[31]; u64 sp; u64 pc; u64 pstate; };
struct seq_file; struct bpf_iter_meta { struct seq_file *seq; };
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };
#pragma clang attribute pop
#endif
