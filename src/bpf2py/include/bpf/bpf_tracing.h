/* SPDX-License-Identifier: MIT */
/*
 * Arguments of traced functions: out of registers (kprobe, uprobe, system calls) and out of the array of 64-bit words that
 * raw tracepoints, fentry/fexit, LSM hooks and struct_ops get. The target is x86-64 or arm64.
 */
#ifndef __BPF_TRACING_H__
#define __BPF_TRACING_H__

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* ---- Where each architecture's calling conventions put things ---- */

#if defined(__TARGET_ARCH_x86) && defined(__TARGET_ARCH_arm64)
#error "__TARGET_ARCH_x86 and __TARGET_ARCH_arm64 are both defined: name one by a compiler flag -D__TARGET_ARCH_..., not in the source"
#elif defined(__TARGET_ARCH_x86)
#define bpf_target_x86
#elif defined(__TARGET_ARCH_arm64)
#define bpf_target_arm64
#elif defined(__x86_64__)
#define bpf_target_x86
#elif defined(__aarch64__)
#define bpf_target_arm64
#endif

#if defined(bpf_target_x86)

/* The kernel's struct pt_regs and the one of <asm/ptrace.h> differ in the names. */
#if defined(__KERNEL__) || defined(__VMLINUX_H__)
#define ___bpf_x86_reg(kernel, uapi) kernel
#else
#define ___bpf_x86_reg(kernel, uapi) uapi
#endif

#define __PT_REGS_CAST(x) (x)
#define __PT_PARM1_REG ___bpf_x86_reg(di, rdi)
#define __PT_PARM2_REG ___bpf_x86_reg(si, rsi)
#define __PT_PARM3_REG ___bpf_x86_reg(dx, rdx)
#define __PT_PARM4_REG ___bpf_x86_reg(cx, rcx)
#define __PT_PARM5_REG r8
#define __PT_PARM6_REG r9
#define __PT_RET_REG ___bpf_x86_reg(sp, rsp)
#define __PT_FP_REG ___bpf_x86_reg(bp, rbp)
#define __PT_RC_REG ___bpf_x86_reg(ax, rax)
#define __PT_SP_REG ___bpf_x86_reg(sp, rsp)
#define __PT_IP_REG ___bpf_x86_reg(ip, rip)
/* The syscall instruction clobbers rcx, so the fourth argument travels in r10. */
#define __PT_PARM4_SYSCALL_REG r10

#elif defined(bpf_target_arm64)

/* UAPI has this part of struct pt_regs under another name. */
#define __PT_REGS_CAST(x) ((const struct user_pt_regs *)(x))
#define __PT_PARM1_REG regs[0]
#define __PT_PARM2_REG regs[1]
#define __PT_PARM3_REG regs[2]
#define __PT_PARM4_REG regs[3]
#define __PT_PARM5_REG regs[4]
#define __PT_PARM6_REG regs[5]
#define __PT_PARM7_REG regs[6]
#define __PT_PARM8_REG regs[7]
#define __PT_RET_REG regs[30]
#define __PT_FP_REG regs[29]
#define __PT_RC_REG regs[0]
#define __PT_SP_REG sp
#define __PT_IP_REG pc

/* regs[0] holds the return value already when a system call is traced from the inside. */
struct pt_regs___bpf_arm64 {
	unsigned long orig_x0;
} __attribute__((preserve_access_index));
#define PT_REGS_PARM1_SYSCALL(x) (((const struct pt_regs___bpf_arm64 *)(x))->orig_x0)
#define PT_REGS_PARM1_CORE_SYSCALL(x) BPF_CORE_READ((const struct pt_regs___bpf_arm64 *)(x), orig_x0)

#endif

/* ---- Registers of a probe's struct pt_regs: directly, and (_CORE) of any pt_regs with CO-RE ---- */

#if defined(bpf_target_x86) || defined(bpf_target_arm64)

#ifndef __PT_PARM7_REG
/* More arguments than registers: naming one is an error of the compiler that names this. */
#define __PT_PARM7_REG __no_such_register_on_this_architecture__
#define __PT_PARM8_REG __no_such_register_on_this_architecture__
#endif
#ifndef __PT_PARM4_SYSCALL_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#endif

#define PT_REGS_PARM1(x) (__PT_REGS_CAST(x)->__PT_PARM1_REG)
#define PT_REGS_PARM2(x) (__PT_REGS_CAST(x)->__PT_PARM2_REG)
#define PT_REGS_PARM3(x) (__PT_REGS_CAST(x)->__PT_PARM3_REG)
#define PT_REGS_PARM4(x) (__PT_REGS_CAST(x)->__PT_PARM4_REG)
#define PT_REGS_PARM5(x) (__PT_REGS_CAST(x)->__PT_PARM5_REG)
#define PT_REGS_PARM6(x) (__PT_REGS_CAST(x)->__PT_PARM6_REG)
#define PT_REGS_PARM7(x) (__PT_REGS_CAST(x)->__PT_PARM7_REG)
#define PT_REGS_PARM8(x) (__PT_REGS_CAST(x)->__PT_PARM8_REG)
#define PT_REGS_RET(x) (__PT_REGS_CAST(x)->__PT_RET_REG)
#define PT_REGS_FP(x) (__PT_REGS_CAST(x)->__PT_FP_REG)
#define PT_REGS_RC(x) (__PT_REGS_CAST(x)->__PT_RC_REG)
#define PT_REGS_SP(x) (__PT_REGS_CAST(x)->__PT_SP_REG)
#define PT_REGS_IP(x) (__PT_REGS_CAST(x)->__PT_IP_REG)

#define PT_REGS_PARM1_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM1_REG)
#define PT_REGS_PARM2_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM2_REG)
#define PT_REGS_PARM3_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM3_REG)
#define PT_REGS_PARM4_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM4_REG)
#define PT_REGS_PARM5_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM5_REG)
#define PT_REGS_PARM6_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM6_REG)
#define PT_REGS_PARM7_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM7_REG)
#define PT_REGS_PARM8_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM8_REG)
#define PT_REGS_RET_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_RET_REG)
#define PT_REGS_FP_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_FP_REG)
#define PT_REGS_RC_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_RC_REG)
#define PT_REGS_SP_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_SP_REG)
#define PT_REGS_IP_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_IP_REG)

/* ---- Arguments of a system call, of the pt_regs that user space entered the kernel with ---- */

#ifndef PT_REGS_PARM1_SYSCALL
#define PT_REGS_PARM1_SYSCALL(x) PT_REGS_PARM1(x)
#define PT_REGS_PARM1_CORE_SYSCALL(x) PT_REGS_PARM1_CORE(x)
#endif
#define PT_REGS_PARM4_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM4_SYSCALL_REG)
#define PT_REGS_PARM4_CORE_SYSCALL(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM4_SYSCALL_REG)
#define PT_REGS_PARM2_SYSCALL(x) PT_REGS_PARM2(x)
#define PT_REGS_PARM2_CORE_SYSCALL(x) PT_REGS_PARM2_CORE(x)
#define PT_REGS_PARM3_SYSCALL(x) PT_REGS_PARM3(x)
#define PT_REGS_PARM3_CORE_SYSCALL(x) PT_REGS_PARM3_CORE(x)
#define PT_REGS_PARM5_SYSCALL(x) PT_REGS_PARM5(x)
#define PT_REGS_PARM5_CORE_SYSCALL(x) PT_REGS_PARM5_CORE(x)
#define PT_REGS_PARM6_SYSCALL(x) PT_REGS_PARM6(x)
#define PT_REGS_PARM6_CORE_SYSCALL(x) PT_REGS_PARM6_CORE(x)
#define PT_REGS_PARM7_SYSCALL(x) PT_REGS_PARM7(x)
#define PT_REGS_PARM7_CORE_SYSCALL(x) PT_REGS_PARM7_CORE(x)
#define PT_REGS_PARM8_SYSCALL(x) PT_REGS_PARM8(x)
#define PT_REGS_PARM8_CORE_SYSCALL(x) PT_REGS_PARM8_CORE(x)

/* The entry function of a system call gets those registers as its one argument, where the kernel wraps system calls. */
#define PT_REGS_SYSCALL_REGS(ctx) ((struct pt_regs *)PT_REGS_PARM1(ctx))

/* ---- The address a traced function returns to ---- */

#if defined(bpf_target_x86)
#define BPF_KPROBE_READ_RET_IP(ip, ctx)                                                            \
	bpf_probe_read_kernel(&(ip), sizeof(ip), (void *)PT_REGS_RET(ctx))
#define BPF_KRETPROBE_READ_RET_IP(ip, ctx)                                                         \
	bpf_probe_read_kernel(&(ip), sizeof(ip), (void *)(PT_REGS_FP(ctx) + sizeof(ip)))
#else
#define BPF_KPROBE_READ_RET_IP(ip, ctx) ({ (ip) = PT_REGS_RET(ctx); })
#define BPF_KRETPROBE_READ_RET_IP BPF_KPROBE_READ_RET_IP
#endif

#else /* no known target */

#define ___bpf_no_target(x)                                                                        \
	({                                                                                         \
		_Pragma("GCC error \"define __TARGET_ARCH_x86 or __TARGET_ARCH_arm64\"") 0UL;      \
	})
#define PT_REGS_SYSCALL_REGS(x) ((struct pt_regs *)___bpf_no_target(x))
#define PT_REGS_PARM1(x) ___bpf_no_target(x)
#define PT_REGS_PARM1_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM1_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM1_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM2(x) ___bpf_no_target(x)
#define PT_REGS_PARM2_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM2_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM2_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM3(x) ___bpf_no_target(x)
#define PT_REGS_PARM3_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM3_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM3_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM4(x) ___bpf_no_target(x)
#define PT_REGS_PARM4_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM4_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM4_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM5(x) ___bpf_no_target(x)
#define PT_REGS_PARM5_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM5_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM5_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM6(x) ___bpf_no_target(x)
#define PT_REGS_PARM6_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM6_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM6_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM7(x) ___bpf_no_target(x)
#define PT_REGS_PARM7_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM7_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM7_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM8(x) ___bpf_no_target(x)
#define PT_REGS_PARM8_CORE(x) ___bpf_no_target(x)
#define PT_REGS_PARM8_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_PARM8_CORE_SYSCALL(x) ___bpf_no_target(x)
#define PT_REGS_RET(x) ___bpf_no_target(x)
#define PT_REGS_RET_CORE(x) ___bpf_no_target(x)
#define PT_REGS_FP(x) ___bpf_no_target(x)
#define PT_REGS_FP_CORE(x) ___bpf_no_target(x)
#define PT_REGS_RC(x) ___bpf_no_target(x)
#define PT_REGS_RC_CORE(x) ___bpf_no_target(x)
#define PT_REGS_SP(x) ___bpf_no_target(x)
#define PT_REGS_SP_CORE(x) ___bpf_no_target(x)
#define PT_REGS_IP(x) ___bpf_no_target(x)
#define PT_REGS_IP_CORE(x) ___bpf_no_target(x)

#endif /* target */

/*
 * ---- Programs written as functions of typed arguments ----
 *
 * `int BPF_PROG(name, type arg, ...) { body }` becomes the program `name`, whose context is what the kernel passes, and
 * an inlined function with the typed arguments, which the program calls and which has the body. The context itself is in
 * the body's reach as `ctx`.
 */
#define ___bpf_program(name, ctx_type, decls, values...)                                           \
	name(ctx_type ctx);                                                                        \
	static __always_inline __typeof__(name(0)) ____##name(ctx_type ctx decls);                 \
	__typeof__(name(0)) name(ctx_type ctx)                                                     \
	{                                                                                          \
		_Pragma("GCC diagnostic push")                                                     \
		_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")                             \
		return ____##name(values);                                                         \
		_Pragma("GCC diagnostic pop")                                                      \
	}                                                                                          \
	static __always_inline __typeof__(name(0)) ____##name(ctx_type ctx decls)

/* A declaration list with the comma that separates it from the context, or nothing */
#define ___bpf_more(args...) , ##args

/* Context: an array of 64-bit words, one an argument (raw_tp, tp_btf, fentry, fexit, lsm, struct_ops, iter) */
#define ___bpf_ctx_cast0() ctx
#define ___bpf_ctx_cast1(x) ___bpf_ctx_cast0(), (void *)ctx[0]
#define ___bpf_ctx_cast2(x, args...) ___bpf_ctx_cast1(args), (void *)ctx[1]
#define ___bpf_ctx_cast3(x, args...) ___bpf_ctx_cast2(args), (void *)ctx[2]
#define ___bpf_ctx_cast4(x, args...) ___bpf_ctx_cast3(args), (void *)ctx[3]
#define ___bpf_ctx_cast5(x, args...) ___bpf_ctx_cast4(args), (void *)ctx[4]
#define ___bpf_ctx_cast6(x, args...) ___bpf_ctx_cast5(args), (void *)ctx[5]
#define ___bpf_ctx_cast7(x, args...) ___bpf_ctx_cast6(args), (void *)ctx[6]
#define ___bpf_ctx_cast8(x, args...) ___bpf_ctx_cast7(args), (void *)ctx[7]
#define ___bpf_ctx_cast9(x, args...) ___bpf_ctx_cast8(args), (void *)ctx[8]
#define ___bpf_ctx_cast10(x, args...) ___bpf_ctx_cast9(args), (void *)ctx[9]
#define ___bpf_ctx_cast11(x, args...) ___bpf_ctx_cast10(args), (void *)ctx[10]
#define ___bpf_ctx_cast12(x, args...) ___bpf_ctx_cast11(args), (void *)ctx[11]
#define ___bpf_ctx_cast(args...) ___bpf_apply(___bpf_ctx_cast, ___bpf_narg(args))(args)

#define BPF_PROG(name, args...)                                                                    \
	___bpf_program(name, unsigned long long *, ___bpf_more(args), ___bpf_ctx_cast(args))

/*
 * BPF_PROG2(name, type, arg, type, arg, ...): arguments of 9 to 16 bytes (structs by value) take two words of the
 * context, so types and names are given apart.
 */
#define ___bpf_nth2(_, _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, _18, _19, _20, \
		    _21, _22, _23, _24, N, ...) N
#define ___bpf_npairs(...)                                                                         \
	___bpf_nth2(_, ##__VA_ARGS__, 12, odd, 11, odd, 10, odd, 9, odd, 8, odd, 7, odd, 6, odd, 5, odd, 4, odd, 3, odd, \
		    2, odd, 1, odd, 0)

#define ___bpf_arg_words(type) (sizeof(type) > 8 ? 2 : 1)
#define ___bpf_arg_load(type, at)                                                                  \
	({                                                                                         \
		union {                                                                            \
			unsigned long long words[2];                                               \
			type value;                                                                \
		} ___arg;                                                                          \
		___arg.words[0] = ctx[at];                                                         \
		if (sizeof(type) > 8)                                                              \
			___arg.words[1] = ctx[(at) + 1];                                           \
		___arg.value;                                                                      \
	})

#define ___bpf_pair_decl0()
#define ___bpf_pair_decl1(t, x) , t x
#define ___bpf_pair_decl2(t, x, args...) , t x ___bpf_pair_decl1(args)
#define ___bpf_pair_decl3(t, x, args...) , t x ___bpf_pair_decl2(args)
#define ___bpf_pair_decl4(t, x, args...) , t x ___bpf_pair_decl3(args)
#define ___bpf_pair_decl5(t, x, args...) , t x ___bpf_pair_decl4(args)
#define ___bpf_pair_decl6(t, x, args...) , t x ___bpf_pair_decl5(args)
#define ___bpf_pair_decl7(t, x, args...) , t x ___bpf_pair_decl6(args)
#define ___bpf_pair_decl8(t, x, args...) , t x ___bpf_pair_decl7(args)
#define ___bpf_pair_decl9(t, x, args...) , t x ___bpf_pair_decl8(args)
#define ___bpf_pair_decl10(t, x, args...) , t x ___bpf_pair_decl9(args)
#define ___bpf_pair_decl11(t, x, args...) , t x ___bpf_pair_decl10(args)
#define ___bpf_pair_decl12(t, x, args...) , t x ___bpf_pair_decl11(args)
#define ___bpf_pair_decl(args...) ___bpf_apply(___bpf_pair_decl, ___bpf_npairs(args))(args)

#define ___bpf_pair_load0(at)
#define ___bpf_pair_load1(at, t, x) , ___bpf_arg_load(t, at)
#define ___bpf_pair_load2(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load1(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load3(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load2(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load4(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load3(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load5(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load4(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load6(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load5(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load7(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load6(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load8(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load7(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load9(at, t, x, args...)                                                       \
	, ___bpf_arg_load(t, at) ___bpf_pair_load8(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load10(at, t, x, args...)                                                      \
	, ___bpf_arg_load(t, at) ___bpf_pair_load9(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load11(at, t, x, args...)                                                      \
	, ___bpf_arg_load(t, at) ___bpf_pair_load10(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load12(at, t, x, args...)                                                      \
	, ___bpf_arg_load(t, at) ___bpf_pair_load11(at + ___bpf_arg_words(t), args)
#define ___bpf_pair_load(args...) ___bpf_apply(___bpf_pair_load, ___bpf_npairs(args))(0, ##args)

#define BPF_PROG2(name, args...)                                                                   \
	___bpf_program(name, unsigned long long *, ___bpf_pair_decl(args), ctx ___bpf_pair_load(args))

/* Context: struct pt_regs at a function's entry (kprobe, uprobe) */
#define ___bpf_kprobe_args0() ctx
#define ___bpf_kprobe_args1(x) ___bpf_kprobe_args0(), (void *)PT_REGS_PARM1(ctx)
#define ___bpf_kprobe_args2(x, args...) ___bpf_kprobe_args1(args), (void *)PT_REGS_PARM2(ctx)
#define ___bpf_kprobe_args3(x, args...) ___bpf_kprobe_args2(args), (void *)PT_REGS_PARM3(ctx)
#define ___bpf_kprobe_args4(x, args...) ___bpf_kprobe_args3(args), (void *)PT_REGS_PARM4(ctx)
#define ___bpf_kprobe_args5(x, args...) ___bpf_kprobe_args4(args), (void *)PT_REGS_PARM5(ctx)
#define ___bpf_kprobe_args6(x, args...) ___bpf_kprobe_args5(args), (void *)PT_REGS_PARM6(ctx)
#define ___bpf_kprobe_args7(x, args...) ___bpf_kprobe_args6(args), (void *)PT_REGS_PARM7(ctx)
#define ___bpf_kprobe_args8(x, args...) ___bpf_kprobe_args7(args), (void *)PT_REGS_PARM8(ctx)
#define ___bpf_kprobe_args(args...) ___bpf_apply(___bpf_kprobe_args, ___bpf_narg(args))(args)

#define BPF_KPROBE(name, args...)                                                                  \
	___bpf_program(name, struct pt_regs *, ___bpf_more(args), ___bpf_kprobe_args(args))
#define BPF_UPROBE(name, args...) BPF_KPROBE(name, ##args)

/* Context: struct pt_regs at a function's return; the one argument is its return value. */
#define ___bpf_kretprobe_args0() ctx
#define ___bpf_kretprobe_args1(x) ctx, (void *)PT_REGS_RC(ctx)
#define ___bpf_kretprobe_args(args...) ___bpf_apply(___bpf_kretprobe_args, ___bpf_narg(args))(args)

#define BPF_KRETPROBE(name, args...)                                                               \
	___bpf_program(name, struct pt_regs *, ___bpf_more(args), ___bpf_kretprobe_args(args))
#define BPF_URETPROBE(name, args...) BPF_KRETPROBE(name, ##args)

/*
 * Context: struct pt_regs at the entry of a system call's kernel function. Whether the arguments are there, or behind
 * the pt_regs that is its one argument, depends on the kernel: the loader knows, and the other branch is dead code.
 */
extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;

#define ___bpf_syscall_args0() ctx
#define ___bpf_syscall_args1(x) ___bpf_syscall_args0(), (void *)PT_REGS_PARM1_SYSCALL(regs)
#define ___bpf_syscall_args2(x, args...) ___bpf_syscall_args1(args), (void *)PT_REGS_PARM2_SYSCALL(regs)
#define ___bpf_syscall_args3(x, args...) ___bpf_syscall_args2(args), (void *)PT_REGS_PARM3_SYSCALL(regs)
#define ___bpf_syscall_args4(x, args...) ___bpf_syscall_args3(args), (void *)PT_REGS_PARM4_SYSCALL(regs)
#define ___bpf_syscall_args5(x, args...) ___bpf_syscall_args4(args), (void *)PT_REGS_PARM5_SYSCALL(regs)
#define ___bpf_syscall_args6(x, args...) ___bpf_syscall_args5(args), (void *)PT_REGS_PARM6_SYSCALL(regs)
#define ___bpf_syscall_args7(x, args...) ___bpf_syscall_args6(args), (void *)PT_REGS_PARM7_SYSCALL(regs)
#define ___bpf_syscall_args(args...) ___bpf_apply(___bpf_syscall_args, ___bpf_narg(args))(args)

#define ___bpf_syswrap_args0() ctx
#define ___bpf_syswrap_args1(x) ___bpf_syswrap_args0(), (void *)PT_REGS_PARM1_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args2(x, args...) ___bpf_syswrap_args1(args), (void *)PT_REGS_PARM2_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args3(x, args...) ___bpf_syswrap_args2(args), (void *)PT_REGS_PARM3_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args4(x, args...) ___bpf_syswrap_args3(args), (void *)PT_REGS_PARM4_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args5(x, args...) ___bpf_syswrap_args4(args), (void *)PT_REGS_PARM5_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args6(x, args...) ___bpf_syswrap_args5(args), (void *)PT_REGS_PARM6_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args7(x, args...) ___bpf_syswrap_args6(args), (void *)PT_REGS_PARM7_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args(args...) ___bpf_apply(___bpf_syswrap_args, ___bpf_narg(args))(args)

#define BPF_KSYSCALL(name, args...)                                                                \
	name(struct pt_regs *ctx);                                                                 \
	static __always_inline __typeof__(name(0)) ____##name(struct pt_regs *ctx, ##args);        \
	__typeof__(name(0)) name(struct pt_regs *ctx)                                              \
	{                                                                                          \
		struct pt_regs *regs __attribute__((unused)) =                                     \
			LINUX_HAS_SYSCALL_WRAPPER ? PT_REGS_SYSCALL_REGS(ctx) : ctx;               \
		_Pragma("GCC diagnostic push")                                                     \
		_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")                             \
		if (LINUX_HAS_SYSCALL_WRAPPER)                                                     \
			return ____##name(___bpf_syswrap_args(args));                              \
		return ____##name(___bpf_syscall_args(args));                                      \
		_Pragma("GCC diagnostic pop")                                                      \
	}                                                                                          \
	static __always_inline __typeof__(name(0)) ____##name(struct pt_regs *ctx, ##args)
#define BPF_KPROBE_SYSCALL BPF_KSYSCALL

#endif /* __BPF_TRACING_H__ */
