// SPDX-License-Identifier: MIT
/*
 * The C side of bench_events.py: drains a ring buffer, or the perf buffers of all CPUs, on command.
 *
 *     event_drain ring FD SIZE
 *     event_drain perf MAP_FD CPUS PAGES
 *     event_drain live FD SIZE
 *
 * For each line on stdin it drains what is there, adds up the first 8 bytes of every record, and prints
 * "RECORDS NANOSECONDS SUM". Live, it waits with poll() and drains until nothing comes for a second.
 */
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOAD(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

static uint64_t records, sum;

static void drain_ring(uint64_t *consumer, uint64_t *producer, char *data, uint64_t size)
{
    uint64_t at = LOAD(consumer), end = LOAD(producer);

    while (at < end) {
        char *record = data + (at & (size - 1));
        uint32_t head = LOAD((uint32_t *)record);

        if (head & (1u << 31))
            break;
        if (!(head & (1u << 30))) {
            records++;
            sum += *(uint64_t *)(record + 8);
        }
        at += ((head & 0x3fffffff) + 15) & ~7ull;
        STORE(consumer, at);
    }
}

static void drain_perf(struct perf_event_mmap_page *page, uint64_t size)
{
    char *data = (char *)page + getpagesize();
    uint64_t at = page->data_tail, end = LOAD(&page->data_head);
    static char copy[1 << 16];

    while (at < end) {
        struct perf_event_header *header = (void *)(data + (at & (size - 1)));
        uint64_t length = header->size, offset = at & (size - 1);

        if (offset + length > size) {
            memcpy(copy, header, size - offset);
            memcpy(copy + size - offset, data, length - (size - offset));
            header = (void *)copy;
        }
        if (header->type == PERF_RECORD_SAMPLE) {
            uint64_t value;

            records++;
            memcpy(&value, (char *)header + 12, 8);
            sum += value;
        }
        at += length;
    }
    STORE(&page->data_tail, at);
}

int main(int argc, char **argv)
{
    int fd = atoi(argv[2]), page = getpagesize(), perf = !strcmp(argv[1], "perf");
    uint64_t size = perf ? (uint64_t)atoi(argv[4]) * page : strtoull(argv[3], 0, 10);
    int cpus = perf ? atoi(argv[3]) : 0;
    struct perf_event_mmap_page *pages[256];
    uint64_t *consumer = 0, *producer = 0;
    char line[16];

    if (perf) {
        struct perf_event_attr attr = {
            .type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_BPF_OUTPUT,
            .sample_type = PERF_SAMPLE_RAW, .sample_period = 1, .wakeup_events = 1,
        };
        for (int cpu = 0; cpu < cpus; cpu++) {
            int event = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
            union bpf_attr update;

            pages[cpu] = mmap(0, size + page, PROT_READ | PROT_WRITE, MAP_SHARED, event, 0);
            memset(&update, 0, sizeof update);
            update.map_fd = fd;
            update.key = (uint64_t)&cpu;
            update.value = (uint64_t)&event;
            if (pages[cpu] == MAP_FAILED || syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &update, sizeof update))
                return 1;
            ioctl(event, PERF_EVENT_IOC_ENABLE, 0);
        }
    } else {
        consumer = mmap(0, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        producer = mmap(0, page + 2 * size, PROT_READ, MAP_SHARED, fd, page);
        if (consumer == MAP_FAILED || producer == MAP_FAILED)
            return 1;
    }
    puts("ready");
    fflush(stdout);
    if (!strcmp(argv[1], "live")) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};

        while (poll(&ready, 1, 1000) > 0)
            while (LOAD(consumer) < LOAD(producer))
                drain_ring(consumer, producer, (char *)producer + page, size);
        printf("%lu 0 %lu\n", records, sum);
        return 0;
    }
    while (fgets(line, sizeof line, stdin)) {
        struct timespec from, to;

        records = sum = 0;
        clock_gettime(CLOCK_MONOTONIC, &from);
        if (perf)
            for (int cpu = 0; cpu < cpus; cpu++)
                drain_perf(pages[cpu], size);
        else
            drain_ring(consumer, producer, (char *)producer + page, size);
        clock_gettime(CLOCK_MONOTONIC, &to);
        printf("%lu %lu %lu\n", records, (to.tv_sec - from.tv_sec) * 1000000000ul + to.tv_nsec - from.tv_nsec, sum);
        fflush(stdout);
    }
    return 0;
}
