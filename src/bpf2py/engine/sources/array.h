/* ARRAY and PERCPU_ARRAY, and the program's side of arrays of maps. */
#ifndef BPF2PY_ARRAY_H
#define BPF2PY_ARRAY_H

#include "hash.h"

INLINE void *array_at(struct map *m, u32 index)
{
	return (void *)(m->data + (u64)index * m->stride);
}

EXPORT void *array_lookup_elem(struct map *m, const u32 *index)
{
	return *index < m->max_entries ? array_at(m, *index) : NULL;
}

EXPORT void *percpu_array_lookup_elem(struct map *m, const u32 *index)
{
	return *index < m->max_entries ? slot_of(m, array_at(m, *index), ENGINE->cpu) : NULL;
}

EXPORT void *percpu_array_lookup_percpu_elem(struct map *m, const u32 *index, u64 cpu)
{
	if ((u32)cpu >= ENGINE->possible_cpus || *index >= m->max_entries)
		return NULL;
	return slot_of(m, array_at(m, *index), cpu);
}

EXPORT void *array_of_maps_lookup_elem(struct map *m, const u32 *index)
{
	return *index < m->max_entries ? *(void **)array_at(m, *index) : NULL;
}

/* A program of a PROG_ARRAY, as the address of its first function; 0 where there is none. */
EXPORT u64 prog_array_function(struct map *m, u64 index)
{
	return m->type == PROG_ARRAY && (u32)index < m->max_entries ? *(u64 *)array_at(m, index) : 0;
}

LOCAL s64 array_check(struct map *m, u32 index, u64 flags)
{
	if ((flags & ~LOCK) > EXIST)
		return -EINVAL;
	if (index >= m->max_entries)
		return -E2BIG;
	if (flags & NOEXIST)
		return -EEXIST;
	if (flags & LOCK && !m->has_lock)
		return -EINVAL;
	return 0;
}

/* Setting an element drops what its special members hold, but a lock: that is how an update in place goes. */
EXPORT s64 array_update_elem(struct map *m, const u32 *index, const void *value, u64 flags)
{
	s64 error = array_check(m, *index, flags);

	if (error)
		return error;
	copy_value(m, array_at(m, *index), value);
	if (m->n_fields && !(flags & LOCK))
		zero_fields(m, array_at(m, *index));
	return 0;
}

EXPORT s64 percpu_array_update_elem(struct map *m, const u32 *index, const void *value, u64 flags)
{
	s64 error = array_check(m, *index, flags);
	void *to;

	if (error)
		return error;
	to = slot_of(m, array_at(m, *index), ENGINE->cpu);
	copy_value(m, to, value);
	if (m->n_fields)
		zero_fields(m, to);
	return 0;
}

EXPORT s64 array_for_each(struct map *m, each_function callback, void *ctx)
{
	for (u32 i = 0; i < m->max_entries; i++) {
		u32 key = i;
		void *value = array_at(m, i);

		if (m->type == PERCPU_ARRAY)
			value = slot_of(m, value, ENGINE->cpu);
		if (callback(m, &key, value, ctx))
			return i + 1;
	}
	return m->max_entries;
}

/* -- what user space does --------------------------------------------------------------------------------------------- */

LOCAL void array_out(struct map *m, u32 index, void *out, u64 flags)
{
	if (m->type == PERCPU_ARRAY)
		some_slots_out(m, out, array_at(m, index), flags);
	else
		value_out(m, out, array_at(m, index));
}

EXPORT s64 array_sys_lookup(struct map *m, const u32 *index, void *out, u64 flags)
{
	s64 error = check_lookup_flags(m, flags);

	if (error)
		return error;
	if (*index >= m->max_entries)
		return -ENOENT;
	array_out(m, *index, out, flags);
	return 0;
}

EXPORT s64 array_sys_update(struct map *m, const u32 *index, const void *value, u64 flags)
{
	s64 error;

	if (m->frozen)
		return -EPERM;
	if (flags & LOCK && !m->has_lock)
		return -EINVAL;
	if (m->type == ARRAY)
		return array_update_elem(m, index, value, flags);
	error = check_percpu_update_flags(flags);
	if (error)
		return error;
	error = array_check(m, *index, flags == NOEXIST ? NOEXIST : ANY);
	if (error)
		return error;
	some_slots(m, array_at(m, *index), value, flags);
	return 0;
}

EXPORT s64 array_sys_next_key(struct map *m, const u32 *index, u32 *next)
{
	u32 i = index ? *index : ~0u;

	if (i >= m->max_entries) {
		*next = 0;
		return 0;
	}
	if (i == m->max_entries - 1)
		return -ENOENT;
	*next = i + 1;
	return 0;
}

/* From behind the index the token names; the token is the last index read. */
EXPORT s64 array_sys_lookup_batch(struct map *m, struct batch *b)
{
	u32 each = m->type == PERCPU_ARRAY && !(b->flags & CPU);
	u32 value_bytes = each ? m->slot * ENGINE->possible_cpus : m->value_size;
	u32 *cursor = (u32 *)b->cursor, index;
	s64 error = check_lookup_flags(m, b->flags);

	if (error)
		return error;
	if (!b->room)
		return 0;
	b->done = 0;
	while (b->done < b->room) {
		error = array_sys_next_key(m, b->first == 1 ? NULL : cursor, &index);
		if (error)
			break;
		*(u32 *)(b->keys + (u64)b->done * 4) = index;
		array_out(m, index, (void *)(b->values + (u64)b->done * value_bytes), b->flags);
		b->done++;
		*cursor = index;
		b->first = 2;
	}
	return error;
}

#endif
