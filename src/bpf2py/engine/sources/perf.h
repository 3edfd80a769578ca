/* Perf buffers: the entries of a PERF_EVENT_ARRAY while somebody reads them.
 *
 * Records are laid out as the kernel does (include/uapi/linux/perf_event.h): PERF_RECORD_SAMPLE with raw data alone, and
 * PERF_RECORD_LOST before the first record that finds room again.
 */
#ifndef BPF2PY_PERF_H
#define BPF2PY_PERF_H

#include "quick.h"

#define RECORD_LOST 2
#define RECORD_SAMPLE 9
#define SAMPLE_HEADER 12 /* struct perf_event_header, and the size of the raw data */
#define LOST_SIZE 24
#define RECORD_MOST 0xffffu

/* In private memory; see maps/perf.py. */
struct perf {
	u64 data;
	u64 size;    /* of the buffer, a power of two */
	u64 room;    /* of data: where that is less, Python takes each record from there */
	u64 head;    /* goes down in an overwritable buffer */
	u64 tail;
	u64 lost;
	u64 number;  /* it is known by */
	u64 pending; /* records, or bytes, since readers were woken */
	u64 wakeup;  /* how many of them wake readers */
	u64 wakeups; /* how often readers were woken */
	u32 cpu;
	u32 open;
	u32 recording;
	u32 overwritable;
	u32 of_bytes;
};

LOCAL void perf_store(struct perf *p, u64 position, const void *from, u64 size)
{
	u64 at = position & (p->room - 1), first = size < p->room - at ? size : p->room - at;

	copy_long((void *)(p->data + at), from, first);
	copy_long((void *)p->data, from + first, size - first);
}

/* 0, -ENOSPC where there is no room, -EOPNOTSUPP on another CPU than the buffer's. */
EXPORT s64 perf_output(struct perf *p, const void *data, u64 size)
{
	u64 length = ((size + 4 + 7) & ~7ULL) - 4, total = SAMPLE_HEADER + length, lost = p->lost ? LOST_SIZE : 0;
	struct { u64 header; u32 length; } sample = { RECORD_SAMPLE | total << 48, length };
	u64 nothing = 0, at;

	if (!p->open)
		return -ENOENT;
	if (ENGINE->cpu != p->cpu)
		return -EOPNOTSUPP;
	if (total > RECORD_MOST)
		return -E2BIG;
	if (!p->recording || (!p->overwritable && lost + total > p->size - 1 - (p->head - p->tail))) {
		p->lost++;
		return -ENOSPC;
	}
	if (p->overwritable) {
		at = p->head -= total;
	} else {
		if (lost) {
			u64 record[3] = { RECORD_LOST | (u64)LOST_SIZE << 48, p->number, p->lost };

			perf_store(p, p->head, record, LOST_SIZE);
			p->lost = 0;
		}
		at = p->head + lost;
		p->head = at + total;
	}
	perf_store(p, at, &sample, SAMPLE_HEADER);
	perf_store(p, at + SAMPLE_HEADER, data, size);
	perf_store(p, at + SAMPLE_HEADER + size, &nothing, length - size);
	if (!p->overwritable) {
		p->pending += p->of_bytes ? lost + total : 1;
		if (p->pending >= p->wakeup) {
			p->pending = 0;
			p->wakeups++;
		}
	}
	return 0;
}

EXPORT s64 perf_event_output(u64 ctx, struct map *m, u64 flags, u64 data, u64 size)
{
	u32 cpu = flags;
	struct perf *p;

	if (flags >> 32 || !public(data, size) || !is_map(m, PERF_EVENT_ARRAY))
		return PYTHON(25)(ctx, (u64)m, flags, data, size);
	if (cpu == ~0u)
		cpu = ENGINE->cpu;
	if (cpu >= m->max_entries)
		return -E2BIG;
	p = ((struct perf **)m->data)[cpu];
	if (!p)
		return -ENOENT;
	return p->room == p->size ? perf_output(p, (const void *)data, size) : PYTHON(25)(ctx, (u64)m, flags, data, size);
}

#endif
