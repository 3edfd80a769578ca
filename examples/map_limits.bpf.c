// SPDX-License-Identifier: MIT
/*
 * What happens to the 1004th key of a map with room for 1003.
 *
 *     bpf2py run examples/map_limits.bpf.c -- true
 *
 * The first execve() after loading inserts the keys 0 to 1003 into a HASH and into an LRU_HASH map, and counts in
 * `results` how the updates ended. The HASH map refuses the last key with E2BIG and keeps the first 1003. The
 * LRU_HASH map accepts every key and forgets others instead; how many is up to the kernel, which frees in batches.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_ENTRIES 1003
#define KEYS (MAX_ENTRIES + 1)

enum result {
    HASH_INSERTED,
    HASH_FULL,  /* -E2BIG */
    HASH_OTHER, /* any other error */
    LRU_INSERTED,
    LRU_FULL,
    LRU_OTHER,
    NUM_RESULTS,
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, MAX_ENTRIES);
    __type(key, __u32);
    __type(value, __u64);
} full_hash SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, MAX_ENTRIES);
    __type(key, __u32);
    __type(value, __u64);
} full_lru SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, NUM_RESULTS);
    __type(key, __u32);
    __type(value, __u32);
} results SEC(".maps");

__u32 started = 0; /* the keys are inserted once, not at every execve() */

/* int, not long: before Linux 6.4 map helpers left the upper half of a negative result zero. */
static __always_inline void count_result(int error, __u32 first)
{
    __u32 slot = first + (error == 0 ? 0 : error == -7 /* E2BIG */ ? 1 : 2);
    __u32 *count = bpf_map_lookup_elem(&results, &slot);

    if (count)
        __sync_fetch_and_add(count, 1);
}

SEC("tracepoint/syscalls/sys_enter_execve")
int insert_keys(void *ctx)
{
    __u32 key;
    __u64 square;

    if (__sync_lock_test_and_set(&started, 1))
        return 0;
    for (__u32 i = 0; i < KEYS; i++) {
        key = i;
        square = (__u64)i * i;
        count_result(bpf_map_update_elem(&full_hash, &key, &square, BPF_ANY), HASH_INSERTED);
        count_result(bpf_map_update_elem(&full_lru, &key, &square, BPF_ANY), LRU_INSERTED);
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
