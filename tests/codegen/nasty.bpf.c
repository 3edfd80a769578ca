/* Layouts that are not what they seem. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum color { RED = -1, GREEN = 5, class_ = 7 };
struct inner { __u8 a; __u64 b; } __attribute__((packed));
union addr { __u32 v4; __u8 v6[16]; };
struct nasty {
    __u32 low : 3, high : 5;
    enum color color;
    union addr addr;
    struct inner list[3];
    union { __u32 x; struct { __u16 lo, hi; }; };
    _Bool yes;
    double ratio;
    char name[7];
    __u32 from;
};
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, struct inner); __type(value, struct nasty); }
    per_cpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, enum color); }
    colors SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 4); __type(value, struct nasty); } queue SEC(".maps");
const volatile int sampling = 7;
struct extra { int only_by_name; };
struct extra *use;
SEC("syscall") int run(void *ctx) { return sampling; }
char LICENSE[] SEC("license") = "GPL";
