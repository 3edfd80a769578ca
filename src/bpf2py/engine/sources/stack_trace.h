/* STACK_TRACE: a stack's number is the hash of its addresses; different stacks of one number collide. */
#ifndef BPF2PY_STACK_TRACE_H
#define BPF2PY_STACK_TRACE_H

#include "jhash.h"
#include "values.h"

#define SKIP_FRAMES 0xffULL
#define USER_STACK 256ULL
#define FAST_STACK_CMP 512ULL
#define REUSE_STACKID 1024ULL
#define USER_BUILD_ID 2048ULL

/* Of each of max_entries numbers: whether it is used, by a stack of which hash and how many addresses. */
struct stack_bucket {
	u32 used;
	u32 hash;
	u32 frames;
	u32 unused;
};

INLINE struct stack_bucket *stack_at(struct map *m, u32 id)
{
	return (struct stack_bucket *)m->meta + id;
}

/* The number of a stack given as addresses, skipping done already: what bpf_get_stackid() does once it has walked. */
EXPORT s64 stackmap_store(struct map *m, const u64 *frames, u64 count, u64 flags)
{
	u32 hash, id, most = m->value_size / 8;
	struct stack_bucket *b;
	u64 *to;

	if (flags & ~(SKIP_FRAMES | USER_STACK | FAST_STACK_CMP | REUSE_STACKID))
		return -EINVAL;
	if (!count)
		return -EFAULT;
	if (count > most)
		count = most;
	hash = jhash(frames, count * 8, 0);
	id = hash & ((u32)m->own[0] - 1);
	b = stack_at(m, id);
	to = (u64 *)(m->data + (u64)id * m->stride);
	if (b->used && b->hash == hash) {
		u64 same = 0;

		if (flags & FAST_STACK_CMP)
			return id;
		while (b->frames == count && same < count && to[same] == frames[same])
			same++;
		if (b->frames == count && same == count)
			return id;
	}
	if (b->used && !(flags & REUSE_STACKID))
		return -EEXIST;
	/* A bucket is taken before the one it replaces is given back. */
	if (m->count == m->max_entries)
		return -ENOMEM;
	m->count += !b->used;
	copy_long(to, frames, count * 8);
	b->used = 1;
	b->hash = hash;
	b->frames = count;
	return id;
}

EXPORT s64 stackmap_sys_lookup(struct map *m, const u32 *id, void *out, u64 flags)
{
	struct stack_bucket *b;

	if (flags)
		return -EINVAL;
	if (*id >= (u32)m->own[0] || !stack_at(m, *id)->used)
		return -ENOENT;
	b = stack_at(m, *id);
	copy_long(out, (void *)(m->data + (u64)*id * m->stride), b->frames * 8);
	zero(out + b->frames * 8, m->value_size - b->frames * 8);
	return 0;
}

EXPORT s64 stackmap_sys_delete(struct map *m, const u32 *id)
{
	if (m->frozen)
		return -EPERM;
	if (*id >= (u32)m->own[0])
		return -E2BIG;
	if (!stack_at(m, *id)->used)
		return -ENOENT;
	stack_at(m, *id)->used = 0;
	m->count--;
	return 0;
}

EXPORT s64 stackmap_sys_lookup_and_delete(struct map *m, const u32 *id, void *out, u64 flags)
{
	s64 error;

	if (m->frozen)
		return flags & ~LOCK ? -EINVAL : -EPERM;
	error = stackmap_sys_lookup(m, id, out, flags);
	return error ? error : stackmap_sys_delete(m, id);
}

EXPORT s64 stackmap_sys_next_key(struct map *m, const u32 *id, u32 *next)
{
	u32 n = m->own[0], i = 0;

	if (id && *id < n && stack_at(m, *id)->used)
		i = *id + 1;
	while (i < n && !stack_at(m, i)->used)
		i++;
	if (i >= n)
		return -ENOENT;
	*next = i;
	return 0;
}

#endif
