/* Helpers and kernel functions that programs call often: who runs, random numbers, counted loops. */
#ifndef BPF2PY_HELPERS_H
#define BPF2PY_HELPERS_H

#include "engine.h"

EXPORT u64 get_current_pid_tgid(void)
{
	return ENGINE->pid_tgid;
}

EXPORT u64 get_current_uid_gid(void)
{
	return ENGINE->uid_gid;
}

/* xorshift64, the upper half: the same numbers as Engine.random(). */
EXPORT u64 get_prandom_u32(void)
{
	u64 state = ENGINE->random ? ENGINE->random : 1;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	ENGINE->random = state;
	return state >> 32;
}

#define MAX_ITERATIONS (8 * 1024 * 1024)

struct iter_num {
	s32 current;
	s32 end;
};

EXPORT s64 bpf_iter_num_new(struct iter_num *it, s64 start, s64 end)
{
	s64 first = (s32)start, last = (s32)end;

	it->current = it->end = 0;
	if (first > last)
		return -EINVAL;
	if (last - first > MAX_ITERATIONS)
		return -E2BIG;
	it->current = (s32)((u32)first - 1);
	it->end = last;
	return 0;
}

EXPORT s32 *bpf_iter_num_next(struct iter_num *it)
{
	if ((s64)(s32)((u32)it->current + 1) >= it->end) {
		it->current = it->end = 0;
		return NULL;
	}
	it->current = (s32)((u32)it->current + 1);
	return &it->current;
}

EXPORT s64 bpf_iter_num_destroy(struct iter_num *it)
{
	it->current = it->end = 0;
	return 0;
}

#endif
