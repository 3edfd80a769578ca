/* QUEUE, STACK and BLOOM_FILTER: values without keys. */
#ifndef BPF2PY_LISTS_H
#define BPF2PY_LISTS_H

#include "jhash.h"
#include "values.h"

/* A ring of max_entries + 1 values: empty when head equals tail. */
struct queue {
	u32 head; /* where the next value goes */
	u32 tail; /* the oldest value */
	u32 size;
};

#define QUEUE_OF(m) ((struct queue *)(m)->own)

EXPORT s64 queue_push_elem(struct map *m, const void *value, u64 flags)
{
	struct queue *q = QUEUE_OF(m);
	u32 next = q->head + 1 == q->size ? 0 : q->head + 1;

	if (flags & NOEXIST || flags > EXIST)
		return -EINVAL;
	if (next == q->tail) {
		if (!(flags & EXIST))
			return -E2BIG;
		q->tail = q->tail + 1 == q->size ? 0 : q->tail + 1;
	}
	copy((void *)(m->data + (u64)q->head * m->stride), value, m->value_size);
	q->head = next;
	return 0;
}

LOCAL s64 queue_take(struct map *m, void *value, u64 remove)
{
	struct queue *q = QUEUE_OF(m);
	u32 at = q->tail;

	if (q->head == q->tail) {
		zero(value, m->value_size);
		return -ENOENT;
	}
	if (m->type == STACK)
		at = q->head ? q->head - 1 : q->size - 1;
	copy(value, (void *)(m->data + (u64)at * m->stride), m->value_size);
	if (remove) {
		if (m->type == STACK)
			q->head = at;
		else
			q->tail = at + 1 == q->size ? 0 : at + 1;
	}
	return 0;
}

EXPORT s64 queue_pop_elem(struct map *m, void *value)
{
	return queue_take(m, value, 1);
}

EXPORT s64 queue_peek_elem(struct map *m, void *value)
{
	return queue_take(m, value, 0);
}

EXPORT s64 queue_sys_update(struct map *m, const void *key, const void *value, u64 flags)
{
	(void)key;
	if (m->frozen)
		return -EPERM;
	if (flags & LOCK)
		return -EINVAL;
	return queue_push_elem(m, value, flags);
}

EXPORT s64 queue_sys_lookup(struct map *m, const void *key, void *value, u64 flags)
{
	(void)key;
	return flags ? -EINVAL : queue_take(m, value, 0);
}

EXPORT s64 queue_sys_lookup_and_delete(struct map *m, const void *key, void *value, u64 flags)
{
	(void)key;
	if (m->frozen)
		return flags & ~LOCK ? -EINVAL : -EPERM;
	return flags ? -EINVAL : queue_take(m, value, 1);
}

struct bloom {
	u32 mask; /* of a hash: the number of bits less one */
	u32 seed;
	u32 functions;
};

#define BLOOM_OF(m) ((struct bloom *)(m)->own)

INLINE u32 bloom_bit(struct map *m, const void *value, u32 function)
{
	return hash_of(value, m->value_size, BLOOM_OF(m)->seed + function) & BLOOM_OF(m)->mask;
}

EXPORT s64 bloom_push_elem(struct map *m, const void *value, u64 flags)
{
	if (flags != ANY)
		return -EINVAL;
	for (u32 i = 0; i < BLOOM_OF(m)->functions; i++) {
		u32 bit = bloom_bit(m, value, i);

		((u8 *)m->data)[bit >> 3] |= 1u << (bit & 7);
	}
	return 0;
}

EXPORT s64 bloom_peek_elem(struct map *m, const void *value)
{
	for (u32 i = 0; i < BLOOM_OF(m)->functions; i++) {
		u32 bit = bloom_bit(m, value, i);

		if (!(((u8 *)m->data)[bit >> 3] & 1u << (bit & 7)))
			return -ENOENT;
	}
	return 0;
}

EXPORT s64 bloom_sys_update(struct map *m, const void *key, const void *value, u64 flags)
{
	(void)key;
	return m->frozen ? -EPERM : bloom_push_elem(m, value, flags);
}

EXPORT s64 bloom_sys_lookup(struct map *m, const void *key, const void *value, u64 flags)
{
	(void)key;
	return flags ? -EINVAL : bloom_peek_elem(m, value);
}

#endif
