/* Programs whose results depend on helpers: run on the kernel and on the engine, they must leave the same. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define TEXT 64

/* On arm64 the kernel's strncmp() has a sign alone, and until Linux 6.13 one of the sums that fold to the same comes of bpf_csum_diff(). */
#ifdef __TARGET_ARCH_arm64
static __always_inline __s64 sign_of(__s64 compared)
{
	return (compared > 0) - (compared < 0);
}

static __always_inline __s64 folded(__s64 sum)
{
	for (int i = 0; i < 2 && sum > 0; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff ? 0 : sum;
}
#else
#define sign_of(compared) (compared)
#define folded(sum) (sum)
#endif

struct text {
	__s64 result;
	__u64 value;
	__u64 argument;
	__u32 size;
	__u32 number;
	char in[TEXT];
	char out[TEXT];
};

struct text work; /* a context is read and written in pieces of known offset */

#define PROGRAM(name, body)                               \
	SEC("syscall") int name(struct text *ctx)         \
	{                                                 \
		work = *ctx;                              \
		body;                                     \
		*ctx = work;                              \
		return 0;                                 \
	}

static __always_inline void to_signed_body(void)
{
	long value = 0;

	work.result = bpf_strtol(work.in, TEXT, work.argument, &value);
	work.value = value;
}

static __always_inline void to_unsigned_body(void)
{
	unsigned long value = 0;

	work.result = bpf_strtoul(work.in, TEXT, work.argument, &value);
	work.value = value;
}

PROGRAM(to_signed, to_signed_body())
PROGRAM(to_unsigned, to_unsigned_body())
PROGRAM(compare, work.result = sign_of(bpf_strncmp(work.in, 8, "hello")))

#define FORMAT(name, shape)                                                                                   \
	static __always_inline void format_##name##_body(void)                                                \
	{                                                                                                     \
		static const char form[] = shape;                                                             \
		__u64 values[] = { work.argument, work.value, work.number, 0 };                               \
                                                                                                              \
		work.result = bpf_snprintf(work.out, work.size & 63, form, values, sizeof(values));           \
	}                                                                                                     \
	PROGRAM(format_##name, format_##name##_body())

FORMAT(plain, "%d %u %x")
FORMAT(wide, "[%10lld|%-10llu|%08x]")
FORMAT(signs, "%+d % d %i")
FORMAT(zeros, "%016llx %-+5d|%X")
FORMAT(minus, "%-08d|%+-6lld|% 05d")
FORMAT(percent, "100%% %lu %ld")
FORMAT(character, "%c%c %lx")

static long count(__u32 index, void *context)
{
	struct { __u64 sum; __u64 stop; } *seen = context;

	seen->sum += index;
	return seen->stop && index + 1 == seen->stop;
}

static __always_inline void loop_body(void)
{
	struct { __u64 sum; __u64 stop; } seen = { 0, work.argument };

	work.result = bpf_loop(work.number, count, &seen, work.size);
	work.value = seen.sum;
}

PROGRAM(loop, loop_body())

/* -- packets ------------------------------------------------------------------------------------------------ */

struct packet_arguments { __u64 a, b, c, d; };
volatile struct packet_arguments given;
volatile __s64 answers[8];

#define ANSWER(i, e) answers[i] = (e)

SEC("tc")
int load_bytes(struct __sk_buff *skb)
{
	char to[16] = {1, 2, 3, 4, 5, 6, 7, 8};
	__u64 first, second;

	ANSWER(0, bpf_skb_load_bytes(skb, given.a, to, sizeof(to)));
	__builtin_memcpy(&first, to, 8);
	ANSWER(1, first);
	ANSWER(2, bpf_skb_load_bytes_relative(skb, given.a, to, sizeof(to), given.b & 1));
	__builtin_memcpy(&second, to, 8);
	ANSWER(3, second);
	ANSWER(4, skb->len);
	ANSWER(5, skb->protocol);
	return TC_ACT_OK;
}

SEC("tc")
int store_bytes(struct __sk_buff *skb)
{
	__u64 data = given.b;

	ANSWER(0, bpf_skb_store_bytes(skb, given.a, &data, 8, 0));
	return TC_ACT_OK;
}

SEC("tc")
int checksums(struct __sk_buff *skb)
{
	__be32 old = given.c, new = given.d;

	ANSWER(0, bpf_l3_csum_replace(skb, given.a, old, new, given.b & 15));
	ANSWER(1, bpf_l4_csum_replace(skb, given.a, old, new, given.b));
	ANSWER(2, folded(bpf_csum_diff(&old, 4, &new, 4, 0)));
	ANSWER(3, folded(bpf_csum_diff(0, 0, &new, 4, given.a)));
	ANSWER(4, folded(bpf_csum_diff(&old, 4, 0, 0, given.a)));
	return TC_ACT_OK;
}

SEC("tc")
int change_tail(struct __sk_buff *skb)
{
	ANSWER(0, bpf_skb_change_tail(skb, given.a, given.b));
	ANSWER(1, skb->len);
	return TC_ACT_OK;
}

SEC("tc")
int change_head(struct __sk_buff *skb)
{
	ANSWER(0, bpf_skb_change_head(skb, given.a, given.b));
	ANSWER(1, skb->len);
	return TC_ACT_OK;
}

SEC("tc")
int vlan(struct __sk_buff *skb)
{
	ANSWER(0, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), given.a));
	ANSWER(1, skb->vlan_tci);
	ANSWER(2, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), given.b));
	ANSWER(3, skb->len);
	ANSWER(4, skb->protocol);
	if (given.c)
		ANSWER(5, bpf_skb_vlan_pop(skb));
	if (given.c > 1)
		ANSWER(6, bpf_skb_vlan_pop(skb));
	ANSWER(7, skb->len);
	return TC_ACT_OK;
}

SEC("tc")
int adjust_room(struct __sk_buff *skb)
{
	ANSWER(0, bpf_skb_adjust_room(skb, given.a, given.b, 0));
	ANSWER(1, skb->len);
	return TC_ACT_OK;
}

SEC("xdp")
int adjust_head(struct xdp_md *xdp)
{
	ANSWER(0, bpf_xdp_adjust_head(xdp, given.a));
	ANSWER(1, xdp->data_end - xdp->data);
	return XDP_PASS;
}

SEC("xdp")
int adjust_tail(struct xdp_md *xdp)
{
	ANSWER(0, bpf_xdp_adjust_tail(xdp, given.a));
	ANSWER(1, xdp->data_end - xdp->data);
	return XDP_TX;
}

SEC("xdp")
int adjust_meta(struct xdp_md *xdp)
{
	ANSWER(0, bpf_xdp_adjust_meta(xdp, given.a));
	ANSWER(1, xdp->data - xdp->data_meta);
	return XDP_PASS;
}

SEC("xdp")
int xdp_bytes(struct xdp_md *xdp)
{
	char buffer[8] = {};
	__u64 value;

	ANSWER(0, bpf_xdp_load_bytes(xdp, given.a, buffer, 8));
	__builtin_memcpy(&value, buffer, 8);
	ANSWER(1, value);
	ANSWER(2, bpf_xdp_store_bytes(xdp, given.b, buffer, 8));
	ANSWER(3, bpf_xdp_get_buff_len(xdp));
	return XDP_DROP;
}

SEC("xdp")
int redirect(struct xdp_md *xdp)
{
	return bpf_redirect(given.a, given.b);
}

SEC("socket")
int classic(struct __sk_buff *skb)
{
	char first[4];

	ANSWER(0, bpf_skb_load_bytes(skb, 0, first, 4));
	ANSWER(1, *(__u32 *)first);
	ANSWER(2, skb->len);
	return skb->len;
}

char LICENSE[] SEC("license") = "GPL";
