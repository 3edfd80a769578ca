/* RINGBUF and USER_RINGBUF.
 *
 * The memory user space maps is laid out as the kernel's: the consumer's page, the producer's page (which of the two is the
 * program's differs), the data twice in a row. The second copy is no mirror here but is written as well: readers look for the
 * records behind one that wraps there. What decides about space is kept in the map's header, where programs cannot write.
 */
#ifndef BPF2PY_RINGBUF_H
#define BPF2PY_RINGBUF_H

#include "values.h"

#define RING_BUSY (1u << 31)
#define RING_DISCARD (1u << 30)
#define RING_HEADER 8
#define RING_FIRST_PAGE 3 /* of the data, counted as the kernel does in a record's header */
#define RING_PAGE 4096
#define DYNPTR_MAX 0xffffffu
#define NO_WAKEUP 1ULL
#define FORCE_WAKEUP 2ULL

struct ring {
	u64 next_ring; /* header of another map, in the list that starts at ENGINE->rings */
	u64 positions; /* the consumer's page, and the producer's behind it */
	u64 mask;
	u64 producer;
	u64 pending; /* where the oldest record starts that is not committed yet */
	u64 wakeups; /* how often readers would have been woken */
};

struct ring_header {
	u32 length;
	u32 page;
};

#define RING(m) ((struct ring *)(m)->own)
#define CONSUMER(r) (*(volatile u64 *)(r)->positions)
#define PRODUCER(r) (*(volatile u64 *)((r)->positions + RING_PAGE))

/* Copy bytes of the ring to where they belong in the other copy of the data. */
LOCAL void ring_mirror(struct map *m, u64 start, u64 size)
{
	u64 total = RING(m)->mask + 1, split = start + size > total ? total - start : size;

	copy_long((void *)(m->data + start + total), (void *)(m->data + start), split);
	if (split < size)
		copy_long((void *)m->data, (void *)(m->data + total), size - split);
}

EXPORT void *ringbuf_reserve(struct map *m, u64 size, u64 flags)
{
	struct ring *r = RING(m);
	struct ring_header *header;
	u64 length, consumer, start;

	if (flags || size > 0xffffffffu / 4)
		return NULL;
	length = (size + RING_HEADER + 7) & ~7ULL;
	if (length > r->mask + 1)
		return NULL;
	consumer = CONSUMER(r);
	while (r->pending < r->producer) {
		u32 old = *(u32 *)(m->data + (r->pending & r->mask));

		if (old & RING_BUSY)
			break;
		r->pending += ((old & ~RING_DISCARD) + RING_HEADER + 7) & ~7ULL;
	}
	if (r->producer + length - consumer > r->mask || r->producer + length - r->pending > r->mask)
		return NULL;
	start = r->producer & r->mask;
	header = (struct ring_header *)(m->data + start);
	header->length = (u32)size | RING_BUSY;
	header->page = RING_FIRST_PAGE + (start >> 12);
	*(u64 *)(m->data + start + r->mask + 1) = *(u64 *)header;
	r->producer += length;
	PRODUCER(r) = r->producer;
	return header + 1;
}

LOCAL s64 ring_commit(void *sample, u64 flags, u64 discard)
{
	struct map *m = (struct map *)ENGINE->rings;
	struct ring_header *header = (struct ring_header *)sample - 1;
	struct ring *r;
	u64 start, total;
	u32 length;

	for (; m; m = (struct map *)RING(m)->next_ring)
		if ((u64)header - m->data <= RING(m)->mask)
			break;
	if (!m)
		return 0;
	r = RING(m);
	total = r->mask + 1;
	start = (u64)header - m->data;
	length = header->length ^ RING_BUSY;
	header->length = length | (discard ? RING_DISCARD : 0);
	length = (length & ~(RING_BUSY | RING_DISCARD)) + RING_HEADER;
	/* A program may have spoiled the header: no more than the second copy is there to be read. */
	ring_mirror(m, start, length > total ? RING_HEADER : length);
	if (flags & FORCE_WAKEUP || ((CONSUMER(r) & r->mask) == start && !(flags & NO_WAKEUP)))
		r->wakeups++;
	return 0;
}

EXPORT s64 ringbuf_submit(void *sample, u64 flags)
{
	return ring_commit(sample, flags, 0);
}

EXPORT s64 ringbuf_discard(void *sample, u64 flags)
{
	return ring_commit(sample, flags, 1);
}

EXPORT s64 ringbuf_output(struct map *m, const void *data, u64 size, u64 flags)
{
	void *sample;

	if (flags & ~(NO_WAKEUP | FORCE_WAKEUP))
		return -EINVAL;
	sample = ringbuf_reserve(m, size, 0);
	if (!sample)
		return -EAGAIN;
	copy_long(sample, data, size);
	return ring_commit(sample, flags, 0);
}

EXPORT u64 ringbuf_query(struct map *m, u64 what)
{
	struct ring *r = RING(m);

	switch (what) {
	case 0:
		return r->producer - CONSUMER(r);
	case 1:
		return r->mask + 1;
	case 2:
		return CONSUMER(r);
	case 3:
		return r->producer;
	default:
		return 0;
	}
}

/* -- records of user space: the program is the consumer ---------------------------------------------------------------- */

/* The next record: its address, with its size in *size, or -errno. Discarded ones are stepped over with -EAGAIN. */
EXPORT s64 user_ringbuf_peek(struct map *m, u32 *size)
{
	struct ring *r = RING(m);
	u64 producer = PRODUCER(r), consumer = CONSUMER(r), total;
	u32 head, length;

	if (producer & 7)
		return -EINVAL;
	if (consumer >= producer)
		return -ENODATA;
	head = *(volatile u32 *)(m->data + (consumer & r->mask));
	length = head & ~(RING_BUSY | RING_DISCARD);
	total = ((u64)length + RING_HEADER + 7) & ~7ULL;
	if (total > producer - consumer)
		return -EINVAL;
	if (total > r->mask + 1 || length > DYNPTR_MAX)
		return -E2BIG;
	if (head & RING_DISCARD) {
		CONSUMER(r) = consumer + total;
		return -EAGAIN;
	}
	if (head & RING_BUSY)
		return -ENODATA;
	*size = length;
	return m->data + (consumer & r->mask) + RING_HEADER;
}

EXPORT s64 user_ringbuf_release(struct map *m, u64 size)
{
	CONSUMER(RING(m)) += (size + RING_HEADER + 7) & ~7ULL;
	return 0;
}

#endif
