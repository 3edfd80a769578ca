/* SPDX-License-Identifier: MIT */
/*
 * Arguments of user-space statically defined tracepoints (USDT) for SEC("usdt/BINARY:PROVIDER:NAME") programs.
 *
 * A probe's note in the binary says where each argument is: a constant, a register, or memory a register points to. The
 * loader translates that into a `struct __bpf_usdt_spec`, puts it into a map, and gives the slot's number as the cookie of
 * the attachment (Linux 5.15). Layout and name of the map are those other loaders use, too: objects and loaders mix.
 */
#ifndef __USDT_BPF_H__
#define __USDT_BPF_H__

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* Different argument lists (or cookies) attached at a time; define it before the #include to change it */
#ifndef BPF_USDT_MAX_SPEC_CNT
#define BPF_USDT_MAX_SPEC_CNT 256
#endif
/* Accepted for the sake of sources that set it: with cookies no table of addresses is needed. */
#ifndef BPF_USDT_MAX_IP_CNT
#define BPF_USDT_MAX_IP_CNT (4 * BPF_USDT_MAX_SPEC_CNT)
#endif

#define BPF_USDT_MAX_ARG_CNT 12

#define ___BPF_USDT_ENOENT 2
#define ___BPF_USDT_ESRCH 3
#define ___BPF_USDT_EINVAL 22

enum __bpf_usdt_arg_kind {
	___BPF_USDT_CONSTANT, /* value */
	___BPF_USDT_REGISTER, /* the register */
	___BPF_USDT_MEMORY,   /* at the register plus value */
	___BPF_USDT_INDEXED,  /* at the register plus (the index register << scale) plus value */
};

struct __bpf_usdt_arg {
	__u64 value;
	__u32 where; /* bits 0..7: kind, 8..19: the index register's offset in struct pt_regs, 20..23: scale */
	__s16 reg;   /* the register's offset in struct pt_regs */
	__u8 is_signed;
	__s8 shift; /* 64 less the argument's bits */
};

struct __bpf_usdt_spec {
	struct __bpf_usdt_arg args[BPF_USDT_MAX_ARG_CNT];
	__u64 cookie;
	__s16 arg_cnt;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BPF_USDT_MAX_SPEC_CNT);
	__type(key, int);
	__type(value, struct __bpf_usdt_spec);
} __bpf_usdt_specs SEC(".maps") __weak;

struct pt_regs;

static __always_inline struct __bpf_usdt_spec *___bpf_usdt_spec_of(struct pt_regs *ctx)
{
	int slot = bpf_get_attach_cookie(ctx);

	return bpf_map_lookup_elem(&__bpf_usdt_specs, &slot);
}

/* How many arguments the probe has; negative when the program was not attached to one. */
__weak __hidden int bpf_usdt_arg_cnt(struct pt_regs *ctx)
{
	struct __bpf_usdt_spec *spec = ___bpf_usdt_spec_of(ctx);

	return spec ? spec->arg_cnt : -___BPF_USDT_ESRCH;
}

/* The size of argument n (from 0) in bytes, or a negative error. */
__weak __hidden int bpf_usdt_arg_size(struct pt_regs *ctx, __u64 n)
{
	struct __bpf_usdt_spec *spec = ___bpf_usdt_spec_of(ctx);

	if (!spec)
		return -___BPF_USDT_ESRCH;
	if (n >= BPF_USDT_MAX_ARG_CNT)
		return -___BPF_USDT_ENOENT;
	barrier_var(n);
	if (n >= BPF_USDT_MAX_ARG_CNT || (__s64)n >= spec->arg_cnt)
		return -___BPF_USDT_ENOENT;
	return 8 - ((__u32)spec->args[n].shift >> 3);
}

/*
 * Argument n (from 0), sign-extended where its note says that it is signed. Returns 0, or a negative error with *res = 0:
 * -ENOENT when there are fewer arguments, -EFAULT when its memory cannot be read.
 */
__weak __hidden int bpf_usdt_arg(struct pt_regs *ctx, __u64 n, long *res)
{
	struct __bpf_usdt_spec *spec = ___bpf_usdt_spec_of(ctx);
	struct __bpf_usdt_arg *arg;
	unsigned long value = 0, base = 0, index = 0;
	__u32 where, size;
	int shift, error;

	*res = 0;
	if (!spec)
		return -___BPF_USDT_ESRCH;
	if (n >= BPF_USDT_MAX_ARG_CNT)
		return -___BPF_USDT_ENOENT;
	/* The compiler must not fold both comparisons into one with a bound the verifier does not know. */
	barrier_var(n);
	if (n >= BPF_USDT_MAX_ARG_CNT || (__s64)n >= spec->arg_cnt)
		return -___BPF_USDT_ENOENT;
	arg = &spec->args[n];
	where = arg->where;
	shift = arg->shift & 63;

	if ((where & 0xff) == ___BPF_USDT_CONSTANT) {
		value = arg->value;
	} else {
		error = bpf_probe_read_kernel(&base, sizeof(base), (void *)ctx + arg->reg);
		if (error)
			return error;
		switch (where & 0xff) {
		case ___BPF_USDT_REGISTER:
			value = base;
			break;
		case ___BPF_USDT_INDEXED:
			error = bpf_probe_read_kernel(&index, sizeof(index), (void *)ctx + (where >> 8 & 0xfff));
			if (error)
				return error;
			base += index << (where >> 20 & 0xf);
			/* fallthrough */
		case ___BPF_USDT_MEMORY:
			/* No more than its own bytes: what is behind may be on a page that is not there. */
			size = 8 - (shift >> 3);
			barrier_var(size);
			if (size > sizeof(value))
				return -___BPF_USDT_EINVAL;
			error = bpf_probe_read_user(&value, size, (void *)(base + arg->value));
			if (error)
				return error;
			break;
		default:
			return -___BPF_USDT_EINVAL;
		}
	}
	value <<= shift;
	*res = arg->is_signed ? (long)value >> shift : (long)(value >> shift);
	return 0;
}

/* The number given when the program was attached (attach(cookie=...)), 0 without one. */
__weak __hidden long bpf_usdt_cookie(struct pt_regs *ctx)
{
	struct __bpf_usdt_spec *spec = ___bpf_usdt_spec_of(ctx);

	return spec ? (long)spec->cookie : 0;
}

/* int BPF_USDT(name, type arg, ...) { body }: the probe's arguments as typed parameters; `ctx` is in reach. */
#define ___bpf_usdt_load(n)                                                                        \
	({                                                                                         \
		long ___value;                                                                     \
		bpf_usdt_arg(ctx, n, &___value);                                                   \
		(void *)___value;                                                                  \
	})
#define ___bpf_usdt_args0() ctx
#define ___bpf_usdt_args1(x) ___bpf_usdt_args0(), ___bpf_usdt_load(0)
#define ___bpf_usdt_args2(x, args...) ___bpf_usdt_args1(args), ___bpf_usdt_load(1)
#define ___bpf_usdt_args3(x, args...) ___bpf_usdt_args2(args), ___bpf_usdt_load(2)
#define ___bpf_usdt_args4(x, args...) ___bpf_usdt_args3(args), ___bpf_usdt_load(3)
#define ___bpf_usdt_args5(x, args...) ___bpf_usdt_args4(args), ___bpf_usdt_load(4)
#define ___bpf_usdt_args6(x, args...) ___bpf_usdt_args5(args), ___bpf_usdt_load(5)
#define ___bpf_usdt_args7(x, args...) ___bpf_usdt_args6(args), ___bpf_usdt_load(6)
#define ___bpf_usdt_args8(x, args...) ___bpf_usdt_args7(args), ___bpf_usdt_load(7)
#define ___bpf_usdt_args9(x, args...) ___bpf_usdt_args8(args), ___bpf_usdt_load(8)
#define ___bpf_usdt_args10(x, args...) ___bpf_usdt_args9(args), ___bpf_usdt_load(9)
#define ___bpf_usdt_args11(x, args...) ___bpf_usdt_args10(args), ___bpf_usdt_load(10)
#define ___bpf_usdt_args12(x, args...) ___bpf_usdt_args11(args), ___bpf_usdt_load(11)
#define ___bpf_usdt_args(args...) ___bpf_apply(___bpf_usdt_args, ___bpf_narg(args))(args)

#define BPF_USDT(name, args...)                                                                    \
	___bpf_program(name, struct pt_regs *, ___bpf_more(args), ___bpf_usdt_args(args))

#endif /* __USDT_BPF_H__ */
