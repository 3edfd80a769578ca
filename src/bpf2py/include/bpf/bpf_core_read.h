/* SPDX-License-Identifier: MIT */
/*
 * CO-RE: reading kernel memory by field names. The compiler records which field is meant; the loader puts in the offset
 * that the running kernel's BTF gives it.
 */
#ifndef __BPF_CORE_READ_H__
#define __BPF_CORE_READ_H__

#include <bpf/bpf_helpers.h>

/* Second argument of __builtin_preserve_field_info() */
enum bpf_field_info_kind {
	BPF_FIELD_BYTE_OFFSET = 0,
	BPF_FIELD_BYTE_SIZE = 1,
	BPF_FIELD_EXISTS = 2,
	BPF_FIELD_SIGNED = 3,
	BPF_FIELD_LSHIFT_U64 = 4,
	BPF_FIELD_RSHIFT_U64 = 5,
};

/* Second argument of __builtin_btf_type_id() */
enum bpf_type_id_kind {
	BPF_TYPE_ID_LOCAL = 0,
	BPF_TYPE_ID_TARGET = 1,
};

/* Second argument of __builtin_preserve_type_info() */
enum bpf_type_info_kind {
	BPF_TYPE_EXISTS = 0,
	BPF_TYPE_SIZE = 1,
	BPF_TYPE_MATCHES = 2,
};

/* Second argument of __builtin_preserve_enum_value() */
enum bpf_enum_value_kind {
	BPF_ENUMVAL_EXISTS = 0,
	BPF_ENUMVAL_VALUE = 1,
};

/* ---- Questions about the running kernel's types; the answers are constants after loading ---- */

#define __CORE_RELO(src, field, info) __builtin_preserve_field_info((src)->field, BPF_FIELD_##info)

/* Either (expression->field) or (type, field) */
#define ___bpf_field_ref1(field) (field)
#define ___bpf_field_ref2(type, field) (((__typeof__(type) *)0)->field)
#define ___bpf_field_ref(args...) ___bpf_apply(___bpf_field_ref, ___bpf_narg(args))(args)

#define bpf_core_field_exists(field...)                                                            \
	__builtin_preserve_field_info(___bpf_field_ref(field), BPF_FIELD_EXISTS)
#define bpf_core_field_size(field...)                                                              \
	__builtin_preserve_field_info(___bpf_field_ref(field), BPF_FIELD_BYTE_SIZE)
#define bpf_core_field_offset(field...)                                                            \
	__builtin_preserve_field_info(___bpf_field_ref(field), BPF_FIELD_BYTE_OFFSET)

#define ___bpf_typeof(type) ((__typeof__(type) *)0)

/* The number of a type in the object's own BTF, and in the kernel's */
#define bpf_core_type_id_local(type) __builtin_btf_type_id(*___bpf_typeof(type), BPF_TYPE_ID_LOCAL)
#define bpf_core_type_id_kernel(type) __builtin_btf_type_id(*___bpf_typeof(type), BPF_TYPE_ID_TARGET)

#define bpf_core_type_exists(type) __builtin_preserve_type_info(*___bpf_typeof(type), BPF_TYPE_EXISTS)
#define bpf_core_type_matches(type) __builtin_preserve_type_info(*___bpf_typeof(type), BPF_TYPE_MATCHES)
#define bpf_core_type_size(type) __builtin_preserve_type_info(*___bpf_typeof(type), BPF_TYPE_SIZE)

/* The builtin wants the enumerator dressed up as a pointer to its enum. */
#define ___bpf_enumval(enum_type, enum_value, kind)                                                \
	__builtin_preserve_enum_value(*(__typeof__(enum_type) *)enum_value, kind)
#define bpf_core_enum_value_exists(enum_type, enum_value)                                          \
	___bpf_enumval(enum_type, enum_value, BPF_ENUMVAL_EXISTS)
#define bpf_core_enum_value(enum_type, enum_value) ___bpf_enumval(enum_type, enum_value, BPF_ENUMVAL_VALUE)

/* ---- Bit fields ---- */

/* Shift the bits loaded from the field's storage unit into place: to the top, then down. */
#define ___bpf_bitfield_value(s, field, bits)                                                      \
	({                                                                                         \
		unsigned long long ___bits = (bits) << __CORE_RELO(s, field, LSHIFT_U64);          \
		if (__CORE_RELO(s, field, SIGNED))                                                 \
			___bits = (long long)___bits >> __CORE_RELO(s, field, RSHIFT_U64);         \
		else                                                                               \
			___bits >>= __CORE_RELO(s, field, RSHIFT_U64);                             \
		___bits;                                                                           \
	})

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ___bpf_bitfield_dst(word, size) ((void *)&(word))
#else
#define ___bpf_bitfield_dst(word, size) ((void *)&(word) + (8 - (size)))
#endif

/* Through bpf_probe_read_kernel(): s may be any kernel pointer. */
#define BPF_CORE_READ_BITFIELD_PROBED(s, field)                                                    \
	({                                                                                         \
		unsigned long long ___word = 0;                                                    \
		bpf_probe_read_kernel(___bpf_bitfield_dst(___word, __CORE_RELO(s, field, BYTE_SIZE)), \
				      __CORE_RELO(s, field, BYTE_SIZE),                            \
				      (const void *)(s) + __CORE_RELO(s, field, BYTE_OFFSET));     \
		___bpf_bitfield_value(s, field, ___word);                                          \
	})

/* The empty statement keeps the compiler from folding the address into the loads, which CO-RE could not relocate. */
#define ___bpf_bitfield_address(s, field)                                                          \
	({                                                                                         \
		void *___at = (void *)(s) + __CORE_RELO(s, field, BYTE_OFFSET);                    \
		__asm__ volatile("" : "+r"(___at));                                                \
		___at;                                                                             \
	})

#define ___bpf_bitfield_load(at, size, word)                                                       \
	switch (size) {                                                                            \
	case 1:                                                                                    \
		word = *(const unsigned char *)(at);                                               \
		break;                                                                             \
	case 2:                                                                                    \
		word = *(const unsigned short *)(at);                                              \
		break;                                                                             \
	case 4:                                                                                    \
		word = *(const unsigned int *)(at);                                                \
		break;                                                                             \
	case 8:                                                                                    \
		word = *(const unsigned long long *)(at);                                          \
		break;                                                                             \
	}

/* By direct loads: s must be a pointer the verifier lets the program read through. */
#define BPF_CORE_READ_BITFIELD(s, field)                                                           \
	({                                                                                         \
		const void *___from = ___bpf_bitfield_address(s, field);                           \
		unsigned long long ___word = 0;                                                    \
		___bpf_bitfield_load(___from, __CORE_RELO(s, field, BYTE_SIZE), ___word)           \
		___bpf_bitfield_value(s, field, ___word);                                          \
	})

/* By a direct load and store of the field's storage unit */
#define BPF_CORE_WRITE_BITFIELD(s, field, new_val)                                                 \
	({                                                                                         \
		void *___to = ___bpf_bitfield_address(s, field);                                   \
		unsigned int ___left = __CORE_RELO(s, field, LSHIFT_U64);                          \
		unsigned int ___right = __CORE_RELO(s, field, RSHIFT_U64);                         \
		unsigned long long ___mask = ~0ULL << ___right >> ___left;                         \
		unsigned long long ___word = 0;                                                    \
		___bpf_bitfield_load(___to, __CORE_RELO(s, field, BYTE_SIZE), ___word)             \
		___word = (___word & ~___mask) |                                                   \
			  ((unsigned long long)(new_val) << ___right >> ___left);                  \
		switch (__CORE_RELO(s, field, BYTE_SIZE)) {                                        \
		case 1:                                                                            \
			*(unsigned char *)___to = ___word;                                         \
			break;                                                                     \
		case 2:                                                                            \
			*(unsigned short *)___to = ___word;                                        \
			break;                                                                     \
		case 4:                                                                            \
			*(unsigned int *)___to = ___word;                                          \
			break;                                                                     \
		case 8:                                                                            \
			*(unsigned long long *)___to = ___word;                                    \
			break;                                                                     \
		}                                                                                  \
	})

/* ---- Reading one field ---- */

#define ___bpf_relocatable(src) ((const void *)__builtin_preserve_access_index(src))

#define bpf_core_read(dst, sz, src) bpf_probe_read_kernel(dst, sz, ___bpf_relocatable(src))
#define bpf_core_read_user(dst, sz, src) bpf_probe_read_user(dst, sz, ___bpf_relocatable(src))
#define bpf_core_read_str(dst, sz, src) bpf_probe_read_kernel_str(dst, sz, ___bpf_relocatable(src))
#define bpf_core_read_user_str(dst, sz, src) bpf_probe_read_user_str(dst, sz, ___bpf_relocatable(src))

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __weak __ksym;

/* A pointer of the wanted type that may be read through directly; faults read as zero (Linux 6.2). */
#define bpf_core_cast(ptr, type) ((__typeof__(type) *)bpf_rdonly_cast((ptr), bpf_core_type_id_kernel(type)))

/* ---- Reading along a path of pointers: src->a->b->c, up to ten steps ---- */

/* The path as an expression; only its type is used. */
#define ___core_path1(src, a) (src)->a
#define ___core_path2(src, a, b) (src)->a->b
#define ___core_path3(src, a, b, c) (src)->a->b->c
#define ___core_path4(src, a, b, c, d) (src)->a->b->c->d
#define ___core_path5(src, a, b, c, d, e) (src)->a->b->c->d->e
#define ___core_path6(src, a, b, c, d, e, f) (src)->a->b->c->d->e->f
#define ___core_path7(src, a, b, c, d, e, f, g) (src)->a->b->c->d->e->f->g
#define ___core_path8(src, a, b, c, d, e, f, g, h) (src)->a->b->c->d->e->f->g->h
#define ___core_path9(src, a, b, c, d, e, f, g, h, i) (src)->a->b->c->d->e->f->g->h->i
#define ___core_path10(src, a, b, c, d, e, f, g, h, i, j) (src)->a->b->c->d->e->f->g->h->i->j

/*
 * Step n reads the pointer src->a->... (n names) into t, having done the steps before it; then the last name is read
 * into dst by another function, which is where strings end.
 */
#define ___core_step1(rd, src, a) rd(&___ptr, sizeof(___ptr), &(src)->a)
#define ___core_step2(rd, src, a, b)                                                               \
	___core_step1(rd, src, a);                                                                 \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a))___ptr)->b)
#define ___core_step3(rd, src, a, b, c)                                                            \
	___core_step2(rd, src, a, b);                                                              \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a->b))___ptr)->c)
#define ___core_step4(rd, src, a, b, c, d)                                                         \
	___core_step3(rd, src, a, b, c);                                                           \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a->b->c))___ptr)->d)
#define ___core_step5(rd, src, a, b, c, d, e)                                                      \
	___core_step4(rd, src, a, b, c, d);                                                        \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a->b->c->d))___ptr)->e)
#define ___core_step6(rd, src, a, b, c, d, e, f)                                                   \
	___core_step5(rd, src, a, b, c, d, e);                                                     \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a->b->c->d->e))___ptr)->f)
#define ___core_step7(rd, src, a, b, c, d, e, f, g)                                                \
	___core_step6(rd, src, a, b, c, d, e, f);                                                  \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a->b->c->d->e->f))___ptr)->g)
#define ___core_step8(rd, src, a, b, c, d, e, f, g, h)                                             \
	___core_step7(rd, src, a, b, c, d, e, f, g);                                               \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a->b->c->d->e->f->g))___ptr)->h)
#define ___core_step9(rd, src, a, b, c, d, e, f, g, h, i)                                          \
	___core_step8(rd, src, a, b, c, d, e, f, g, h);                                            \
	rd(&___ptr, sizeof(___ptr), &((__typeof__((src)->a->b->c->d->e->f->g->h))___ptr)->i)

#define ___core_walk1(rd, last, dst, src, a) last((void *)(dst), sizeof(*(dst)), &(src)->a)
#define ___core_walk2(rd, last, dst, src, a, b)                                                    \
	___core_step1(rd, src, a);                                                                 \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a))___ptr)->b)
#define ___core_walk3(rd, last, dst, src, a, b, c)                                                 \
	___core_step2(rd, src, a, b);                                                              \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b))___ptr)->c)
#define ___core_walk4(rd, last, dst, src, a, b, c, d)                                              \
	___core_step3(rd, src, a, b, c);                                                           \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b->c))___ptr)->d)
#define ___core_walk5(rd, last, dst, src, a, b, c, d, e)                                           \
	___core_step4(rd, src, a, b, c, d);                                                        \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b->c->d))___ptr)->e)
#define ___core_walk6(rd, last, dst, src, a, b, c, d, e, f)                                        \
	___core_step5(rd, src, a, b, c, d, e);                                                     \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b->c->d->e))___ptr)->f)
#define ___core_walk7(rd, last, dst, src, a, b, c, d, e, f, g)                                     \
	___core_step6(rd, src, a, b, c, d, e, f);                                                  \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b->c->d->e->f))___ptr)->g)
#define ___core_walk8(rd, last, dst, src, a, b, c, d, e, f, g, h)                                  \
	___core_step7(rd, src, a, b, c, d, e, f, g);                                               \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b->c->d->e->f->g))___ptr)->h)
#define ___core_walk9(rd, last, dst, src, a, b, c, d, e, f, g, h, i)                               \
	___core_step8(rd, src, a, b, c, d, e, f, g, h);                                            \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b->c->d->e->f->g->h))___ptr)->i)
#define ___core_walk10(rd, last, dst, src, a, b, c, d, e, f, g, h, i, j)                           \
	___core_step9(rd, src, a, b, c, d, e, f, g, h, i);                                         \
	last((void *)(dst), sizeof(*(dst)), &((__typeof__((src)->a->b->c->d->e->f->g->h->i))___ptr)->j)

#define ___core_walk(n, rd, last, dst, src, args...)                                               \
	({                                                                                         \
		const void *___ptr __attribute__((unused));                                        \
		___bpf_apply(___core_walk, n)(rd, last, dst, src, args);                           \
	})

/* 0 or a negative errno of the last read (for strings: the length with its NUL) */
#define BPF_CORE_READ_INTO(dst, src, a, ...)                                                       \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_core_read, bpf_core_read, dst, src, a, ##__VA_ARGS__)
#define BPF_CORE_READ_USER_INTO(dst, src, a, ...)                                                  \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_core_read_user, bpf_core_read_user, dst, src, a, ##__VA_ARGS__)
#define BPF_CORE_READ_STR_INTO(dst, src, a, ...)                                                   \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_core_read, bpf_core_read_str, dst, src, a, ##__VA_ARGS__)
#define BPF_CORE_READ_USER_STR_INTO(dst, src, a, ...)                                              \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_core_read_user, bpf_core_read_user_str, dst, src, a, ##__VA_ARGS__)

/* The same without relocation: for types whose layout is fixed, or the program's own */
#define BPF_PROBE_READ_INTO(dst, src, a, ...)                                                      \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_probe_read_kernel, bpf_probe_read_kernel, dst, src, a, ##__VA_ARGS__)
#define BPF_PROBE_READ_USER_INTO(dst, src, a, ...)                                                 \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_probe_read_user, bpf_probe_read_user, dst, src, a, ##__VA_ARGS__)
#define BPF_PROBE_READ_STR_INTO(dst, src, a, ...)                                                  \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_probe_read_kernel, bpf_probe_read_kernel_str, dst, src, a, ##__VA_ARGS__)
#define BPF_PROBE_READ_USER_STR_INTO(dst, src, a, ...)                                             \
	___core_walk(___bpf_narg(a, ##__VA_ARGS__), bpf_probe_read_user, bpf_probe_read_user_str, dst, src, a, ##__VA_ARGS__)

/* A variable for the value of a const field must not be const itself. */
#if __clang_major__ >= 19
#define ___core_typeof __typeof_unqual__
#else
#define ___core_typeof __typeof__
#endif

#define ___core_path(n, src, args...) ___bpf_apply(___core_path, n)(src, args)
#define ___core_value(into, src, args...)                                                          \
	({                                                                                         \
		___core_typeof(___core_path(___bpf_narg(args), src, args)) ___value;                   \
		into(&___value, src, args);                                                        \
		___value;                                                                          \
	})

/* The value at the end of the path; zero when a read faults */
#define BPF_CORE_READ(src, a, ...) ___core_value(BPF_CORE_READ_INTO, src, a, ##__VA_ARGS__)
#define BPF_CORE_READ_USER(src, a, ...) ___core_value(BPF_CORE_READ_USER_INTO, src, a, ##__VA_ARGS__)
#define BPF_PROBE_READ(src, a, ...) ___core_value(BPF_PROBE_READ_INTO, src, a, ##__VA_ARGS__)
#define BPF_PROBE_READ_USER(src, a, ...) ___core_value(BPF_PROBE_READ_USER_INTO, src, a, ##__VA_ARGS__)

#endif /* __BPF_CORE_READ_H__ */
