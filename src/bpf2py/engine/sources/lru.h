/* Which elements LRU maps evict.
 *
 * Lists are rings of elements with a sentinel, an element of its own that holds nothing. "Head" is where elements are pushed,
 * `newer` leads there, `older` to the tail. Without BPF_F_NO_COMMON_LRU there is one triple of lists, ACTIVE, INACTIVE and FREE,
 * and each CPU has local lists of free and pending elements; with it each CPU has a triple of its own and nothing else.
 */
#ifndef BPF2PY_LRU_H
#define BPF2PY_LRU_H

#include "table.h"

enum { ACTIVE, INACTIVE, FREE, LOCAL_FREE, LOCAL_PENDING };

#define COMMON_SCAN 128
#define COMMON_TARGET 128
#define PERCPU_SCAN 4
#define PERCPU_TARGET 4

struct lru {
	u32 sentinel; /* of ACTIVE; those of INACTIVE and FREE follow */
	u32 hand;     /* where the rotation of INACTIVE goes on */
	u32 count[2];
	u32 next; /* elements never used so far: free as well */
	u32 end;
	u32 unused[2];
};

INLINE struct lru *lru_of(struct map *m, u32 cpu)
{
	struct lru *lists = (struct lru *)HTAB(m)->lru;

	return m->flags & NO_COMMON_LRU ? lists + cpu : lists;
}

INLINE u32 local_free(struct map *m, u32 cpu)
{
	return HTAB(m)->sentinels + 3 + 2 * cpu;
}

INLINE u32 local_pending(struct map *m, u32 cpu)
{
	return local_free(m, cpu) + 1;
}

INLINE void ring_remove(struct map *m, u32 i)
{
	struct lru_node *n = lru_at(m, i);

	lru_at(m, n->newer)->older = n->older;
	lru_at(m, n->older)->newer = n->newer;
}

INLINE void ring_push(struct map *m, u32 sentinel, u32 i)
{
	struct lru_node *n = lru_at(m, i), *s = lru_at(m, sentinel);

	n->newer = sentinel;
	n->older = s->older;
	lru_at(m, s->older)->newer = i;
	s->older = i;
}

/* From a sentinel `older` leads to the head, `newer` to the tail. */
INLINE u32 head_of(struct map *m, u32 sentinel)
{
	return lru_at(m, sentinel)->older;
}

INLINE u32 tail_of(struct map *m, u32 sentinel)
{
	return lru_at(m, sentinel)->newer;
}

/* To the head of a list of the triple, from another of its lists. */
INLINE void move_in(struct map *m, struct lru *l, u32 i, u32 list)
{
	struct lru_node *n = lru_at(m, i);

	if (n->list <= INACTIVE)
		l->count[n->list]--;
	if (list <= INACTIVE)
		l->count[list]++;
	if (l->hand == i)
		l->hand = n->newer;
	n->list = list;
	n->ref = 0;
	ring_remove(m, i);
	ring_push(m, l->sentinel + list, i);
}

/* To the head of a list outside the triple. */
INLINE void move_out(struct map *m, struct lru *l, u32 i, u32 list, u32 sentinel)
{
	struct lru_node *n = lru_at(m, i);

	if (n->list <= INACTIVE)
		l->count[n->list]--;
	if (l->hand == i)
		l->hand = n->newer;
	n->list = list;
	ring_remove(m, i);
	ring_push(m, sentinel, i);
}

/* Drop the key an element holds. */
LOCAL void evict(struct map *m, u32 i)
{
	u32 *link = bucket_of(m, lru_at(m, i)->node.hash);

	while (*link && *link != i)
		link = &lru_at(m, *link)->node.next;
	if (*link)
		unlink_at(m, link, 1);
}

LOCAL void lru_rotate_active(struct map *m, struct lru *l)
{
	u32 sentinel = l->sentinel + ACTIVE, last = head_of(m, sentinel), i = tail_of(m, sentinel);

	for (u32 seen = 0; i != sentinel && seen < HTAB(m)->scan; seen++) {
		u32 next = lru_at(m, i)->newer;

		move_in(m, l, i, lru_at(m, i)->ref ? ACTIVE : INACTIVE);
		if (i == last)
			break;
		i = next;
	}
}

LOCAL void lru_rotate_inactive(struct map *m, struct lru *l)
{
	u32 sentinel = l->sentinel + INACTIVE, i = l->hand, last = lru_at(m, i)->older;

	if (head_of(m, sentinel) == sentinel)
		return;
	if (last == sentinel)
		last = head_of(m, sentinel);
	if (i == sentinel)
		i = tail_of(m, sentinel);
	for (u32 seen = 0; seen < HTAB(m)->scan; seen++) {
		u32 next = lru_at(m, i)->newer, done = i == last;

		if (lru_at(m, i)->ref)
			move_in(m, l, i, ACTIVE);
		l->hand = next;
		if (done)
			break;
		i = next == sentinel ? tail_of(m, sentinel) : next;
		if (i == sentinel)
			break;
	}
}

INLINE void lru_rotate(struct map *m, struct lru *l)
{
	if (l->count[INACTIVE] < l->count[ACTIVE])
		lru_rotate_active(m, l);
	lru_rotate_inactive(m, l);
}

/* Evict up to `wanted` elements into a list of free ones, at least one if there is any. */
LOCAL void lru_shrink(struct map *m, struct lru *l, u32 wanted, u32 list, u32 sentinel)
{
	u32 inactive = l->sentinel + INACTIVE, i = tail_of(m, inactive), found = 0;

	for (u32 seen = 0; i != inactive && seen < HTAB(m)->scan; seen++) {
		u32 next = lru_at(m, i)->newer;

		if (lru_at(m, i)->ref) {
			move_in(m, l, i, ACTIVE);
		} else {
			evict(m, i);
			move_out(m, l, i, list, sentinel);
			if (++found == wanted)
				return;
		}
		i = next;
	}
	if (found)
		return;
	i = tail_of(m, inactive);
	if (i == inactive) {
		i = tail_of(m, l->sentinel + ACTIVE);
		if (i == l->sentinel + ACTIVE)
			return;
	}
	evict(m, i);
	move_out(m, l, i, list, sentinel);
}

/* -- one triple for all CPUs ------------------------------------------------------------------------------------------ */

LOCAL void lru_refill(struct map *m, u32 cpu)
{
	struct lru *l = lru_of(m, cpu);
	u32 pending = local_pending(m, cpu), free = local_free(m, cpu), target = HTAB(m)->target, found = 0, i;

	while ((i = tail_of(m, pending)) != pending)
		move_in(m, l, i, lru_at(m, i)->ref ? ACTIVE : INACTIVE);
	lru_rotate(m, l);
	while (found < target && (i = head_of(m, l->sentinel + FREE)) != l->sentinel + FREE) {
		move_out(m, l, i, LOCAL_FREE, free);
		found++;
	}
	for (; found < target && l->next < l->end; found++) {
		i = l->next++;
		lru_at(m, i)->list = LOCAL_FREE;
		ring_push(m, free, i);
	}
	if (found < target)
		lru_shrink(m, l, target - found, LOCAL_FREE, free);
}

LOCAL u32 lru_steal(struct map *m, u32 cpu)
{
	u32 *victim = (u32 *)HTAB(m)->victims + cpu, first = *victim, v = first, cpus = ENGINE->possible_cpus, found = 0;

	do {
		u32 free = local_free(m, v), pending = local_pending(m, v), i = head_of(m, free);

		if (i != free) {
			found = i;
		} else if ((i = tail_of(m, pending)) != pending) {
			found = i;
			for (; i != pending; i = lru_at(m, i)->newer)
				if (!lru_at(m, i)->ref) {
					found = i;
					break;
				}
			evict(m, found);
		}
		v = v + 1 < cpus ? v + 1 : 0;
	} while (!found && v != first);
	*victim = v;
	return found;
}

/* -- a triple for each CPU ---------------------------------------------------------------------------------------- */

LOCAL u32 lru_pop_own(struct map *m, u32 cpu)
{
	struct lru *l = lru_of(m, cpu);
	u32 free = l->sentinel + FREE, i = head_of(m, free);

	lru_rotate(m, l);
	if (i == free && l->next < l->end) {
		i = l->next++;
		lru_at(m, i)->owner = cpu;
		lru_at(m, i)->list = INACTIVE;
		lru_at(m, i)->ref = 0;
		l->count[INACTIVE]++;
		ring_push(m, l->sentinel + INACTIVE, i);
		return i;
	}
	if (i == free) {
		lru_shrink(m, l, PERCPU_TARGET, FREE, free);
		i = head_of(m, free);
		if (i == free)
			return 0;
	}
	move_in(m, l, i, INACTIVE);
	return i;
}

/* An element for a new key, of this CPU; evicts others where there is none. */
LOCAL u32 lru_pop(struct map *m)
{
	u32 cpu = ENGINE->cpu, free, i;

	if (m->flags & NO_COMMON_LRU)
		return lru_pop_own(m, cpu);
	free = local_free(m, cpu);
	if (head_of(m, free) == free)
		lru_refill(m, cpu);
	i = head_of(m, free);
	if (i == free) {
		i = lru_steal(m, cpu);
		if (!i)
			return 0;
	}
	lru_at(m, i)->owner = cpu;
	lru_at(m, i)->list = LOCAL_PENDING;
	lru_at(m, i)->ref = 0;
	ring_remove(m, i);
	ring_push(m, local_pending(m, cpu), i);
	return i;
}

/* Give an element back whose key is gone. */
LOCAL void lru_push_free(struct map *m, u32 i)
{
	struct lru_node *n = lru_at(m, i);

	if (n->list == LOCAL_PENDING) {
		n->list = LOCAL_FREE;
		n->ref = 0;
		ring_remove(m, i);
		ring_push(m, local_free(m, n->owner), i);
	} else if (n->list <= INACTIVE) {
		move_in(m, lru_of(m, n->owner), i, FREE);
	}
}

LOCAL void lru_init(struct map *m)
{
	struct htab *h = HTAB(m);
	u32 cpus = ENGINE->possible_cpus, own = m->flags & NO_COMMON_LRU, triples = own ? cpus : 1;
	u32 sentinels = own ? 3 * cpus : 3 + 2 * cpus, each = h->elements / triples;

	h->sentinels = h->elements + 1;
	for (u32 i = h->sentinels; i < h->sentinels + sentinels; i++)
		lru_at(m, i)->newer = lru_at(m, i)->older = i;
	for (u32 i = 0; i < triples; i++) {
		struct lru *l = (struct lru *)h->lru + i;

		l->sentinel = h->sentinels + 3 * i;
		l->hand = l->sentinel + INACTIVE;
		l->next = 1 + i * each;
		l->end = l->next + each;
	}
	for (u32 cpu = 0; cpu < cpus; cpu++)
		((u32 *)h->victims)[cpu] = cpu;
	h->scan = own ? PERCPU_SCAN : COMMON_SCAN;
	h->target = own ? PERCPU_TARGET : COMMON_TARGET;
	if (!own && !ENGINE->lru_fixed) {
		u32 share = m->max_entries / cpus / 2;

		h->target = share < 1 ? 1 : share < COMMON_TARGET ? share : COMMON_TARGET;
	}
}

#endif
