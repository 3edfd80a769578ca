/* SK_STORAGE, INODE_STORAGE, TASK_STORAGE, CGRP_STORAGE: values by the number of the object they belong to.
 *
 * A hash table with keys of eight bytes; which number an object has is the engine's affair.
 */
#ifndef BPF2PY_STORAGE_H
#define BPF2PY_STORAGE_H

#include "hash.h"
#include "quick.h"

#define STORAGE_CREATE 1ULL

EXPORT s64 storage_update(struct map *m, u64 owner, const void *value, u64 flags)
{
	u32 hash = jhash((const u32 *)&owner, 8, HTAB(m)->seed), *link, i;
	s64 error;

	if ((flags & ~LOCK) > EXIST || (flags & LOCK && !m->has_lock))
		return -EINVAL;
	link = find_long(m, &owner, hash, UNIT(0));
	i = *link;
	error = htab_check_flags(i, flags);
	if (error)
		return error;
	if (!i || !(flags & LOCK)) {
		u32 old = i;

		i = take_free(m);
		if (!i)
			return -ENOMEM;
		if (old) {
			unlink_at(m, link, 0);
			give_back(m, old);
		}
		*(u64 *)key_at(m, i) = owner;
		zero(value_at(m, i), m->value_size);
		link_first(m, i, hash, 0);
	}
	if (value)
		copy_value(m, value_at(m, i), value);
	return 0;
}

EXPORT void *storage_get(struct map *m, u64 owner, const void *value, u64 flags)
{
	u32 hash = jhash((const u32 *)&owner, 8, HTAB(m)->seed), i;

	if (flags & ~STORAGE_CREATE)
		return NULL;
	i = *find_long(m, &owner, hash, UNIT(0));
	if (!i && flags & STORAGE_CREATE && !storage_update(m, owner, value, NOEXIST))
		i = *find_long(m, &owner, hash, UNIT(0));
	return i ? value_at(m, i) : NULL;
}

/* The task that runs is known by its pid. */
EXPORT s64 task_storage_get(struct map *m, u64 task, const void *value, u64 flags)
{
	if (!task || task != ENGINE->task || flags > STORAGE_CREATE || !is_map(m, TASK_STORAGE))
		return PYTHON(156)((u64)m, task, (u64)value, flags, 0);
	return (s64)storage_get(m, (u32)ENGINE->pid_tgid, value, flags);
}

EXPORT s64 storage_delete(struct map *m, u64 owner)
{
	u32 *link = find_long(m, &owner, jhash((const u32 *)&owner, 8, HTAB(m)->seed), UNIT(0)), i = *link;

	if (!i)
		return -ENOENT;
	unlink_at(m, link, 0);
	give_back(m, i);
	return 0;
}

EXPORT s64 storage_sys_lookup(struct map *m, u64 owner, void *out, u64 flags)
{
	void *value;

	if (flags & ~LOCK || (flags && !m->has_lock))
		return -EINVAL;
	value = storage_get(m, owner, NULL, 0);
	if (!value)
		return -ENOENT;
	value_out(m, out, value);
	return 0;
}

EXPORT s64 storage_sys_update(struct map *m, u64 owner, const void *value, u64 flags)
{
	return m->frozen ? -EPERM : storage_update(m, owner, value, flags);
}

EXPORT s64 storage_sys_delete(struct map *m, u64 owner)
{
	return m->frozen ? -EPERM : storage_delete(m, owner);
}

#endif
