/* LPM_TRIE: a binary trie of prefixes. A node that holds no value of its own has two children.
 *
 * Bits are counted from the most significant one of the first byte on. Node i's key (a prefix length and the bytes as they were
 * given) and value are at m->data + i * m->stride.
 */
#ifndef BPF2PY_LPM_H
#define BPF2PY_LPM_H

#include "values.h"

struct trie_node {
	u32 length; /* bits of the prefix */
	u32 inner;  /* holds no value */
	u32 child[2];
};

struct trie {
	u32 root;
	u32 free; /* linked by child[0] */
	u32 next; /* nodes never used so far */
	u32 end;
	u32 value_at;
	u32 bytes; /* of a key behind its prefix length */
};

#define TRIE(m) ((struct trie *)(m)->own)

INLINE struct trie_node *trie_node(struct map *m, u32 i)
{
	return (struct trie_node *)m->meta + i;
}

INLINE u8 *trie_key(struct map *m, u32 i)
{
	return (u8 *)(m->data + (u64)i * m->stride);
}

INLINE u32 bit_of(const u8 *key, u32 bit)
{
	return key[4 + (bit >> 3)] >> (7 - (bit & 7)) & 1;
}

/* How many bits of a node's prefix and a key agree. */
LOCAL u32 common_bits(struct map *m, u32 i, const u8 *key)
{
	const u8 *own = trie_key(m, i);
	u32 limit = trie_node(m, i)->length, bytes = TRIE(m)->bytes;

	if (*(const u32 *)key < limit)
		limit = *(const u32 *)key;
	for (u32 at = 0; at < bytes; at++) {
		u32 different = own[4 + at] ^ key[4 + at], bits = at * 8;

		if (bits >= limit)
			break;
		if (!different)
			continue;
		while (!(different & 0x80)) {
			different <<= 1;
			bits++;
		}
		return bits < limit ? bits : limit;
	}
	return limit;
}

EXPORT void *lpm_lookup_elem(struct map *m, const u8 *key)
{
	u32 most = TRIE(m)->bytes * 8, i = TRIE(m)->root, found = 0;

	if (*(const u32 *)key > most)
		return NULL;
	while (i) {
		struct trie_node *n = trie_node(m, i);
		u32 same = common_bits(m, i, key);

		if (same == most) {
			found = i;
			break;
		}
		if (same < n->length)
			break;
		if (!n->inner)
			found = i;
		i = n->child[bit_of(key, n->length)];
	}
	return found ? trie_key(m, found) + TRIE(m)->value_at : NULL;
}

LOCAL u32 trie_take(struct map *m)
{
	struct trie *t = TRIE(m);
	u32 i = t->free;

	if (i)
		t->free = trie_node(m, i)->child[0];
	else if (t->next < t->end)
		i = t->next++;
	else
		return 0;
	trie_node(m, i)->inner = trie_node(m, i)->child[0] = trie_node(m, i)->child[1] = 0;
	return i;
}

INLINE void trie_give_back(struct map *m, u32 i)
{
	trie_node(m, i)->child[0] = TRIE(m)->free;
	TRIE(m)->free = i;
}

/* A node for a key that is new to the map, or 0 and the error. */
LOCAL u32 trie_new(struct map *m, const u8 *key, const void *value, u64 flags, s64 *error)
{
	u32 i;

	*error = flags == EXIST ? -ENOENT : m->count == m->max_entries ? -ENOSPC : -ENOMEM;
	if (*error != -ENOMEM)
		return 0;
	i = trie_take(m);
	if (!i)
		return 0;
	trie_node(m, i)->length = *(const u32 *)key;
	copy_long(trie_key(m, i), key, m->key_size);
	copy(trie_key(m, i) + TRIE(m)->value_at, value, m->value_size);
	return i;
}

EXPORT s64 lpm_update_elem(struct map *m, const u8 *key, const void *value, u64 flags)
{
	u32 length = *(const u32 *)key, *link = &TRIE(m)->root, same = 0, i, new, inner;
	struct trie_node *n = NULL;
	s64 error;

	if (flags > EXIST || length > TRIE(m)->bytes * 8)
		return -EINVAL;
	while ((i = *link)) {
		n = trie_node(m, i);
		same = common_bits(m, i, key);
		if (same != n->length || n->length == length)
			break;
		link = &n->child[bit_of(key, n->length)];
	}
	if (i && n->length == same && !n->inner) {
		if (flags == NOEXIST)
			return -EEXIST;
		/* Readers go on with the old node, so its place is taken by another. */
		new = trie_take(m);
		if (!new)
			return -ENOMEM;
		copy_long(trie_key(m, new), key, m->key_size);
		copy(trie_key(m, new) + TRIE(m)->value_at, value, m->value_size);
		trie_node(m, new)->length = length;
		trie_node(m, new)->child[0] = n->child[0];
		trie_node(m, new)->child[1] = n->child[1];
		*link = new;
		trie_give_back(m, i);
		return 0;
	}
	new = trie_new(m, key, value, flags, &error);
	if (!new)
		return error;
	if (!i) {
		*link = new;
	} else if (n->length == same) {
		trie_node(m, new)->child[0] = n->child[0];
		trie_node(m, new)->child[1] = n->child[1];
		*link = new;
		trie_give_back(m, i);
	} else if (same == length) {
		trie_node(m, new)->child[bit_of(trie_key(m, i), same)] = i;
		*link = new;
	} else {
		inner = trie_take(m);
		if (!inner) {
			trie_give_back(m, new);
			return -ENOMEM;
		}
		trie_node(m, inner)->length = same;
		trie_node(m, inner)->inner = 1;
		copy_long(trie_key(m, inner) + 4, trie_key(m, i) + 4, TRIE(m)->bytes);
		trie_node(m, inner)->child[bit_of(key, same)] = new;
		trie_node(m, inner)->child[!bit_of(key, same)] = i;
		*link = inner;
	}
	m->count++;
	return 0;
}

EXPORT s64 lpm_delete_elem(struct map *m, const u8 *key)
{
	u32 length = *(const u32 *)key, *link = &TRIE(m)->root, *above = link, parent = 0, same = 0, i;
	struct trie_node *n = NULL, *p;

	if (length > TRIE(m)->bytes * 8)
		return -EINVAL;
	while ((i = *link)) {
		n = trie_node(m, i);
		same = common_bits(m, i, key);
		if (same != n->length || n->length == length)
			break;
		parent = i;
		above = link;
		link = &n->child[bit_of(key, n->length)];
	}
	if (!i || n->length != length || n->length != same || n->inner)
		return -ENOENT;
	m->count--;
	if (n->child[0] && n->child[1]) {
		n->inner = 1;
		return 0;
	}
	p = trie_node(m, parent);
	if (parent && p->inner && !n->child[0] && !n->child[1]) {
		*above = p->child[i == p->child[0]];
		trie_give_back(m, parent);
	} else {
		*link = n->child[0] ? n->child[0] : n->child[1];
	}
	trie_give_back(m, i);
	return 0;
}

/* -- what user space does --------------------------------------------------------------------------------------------- */

EXPORT s64 lpm_sys_lookup(struct map *m, const u8 *key, void *out, u64 flags)
{
	void *value;

	if (flags)
		return -EINVAL;
	value = lpm_lookup_elem(m, key);
	if (!value)
		return -ENOENT;
	copy(out, value, m->value_size);
	return 0;
}

EXPORT s64 lpm_sys_update(struct map *m, const u8 *key, const void *value, u64 flags)
{
	return m->frozen ? -EPERM : lpm_update_elem(m, key, value, flags);
}

EXPORT s64 lpm_sys_delete(struct map *m, const u8 *key)
{
	return m->frozen ? -EPERM : lpm_delete_elem(m, key);
}

/* Children come before their parents, the half with bit 0 first. Where the key is in no node, the walk starts again. */
EXPORT s64 lpm_sys_next_key(struct map *m, const u8 *key, u8 *next)
{
	u32 start = TRIE(m)->root, found = 0, i, same = 0;

	if (!start)
		return -ENOENT;
	if (key && *(const u32 *)key <= TRIE(m)->bytes * 8) {
		u32 up = 0, right = 0;

		/* On the way down: the last parent with a value, or whose other half is still to come, is where it goes on. */
		for (i = start; i;) {
			struct trie_node *n = trie_node(m, i);
			u32 bit;

			same = common_bits(m, i, key);
			if (n->length != same || n->length == *(const u32 *)key)
				break;
			bit = bit_of(key, n->length);
			if (!bit && n->child[1]) {
				right = n->child[1];
				up = 0;
			} else if (!n->inner) {
				up = i;
				right = 0;
			}
			i = n->child[bit];
		}
		if (i && trie_node(m, i)->length == same && trie_node(m, i)->length == *(const u32 *)key && !trie_node(m, i)->inner) {
			if (right)
				start = right;
			else if (up)
				found = up;
			else
				return -ENOENT;
		}
	}
	for (i = start; !found && i;) {
		struct trie_node *n = trie_node(m, i);
		u32 down = n->child[0] ? n->child[0] : n->child[1];

		if (!down)
			found = i;
		i = down;
	}
	copy_long(next, trie_key(m, found), m->key_size);
	*(u32 *)next = trie_node(m, found)->length;
	return 0;
}

/* From behind the key the token holds; the token is the last key read. */
EXPORT s64 lpm_sys_lookup_batch(struct map *m, struct batch *b)
{
	s64 error = 0;

	if (b->flags)
		return -EINVAL;
	if (!b->room)
		return 0;
	b->done = 0;
	while (b->done < b->room) {
		u8 *key = (u8 *)(b->keys + (u64)b->done * m->key_size);

		error = lpm_sys_next_key(m, b->first == 1 ? NULL : (u8 *)b->cursor, key);
		if (error)
			break;
		lpm_sys_lookup(m, key, (void *)(b->values + (u64)b->done * m->value_size), 0);
		copy_long((void *)b->cursor, key, m->key_size);
		b->first = 2;
		b->done++;
	}
	return error;
}

#endif
