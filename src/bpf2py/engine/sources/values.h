/* Copying keys and values. */
#ifndef BPF2PY_VALUES_H
#define BPF2PY_VALUES_H

#include "engine.h"

LOCAL void copy_long(void *to, const void *from, u64 size)
{
	u64 at = 0;

	for (; at + 8 <= size; at += 8)
		*(u64 *)(to + at) = *(const u64 *)(from + at);
	for (; at < size; at++)
		*(u8 *)(to + at) = *(const u8 *)(from + at);
}

LOCAL void zero(void *to, u64 size)
{
	u64 at = 0;

	for (; at + 8 <= size; at += 8)
		*(u64 *)(to + at) = 0;
	for (; at < size; at++)
		*(u8 *)(to + at) = 0;
}

INLINE void copy(void *to, const void *from, u64 size)
{
	if (size == 4)
		*(u32 *)to = *(const u32 *)from;
	else if (size == 8)
		*(u64 *)to = *(const u64 *)from;
	else
		copy_long(to, from, size);
}

LOCAL void copy_between_fields(struct map *m, void *to, const void *from)
{
	const struct field *f = (const struct field *)m->fields;
	u32 at = 0;

	for (u32 i = 0; i < m->n_fields; i++) {
		copy_long(to + at, from + at, f[i].offset - at);
		at = f[i].offset + f[i].size;
	}
	copy_long(to + at, from + at, m->value_size - at);
}

LOCAL void zero_fields(struct map *m, void *value)
{
	const struct field *f = (const struct field *)m->fields;

	for (u32 i = 0; i < m->n_fields; i++)
		zero(value + f[i].offset, f[i].size);
}

/* A value, but for the members that are the kernel's. */
INLINE void copy_value(struct map *m, void *to, const void *from)
{
	if (m->n_fields)
		copy_between_fields(m, to, from);
	else
		copy(to, from, m->value_size);
}

/* A value for user space, which sees zeros in those members. */
INLINE void value_out(struct map *m, void *to, const void *from)
{
	copy_value(m, to, from);
	if (m->n_fields)
		zero_fields(m, to);
}

INLINE void *slot_of(struct map *m, void *values, u32 cpu)
{
	return values + (u64)cpu * m->slot;
}

/* The values of all CPUs, padding included. */
LOCAL void all_slots(struct map *m, void *to, const void *from)
{
	u32 cpus = ENGINE->possible_cpus;

	if (!m->n_fields) {
		copy_long(to, from, (u64)cpus * m->slot);
		return;
	}
	for (u32 cpu = 0; cpu < cpus; cpu++) {
		copy_between_fields(m, to, from);
		to += m->slot;
		from += m->slot;
	}
}

/* What user space sets of the values of all CPUs: one of them, all to the same value, or each. */
LOCAL void some_slots(struct map *m, void *to, const void *from, u64 flags)
{
	u32 step = flags & ALL_CPUS ? 0 : m->slot;

	if (flags & CPU)
		copy_value(m, slot_of(m, to, flags >> 32), from);
	else if (step == m->value_size || (step && ENGINE->version < VERSION(7, 0, 0)))
		all_slots(m, to, from);
	else /* padding is left as it is since Linux 7.0 */
		for (u32 cpu = 0; cpu < ENGINE->possible_cpus; cpu++, from += step)
			copy_value(m, slot_of(m, to, cpu), from);
}

LOCAL void all_slots_out(struct map *m, void *to, const void *from)
{
	all_slots(m, to, from);
	if (m->n_fields)
		for (u32 cpu = 0; cpu < ENGINE->possible_cpus; cpu++)
			zero_fields(m, slot_of(m, to, cpu));
}

LOCAL void some_slots_out(struct map *m, void *to, const void *from, u64 flags)
{
	if (flags & CPU)
		value_out(m, to, slot_of(m, (void *)from, flags >> 32));
	else
		all_slots_out(m, to, from);
}

/* -- flags of user space's commands (bpf_map_check_op_flags()) -------------------------------------------------------- */

INLINE u32 is_percpu(struct map *m)
{
	return m->type == PERCPU_HASH || m->type == LRU_PERCPU_HASH || m->type == PERCPU_ARRAY;
}

LOCAL s64 check_cpu(u64 flags)
{
	if (!(flags & CPU))
		return flags >> 32 ? -EINVAL : 0;
	return flags >> 32 < ENGINE->possible_cpus ? 0 : -ERANGE;
}

LOCAL s64 check_lookup_flags(struct map *m, u64 flags)
{
	if (ENGINE->version >= VERSION(7, 0, 0) && is_percpu(m) && (u32)flags == CPU)
		return check_cpu(flags);
	return flags & ~LOCK || (flags && !m->has_lock) ? -EINVAL : 0;
}

/* NOEXIST and EXIST are overlooked beside CPU, and where both are given. */
LOCAL s64 check_percpu_update_flags(u64 flags)
{
	if (ENGINE->version < VERSION(7, 0, 0))
		return flags > EXIST ? -EINVAL : 0;
	return flags & LOCK || (u32)flags > ALL_CPUS ? -EINVAL : check_cpu(flags);
}

#endif
