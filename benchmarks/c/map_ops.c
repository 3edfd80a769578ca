// SPDX-License-Identifier: MIT
/*
 * What map operations cost in C, through the bpf() system call and nothing else: the yardstick of bench_maps.py.
 *
 *     map_ops ENTRIES REPEATS
 *
 * Prints one JSON object: nanoseconds per entry (the best of REPEATS) for a HASH map u32 -> u32 with ENTRIES elements.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int map_fd;
static uint32_t entries;
static uint32_t *keys, *values;
static volatile uint64_t sink;

static long bpf(int command, union bpf_attr *attr)
{
    return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static void die(const char *what)
{
    fprintf(stderr, "map_ops: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void element(int command, uint32_t *key, void *value)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.map_fd = map_fd;
    attr.key = (uintptr_t)key;
    attr.value = (uintptr_t)value;
    if (bpf(command, &attr))
        die("element");
}

static void update(void)
{
    for (uint32_t key = 0; key < entries; key++) {
        uint32_t value = key + 1;

        element(BPF_MAP_UPDATE_ELEM, &key, &value);
    }
}

static void lookup(void)
{
    for (uint32_t key = 0; key < entries; key++) {
        uint32_t value;

        element(BPF_MAP_LOOKUP_ELEM, &key, &value);
        sink += value;
    }
}

static void walk(void)
{
    uint32_t key, next, value, seen = 0;
    uint32_t *from = NULL;

    for (;;) {
        union bpf_attr attr;

        memset(&attr, 0, sizeof(attr));
        attr.map_fd = map_fd;
        attr.key = (uintptr_t)from;
        attr.next_key = (uintptr_t)&next;
        if (bpf(BPF_MAP_GET_NEXT_KEY, &attr))
            break;
        key = next;
        from = &key;
        element(BPF_MAP_LOOKUP_ELEM, &key, &value);
        sink += value;
        seen++;
    }
    if (errno != ENOENT || seen != entries)
        die("walk");
}

static void lookup_batch(void)
{
    uint32_t cursor = 0, seen = 0;
    int first = 1;

    for (;;) {
        union bpf_attr attr;
        long result;

        memset(&attr, 0, sizeof(attr));
        attr.batch.map_fd = map_fd;
        attr.batch.in_batch = first ? 0 : (uintptr_t)&cursor;
        attr.batch.out_batch = (uintptr_t)&cursor;
        attr.batch.keys = (uintptr_t)(keys + seen);
        attr.batch.values = (uintptr_t)(values + seen);
        attr.batch.count = entries - seen;
        result = bpf(BPF_MAP_LOOKUP_BATCH, &attr);
        if (result && errno != ENOENT)
            die("lookup batch");
        seen += attr.batch.count;
        if (result || seen == entries)
            break;
        first = 0;
    }
    if (seen != entries)
        die("lookup batch: some entries are missing");
    for (uint32_t i = 0; i < entries; i++)
        sink += values[i];
}

static void update_batch(void)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.batch.map_fd = map_fd;
    attr.batch.keys = (uintptr_t)keys;
    attr.batch.values = (uintptr_t)values;
    attr.batch.count = entries;
    if (bpf(BPF_MAP_UPDATE_BATCH, &attr) || attr.batch.count != entries)
        die("update batch");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } operations[] = {
        { "update", update },
        { "lookup", lookup },
        { "walk", walk },
        { "lookup_batch", lookup_batch },
        { "update_batch", update_batch },
    };
    union bpf_attr attr;
    int repeats;

    if (argc != 3 || (entries = atoi(argv[1])) == 0 || (repeats = atoi(argv[2])) <= 0) {
        fprintf(stderr, "usage: map_ops ENTRIES REPEATS\n");
        return 2;
    }
    keys = calloc(entries, sizeof(*keys));
    values = calloc(entries, sizeof(*values));
    if (!keys || !values)
        die("memory");
    memset(&attr, 0, sizeof(attr));
    attr.map_type = BPF_MAP_TYPE_HASH;
    attr.key_size = sizeof(uint32_t);
    attr.value_size = sizeof(uint32_t);
    attr.max_entries = entries;
    map_fd = bpf(BPF_MAP_CREATE, &attr);
    if (map_fd < 0)
        die("map create");
    update();

    printf("{");
    for (unsigned int i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        uint64_t best = UINT64_MAX;

        for (int repeat = 0; repeat < repeats; repeat++) {
            uint64_t start = now(), took;

            operations[i].run();
            took = now() - start;
            if (took < best)
                best = took;
        }
        printf("%s\"%s\": %.2f", i ? ", " : "", operations[i].name, (double)best / entries);
    }
    printf("}\n");
    return 0;
}
