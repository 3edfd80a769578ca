/* What the engine's maps are written against.
 *
 * This code is compiled to eBPF, and made native (or Python) by the same translators as the user's programs. Addresses are
 * offsets in the engine's memory, which has two parts: below PUBLIC the engine's own structures, which programs can neither
 * read nor write, and from PUBLIC on keys, values, stacks and packets, which they may. Address 0 is never mapped.
 *
 * There is no verifier here: loops need no bound, but every access is checked to lie in the memory, and fuel ends each run.
 * No writable globals, no calls to libc, at most five arguments, 512 bytes of stack along a chain of calls.
 */
#ifndef BPF2PY_ENGINE_H
#define BPF2PY_ENGINE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;

#ifndef MEMORY
#define MEMORY 0ULL /* where addresses count from; another value only where this is compiled for the host */
#endif
#define PUBLIC (MEMORY + (512ULL << 20))

#define EXPORT __attribute__((section("engine"), used, noinline))
#define INLINE static inline __attribute__((always_inline))
#define NULL ((void *)0)

#define LOCAL static __attribute__((section("engine"), noinline)) /* code that is too large to repeat */

enum {
	HASH = 1, ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_HASH, PERCPU_ARRAY, STACK_TRACE, CGROUP_ARRAY, LRU_HASH,
	LRU_PERCPU_HASH, LPM_TRIE, ARRAY_OF_MAPS, HASH_OF_MAPS, DEVMAP, SOCKMAP, CPUMAP, XSKMAP, SOCKHASH, CGROUP_STORAGE,
	REUSEPORT_SOCKARRAY, PERCPU_CGROUP_STORAGE, QUEUE, STACK, SK_STORAGE, DEVMAP_HASH, STRUCT_OPS, RINGBUF, INODE_STORAGE,
	TASK_STORAGE, BLOOM_FILTER, USER_RINGBUF, CGRP_STORAGE, ARENA,
};

#define NO_PREALLOC 1u
#define NO_COMMON_LRU 2u

#define ANY 0ULL
#define NOEXIST 1ULL
#define EXIST 2ULL
#define LOCK 4ULL
#define CPU 8ULL /* the number is in the upper half; Linux 7.0, as the next */
#define ALL_CPUS 16ULL

#define VERSION(major, minor, patch) ((major) << 16 | (minor) << 8 | (patch))

#define EPERM 1
#define ENOENT 2
#define E2BIG 7
#define EAGAIN 11
#define ENOMEM 12
#define EFAULT 14
#define EBUSY 16
#define EEXIST 17
#define EINVAL 22
#define ENOSPC 28
#define ERANGE 34
#define ENODATA 61
#define EOPNOTSUPP 95
#define ENOTSUPP 524

/* State of the machine that is simulated, at a fixed place; set by the engine before each call. */
struct engine {
	u32 cpu;           /* on which what runs now runs */
	u32 possible_cpus; /* slots of a per-CPU value */
	u32 version;       /* of the simulated kernel: major << 16 | minor << 8 | patch, patch at most 255 */
	u32 lru_fixed;     /* the LRU variant of old kernels: local lists of 128 whatever the map's size */
	u64 random;        /* state of the random numbers */
	u64 now;           /* frozen time in ns */
	u64 rings;         /* headers of the RINGBUF maps, a list: see ringbuf.h */
	/* Of the program that runs, see state.py. */
	u64 pid_tgid;      /* tgid << 32 | pid */
	u64 uid_gid;       /* gid << 32 | uid */
	u64 cgroup_id;
	u64 cookie;        /* of what the program is attached by */
	u64 task;          /* its struct task_struct, 0: nobody asked for it yet */
	u64 packet;        /* the first byte of its packet, 0: it has none that a struct __sk_buff stands for */
	u64 packet_end;
	u64 mac;           /* where the packet's link layer header is, or would be */
	u64 skb;           /* the struct __sk_buff */
	u64 frame;         /* a struct frame, 0: it has no packet that a struct xdp_md stands for */
	u64 comm[2];
	u32 own_memory;    /* user memory is what tests put into this memory */
	u32 named;         /* whether comm is what the task is called */
	/* Of the machine. */
	u64 end;           /* of the memory */
	u64 pid_dev;       /* of the PID namespace, once somebody asked for it */
	u64 pid_ino;
	u64 log;           /* lines of bpf_trace_printk that are not in Engine.trace yet, each with its length in front */
	u32 log_used;      /* bytes of it */
	u32 clock;         /* CLOCK_... */
};
#define CLOCK_PYTHON 0 /* somebody's function */
#define CLOCK_FROZEN 1
#define CLOCK_REAL 2
#define ENGINE ((struct engine *)(MEMORY + 0x100))

/* A packet of an XDP program, in private memory; see programs/packet.py. */
struct frame {
	u64 data;
	u64 end;        /* of its fragments, too */
	u64 meta;
	u64 linear_end; /* what programs see ends here */
	u64 start;      /* of the memory it is in */
	u64 limit;      /* it may grow up to here */
	u64 context;    /* the struct xdp_md */
};
#define FRAME ((struct frame *)ENGINE->frame)

/* A map's header, 256 bytes, below PUBLIC. What a program calls "map" is its address. */
struct map {
	u32 type;
	u32 flags;
	u32 key_size;
	u32 value_size;
	u32 max_entries;
	u32 id;
	u32 stride;    /* bytes from one element's data to the next */
	u32 slot;      /* per-CPU maps: bytes from one CPU's value to the next, round_up(value_size, 8) */
	u64 data;      /* public: keys and values */
	u64 meta;      /* private: whatever keeps order among them */
	u32 frozen;
	u32 count;     /* elements, where the type counts them */
	u64 fields;    /* struct field[]: members of the value that only the kernel may touch */
	u32 n_fields;
	u32 has_lock;  /* whether one of them is a bpf_spin_lock */
	u64 own[24];   /* the rest is for each type to lay out */
};

/* A member of the value that is neither copied in nor out: locks, timers, pointers to kernel objects. */
struct field {
	u32 offset;
	u32 size;
};

/* A map's elements for a batch command: see the functions ..._batch(). */
struct batch {
	u64 keys;
	u64 values;
	u32 room;   /* elements there is space for */
	u32 done;   /* elements written */
	u32 first;  /* in: nothing was read yet, start at the beginning; out: 2 when there is a token */
	u32 remove; /* BPF_MAP_LOOKUP_AND_DELETE_BATCH */
	u64 flags;  /* elem_flags */
	u64 cursor; /* address of the token, which is read and written: a u32 or a key */
};

#endif
