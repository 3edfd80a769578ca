/* Types with and without names, and names that mean something to Python. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
typedef __u32 pid_type;
typedef unsigned int uint;
typedef pid_type tgid_type;
typedef struct { __u32 a; pid_type pid; } event_t;
typedef event_t my_event_t;
typedef struct named { int q; } named_t;
typedef struct same { int q; } same;
typedef char comm_t[16];
typedef __u64 ids_t[4];
typedef unsigned char mac_t[6];
typedef enum { OFF, ON = 3 } state_t;
typedef union { __u32 v4; struct { __u8 a, b, c, d; } parts; char text[4]; } addr_t;
typedef struct { ids_t ids; comm_t comm; addr_t addr; __u32 pad; } lookup_t;
enum wide { __WIDE_MIN = -1, WIDE_BIG = 1LL << 40, __WIDE_MAX, None_, real, mro };
struct Kind { int Kind; int Event; };
struct link { int self, str; char name[4]; __u64 list[2]; int builtins, Any, __state, others, _asdict, __pad__, __, ___, pad__; };
struct big {
    event_t event;
    my_event_t mine[2];
    named_t named;
    comm_t comm;
    ids_t ids;
    mac_t mac;
    state_t state, states[2];
    addr_t addr;
    struct { int x; struct { int y; } deep; enum { A_ONE, A_TWO } how; } inner[3][2];
    union { int u1; struct { short s1, s2; } pair; };
    struct { int p1; };
    enum wide wide, wides[2];
    state_t bits : 2;
    enum wide wide_bits : 42;
    same s;
    uint size;
};
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, lookup_t); __type(value, struct big); }
    found SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, tgid_type); __type(value, struct link); }
    a_map_with_a_name_that_makes_lines_long_but_not_too_long SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, enum wide); __type(value, struct Kind); }
    class SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, state_t); }
    states SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, ids_t); __type(value, ids_t); }
    by_ids SEC(".maps");
struct { int c1; struct { int c2; } sub; } config = {1};
volatile enum { V_A, V_B } mode = V_B;
const volatile pid_type target = 5;
volatile int class_ = 4;
struct plain { int by_name; };
typedef struct plain plain_t;
plain_t *keep;
__u64 *keep_too;
SEC("syscall") int run(void *ctx)
{
    static volatile int counter;

    counter++;
    return config.c1 + mode + target + class_ + !keep + !keep_too;
}
SEC("syscall") int a_program_with_a_name_that_makes_lines_long_but_not_too_long_for_anybody(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
