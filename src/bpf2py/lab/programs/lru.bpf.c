// Watches one LRU map of the kernel: what it evicts, and which keys are used, by the functions of kernel/bpf/hashtab.c.
// SPDX-License-Identifier: MIT
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

struct bpf_map {
    __u32 id, key_size;
} __attribute__((preserve_access_index));

struct bpf_htab {
    struct bpf_map map;
} __attribute__((preserve_access_index));

struct use {
    __u64 key; // the key itself, or a number made of it where it has more than 8 bytes
    __u32 cpu;
    __u32 is_update;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps"); // evictions, uses that found the ring full

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 24);
} uses SEC(".maps");

struct use *unused_use __attribute__((unused)); // its type, for the reader

const volatile __u32 wanted = 0;
const volatile __u32 key_size = 8;

#define LONGEST 64

static __always_inline void add(__u32 which)
{
    __u64 *count = bpf_map_lookup_elem(&counts, &which);

    if (count)
        *count += 1;
}

static __always_inline int evicted(void *htab, int removed)
{
    if (removed && BPF_CORE_READ((struct bpf_htab *)htab, map.id) == wanted)
        add(0);
    return 0;
}

// The callback by which bpf_lru_list.c takes an element out of the map; nothing else calls it.
SEC("?fexit/htab_lru_map_delete_node")
int BPF_PROG(exactly, void *htab, void *node, char removed)
{
    return evicted(htab, removed);
}

// Where there are no trampolines: attempts, a few of which find the element gone already.
SEC("?kprobe/htab_lru_map_delete_node")
int BPF_KPROBE(at_most, void *htab)
{
    return evicted(htab, 1);
}

static __always_inline int used(struct bpf_map *map, void *key, __u32 is_update)
{
    unsigned char bytes[LONGEST] = {};
    __u32 size = key_size > LONGEST ? LONGEST : key_size;
    __u64 number = 0;
    struct use *use;

    if (BPF_CORE_READ(map, id) != wanted)
        return 0;
    if (bpf_probe_read_kernel(bytes, size, key))
        return 0;
    if (key_size <= 8) {
        __builtin_memcpy(&number, bytes, 8);
    } else {
        number = 0xcbf29ce484222325; // FNV-1a
        for (int i = 0; i < LONGEST; i++)
            if (i < size)
                number = (number ^ bytes[i]) * 0x100000001b3;
    }
    use = bpf_ringbuf_reserve(&uses, sizeof(*use), 0);
    if (!use) {
        add(1);
        return 0;
    }
    use->key = number;
    use->cpu = bpf_get_smp_processor_id();
    use->is_update = is_update;
    bpf_ringbuf_submit(use, 0);
    return 0;
}

SEC("?fentry/__htab_map_lookup_elem")
int BPF_PROG(on_lookup, struct bpf_map *map, void *key)
{
    return used(map, key, 0);
}

SEC("?fentry/htab_lru_map_update_elem")
int BPF_PROG(on_update, struct bpf_map *map, void *key)
{
    return used(map, key, 1);
}

SEC("?fentry/__htab_lru_percpu_map_update_elem")
int BPF_PROG(on_percpu_update, struct bpf_map *map, void *key)
{
    return used(map, key, 1);
}

char LICENSE[] SEC("license") = "GPL";
