// Uses keys of an LRU map as a cache does: looks them up, and inserts what it does not find.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 100); __type(key, __u64); __type(value, __u64); }
    lru SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 65536); __type(key, __u32); __type(value, __u64); }
    keys SEC(".maps");
__u32 first, count;
__u64 hits;
static int use(__u32 i, void *ctx)
{
    __u32 at = first + i;
    __u64 *key = bpf_map_lookup_elem(&keys, &at), zero = 0;

    if (!key)
        return 1;
    if (bpf_map_lookup_elem(&lru, key))
        hits++;
    else
        bpf_map_update_elem(&lru, key, &zero, BPF_ANY);
    return 0;
}
SEC("syscall") int replay(void *ctx)
{
    bpf_loop(count, use, (void *)0, 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
