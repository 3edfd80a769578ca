/* The hash table that HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH and HASH_OF_MAPS are made of.
 *
 * Elements have numbers from 1 on. Element i's chain is in m->meta, its key and value are at m->data + i * m->stride. A chain has
 * its newest element first; walks go from bucket 0 on, along each chain.
 */
#ifndef BPF2PY_TABLE_H
#define BPF2PY_TABLE_H

#include "jhash.h"
#include "values.h"

struct node {
	u32 hash;
	u32 next; /* in the chain, or in a list of free elements */
};

struct lru_node {
	struct node node;
	u32 newer; /* neighbours in the LRU list: towards its head, and towards its tail */
	u32 older;
	u16 owner; /* CPU */
	u8 list;
	u8 ref;
};

/* Elements nobody uses: some given back, the others never used so far. */
struct free_list {
	u32 head;
	u32 next;
	u32 end;
	u32 unused;
};

struct htab {
	u64 buckets; /* u32[mask + 1]: the first element of each chain */
	u32 mask;
	u32 seed;
	u64 lists;      /* struct free_list[n_lists] */
	u64 spares;     /* u32[possible CPUs]: the element that replaces one next */
	u64 lru;        /* struct lru[], one or one for each CPU */
	u64 victims;    /* u32[possible CPUs]: where each looks for elements to steal first */
	u64 side;       /* memory for these four */
	u32 n_lists;
	u32 elements;   /* there is memory for */
	u32 value_at;   /* from the key to the value */
	u32 value_size; /* of what is stored: all slots, or a map's address */
	u32 target;     /* elements a CPU's local list is filled with */
	u32 scan;       /* elements looked at in one go */
	u32 sentinels;  /* number of the first */
	u32 lru_fixed;
};

#define HTAB(m) ((struct htab *)(m)->own)
#define UNIT(lru) ((lru) ? sizeof(struct lru_node) : sizeof(struct node))

INLINE struct node *node_at(struct map *m, u32 i, u32 lru)
{
	return (struct node *)(m->meta + (u64)i * UNIT(lru));
}

INLINE struct lru_node *lru_at(struct map *m, u32 i)
{
	return (struct lru_node *)(m->meta + (u64)i * sizeof(struct lru_node));
}

INLINE void *key_at(struct map *m, u32 i)
{
	return (void *)(m->data + (u64)i * m->stride);
}

INLINE void *value_at(struct map *m, u32 i)
{
	return key_at(m, i) + HTAB(m)->value_at;
}

INLINE u32 *bucket_of(struct map *m, u32 hash)
{
	return (u32 *)HTAB(m)->buckets + (hash & HTAB(m)->mask);
}

INLINE u32 key_hash(struct map *m, const void *key)
{
	return hash_of(key, m->key_size, HTAB(m)->seed);
}

/* The same where speed matters less than size. */
LOCAL u32 key_hash_long(struct map *m, const void *key)
{
	return key_hash(m, key);
}

LOCAL u32 same_long(const void *a, const void *b, u64 size)
{
	u64 at = 0;

	for (; at + 8 <= size; at += 8)
		if (*(const u64 *)(a + at) != *(const u64 *)(b + at))
			return 0;
	for (; at < size; at++)
		if (*(const u8 *)(a + at) != *(const u8 *)(b + at))
			return 0;
	return 1;
}

INLINE u32 same_key(const void *a, const void *b, u32 size)
{
	if (size == 4)
		return *(const u32 *)a == *(const u32 *)b;
	if (size == 8)
		return *(const u64 *)a == *(const u64 *)b;
	return same_long(a, b, size);
}

/* The place that names the element with this key, or names none: *link is its number or 0. */
LOCAL u32 *find_long(struct map *m, const void *key, u64 hash, u64 unit)
{
	u32 *link = bucket_of(m, hash);

	while (*link) {
		struct node *n = (struct node *)(m->meta + *link * unit);

		if (n->hash == (u32)hash && same_key(key_at(m, *link), key, m->key_size))
			break;
		link = &n->next;
	}
	return link;
}

INLINE u32 *find(struct map *m, const void *key, u32 hash, u32 lru)
{
	u32 *link = bucket_of(m, hash), i;

	if (m->key_size == 4) {
		u32 wanted = *(const u32 *)key;

		while ((i = *link) && *(u32 *)key_at(m, i) != wanted)
			link = &node_at(m, i, lru)->next;
		return link;
	}
	if (m->key_size == 8) {
		u64 wanted = *(const u64 *)key;

		while ((i = *link) && *(u64 *)key_at(m, i) != wanted)
			link = &node_at(m, i, lru)->next;
		return link;
	}
	return find_long(m, key, hash, UNIT(lru));
}

INLINE u32 find_key(struct map *m, const void *key, u32 lru)
{
	return *find(m, key, key_hash(m, key), lru);
}

INLINE void link_first(struct map *m, u32 i, u32 hash, u32 lru)
{
	u32 *bucket = bucket_of(m, hash);
	struct node *n = node_at(m, i, lru);

	n->hash = hash;
	n->next = *bucket;
	*bucket = i;
	m->count++;
}

INLINE void unlink_at(struct map *m, u32 *link, u32 lru)
{
	u32 i = *link;

	*link = node_at(m, i, lru)->next;
	m->count--;
	if (m->n_fields) /* a timer ends with its value */
		zero_fields(m, value_at(m, i));
}

LOCAL s64 htab_check_flags(u32 old, u64 flags)
{
	flags &= ~LOCK;
	if (old && flags == NOEXIST)
		return -EEXIST;
	if (!old && flags == EXIST)
		return -ENOENT;
	return 0;
}

/* -- elements nobody uses: each CPU has its own, and takes another's when these are used up --------------------------- */

LOCAL u32 take_free(struct map *m)
{
	struct htab *h = HTAB(m);
	struct free_list *lists = (struct free_list *)h->lists;
	u32 n = h->n_lists, cpu = n > 1 ? ENGINE->cpu : 0;

	for (u32 i = 0; i < n; i++, cpu = cpu + 1 < n ? cpu + 1 : 0) {
		struct free_list *list = lists + cpu;
		u32 found = list->head;

		if (found) {
			list->head = node_at(m, found, 0)->next;
			return found;
		}
		if (list->next < list->end)
			return list->next++;
	}
	return 0;
}

INLINE void give_back(struct map *m, u32 i)
{
	struct htab *h = HTAB(m);
	struct free_list *list = (struct free_list *)h->lists + (h->n_lists > 1 ? ENGINE->cpu : 0);

	node_at(m, i, 0)->next = list->head;
	list->head = i;
}

#endif
