/* Counts, drops and rewrites packets: as an XDP, a tc and a socket filter program. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 256); __type(key, __u32); __type(value, __u64); } protocols SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } newest SEC(".maps");

static __always_inline void count(__u32 protocol)
{
	__u64 one = 1, *seen = bpf_map_lookup_elem(&protocols, &protocol);
	__u32 zero = 0;
	__u64 *time = bpf_map_lookup_elem(&newest, &zero);

	if (seen)
		*seen += 1;
	else
		bpf_map_update_elem(&protocols, &protocol, &one, BPF_ANY);
	if (time)
		*time = bpf_ktime_get_ns();
}

SEC("xdp") int filter(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	count(ip->protocol);
	if (ip->protocol == IPPROTO_UDP)
		return XDP_DROP;
	ip->ttl--;
	return XDP_TX;
}

SEC("tc") int police(struct __sk_buff *skb)
{
	struct iphdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return TC_ACT_OK;
	count(ip.protocol);
	return ip.protocol == IPPROTO_UDP ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("socket") int snap(struct __sk_buff *skb)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return 0;
	count(ip.protocol);
	return ip.protocol == IPPROTO_TCP ? 40 : 0;
}

char LICENSE[] SEC("license") = "GPL";
