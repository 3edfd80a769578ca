/* SPDX-License-Identifier: MIT */
/*
 * What an eBPF C program needs to declare maps, programs and externs. Source compatible with the header of this name
 * that eBPF programmers know; the fixed-width types (__u32, ...) come from "vmlinux.h" or <linux/types.h>, which must be
 * included first.
 */
#ifndef __BPF_HELPERS__
#define __BPF_HELPERS__

#include <bpf/bpf_helper_defs.h>

/* ---- Map definitions: facts for the loader, written into the types of a struct's members ---- */

#define __uint(name, val) int (*name)[val]
#define __type(name, val) __typeof__(val) *name
#define __array(name, val) __typeof__(val) *name[]
/* A 64-bit constant does not fit an array size, but an enumerator. */
#define __ulong(name, val) enum { ___bpf_apply(___bpf_value_, __COUNTER__) = val } name

/* Pinning of a map: __uint(pinning, LIBBPF_PIN_BY_NAME) */
enum libbpf_pin_type {
	LIBBPF_PIN_NONE,
	LIBBPF_PIN_BY_NAME,
};

/* The value of a CONFIG_ option that may be a module */
enum libbpf_tristate {
	TRI_NO = 0,
	TRI_YES = 1,
	TRI_MODULE = 2,
};

/* ---- Attributes ---- */

/* `used` is meaningless, and warned of, on an extern declaration; SEC() may stand there too. */
#define SEC(name)                                                              \
	_Pragma("GCC diagnostic push")                                         \
	_Pragma("GCC diagnostic ignored \"-Wignored-attributes\"")             \
	__attribute__((section(name), used))                                   \
	_Pragma("GCC diagnostic pop")

#undef __always_inline /* linux/stddef.h defines it without the attribute */
#define __always_inline inline __attribute__((always_inline))

#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
/* A global function that the verifier may check together with its callers */
#define __hidden __attribute__((visibility("hidden")))

#define __kconfig __attribute__((section(".kconfig")))
#define __ksym __attribute__((section(".ksyms")))

#ifndef __has_attribute
#define __has_attribute(name) 0
#endif

#if __has_attribute(btf_type_tag)
#define ___bpf_type_tag(tag) __attribute__((btf_type_tag(tag)))
#else
#define ___bpf_type_tag(tag)
#endif
#define __kptr ___bpf_type_tag("kptr")
#define __kptr_untrusted ___bpf_type_tag("kptr_untrusted")
#define __percpu_kptr ___bpf_type_tag("percpu_kptr")
#define __uptr ___bpf_type_tag("uptr")

#if __has_attribute(btf_decl_tag)
#define ___bpf_decl_tag(tag) __attribute__((btf_decl_tag(tag)))
#else
#define ___bpf_decl_tag(tag)
#endif
/* What the verifier may assume of a global function's argument */
#define __arg_ctx ___bpf_decl_tag("arg:ctx")
#define __arg_nonnull ___bpf_decl_tag("arg:nonnull")
#define __arg_nullable ___bpf_decl_tag("arg:nullable")
#define __arg_trusted ___bpf_decl_tag("arg:trusted")
#define __arg_untrusted ___bpf_decl_tag("arg:untrusted")
#define __arg_arena ___bpf_decl_tag("arg:arena")

/* ---- Language ---- */

#ifndef NULL
#define NULL ((void *)0)
#endif

#ifndef KERNEL_VERSION
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#endif

/* The compiler's builtin would fold to a number that CO-RE cannot relocate. */
#undef offsetof
#define offsetof(type, member) ((unsigned long)&((type *)0)->member)

#undef container_of
#define container_of(ptr, type, member) ((type *)((void *)(ptr) - offsetof(type, member)))

/* The compiler must forget what it knows of memory, or of one variable's value. */
#ifndef barrier
#define barrier() __asm__ volatile("" ::: "memory")
#endif
#ifndef barrier_var
#define barrier_var(var) __asm__ volatile("" : "+r"(var))
#endif

/* Code that only a mistake at compile time keeps in the program */
#ifndef __bpf_unreachable
#define __bpf_unreachable() __builtin_trap()
#endif

/* An extern that must be declared __weak: is it in the running kernel? */
#define bpf_ksym_exists(sym)                                                                       \
	({                                                                                         \
		_Static_assert(!__builtin_constant_p(!!sym), #sym " should be marked as __weak"); \
		!!sym;                                                                             \
	})

#ifdef __bpf__
/*
 * A tail call whose map and slot are constants of the instruction stream, so that the JIT can make it a direct jump:
 * the compiler must not merge two of them into one with computed operands.
 */
static __always_inline void bpf_tail_call_static(void *ctx, const void *map, const unsigned int slot)
{
	if (!__builtin_constant_p(slot))
		__bpf_unreachable();
	__asm__ volatile("r1 = %[ctx]\n\t"
			 "r2 = %[map]\n\t"
			 "r3 = %[slot]\n\t"
			 "call %[helper]"
			 :
			 : [ctx] "r"(ctx), [map] "r"(map), [slot] "i"(slot), [helper] "i"(12)
			 : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
}
#endif

/* ---- Macros over argument lists of up to twelve ---- */

#ifndef ___bpf_concat
#define ___bpf_concat(a, b) a##b
#endif
#ifndef ___bpf_apply
#define ___bpf_apply(fn, n) ___bpf_concat(fn, n)
#endif
#ifndef ___bpf_nth
#define ___bpf_nth(_, _1, _2, _3, _4, _5, _6, _7, _8, _9, _a, _b, _c, N, ...) N
#endif
#ifndef ___bpf_narg
#define ___bpf_narg(...) ___bpf_nth(_, ##__VA_ARGS__, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#endif

#define ___bpf_fill0(arr, p, x) do {} while (0)
#define ___bpf_fill1(arr, p, x) arr[p] = x
#define ___bpf_fill2(arr, p, x, args...) arr[p] = x; ___bpf_fill1(arr, p + 1, args)
#define ___bpf_fill3(arr, p, x, args...) arr[p] = x; ___bpf_fill2(arr, p + 1, args)
#define ___bpf_fill4(arr, p, x, args...) arr[p] = x; ___bpf_fill3(arr, p + 1, args)
#define ___bpf_fill5(arr, p, x, args...) arr[p] = x; ___bpf_fill4(arr, p + 1, args)
#define ___bpf_fill6(arr, p, x, args...) arr[p] = x; ___bpf_fill5(arr, p + 1, args)
#define ___bpf_fill7(arr, p, x, args...) arr[p] = x; ___bpf_fill6(arr, p + 1, args)
#define ___bpf_fill8(arr, p, x, args...) arr[p] = x; ___bpf_fill7(arr, p + 1, args)
#define ___bpf_fill9(arr, p, x, args...) arr[p] = x; ___bpf_fill8(arr, p + 1, args)
#define ___bpf_fill10(arr, p, x, args...) arr[p] = x; ___bpf_fill9(arr, p + 1, args)
#define ___bpf_fill11(arr, p, x, args...) arr[p] = x; ___bpf_fill10(arr, p + 1, args)
#define ___bpf_fill12(arr, p, x, args...) arr[p] = x; ___bpf_fill11(arr, p + 1, args)
#define ___bpf_fill(arr, args...) ___bpf_apply(___bpf_fill, ___bpf_narg(args))(arr, 0, args)

/* Arguments may be pointers or integers of any width: the kernel takes an array of 64-bit words. */
#define ___bpf_words(name, args...)                                                                \
	unsigned long long name[___bpf_narg(args)];                                                \
	_Pragma("GCC diagnostic push")                                                             \
	_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")                                     \
	___bpf_fill(name, args);                                                                   \
	_Pragma("GCC diagnostic pop")

/* ---- Formatted output ---- */

/* Into the seq_file of an iterator program */
#define BPF_SEQ_PRINTF(seq, fmt, args...)                                                          \
	({                                                                                         \
		static const char ___fmt[] = fmt;                                                  \
		___bpf_words(___param, args)                                                       \
		bpf_seq_printf(seq, ___fmt, sizeof(___fmt), ___param, sizeof(___param));           \
	})

/* Into a buffer */
#define BPF_SNPRINTF(out, out_size, fmt, args...)                                                  \
	({                                                                                         \
		static const char ___fmt[] = fmt;                                                  \
		___bpf_words(___param, args)                                                       \
		bpf_snprintf(out, out_size, ___fmt, ___param, sizeof(___param));                   \
	})

#ifdef BPF_NO_GLOBAL_DATA
#define BPF_PRINTK_FMT_MOD
#else
#define BPF_PRINTK_FMT_MOD static const
#endif

#define __bpf_printk(fmt, ...)                                                                     \
	({                                                                                         \
		BPF_PRINTK_FMT_MOD char ___fmt[] = fmt;                                            \
		bpf_trace_printk(___fmt, sizeof(___fmt), ##__VA_ARGS__);                           \
	})

#define __bpf_vprintk(fmt, args...)                                                                \
	({                                                                                         \
		static const char ___fmt[] = fmt;                                                  \
		___bpf_words(___param, args)                                                       \
		bpf_trace_vprintk(___fmt, sizeof(___fmt), ___param, sizeof(___param));             \
	})

/* bpf_trace_printk takes three arguments at most; its successor (Linux 5.16) takes an array. */
#define ___bpf_pick_printk(...)                                                                    \
	___bpf_nth(_, ##__VA_ARGS__, __bpf_vprintk, __bpf_vprintk, __bpf_vprintk, __bpf_vprintk,   \
		   __bpf_vprintk, __bpf_vprintk, __bpf_vprintk, __bpf_vprintk, __bpf_vprintk,      \
		   __bpf_printk /*3*/, __bpf_printk /*2*/, __bpf_printk /*1*/, __bpf_printk /*0*/)

/* Into /sys/kernel/tracing/trace_pipe */
#define bpf_printk(fmt, args...) ___bpf_pick_printk(args)(fmt, ##args)

/*
 * Into a stream of the program's own, BPF_STDOUT or BPF_STDERR, which user space reads (Linux 6.17). The kfunc was renamed in
 * 6.18, and got its old name back in 7.0, with an argument less. Kernels without either do nothing and say -EOPNOTSUPP.
 */
extern int bpf_stream_vprintk_impl(int stream_id, const char *fmt__str, const void *args, __u32 len__sz,
				   void *aux__prog) __weak __ksym;
extern int bpf_stream_vprintk___v617(int stream_id, const char *fmt__str, const void *args, __u32 len__sz,
				     void *aux__prog) __weak __ksym;
extern int bpf_stream_vprintk___v70(int stream_id, const char *fmt__str, const void *args, __u32 len__sz) __weak __ksym;

#define bpf_stream_printk(stream_id, fmt, args...)                                                 \
	({                                                                                         \
		static const char ___fmt[] = fmt;                                                  \
		int ___written = -95;                                                              \
		___bpf_words(___param, args)                                                       \
		if (bpf_ksym_exists(bpf_stream_vprintk_impl))                                      \
			___written = bpf_stream_vprintk_impl(stream_id, ___fmt, ___param,          \
							     sizeof(___param), (void *)0);         \
		else if (bpf_ksym_exists(bpf_stream_vprintk___v617))                               \
			___written = bpf_stream_vprintk___v617(stream_id, ___fmt, ___param,        \
							       sizeof(___param), (void *)0);       \
		else if (bpf_ksym_exists(bpf_stream_vprintk___v70))                                \
			___written = bpf_stream_vprintk___v70(stream_id, ___fmt, ___param,         \
							      sizeof(___param));                   \
		___written;                                                                        \
	})

/* ---- Loops whose end the verifier need not find (Linux 6.4) ---- */

struct bpf_iter_num;

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

/*
 * The iterator lives as long as the loop: the cleanup attribute ends it on every way out, break and return included. The
 * second variable is there only to run the constructor, and to name the destructor so that its extern is kept.
 */
#define ___bpf_iter_begin(type, args...)                                                           \
	struct bpf_iter_##type ___it __attribute__((                                               \
		aligned(8), cleanup(bpf_iter_##type##_destroy))),                                  \
		*___begun __attribute__((unused)) = (bpf_iter_##type##_new(&___it, ##args),        \
						     (void)bpf_iter_##type##_destroy, (void *)0)

/* cur takes the pointers that the open-coded iterator `type` yields, until it yields NULL. */
#ifndef bpf_for_each
#define bpf_for_each(type, cur, args...)                                                           \
	for (___bpf_iter_begin(type, ##args); ((cur) = bpf_iter_##type##_next(&___it));)
#endif

/* i takes the values start, start + 1, ... end - 1; the comparison tells the verifier so. */
#ifndef bpf_for
#define bpf_for(i, start, end)                                                                     \
	for (___bpf_iter_begin(num, (start), (end)); ({                                            \
		     int *___now = bpf_iter_num_next(&___it);                                      \
		     ___now && ((i) = *___now, (i) >= (start) && (i) < (end));                     \
	     });)
#endif

/* The body n times */
#ifndef bpf_repeat
#define bpf_repeat(n) for (___bpf_iter_begin(num, 0, (n)); bpf_iter_num_next(&___it);)
#endif

#endif /* __BPF_HELPERS__ */
