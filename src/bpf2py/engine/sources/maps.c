/* The engine's library: the maps' functions by type, and those helpers that take any map.
 *
 * What is called here by a helper's name does what that helper does in a program; `..._sys_...` do what bpf() commands do.
 */
#include "array.h"
#include "format.h"
#include "hash.h"
#include "helpers.h"
#include "lists.h"
#include "lpm.h"
#include "perf.h"
#include "quick.h"
#include "ringbuf.h"
#include "stack_trace.h"
#include "storage.h"

EXPORT void *map_lookup_elem(struct map *m, const void *key)
{
	switch (m->type) {
	case HASH:
		return htab_lookup_elem(m, key);
	case ARRAY:
		return array_lookup_elem(m, key);
	case PERCPU_HASH:
		return htab_percpu_lookup_elem(m, key);
	case PERCPU_ARRAY:
		return percpu_array_lookup_elem(m, key);
	case LRU_HASH:
		return lru_lookup_elem(m, key);
	case LRU_PERCPU_HASH:
		return lru_percpu_lookup_elem(m, key);
	case LPM_TRIE:
		return lpm_lookup_elem(m, key);
	case ARRAY_OF_MAPS:
		return array_of_maps_lookup_elem(m, key);
	case HASH_OF_MAPS:
		return htab_of_maps_lookup_elem(m, key);
	default:
		return NULL;
	}
}

EXPORT s64 map_update_elem(struct map *m, const void *key, const void *value, u64 flags)
{
	switch (m->type) {
	case HASH:
		return htab_update_elem(m, key, value, flags);
	case ARRAY:
		return array_update_elem(m, key, value, flags);
	case PERCPU_HASH:
		return htab_percpu_update_elem(m, key, value, flags);
	case PERCPU_ARRAY:
		return percpu_array_update_elem(m, key, value, flags);
	case LRU_HASH:
		return lru_update_elem(m, key, value, flags);
	case LRU_PERCPU_HASH:
		return lru_percpu_update_elem(m, key, value, flags);
	case LPM_TRIE:
		return lpm_update_elem(m, key, value, flags);
	default:
		return -EINVAL;
	}
}

EXPORT s64 map_delete_elem(struct map *m, const void *key)
{
	switch (m->type) {
	case HASH:
	case PERCPU_HASH:
		return htab_delete_elem(m, key);
	case LRU_HASH:
	case LRU_PERCPU_HASH:
		return lru_delete_elem(m, key);
	case LPM_TRIE:
		return lpm_delete_elem(m, key);
	case STACK_TRACE:
		return stackmap_sys_delete(m, key);
	default:
		return -EINVAL;
	}
}

EXPORT s64 map_push_elem(struct map *m, const void *value, u64 flags)
{
	switch (m->type) {
	case QUEUE:
	case STACK:
		return queue_push_elem(m, value, flags);
	case BLOOM_FILTER:
		return bloom_push_elem(m, value, flags);
	default:
		return -EOPNOTSUPP;
	}
}

EXPORT s64 map_pop_elem(struct map *m, void *value)
{
	return m->type == QUEUE || m->type == STACK ? queue_pop_elem(m, value) : -EOPNOTSUPP;
}

EXPORT s64 map_peek_elem(struct map *m, void *value)
{
	switch (m->type) {
	case QUEUE:
	case STACK:
		return queue_peek_elem(m, value);
	case BLOOM_FILTER:
		return bloom_peek_elem(m, value);
	default:
		return -EOPNOTSUPP;
	}
}

EXPORT void *map_lookup_percpu_elem(struct map *m, const void *key, u64 cpu)
{
	switch (m->type) {
	case PERCPU_HASH:
		return htab_percpu_lookup_percpu_elem(m, key, cpu);
	case PERCPU_ARRAY:
		return percpu_array_lookup_percpu_elem(m, key, cpu);
	case LRU_PERCPU_HASH:
		return lru_percpu_lookup_percpu_elem(m, key, cpu);
	default:
		return NULL;
	}
}

EXPORT s64 for_each_map_elem(struct map *m, each_function callback, void *ctx, u64 flags)
{
	if (flags)
		return -EINVAL;
	switch (m->type) {
	case HASH:
	case PERCPU_HASH:
		return htab_for_each(m, callback, ctx);
	case LRU_HASH:
	case LRU_PERCPU_HASH:
		return lru_for_each(m, callback, ctx);
	case ARRAY:
	case PERCPU_ARRAY:
		return array_for_each(m, callback, ctx);
	default:
		return -EINVAL;
	}
}

#define MAX_LOOPS (1u << 23)

EXPORT s64 loop(u64 count, s64 (*callback)(u64 index, void *ctx), void *ctx, u64 flags)
{
	if (flags)
		return -EINVAL;
	if ((u32)count > MAX_LOOPS)
		return -E2BIG;
	for (u32 i = 0; i < (u32)count; i++)
		if (callback(i, ctx))
			return i + 1;
	return (u32)count;
}

/* -- batches that go element by element -------------------------------------------------------------------------------- */

EXPORT s64 sys_update_batch(struct map *m, struct batch *b, u64 value_bytes)
{
	const void *key = (const void *)b->keys, *value = (const void *)b->values;
	s64 error;

	for (b->done = 0; b->done < b->room; b->done++, key += m->key_size, value += value_bytes) {
		if (m->type == ARRAY || m->type == PERCPU_ARRAY)
			error = array_sys_update(m, key, value, b->flags);
		else if (m->type == LPM_TRIE)
			error = lpm_sys_update(m, key, value, b->flags);
		else
			error = htab_sys_update(m, key, value, b->flags);
		if (error)
			return error;
	}
	return 0;
}

EXPORT s64 sys_delete_batch(struct map *m, struct batch *b)
{
	const void *key = (const void *)b->keys;
	s64 error;

	for (b->done = 0; b->done < b->room; b->done++, key += m->key_size) {
		error = m->type == LPM_TRIE ? lpm_sys_delete(m, key) : htab_sys_delete(m, key);
		if (error)
			return error;
	}
	return 0;
}

/* -- many uses in a row ------------------------------------------------------------------------------------------------ */

/* Keys one after another, as a program uses a cache: looked up, and inserted where they are not there. */
struct replay {
	u64 keys;
	u64 cpus;   /* u16 for each use, the CPU it happens on; 0: all on this one */
	u64 count;
	u64 value;  /* what is inserted */
	u64 missed; /* u8 for each use, set where the key was not there; 0: not wanted */
};

EXPORT s64 map_replay(struct map *m, const struct replay *r)
{
	const void *key = (const void *)r->keys;
	u64 hits = 0;

	for (u64 i = 0; i < r->count; i++, key += m->key_size) {
		if (r->cpus)
			ENGINE->cpu = ((const u16 *)r->cpus)[i];
		if (map_lookup_elem(m, key)) {
			hits++;
			continue;
		}
		if (r->missed)
			((u8 *)r->missed)[i] = 1;
		map_update_elem(m, key, (const void *)r->value, ANY);
	}
	return hits;
}
