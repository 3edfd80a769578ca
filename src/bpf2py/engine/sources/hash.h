/* HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH and HASH_OF_MAPS. */
#ifndef BPF2PY_HASH_H
#define BPF2PY_HASH_H

#include "lru.h"

/* -- what programs do ------------------------------------------------------------------------------------------------- */

EXPORT void *htab_lookup_elem(struct map *m, const void *key)
{
	u32 i = find_key(m, key, 0);

	return i ? value_at(m, i) : NULL;
}

EXPORT void *htab_percpu_lookup_elem(struct map *m, const void *key)
{
	u32 i = find_key(m, key, 0);

	return i ? slot_of(m, value_at(m, i), ENGINE->cpu) : NULL;
}

EXPORT void *lru_lookup_elem(struct map *m, const void *key)
{
	u32 i = find_key(m, key, 1);

	if (!i)
		return NULL;
	lru_at(m, i)->ref = 1;
	return value_at(m, i);
}

EXPORT void *lru_percpu_lookup_elem(struct map *m, const void *key)
{
	u32 i = find_key(m, key, 1);

	if (!i)
		return NULL;
	lru_at(m, i)->ref = 1;
	return slot_of(m, value_at(m, i), ENGINE->cpu);
}

EXPORT void *htab_percpu_lookup_percpu_elem(struct map *m, const void *key, u64 cpu)
{
	u32 i;

	if ((u32)cpu >= ENGINE->possible_cpus)
		return NULL;
	i = *find_long(m, key, key_hash_long(m, key), UNIT(0));
	return i ? slot_of(m, value_at(m, i), cpu) : NULL;
}

EXPORT void *lru_percpu_lookup_percpu_elem(struct map *m, const void *key, u64 cpu)
{
	u32 i;

	if ((u32)cpu >= ENGINE->possible_cpus)
		return NULL;
	i = *find_long(m, key, key_hash_long(m, key), UNIT(1));
	if (!i)
		return NULL;
	lru_at(m, i)->ref = 1;
	return slot_of(m, value_at(m, i), cpu);
}

EXPORT void *htab_of_maps_lookup_elem(struct map *m, const void *key)
{
	u32 i = *find_long(m, key, key_hash_long(m, key), UNIT(0));

	return i ? *(void **)value_at(m, i) : NULL;
}

INLINE void fresh_value(struct map *m, void *to, const void *value)
{
	copy_value(m, to, value);
	if (m->n_fields)
		zero_fields(m, to);
}

EXPORT s64 htab_update_elem(struct map *m, const void *key, const void *value, u64 flags)
{
	struct htab *h = HTAB(m);
	u32 hash, *link, old, i;
	s64 error;

	if ((flags & ~LOCK) > EXIST || (flags & LOCK && !m->has_lock))
		return -EINVAL;
	hash = key_hash(m, key);
	link = find(m, key, hash, 0);
	old = *link;
	if (flags) {
		error = htab_check_flags(old, flags);
		if (error)
			return error;
		if (old && flags & LOCK) {
			copy_value(m, value_at(m, old), value);
			return 0;
		}
	}
	if (old && !(m->flags & NO_PREALLOC)) {
		u32 *spare = (u32 *)h->spares + ENGINE->cpu;

		i = *spare;
		*spare = old;
	} else {
		if (!old && m->flags & NO_PREALLOC && m->count >= m->max_entries)
			return -E2BIG;
		i = take_free(m);
		if (!i)
			return m->flags & NO_PREALLOC ? -ENOMEM : -E2BIG;
	}
	copy(key_at(m, i), key, m->key_size);
	fresh_value(m, value_at(m, i), value);
	if (old) {
		unlink_at(m, link, 0);
		if (m->flags & NO_PREALLOC)
			give_back(m, old);
	}
	link_first(m, i, hash, 0);
	return 0;
}

EXPORT s64 htab_delete_elem(struct map *m, const void *key)
{
	u32 *link = find_long(m, key, key_hash_long(m, key), UNIT(0)), i = *link;

	if (!i)
		return -ENOENT;
	unlink_at(m, link, 0);
	give_back(m, i);
	return 0;
}

/* Values are a map's address; Linux 6.15 came to store it in place. */
EXPORT s64 htab_of_maps_update(struct map *m, const void *key, u64 inner, u64 flags)
{
	u32 hash, *link, i;
	s64 error;

	if ((flags & ~LOCK) > EXIST || flags & LOCK)
		return -EINVAL;
	hash = key_hash_long(m, key);
	link = find_long(m, key, hash, UNIT(0));
	error = htab_check_flags(*link, flags);
	if (error)
		return error;
	if (*link && ENGINE->version >= VERSION(6, 15, 0)) {
		*(u64 *)value_at(m, *link) = inner;
		return 0;
	}
	if (*link) {
		i = *link;
		unlink_at(m, link, 0);
	} else {
		if (m->flags & NO_PREALLOC && m->count >= m->max_entries)
			return -E2BIG;
		i = take_free(m);
		if (!i)
			return -E2BIG;
		copy(key_at(m, i), key, m->key_size);
	}
	*(u64 *)value_at(m, i) = inner;
	link_first(m, i, hash, 0);
	return 0;
}

/* A CPU's value set by a program, or with `all` what user space says. A program's new element has zeros for other CPUs; until
 * Linux 7.2 one that user space makes for a CPU has what was there before. */
INLINE void percpu_store(struct map *m, void *values, const void *value, u64 flags, u64 how)
{
	u32 all = how & 1, fresh = how & 2;

	if (all) {
		if (fresh && flags & CPU && ENGINE->version >= VERSION(7, 2, 0))
			zero(values, (u64)ENGINE->possible_cpus * m->slot);
		some_slots(m, values, value, flags);
		return;
	}
	if (fresh)
		zero(values, (u64)ENGINE->possible_cpus * m->slot);
	copy_value(m, slot_of(m, values, ENGINE->cpu), value);
}

LOCAL s64 percpu_update(struct map *m, const void *key, const void *value, u64 flags, u64 all)
{
	u32 hash, *link, old, i;
	s64 error;

	error = all ? check_percpu_update_flags(flags) : flags > EXIST ? -EINVAL : 0;
	if (error)
		return error;
	hash = key_hash_long(m, key);
	link = find_long(m, key, hash, UNIT(0));
	old = *link;
	error = htab_check_flags(old, flags);
	if (error)
		return error;
	if (old) {
		percpu_store(m, value_at(m, old), value, flags, all);
		return 0;
	}
	if (m->flags & NO_PREALLOC && m->count >= m->max_entries)
		return -E2BIG;
	i = take_free(m);
	if (!i)
		return m->flags & NO_PREALLOC ? -ENOMEM : -E2BIG;
	copy(key_at(m, i), key, m->key_size);
	percpu_store(m, value_at(m, i), value, flags, all | 2);
	link_first(m, i, hash, 0);
	return 0;
}

EXPORT s64 htab_percpu_update_elem(struct map *m, const void *key, const void *value, u64 flags)
{
	return percpu_update(m, key, value, flags, 0);
}

EXPORT s64 lru_update_elem(struct map *m, const void *key, const void *value, u64 flags)
{
	u32 hash, *link, old, i;
	s64 error;

	if (flags > EXIST)
		return -EINVAL;
	hash = key_hash(m, key);
	/* An element is taken first, whether the update will need it or not: this may evict the very key. */
	i = lru_pop(m);
	if (!i)
		return -ENOMEM;
	/* Filled in before anything else is known: a pointer to the value that was evicted shows the new one. */
	copy(key_at(m, i), key, m->key_size);
	fresh_value(m, value_at(m, i), value);
	link = find(m, key, hash, 1);
	old = *link;
	error = htab_check_flags(old, flags);
	if (error) {
		lru_push_free(m, i);
		return error;
	}
	if (old) {
		lru_at(m, i)->ref = 1;
		unlink_at(m, link, 1);
		lru_push_free(m, old);
	}
	link_first(m, i, hash, 1);
	return 0;
}

LOCAL s64 lru_percpu_store(struct map *m, const void *key, const void *value, u64 flags, u64 all)
{
	u32 hash, *link, old, i = 0;
	s64 error;

	error = all ? check_percpu_update_flags(flags) : flags > EXIST ? -EINVAL : 0;
	if (error)
		return error;
	hash = key_hash_long(m, key);
	if (flags != EXIST) {
		i = lru_pop(m);
		if (!i)
			return -ENOMEM;
		copy(key_at(m, i), key, m->key_size);
	}
	link = find_long(m, key, hash, UNIT(1));
	old = *link;
	error = htab_check_flags(old, flags);
	if (error || old) {
		if (!error) {
			lru_at(m, old)->ref = 1;
			percpu_store(m, value_at(m, old), value, flags, all);
		}
		if (i)
			lru_push_free(m, i);
		return error;
	}
	percpu_store(m, value_at(m, i), value, flags, all | 2);
	link_first(m, i, hash, 1);
	return 0;
}

EXPORT s64 lru_percpu_update_elem(struct map *m, const void *key, const void *value, u64 flags)
{
	return lru_percpu_store(m, key, value, flags, 0);
}

EXPORT s64 lru_delete_elem(struct map *m, const void *key)
{
	u32 *link = find_long(m, key, key_hash_long(m, key), UNIT(1)), i = *link;

	if (!i)
		return -ENOENT;
	unlink_at(m, link, 1);
	lru_push_free(m, i);
	return 0;
}

typedef s64 (*each_function)(struct map *m, const void *key, void *value, void *ctx);

/* The element after the next is known before the callback runs, which may delete this one. */
INLINE s64 for_each_of_table(struct map *m, each_function callback, void *ctx, u32 lru, u32 percpu)
{
	u32 mask = HTAB(m)->mask;
	s64 seen = 0;

	for (u64 bucket = 0; bucket <= mask; bucket++) {
		u32 i = ((u32 *)HTAB(m)->buckets)[bucket];

		while (i) {
			u32 next = node_at(m, i, lru)->next;
			void *value = value_at(m, i);

			seen++;
			if (callback(m, key_at(m, i), percpu ? slot_of(m, value, ENGINE->cpu) : value, ctx))
				return seen;
			i = next;
		}
	}
	return seen;
}

EXPORT s64 htab_for_each(struct map *m, each_function callback, void *ctx)
{
	if (m->type == PERCPU_HASH)
		return for_each_of_table(m, callback, ctx, 0, 1);
	return for_each_of_table(m, callback, ctx, 0, 0);
}

EXPORT s64 lru_for_each(struct map *m, each_function callback, void *ctx)
{
	if (m->type == LRU_PERCPU_HASH)
		return for_each_of_table(m, callback, ctx, 1, 1);
	return for_each_of_table(m, callback, ctx, 1, 0);
}

/* -- what user space does --------------------------------------------------------------------------------------------- */

INLINE u32 is_lru(struct map *m)
{
	return m->type == LRU_HASH || m->type == LRU_PERCPU_HASH;
}

LOCAL void htab_out(struct map *m, u32 i, void *out, u64 flags)
{
	if (m->type == HASH_OF_MAPS)
		*(u32 *)out = (*(struct map **)value_at(m, i))->id;
	else if (is_percpu(m))
		some_slots_out(m, out, value_at(m, i), flags);
	else
		value_out(m, out, value_at(m, i));
}

/* Lookups do not count as use here. */
EXPORT s64 htab_sys_lookup(struct map *m, const void *key, void *out, u64 flags)
{
	s64 error = check_lookup_flags(m, flags);
	u32 i;

	if (error)
		return error;
	i = *find_long(m, key, key_hash_long(m, key), is_lru(m) ? UNIT(1) : UNIT(0));
	if (!i)
		return -ENOENT;
	htab_out(m, i, out, flags);
	return 0;
}

EXPORT s64 htab_sys_update(struct map *m, const void *key, const void *value, u64 flags)
{
	if (m->frozen)
		return -EPERM;
	switch (m->type) {
	case HASH:
		return htab_update_elem(m, key, value, flags);
	case LRU_HASH:
		return lru_update_elem(m, key, value, flags);
	case PERCPU_HASH:
		return percpu_update(m, key, value, flags, 1);
	default:
		return lru_percpu_store(m, key, value, flags, 1);
	}
}

EXPORT s64 htab_sys_delete(struct map *m, const void *key)
{
	if (m->frozen)
		return -EPERM;
	return is_lru(m) ? lru_delete_elem(m, key) : htab_delete_elem(m, key);
}

EXPORT s64 htab_sys_lookup_and_delete(struct map *m, const void *key, void *out, u64 flags)
{
	s64 error;

	if (m->frozen)
		return flags & ~LOCK ? -EINVAL : -EPERM;
	error = flags & CPU ? -EINVAL : htab_sys_lookup(m, key, out, flags);
	return error ? error : htab_sys_delete(m, key);
}

EXPORT s64 htab_sys_next_key(struct map *m, const void *key, void *next)
{
	struct htab *h = HTAB(m);
	u64 unit = is_lru(m) ? sizeof(struct lru_node) : sizeof(struct node), bucket = 0;
	u32 i = 0;

	if (key) {
		u32 hash = key_hash_long(m, key);

		i = *find_long(m, key, hash, unit);
		if (i) {
			i = ((struct node *)(m->meta + i * unit))->next;
			bucket = (u64)(hash & h->mask) + 1;
		}
	}
	for (; !i && bucket <= h->mask; bucket++)
		i = ((u32 *)h->buckets)[bucket];
	if (!i)
		return -ENOENT;
	copy(next, key_at(m, i), m->key_size);
	return 0;
}

/* Whole buckets, from the one the token names; the token is the one to go on with. */
EXPORT s64 htab_sys_lookup_batch(struct map *m, struct batch *b)
{
	struct htab *h = HTAB(m);
	u32 lru = is_lru(m), room = b->room, value_bytes = m->type == HASH_OF_MAPS ? 4 : m->value_size;
	u64 unit = lru ? sizeof(struct lru_node) : sizeof(struct node), bucket;
	s64 error = b->remove && b->flags & CPU ? -EINVAL : check_lookup_flags(m, b->flags);

	if (is_percpu(m) && !(b->flags & CPU))
		value_bytes = m->slot * ENGINE->possible_cpus;
	if (error)
		return error;
	if (b->remove && m->frozen)
		return -EPERM;
	if (!room)
		return 0;
	b->done = 0;
	bucket = b->first ? 0 : *(u32 *)b->cursor;
	if (bucket > h->mask)
		return -ENOENT;
	for (; bucket <= h->mask; bucket++) {
		u32 first = ((u32 *)h->buckets)[bucket], size = 0;

		if (!first)
			continue;
		for (u32 i = first; i; i = ((struct node *)(m->meta + i * unit))->next)
			size++;
		if (size > room - b->done)
			break;
		for (u32 i = first; i;) {
			u32 next = ((struct node *)(m->meta + i * unit))->next;

			copy((void *)(b->keys + (u64)b->done * m->key_size), key_at(m, i), m->key_size);
			htab_out(m, i, (void *)(b->values + (u64)b->done * value_bytes), b->flags);
			b->done++;
			if (b->remove) {
				((u32 *)h->buckets)[bucket] = next;
				m->count--;
				if (lru)
					lru_push_free(m, i);
				else
					give_back(m, i);
			}
			i = next;
		}
	}
	*(u32 *)b->cursor = bucket;
	b->first = 2; /* there is a token */
	if (bucket > h->mask)
		return -ENOENT;
	return b->done ? 0 : -ENOSPC;
}

/* Once m->type, flags, sizes, max_entries, data and meta, and buckets, mask, seed, elements and side are set. */
EXPORT s64 htab_init(struct map *m)
{
	struct htab *h = HTAB(m);
	u32 cpus = ENGINE->possible_cpus, each, at = 1;
	struct free_list *lists = (struct free_list *)h->side;

	h->value_at = (m->key_size + 7) & ~7u;
	if (is_lru(m)) {
		h->lru = h->side;
		h->victims = h->side + (u64)cpus * sizeof(struct lru);
		lru_init(m);
		return 0;
	}
	h->lists = h->side;
	h->spares = h->side + (u64)cpus * sizeof(struct free_list);
	if (m->flags & NO_PREALLOC) {
		h->n_lists = 1;
		lists->next = 1;
		lists->end = h->elements + 1;
		return 0;
	}
	h->n_lists = cpus;
	each = m->max_entries / cpus;
	for (u32 cpu = 0; cpu < cpus; cpu++) {
		lists[cpu].next = at;
		at += each + (cpu < m->max_entries % cpus);
		lists[cpu].end = at;
	}
	for (u32 cpu = 0; cpu < cpus; cpu++)
		((u32 *)h->spares)[cpu] = at++;
	return 0;
}

#endif
