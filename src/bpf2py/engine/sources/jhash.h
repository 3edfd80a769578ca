/* The kernel's jhash(): Bob Jenkins' lookup3 "hashlittle". Where words are little-endian, the variant for words gives the same. */
#ifndef BPF2PY_JHASH_H
#define BPF2PY_JHASH_H

#include "engine.h"

#define JHASH_START 0xdeadbeefu

INLINE u32 rol(u32 x, u32 by)
{
	return x << by | x >> (32 - by);
}

#define MIX(x, y, z, by) x -= z, x ^= rol(z, by), z += y
#define FINISH(x, y, by) x ^= y, x -= rol(y, by)
#define JHASH_MIX(a, b, c) MIX(a, b, c, 4), MIX(b, c, a, 6), MIX(c, a, b, 8), MIX(a, b, c, 16), MIX(b, c, a, 19), MIX(c, a, b, 4)
#define JHASH_FINISH(a, b, c) \
	FINISH(c, b, 14), FINISH(a, c, 11), FINISH(b, a, 25), FINISH(c, b, 16), FINISH(a, c, 4), FINISH(b, a, 14), FINISH(c, b, 24)

/* Keys of 4 and 8 bytes. */
INLINE u32 jhash_short(const u32 *key, u32 size, u32 seed)
{
	u32 a = JHASH_START + size + seed, b = a, c = a;

	a += key[0];
	if (size == 8)
		b += key[1];
	JHASH_FINISH(a, b, c);
	return c;
}

LOCAL u32 jhash(const void *key, u32 length, u32 seed)
{
	u32 a = JHASH_START + length + seed, b = a, c = a;
	u32 rest[3] = {0, 0, 0};

	while (length > 12) {
		const u32 *word = key;

		a += word[0];
		b += word[1];
		c += word[2];
		JHASH_MIX(a, b, c);
		key += 12;
		length -= 12;
	}
	if (!length)
		return c;
	for (u32 i = 0; i < length; i++)
		rest[i >> 2] |= (u32)((const u8 *)key)[i] << (i & 3) * 8;
	a += rest[0];
	b += rest[1];
	c += rest[2];
	JHASH_FINISH(a, b, c);
	return c;
}

INLINE u32 hash_of(const void *key, u32 size, u32 seed)
{
	return size == 4 || size == 8 ? jhash_short(key, size, seed) : jhash(key, size, seed);
}

#endif
